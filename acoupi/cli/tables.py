"""How tables and records are laid out: within a width, and with no name cut."""

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

__all__ = ["layout_record", "layout_table", "width_of", "wrapped"]

BETWEEN = 2
"""Spaces between two columns."""
NARROWEST = 24
"""Narrowest wrapped column of text, characters; below that each row is a block of lines."""
INDENT = 4


def width_of(stream: TextIO | None = None) -> int | None:
    """Return the width of the output in characters; None: unlimited, for pipes and files.

    COLUMNS sets a width in a pipe or file, too.
    """
    if (stream or sys.stdout).isatty():
        return shutil.get_terminal_size().columns
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdigit() and int(said) else None


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Examples
    --------
    >>> cells("Myotis"), cells("蝙蝠")
    (6, 4)
    """
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return a text in lines broken between words; a longer word stays whole."""
    return textwrap.wrap(
        text,
        max(width, NARROWEST),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def layout_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    r"""Yield the lines of a table.

    If it is too wide, the column with most text is wrapped; if that is not enough, each row
    becomes a block: its first cell on a line, the others below it.

    Examples
    --------
    >>> rows = [["birds", "6 to 22"], ["bats", "18 to 6"]]
    >>> print(*layout_table(["preset", "hours"], rows, 40), sep="\n")
    preset  hours
    ──────  ───────
    birds   6 to 22
    bats    18 to 6
    >>> print(*layout_table(["preset", "hours"], rows, 12), sep="\n")
    birds
        hours: 6 to 22
    bats
        hours: 18 to 6
    """
    widths = [max(map(cells, column)) for column in zip(heads, *rows, strict=True)]
    over = sum(widths) + BETWEEN * (len(widths) - 1) - (width or sys.maxsize)
    if over > 0:
        longest = max(range(len(widths)), key=widths.__getitem__)
        column = [row[longest] for row in rows]
        least = max(NARROWEST, cells(heads[longest]), *map(_longest_word, column))
        if widths[longest] - over < least:
            yield from _blocks(heads, rows, width)
            return
        widths[longest] -= over
    yield _line(heads, widths)
    yield _line(["─" * one for one in widths] if any(heads) else [], widths)
    for row in rows:
        yield from _rows(row, widths)


def _longest_word(text: str) -> int:
    return max(map(cells, text.split()), default=0)


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    padded = (one + " " * (width - cells(one)) for one, width in zip(row, widths, strict=False))
    return (" " * BETWEEN).join(padded).rstrip()


def _rows(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of one row, where a cell may be wrapped."""
    lines = [
        wrapped(one, width) if cells(one) > width else [one]
        for one, width in zip(row, widths, strict=True)
    ]
    for number in range(max(map(len, lines))):
        yield _line([one[number] if number < len(one) else "" for one in lines], widths)


def _blocks(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> Iterator[str]:
    for row in rows:
        yield row[0]
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if cell not in ("", "-"):
                text = f"{head}: {cell}" if head else cell
                yield from wrapped(text, width or sys.maxsize, " " * INDENT)


def layout_record(pairs: Iterable[tuple[str, str]], width: int | None) -> Iterator[str]:
    """Yield names with their values, a line each; what is too long is wrapped between words."""
    known = list(pairs)
    first = max((cells(name) for name, _ in known), default=0) + BETWEEN
    for name, value in known:
        begin = name + " " * (first - cells(name))
        if width is None or first + cells(value) <= width:
            yield (begin + value).rstrip()
            continue
        lines = wrapped(value, width - first)
        yield begin + lines[0]
        yield from (" " * first + line for line in lines[1:])
