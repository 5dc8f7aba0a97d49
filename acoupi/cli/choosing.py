"""What setup shows before it takes it: what a program means, and the settings of a preset."""

from collections.abc import Sequence

import typer

from acoupi.cli.output import print_table, say
from acoupi.cli.tables import width_of, wrapped
from acoupi.errors import AcoupiError

__all__ = ["show_notice", "show_preset"]

COLUMNS = {"setting": "setting", "value": "value", "meaning": "meaning"}
WIDTH = 100
"""Of text, where nothing says how wide lines may be."""


def show_notice(program: str) -> None:
    """Print what whoever chooses a program should know; nothing if it cannot be loaded."""
    from acoupi.stack.loading import load_program_class

    try:
        found = load_program_class(program)
    except AcoupiError:
        return  # setup says so
    if found.notice:
        _say_wrapped(found.notice)


def _say_wrapped(text: str) -> None:
    for line in wrapped(text, width_of() or WIDTH):
        say(line)


def show_preset(name: str, program: str, given: Sequence[str], *, asking: bool) -> None:
    """Print what a preset sets that no option gives; ask whether to take it.

    Raises
    ------
    AcoupiError
        If there is no such preset, or the program cannot take it.
    """
    from acoupi.config.presets import find_preset, preset_for
    from acoupi.config.problems import show
    from acoupi.config.tree import describe
    from acoupi.stack.loading import load_program_class

    schema = load_program_class(program).get_config_schema()
    tree = describe(schema)
    options = {word.partition("=")[0] for word in given}
    rows = [
        {
            "setting": setting,
            "value": "none" if value is None else str(show(value)),
            "meaning": getattr(tree.at(tuple(setting.split("."))), "description", ""),
        }
        for setting, value in preset_for(name, program, schema).items()
        if f"--{setting}" not in options
    ]
    _say_wrapped(f"The preset {name}: {find_preset(name).purpose}.")
    print_table(rows, COLUMNS, empty="")
    if asking and not typer.confirm("Take these settings?", default=True):
        raise typer.Abort
