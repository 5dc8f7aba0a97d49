"""How output looks: colours, and the command lines that are run.

Imported by ``acoupi --help``, so it imports little.
"""

import os
from typing import Any

import typer

from acoupi.printing import printable

__all__ = ["LINES", "echo", "painted", "show_commands", "shows_commands"]

LINES = "\n\t"
"""Control characters that are allowed."""

_shown = {"commands": False}


def painted(text: str, **style: Any) -> str:
    """Return a text in a colour or weight; as it is where NO_COLOR is set."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, **style)


def show_commands(*, wanted: bool) -> None:
    """Choose whether `echo` prints."""
    _shown["commands"] = wanted


def shows_commands() -> bool:
    """Return whether `echo` prints."""
    return _shown["commands"]


def echo(command: str) -> None:
    """Show a command line that is run, on stderr, ready to be copied; only with ``acoupi -v``."""
    if shows_commands():
        typer.echo(painted(f"+ {printable(command, keep=LINES)}", dim=True), err=True)
