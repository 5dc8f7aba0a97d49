"""``acoupi help``: the documentation that travels with acoupi, read in a terminal."""

import re
import sys
from itertools import zip_longest
from typing import Annotated, Any

import typer

from acoupi.cli.output import example, say
from acoupi.cli.table import COMMANDS, single
from acoupi.errors import ParameterError

__all__ = ["app"]

app = single()

NEAR = 3
WIDEST = 120
_LINK = re.compile(r"!?\[([^\]]+)\]\(([^)\s]+)\)")


def complete_topics() -> list[str]:
    """Return the pages."""
    from acoupi.web.help_pages import topics

    return list(topics())


@app.command(epilog=example("acoupi help settings"))
def help(  # noqa: A001 - the name of the command
    context: typer.Context,
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="[TOPIC]",
            help="A page, such as settings, or a command; by default, the list of pages.",
            autocompletion=complete_topics,
        ),
    ] = None,
) -> None:
    """Read the documentation, which is on this machine: no network is needed.

    In a pipe it is plain Markdown: acoupi help settings | less
    """
    from acoupi.web.help_pages import page_text, topics

    titles = topics()
    if topic is None:
        _list(titles)
        return
    name = _page_of(topic, titles)
    if name is not None:
        _show(page_text(name) or "", name)
        return
    if topic not in COMMANDS:
        raise _unknown(topic, titles)
    command = context.parent.command.commands[topic]  # type: ignore[union-attr]
    say(command.get_help(command.make_context(topic, [], context.parent, resilient_parsing=True)))


def _list(titles: dict[str, str]) -> None:
    """Print the names of all pages with their titles, folder by folder."""
    from acoupi.cli.tables import width_of, wrapped

    say("Read a page with: acoupi help TOPIC")
    width = max(map(len, titles)) + 2
    folder = None
    for name, title in titles.items():
        if (name.rpartition("/")[0]) != folder:
            folder = name.rpartition("/")[0]
            say("")
        room = width_of()
        lines = [title] if room is None else wrapped(title, room - width - 2)
        for start, line in zip_longest([name], lines, fillvalue=""):
            say(f"  {start:<{width}}{line}")


def _page_of(topic: str, titles: dict[str, str]) -> str | None:
    """Return the page that a topic names, by its whole name or the last part of it."""
    wanted = topic.lower().removesuffix(".md").strip("/")
    named = (name for name in titles if wanted in (name, name.rpartition("/")[2]))
    return next(named, None)


def _unknown(topic: str, titles: dict[str, str]) -> ParameterError:
    """Return an error that names similar topics, or else pages with the word."""
    from difflib import get_close_matches

    words = {name.rpartition("/")[2]: name for name in titles} | dict.fromkeys(COMMANDS, "")
    near = get_close_matches(topic.lower(), words, n=NEAR, cutoff=0.7)
    why = f"the nearest are {', '.join(near)}."
    if not near and (near := _pages_with(topic.lower(), titles)[:NEAR]):
        why = f"the word is on the pages {', '.join(near)}."
    if not near:
        why = "no page or command has this name, and no page has the word."
    better = f"acoupi help {near[0]}" if near else "acoupi help"
    return ParameterError(topic, f'there is no help about "{topic}".', better, why=why)


def _pages_with(word: str, titles: dict[str, str]) -> list[str]:
    """Return the pages with a word, most frequent first; reference tables come last."""
    from acoupi.web.help_pages import page_text

    counts = {name: (page_text(name) or "").lower().count(word) for name in titles}
    ranked = sorted(counts, key=lambda name: (name.startswith("reference/"), -counts[name]))
    return [name for name in ranked if counts[name]]


def _show(text: str, name: str) -> None:
    """Print a page: wrapped and coloured on a terminal, as it is in a pipe."""
    if not sys.stdout.isatty():
        typer.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    theme = Theme({"markdown.code": "bold"})
    console = Console(file=sys.stdout, highlight=False, theme=theme)
    width = min(console.width, WIDEST)
    shown = Markdown(_LINK.sub(r"\1", text), code_theme="ansi_dark", hyperlinks=False)
    console.print(shown, width=width)
    if also := _linked(text, name):
        console.print(f"\nSee also: {', '.join(also)}   (acoupi help TOPIC)", width=width)


def _linked(text: str, name: str) -> list[str]:
    """Return the names of the pages that a page links to."""
    from posixpath import dirname, join, normpath

    from acoupi.web.help_pages import topics

    paths = [link.partition("#")[0] for _, link in _LINK.findall(text)]
    names = [normpath(join(dirname(name), path)).removesuffix(".md") for path in paths]
    known: Any = topics()
    return [one for one in dict.fromkeys(names) if one in known and one != name]
