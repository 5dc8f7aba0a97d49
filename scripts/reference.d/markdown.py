"""Pieces of Markdown, and what the source of a module says."""

import ast
import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

GENERATED = (
    "_This page is written from the code by `scripts/reference`; to change a text, change it "
    "there._"
)


def page(title: str, intro: str, parts: Iterable[str]) -> str:
    """Return a whole page."""
    return "\n\n".join([f"# {title}", intro, *parts, GENERATED]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; line breaks and bars in a cell are made harmless."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def code(text: Any) -> str:
    """Return a text as code; nothing for None."""
    return "" if text is None or text == "" else f"`{text}`"


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def texts_below(thing: ModuleType | type) -> dict[str, str]:
    """Return the docstring below each name that a module or a class gives a value."""
    tree: Any = ast.parse(inspect.getsource(thing))
    body = tree.body if isinstance(thing, ModuleType) else tree.body[0].body
    return dict(_documented(body))


def _documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for one, text in pairwise(body):
        targets = one.targets if isinstance(one, ast.Assign) else [getattr(one, "target", None)]
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(targets[0], ast.Name) and is_text:
            yield targets[0].id, " ".join(str(text.value.value).replace("``", "`").split())
