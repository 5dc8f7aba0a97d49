"""What setup shows before it goes ahead: notes on the program, and the settings of a preset."""

from collections.abc import Sequence

import typer

from acoupi.cli.output import print_table, say
from acoupi.cli.tables import width_of, wrapped
from acoupi.errors import AcoupiError

__all__ = ["full_name", "show_notice", "show_preset"]

COLUMNS = {"setting": "setting", "value": "value", "meaning": "meaning"}
WIDTH = 100
"""Width of text in characters, where the terminal's width is unknown."""


def full_name(program: str) -> str:
    """Return the module of a program given by its package; any other name is returned unchanged."""
    from acoupi.stack.loading import available_programs, programs_to_choose

    if program in available_programs() or "." in program:
        return program
    return programs_to_choose().get(program, program)


def show_notice(program: str) -> None:
    """Print what to know before choosing a program, and its licences."""
    from acoupi.stack.loading import load_program_class
    from acoupi.stack.published import licences_of

    try:
        found = load_program_class(program)
    except AcoupiError:
        return  # setup reports this
    if found.notice:
        _say_wrapped(found.notice)
    if found.__module__.startswith("acoupi."):
        return
    for line in licences_of(found.__module__):
        say(f"Licence of {line}")


def _say_wrapped(text: str) -> None:
    for line in wrapped(text, width_of() or WIDTH):
        say(line)


def show_preset(name: str, program: str, given: Sequence[str], *, asking: bool) -> None:
    """Print the settings that come from the preset, and ask whether to use them.

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
    if asking and not typer.confirm("Use these settings?", default=True):
        raise typer.Abort
