"""What commands print: tables, JSON, single lines, and a progress indicator."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from acoupi.cli.terminal import LINES, painted
from acoupi.printing import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "console",
    "done",
    "example",
    "print_json",
    "print_record",
    "print_table",
    "say",
    "shown",
    "warn",
    "working",
]

_WIDTH_OF_A_PIPE = 200


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


def console(*, err: bool = False) -> "Console":
    """Return a console for changing tables; without colour or bold where NO_COLOR is set."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    from acoupi.cli.tables import width_of

    width = None if stream.isatty() else width_of(stream) or _WIDTH_OF_A_PIPE
    # Rich itself would keep bold and dim.
    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=stream, highlight=False, width=width, color_system=system)


def print_json(data: Any) -> None:
    """Print anything as JSON on stdout, and nothing else."""
    from pydantic_core import to_jsonable_python

    text = json.dumps(to_jsonable_python(data), indent=2, ensure_ascii=False)
    typer.echo(printable(text, keep="\n", escape="\\u{:04x}"))


def say(text: str, *, err: bool = False) -> None:
    """Print a line that may hold text from strangers, without control characters."""
    typer.echo(printable(text, keep=LINES), err=err)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    empty: str,
    title: str | None = None,
) -> None:
    """Print rows as a table; on a narrow terminal as blocks, so that no name is cut.

    Parameters
    ----------
    columns
        Key of a row -> heading. A column with an empty heading is for remarks: it is left out if
        no row has any.
    empty
        The line to print when there are no rows.
    """
    if not rows:
        typer.echo(empty)
        return
    from acoupi.cli.tables import layout_table, width_of

    columns = {key: head for key, head in columns.items() if head or any(r.get(key) for r in rows)}
    cells = [
        [shown(row.get(key)) if head or row.get(key) else "" for key, head in columns.items()]
        for row in rows
    ]
    for line in (
        *([title] if title else []),
        *layout_table([*columns.values()], cells, width_of()),
    ):
        typer.echo(line)


def print_record(record: Mapping[str, Any]) -> None:
    """Print names with their values, one a line."""
    from acoupi.cli.tables import layout_record, width_of

    for line in layout_record(((name, shown(value)) for name, value in record.items()), width_of()):
        typer.echo(line)


def done(text: str) -> None:
    """Report that something was done."""
    typer.echo(painted("✓ ", fg=typer.colors.GREEN) + printable(text, keep=LINES))


def warn(text: str) -> None:
    """Print something to watch out for, on stderr."""
    typer.echo(painted("Note: ", bold=True) + printable(text, keep=LINES), err=True)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show a progress indicator on a terminal until the block ends; yield a function to change it.

    Without a terminal, each change is printed as a line.
    """
    if not sys.stderr.isatty():
        yield lambda text: say(text, err=True)
        return
    with console(err=True).status(printable(text)) as status:
        yield lambda text: status.update(printable(text))
