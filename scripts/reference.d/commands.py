"""The page of every command, with its arguments, options and example."""

from collections.abc import Iterator
from typing import Any

import typer
from markdown import page, table

from acoupi.cli.app import app

INTRO = """\
Every command of acoupi, as `acoupi COMMAND --help` shows it. Two options stand before any
command: `acoupi --debug …` shows the traceback of an error, `acoupi --version` the version. What
exit codes mean: [exit codes](exit-codes.md)."""


def commands() -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    context = root.make_context("acoupi", [], resilient_parsing=True)
    return page("Commands", INTRO, _parts(root, context))


def _parts(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        below = command.make_context(name, [], parent=context, resilient_parsing=True)
        yield from _described(command, below)
        if hasattr(command, "commands"):
            yield from _parts(command, below)


def _described(command: Any, context: Any) -> Iterator[str]:
    yield f"## {context.command_path}"
    yield (command.help or "").replace("\b\n", "").strip()
    if hasattr(command, "commands"):
        return
    yield f"    {' '.join(context.get_usage().removeprefix('Usage: ').split())}"
    rows = [row for one in command.params for row in _row(one, context)]
    if rows:
        yield table(("argument or option", "meaning"), rows)
    example = (command.epilog or "").partition("Example:\n")[2].strip()
    if example:
        yield f"Example: `{example}`"


def _row(parameter: Any, context: Any) -> Iterator[tuple[str, str]]:
    record = parameter.get_help_record(context)
    if record is not None:
        is_argument = not parameter.opts[0].startswith("-")
        name = parameter.metavar or parameter.name.upper() if is_argument else record[0]
        yield f"`{name}`", record[1]
