"""The documentation that travels with acoupi, as pages."""

import re
from importlib.resources import files
from typing import NamedTuple

from markupsafe import Markup

__all__ = ["HelpPage", "page", "picture"]

_NAME = re.compile(r"[a-z0-9-]+")
_PICTURE = re.compile(r"[a-z0-9-]+\.jpg")
_LINK = re.compile(r'href="(?!https?:|#|/)([^"]*)"')


class HelpPage(NamedTuple):
    """A page of the documentation."""

    title: str
    html: Markup


def page(name: str, base: str) -> HelpPage | None:
    """Return a page; None if there is none of that name.

    Parameters
    ----------
    base
        The address that pages are below.
    """
    file = files("acoupi").joinpath("docs", f"{name}.md")
    if not _NAME.fullmatch(name) or not file.is_file():
        return None
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only who reads the help needs it

    text = file.read_text(encoding="utf-8")
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    title = text.partition("\n")[0].lstrip("# ")
    return HelpPage(title, Markup(_linked(html, base)))  # noqa: S704 - Markdown without HTML


def picture(name: str) -> bytes | None:
    """Return a picture (JPEG) that stands on a page; None if there is none of that name."""
    file = files("acoupi").joinpath("docs", name)
    return file.read_bytes() if _PICTURE.fullmatch(name) and file.is_file() else None


def _linked(html: str, base: str) -> str:
    """Let links to other pages lead to them; those to files that are not here are plain text."""

    def link(match: re.Match[str]) -> str:
        name, _, part = match[1].partition("#")
        is_here = "/" not in name and name.endswith(".md")
        mark = f"#{part}" if part else ""
        return f'href="{base}/{name.removesuffix(".md")}{mark}"' if is_here else ""

    html = _LINK.sub(link, html).replace('<img src="', f'<img src="{base}/')
    return html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace(
        "</table>", "</table></div>"
    )
