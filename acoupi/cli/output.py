"""What commands print: tables, JSON, single lines, and a progress indicator."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from acoupi.printing import printable

__all__ = [
    "done",
    "echo",
    "example",
    "fitted",
    "print_json",
    "print_record",
    "print_table",
    "say",
    "shown",
    "warn",
    "working",
]

_WIDTH_OF_A_PIPE = 200
LINES = "\n\t"
"""Control characters that are meant."""


def example(command: str) -> str:
    """Return the end of a command's help."""
    return f"\b\nExample:\n  {command}"


def shown(value: Any) -> str:
    """Return a value as a cell shows it.

    Examples
    --------
    >>> shown(None), shown(True), shown([16000, 48000])
    ('-', 'yes', '16000, 48000')
    """
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return printable(str(value))


def fitted(text: str, width: int) -> str:
    """Return a text of at most so many characters.

    Examples
    --------
    >>> fitted("Myotis nattereri", 8), fitted("Myotis", 8)
    ('Myotis …', 'Myotis')
    """
    text = printable(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def print_json(data: Any) -> None:
    """Print anything as JSON on stdout, and nothing else."""
    from pydantic_core import to_jsonable_python

    text = json.dumps(to_jsonable_python(data), indent=2, ensure_ascii=False)
    typer.echo(printable(text, keep="\n", escape="\\u{:04x}"))


def say(text: str, *, err: bool = False) -> None:
    """Print a line that may hold what strangers wrote."""
    typer.echo(printable(text, keep=LINES), err=err)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    empty: str,
    title: str | None = None,
) -> None:
    """Print rows as a table.

    Parameters
    ----------
    columns
        Key of a row -> heading. A column without a heading is for remarks: it is left out
        if there are none.
    empty
        What to say when there are no rows.
    """
    if not rows:
        typer.echo(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = {key: head for key, head in columns.items() if head or any(r.get(key) for r in rows)}
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = ((row.get(key), head) for key, head in columns.items())
        table.add_row(*(Text(shown(value) if head or value else "") for value, head in cells))
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def print_record(record: Mapping[str, Any]) -> None:
    """Print names with their values, one a line."""
    width = max(len(name) for name in record) + 2
    for name, value in record.items():
        typer.echo(f"{name:<{width}}{shown(value)}")


def done(text: str) -> None:
    """Report that something was done."""
    typer.echo(typer.style("✓ ", fg=typer.colors.GREEN) + printable(text, keep=LINES))


def warn(text: str) -> None:
    """Print something to watch out for, on stderr."""
    typer.echo(typer.style("Note: ", bold=True) + printable(text, keep=LINES), err=True)


def echo(command: str) -> None:
    """Show a command line that is run, on stderr, ready to be copied."""
    typer.echo(typer.style(f"+ {printable(command, keep=LINES)}", dim=True), err=True)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show a progress indicator, on a terminal, until the block ends; provide what changes it.

    Elsewhere, what it is changed to is printed.
    """
    if not sys.stderr.isatty():
        yield lambda text: say(text, err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status(printable(text)) as status:
        yield lambda text: status.update(printable(text))
