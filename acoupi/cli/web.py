"""``acoupi web``: logging in to the web page, and applying changes that need the host."""

import json

import typer

from acoupi.cli import home
from acoupi.cli.changes import remind_of_restart
from acoupi.cli.output import done, example, say, warn
from acoupi.cli.table import group

__all__ = ["app"]

app = group("web")


@app.command(epilog=example("acoupi web token"))
def token() -> None:
    """Print a new token for logging in to the web page; then choose a password there.

    Also for a forgotten password, and after too many wrong ones. Everyone must log in again. The
    old password still works until another is chosen.
    """
    from acoupi.config.page_keys import Keys, read_keys, write_keys
    from acoupi.config.web import Web
    from acoupi.stack.web import keys_file

    found = home.sensor()
    web: Web = found.own_config.web  # type: ignore[attr-defined]
    path = keys_file(found.settings)
    keys, text = Keys.with_token(read_keys(path))
    write_keys(path, keys)
    say(text)
    if web.enabled:
        typer.echo(f"Log in at http://{web.host}:{web.port}{web.path_prefix}/login", err=True)
    else:
        warn("the page is not served yet: acoupi setup --web")


@app.command(epilog=example("acoupi web apply"))
def apply() -> None:
    """Apply waiting changes of settings that also change containers or scripts."""
    from acoupi.commit import changing
    from acoupi.config.sensor import set_setting
    from acoupi.home import using_home
    from acoupi.system.lifecycle import set_up
    from acoupi.system.pending import forget_pending, pending_of
    from acoupi.system.planning import SetupRequest

    settings = home.sensor().settings
    with (
        using_home(settings.home),
        changing(settings.program_config_file.parent, "acoupi web apply"),
    ):
        found, pending = home.sensor(), pending_of(settings)
        if pending is None:
            done("No changes are waiting.")
            return
        both = found.config, found.own_config
        for name, value in pending["changes"].items():
            text = value if isinstance(value, str) else json.dumps(value)
            both = set_setting(*both, name, text, is_json=not isinstance(value, str))
        program, sensor = both
        request = SetupRequest(
            found.program_name, config=program, sensor=sensor, origin="acoupi web apply"
        )
        set_up(settings, request)
        forget_pending(settings)
    done(f"Set: {', '.join(pending['changes'])}.")
    remind_of_restart(settings, found.services)
