"""Checking parts of a program where each of them will run: ``python -m acoupi.system.checks``.

A container without a microphone, or without a network, can check only some of them.
"""

import argparse
import logging
import sys
from collections.abc import Collection, Sequence
from typing import Any, get_args

from acoupi.components.stores.database import stores_that_only_read
from acoupi.errors import AcoupiError
from acoupi.programs import AcoupiProgram
from acoupi.programs.templates.basic import check_component, leaving_out
from acoupi.services.construction import load_program
from acoupi.services.logs import tell
from acoupi.stack.settings import Settings
from acoupi.system.model_trial import try_model
from acoupi.targets import NOTE, CheckPart

__all__ = ["check_parts", "main"]

COMPONENTS: dict[CheckPart, str] = {"microphone": "recorder", "model": "model"}
"""The attribute of a program that each part checks."""


def check_parts(program: AcoupiProgram[Any], parts: Collection[CheckPart]) -> str | None:
    """Check some parts of a program; "rest" is its own ``check`` without the other parts.

    Returns
    -------
    str
        The speed of the model, in words; None if it was not checked.

    Raises
    ------
    AcoupiError
        If a part does not work.
    """
    known = {part: getattr(program, name, None) for part, name in COMPONENTS.items()}
    if getattr(program, "leaves_models_out", False):
        parts = [part for part in parts if part != "model"]
    for part, component in known.items():
        if part in parts:
            check_component(component)
    if "rest" in parts:
        with leaving_out(*known.values()):
            program.check(program.config)
    return try_model(program) if "model" in parts else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Check parts of the program of this home; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.checks")
    parser.add_argument("parts", nargs="+", choices=get_args(CheckPart))
    options = parser.parse_args(arguments)
    logging.basicConfig(format=f"{NOTE}%(message)s", level=logging.WARNING)
    try:
        with stores_that_only_read():
            program = load_program(Settings())
        said = check_parts(program, options.parts)
    except AcoupiError as error:
        tell(error)
        return error.exit_code
    if said is not None:
        sys.stdout.write(f"{said}\n")  # `acoupi check` reads it
    return 0


if __name__ == "__main__":
    sys.exit(main())
