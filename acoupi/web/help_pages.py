"""The documentation that travels with acoupi, as pages."""

import re
from importlib.resources import files
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import NamedTuple

from markupsafe import Markup

__all__ = ["HelpPage", "page", "page_text", "picture", "topics"]

_NAME = re.compile(r"([a-z0-9-]+/)?[a-z0-9-]+")
_PICTURE = re.compile(r"[a-z0-9-]+\.jpg")
_LINK = re.compile(r'href="(?!https?:|#|/)([^"]*)"')


class HelpPage(NamedTuple):
    """A page of the documentation."""

    title: str
    html: Markup


def topics() -> dict[str, str]:
    """Return the title of every page by its name: the tutorials before other folders."""
    folder = Path(str(files("acoupi").joinpath("docs")))
    found = [path.relative_to(folder).with_suffix("") for path in folder.rglob("*.md")]
    names = sorted(map(str, found), key=_order)
    return {name: _title(page_text(name) or "") for name in names}


def _order(name: str) -> tuple[bool, bool, str]:
    return "/" in name, not name.startswith("tutorials/"), name


def page_text(name: str) -> str | None:
    """Return the Markdown of a page; None if there is no such page."""
    file = files("acoupi").joinpath("docs", f"{name}.md")
    is_page = _NAME.fullmatch(name) and file.is_file()
    return file.read_text(encoding="utf-8") if is_page else None


def _title(text: str) -> str:
    return text.partition("\n")[0].lstrip("# ")


def page(name: str, base: str) -> HelpPage | None:
    """Return a page; None if there is no such page.

    Parameters
    ----------
    base
        The address that pages are below.
    """
    text = page_text(name)
    if text is None:
        return None
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only who reads the help needs it

    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    linked = _linked(html, base, dirname(name))
    return HelpPage(_title(text), Markup(linked))  # noqa: S704 - Markdown without HTML


def picture(name: str) -> bytes | None:
    """Return a picture (JPEG) of a page; None if there is no such picture."""
    file = files("acoupi").joinpath("docs", name)
    return file.read_bytes() if _PICTURE.fullmatch(name) and file.is_file() else None


def _linked(html: str, base: str, folder: str) -> str:
    """Let links to other pages lead to them; those to files that are not here are plain text."""

    def link(match: re.Match[str]) -> str:
        path, _, part = match[1].partition("#")
        name = normpath(join(folder, path)).removesuffix(".md")
        is_here = path.endswith(".md") and _NAME.fullmatch(name)
        mark = f"#{part}" if part else ""
        return f'href="{base}/{name}{mark}"' if is_here else ""

    html = _LINK.sub(link, html).replace('<img src="', f'<img src="{base}/')
    return html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )
