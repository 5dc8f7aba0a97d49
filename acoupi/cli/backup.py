"""``acoupi backup`` and ``acoupi restore``: a sensor in one file."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli import home
from acoupi.cli.checks import AsJson
from acoupi.cli.output import done, example, print_json, say, warn, working
from acoupi.cli.table import single
from acoupi.errors import ConfigurationError

if TYPE_CHECKING:
    from acoupi.backup import Made

__all__ = ["backup_app", "restore_app"]

backup_app = single()
restore_app = single()

PASSWORD = "ACOUPI_BACKUP_PASSWORD"  # noqa: S105 - the name of a variable


@backup_app.command(epilog=example("acoupi backup /media/stick --with-secrets"))
def backup(
    target: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="An existing folder, or a new file.")
    ],
    with_secrets: Annotated[
        bool,
        typer.Option(
            "--with-secrets",
            help=f"Include passwords and tokens, encrypted by a password ({PASSWORD} or a prompt).",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the settings and the databases of a sensor into one file.

    The sensor may be running. Sound files are not copied: copy the folder of recordings too.
    """
    from acoupi.backup.making import make_backup

    password = _password(confirm=True)() if with_secrets else None
    with working("Copying"):
        made = make_backup(home.settings(), target, password)
    if as_json:
        print_json(_facts(made))
        return
    done(f"{made.path}: {made.bytes / 1e3:,.0f} kB, every file with its SHA-256.")
    if password is None:
        say("It does not hold passwords and tokens (--with-secrets), nor sound files.")


@restore_app.command(epilog=example("acoupi restore acoupi-0000c0ffee-20261130T061500Z.tar.gz"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    target: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where it will run; by default, as before."),
    ] = None,
    without_secrets: Annotated[
        bool, typer.Option("--without-secrets", help="Leave passwords and tokens out.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only read the file and report whether it is complete.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a sensor from a backup, into an empty ACOUPI_HOME."""
    from acoupi.backup.restoring import needs_secrets, read_backup
    from acoupi.backup.restoring import restore as restore_from

    settings = home.settings()
    if check:
        made = read_backup(file)
    else:
        ask = None if without_secrets else _password(confirm=False)
        made = restore_from(settings, file, ask, target)
    if as_json:
        print_json(_facts(made))
        return
    found = made.contents
    what = f"the sensor {found.device} of {found.made_on:%Y-%m-%d %H:%M} UTC"
    if check:
        done(f"{made.path} is complete: {what}, program {found.program}, acoupi {found.acoupi}.")
        return
    done(f"{settings.home} is {what}.")
    if needs_secrets(settings):
        warn(
            "its settings need passwords or tokens that are missing here: acoupi setup names them."
        )
    else:
        say("Next: acoupi check")


def _password(*, confirm: bool) -> Callable[[], str]:
    def ask() -> str:
        if given := os.environ.get(PASSWORD):
            return given
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "the secrets in the backup need a password.",
                f"{PASSWORD}=…   (in the environment)",
                why="this is not a terminal, so there is no prompt for it.",
            )
        answer: str = typer.prompt(
            "Password for the backup", hide_input=True, confirmation_prompt=confirm
        )
        return answer

    return ask


def _facts(made: "Made") -> dict[str, object]:
    return {
        "path": made.path,
        "bytes": made.bytes,
        **made.contents.model_dump(mode="json", exclude={"members"}),
        "members": {name: one.bytes for name, one in made.contents.members.items()},
    }
