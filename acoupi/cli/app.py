"""All commands, put together. Run ``acoupi --help``."""

from typing import Annotated

import typer

import acoupi
from acoupi.cli.handler import AcoupiGroup
from acoupi.cli.terminal import show_commands
from acoupi.writing import keep_others_out

__all__ = ["app"]

WIDEST_HELP = 100
"""Width of the help text, in characters; longer lines are hard to read."""

app = typer.Typer(
    name="acoupi",
    cls=AcoupiGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=True,
    context_settings={"max_content_width": WIDEST_HELP},
)

FIRST_STEPS = """\b
Set the sensor up, test it, and start recording:
  acoupi setup --program default
  acoupi check
  acoupi start "Old oak"
"""


def _on_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"acoupi {acoupi.__version__}")
        raise typer.Exit


@app.callback(epilog=FIRST_STEPS)
def root(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show the command lines that are run.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", envvar="ACOUPI_DEBUG")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_on_version, is_eager=True),
    ] = False,
) -> None:
    """Turn this board and a microphone into an acoustic sensor for wildlife."""
    keep_others_out()
    show_commands(wanted=verbose)
    context.command.debug = debug  # type: ignore[attr-defined]
