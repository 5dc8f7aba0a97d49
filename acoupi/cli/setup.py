"""``acoupi setup``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acoupi.cli import home
from acoupi.cli.output import done, example, print_json, warn, working
from acoupi.cli.table import single
from acoupi.errors import NotConfiguredError, ParameterError

if TYPE_CHECKING:
    from acoupi.system.constants import Settings

__all__ = ["app", "remind_of_restart", "show_diff"]

ANY_OPTION = {"allow_extra_args": True, "ignore_unknown_options": True}


EXAMPLE = "acoupi setup --program default --recording.duration 10 --recording.interval 60"

app = single()


@app.command(context_settings=ANY_OPTION, epilog=example(EXAMPLE))
def setup(
    context: typer.Context,
    program: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the sensor does: an installed program, or a Python module.",
            autocompletion=home.complete.programs,
        ),
    ] = None,
    prompt: Annotated[
        bool | None,
        typer.Option(
            "--prompt/--no-prompt",
            help="Ask for what is not given; on a terminal that is so anyway.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take settings from a JSON, YAML or TOML file."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where it runs: compose (Docker), process, systemd, or balena (a fleet).",
            autocompletion=home.complete.targets,
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(metavar="URL", help="redis://... if there is a Redis server; else embedded."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that were edited by hand.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what would change, and change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --diff: as JSON.")] = False,
) -> None:
    """Make this board a sensor: choose what it does, and set it.

    Every setting of the program is an option, named with dots; "acoupi config
    schema --program default" lists them. Settings can also come from a file, or
    from variables like ACOUPI_CONFIG__RECORDING__DURATION. No microphone needs
    to be plugged in. A second setup keeps the answers of the first.
    """
    from acoupi.cli.prompts import ask

    found = home.settings()
    asking = sys.stdin.isatty() if prompt is None else prompt
    arguments: dict[str, Any] = {
        "program_name": program or _program_of(found, asking=asking),
        "args": list(context.args),
        "prompt": asking and not diff,
        "target": target,
        "file": config,
        "broker": broker,
        "ask": ask,
    }
    if diff:
        show_diff(found, arguments, as_json=as_json)
    else:
        _set_up(found, arguments, force=force)


def _program_of(found: "Settings", *, asking: bool) -> str:
    """Return the program that is there already, or the one that is chosen now."""
    from acoupi.cli.prompts import ask_for_program
    from acoupi.system.programs import available_programs, read_program_name

    try:
        present: str | None = read_program_name(found)
    except NotConfiguredError:
        present = None
    if asking:
        return ask_for_program(present)
    if present:
        return present
    raise ParameterError(
        "",
        "--program is missing.",
        "acoupi setup --program default",
        why=f"the installed programs are {', '.join(available_programs())}.",
    )


def _set_up(found: "Settings", arguments: dict[str, Any], *, force: bool) -> None:
    from acoupi.system.lifecycle import setup_program

    setup_program(found, force=force, **arguments)
    done(f"The sensor is set up in {found.home} (program {arguments['program_name']}).")
    remind_of_restart(found)
    following = {
        "compose": "acoupi compose up",
        "balena": f"cd {shlex.quote(str(found.home / 'balena'))} && balena push FLEET",
    }
    typer.echo(f"Next: {following.get(_rendered_for(found) or '', 'acoupi check')}")


def _rendered_for(found: "Settings") -> str | None:
    from acoupi.system.rendering import Manifest

    manifest = Manifest.read(found.manifest_file)
    return manifest.target if manifest else None


def remind_of_restart(found: "Settings") -> None:
    """Say so if services run that do not know the new settings yet."""
    from acoupi.system.deployments import read_deployment

    deployment = read_deployment(found)
    if deployment is not None and deployment.ended_on is None:
        where = "compose" if _rendered_for(found) == "compose" else "workers"
        warn(
            f'the deployment "{deployment.name}" goes on with the old settings; '
            f"for the new ones: acoupi {where} restart"
        )


def show_diff(found: "Settings", arguments: dict[str, Any], *, as_json: bool) -> None:
    """Show what a setup would change, and change nothing."""
    from acoupi.system.lifecycle import setup_diff

    with working("Comparing"):
        changes = setup_diff(found, **arguments)
    if as_json:
        print_json([{"path": str(one.path), "kind": one.kind, "diff": one.diff} for one in changes])
        return
    differing = [one for one in changes if one.kind != "same"]
    for one in differing:
        typer.echo(f"{one.kind}: {one.path}")
        typer.echo(one.diff)
    if not differing:
        typer.echo("Nothing would change.")
