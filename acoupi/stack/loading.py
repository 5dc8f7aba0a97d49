"""Finding programs and building them."""

import difflib
import importlib
import importlib.util
import inspect
import logging
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from acoupi.components.messengers.plug_ins import (
    sections_of_plug_ins,
    unusable_messengers,
    unusable_section,
)
from acoupi.config import describe
from acoupi.config.names import BY_OPTIONS
from acoupi.config.schemas import SUPPORTED, Unsupported, unsupported_settings
from acoupi.errors import InvalidProgramError, ProgramNotFoundError
from acoupi.stack.configured import is_configured, read_program_name, require_configured
from acoupi.stack.prefetched import use_carried
from acoupi.stack.published import GROUP, published_packages
from acoupi.stack.settings import Settings

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = [
    "available_programs",
    "check_plug_ins",
    "check_program_name",
    "is_configured",
    "load_config_schema",
    "load_program_class",
    "programs_to_choose",
    "read_program_name",
    "require_configured",
]

logger = logging.getLogger(__name__)


def available_programs() -> dict[str, str]:
    """Return the installed programs: where each is, by its short name, sorted.

    A name of acoupi is never another's; setup refuses one that two have (`check_program_name`).
    """
    points = sorted(entry_points(group=GROUP))
    found = {one.name: one.value for one in points}
    own = {one.name: one.value for one in points if one.value.startswith("acoupi.")}
    return {**found, **own}


def check_program_name(program_name: str) -> None:
    """Raise if two packages bring a program of that name.

    Raises
    ------
    InvalidProgramError
        Naming both.
    """
    points = sorted(entry_points(group=GROUP, name=program_name), key=lambda one: one.value)
    places = [one.value for one in points]
    if len(set(places)) > 1:
        raise InvalidProgramError(
            program_name,
            f'two programs are called "{program_name}".',
            f"acoupi setup --program {places[-1]}   (or uninstall one of them)",
            why=f"{' and '.join(places)} have that name.",
        )


def programs_to_choose() -> dict[str, str]:
    """Return the installed programs, including those without a name, from packages for acoupi.

    These get the name of their package. It reads the metadata of every package: for people who
    choose, not for running sensors.
    """
    unnamed = {one.name: one.program for one in published_packages()}
    return {**available_programs(), **unnamed}


def load_program_class(
    program_name: str, *, choose: str = BY_OPTIONS.program
) -> "type[AcoupiProgram[Any]]":
    """Return the class of a program.

    Parameters
    ----------
    program_name
        The name of an installed program (``default``), a module
        (``my.program``), or a module and a class (``my.program:Program``).
        Of several programs in a module the one named ``Program`` is taken,
        else the last; a program that another one extends does not count.
    choose
        The command that chooses a program, for errors; ``{}`` stands for its name.

    Raises
    ------
    ProgramNotFoundError
        If there is no such program, or importing it failed; the error says what is
        missing.
    InvalidProgramError
        If the module holds no program, or the class is not one; if its configuration has a
        setting of a type that is not supported.
    """
    place = available_programs().get(program_name, program_name)
    module_name, _, class_name = place.partition(":")
    module = _import(program_name, module_name.strip(), choose)
    if class_name:
        found = _named_class(program_name, module, class_name.strip(), choose)
    else:
        found = _only_class(program_name, module)
    _check_schema(program_name, found)
    return found


def _check_schema(program_name: str, program_class: "type[AcoupiProgram[Any]]") -> None:
    schema = program_class.get_config_schema()
    for one in unsupported_settings(schema):
        if _messenger_of(one, schema) is not None:
            continue  # setup says so; a sensor that runs does not need it
        raise InvalidProgramError(
            program_name,
            f'the program "{program_name}" has a setting that configuration cannot carry: '
            f"{one.name} ({one.type}).",
            f"in {schema.__name__}, {one.name}: {one.advice}",
            why=f"{SUPPORTED}.",
        )


def _messenger_of(setting: Unsupported, schema: type[BaseModel]) -> str | None:
    """Return the key of the messenger of a package that a setting is of; None: of none."""
    sections = {
        f"{place.name}.{key}.": key
        for place in describe(schema).walk()
        for kind in place.sections
        for key in sections_of_plug_ins(kind)
    }
    return next((key for one, key in sections.items() if f"{setting.name}.".startswith(one)), None)


def _import(program_name: str, module_name: str, choose: str) -> ModuleType:
    parts = module_name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise _not_found(program_name, choose)
    use_carried()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # Is the module itself missing, or one that it imports?
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise _not_found(program_name, choose) from error
        raise ProgramNotFoundError(
            program_name,
            f'cannot load the program "{program_name}".',
            f"python -m pip install {missing.partition('.')[0]}",
            why=f'it needs "{missing}", which is not installed.',
        ) from error
    except (Exception, SystemExit) as error:
        raise ProgramNotFoundError(
            program_name,
            f'cannot load the program "{program_name}".',
            f'python -c "import {module_name}"   to see where',
            why=f"importing it failed: {type(error).__name__}: {' '.join(str(error).split())}",
        ) from error


def _not_found(program_name: str, choose: str) -> ProgramNotFoundError:
    known = list(available_programs())
    published = list(published_packages())
    close = difflib.get_close_matches(program_name, known, n=1)
    nearest = close[0] if close else published[0].program if published else "default"
    brought = "".join(
        f" The package {one.name} {one.version} gives its program no name; "
        f"it brings {', '.join(one.modules)}."
        for one in published
    )
    return ProgramNotFoundError(
        program_name,
        f'cannot find the program "{program_name}".',
        choose.format(nearest),
        why=f"no module has that name, and the installed programs are {', '.join(known)}.{brought}",
    )


def _named_class(
    program_name: str, module: ModuleType, class_name: str, choose: str
) -> "type[AcoupiProgram[Any]]":
    from acoupi.programs import AcoupiProgram  # noqa: PLC0415 - most commands do without

    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, AcoupiProgram):
        names = ", ".join(kind.__name__ for kind in _programs_in(module)) or "none"
        raise InvalidProgramError(
            program_name,
            help=choose.format(module.__name__),
            why=f"{module.__name__} has no program named {class_name}; its programs are: {names}.",
        )
    if inspect.isabstract(found):
        raise _abstract(program_name, found)
    return found


def _abstract(program_name: str, found: type) -> InvalidProgramError:
    missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
    return InvalidProgramError(
        program_name,
        f'the program "{program_name}" is not finished.',
        f"write {missing} in {found.__name__}",
        why=f"{found.__name__} does not implement {missing}.",
    )


def _only_class(program_name: str, module: ModuleType) -> "type[AcoupiProgram[Any]]":
    found = _programs_in(module)
    whole = [kind for kind in found if not inspect.isabstract(kind)]
    if not whole and found:
        raise _abstract(program_name, found[-1])
    if not whole:
        raise InvalidProgramError(
            program_name,
            help="give it a class that extends acoupi.programs.AcoupiProgram",
            why=f"the module {module.__name__} holds no such class.",
        )
    # A class that another one here extends is its template, whatever its name.
    most_derived = [
        kind
        for kind in whole
        if not any(other is not kind and issubclass(other, kind) for other in whole)
    ]
    chosen = next((kind for kind in most_derived if kind.__name__ == "Program"), most_derived[-1])
    if len(most_derived) > 1:
        logger.warning(
            "%s holds several programs (%s): %s is taken. Choose with %s:NAME.",
            module.__name__,
            ", ".join(kind.__name__ for kind in most_derived),
            chosen.__name__,
            module.__name__,
        )
    return chosen


def _programs_in(module: ModuleType) -> "list[type[AcoupiProgram[Any]]]":
    """Return the programs of a module, in order: its own, else those of its package."""
    from acoupi.programs import AcoupiProgram  # noqa: PLC0415 - most commands do without

    kinds = [value for value in vars(module).values() if isinstance(value, type)]
    every = [
        kind
        for kind in dict.fromkeys(kinds)
        if issubclass(kind, AcoupiProgram) and kind is not AcoupiProgram
    ]
    own = [kind for kind in every if kind.__module__ == module.__name__]
    package = [kind for kind in every if kind.__module__.startswith(f"{module.__name__}.")]
    foreign = [kind for kind in every if not kind.__module__.startswith("acoupi.programs.")]
    return own or package or foreign


def check_plug_ins(schema: type[BaseModel]) -> None:
    """Raise if a messenger is installed for this schema that cannot be used.

    Raises
    ------
    ConfigurationError
        Naming it, and why.
    """
    for place in describe(schema).walk():
        for kind in place.sections:
            for error in unusable_messengers(kind):
                raise error
    for one in unsupported_settings(schema):
        if (key := _messenger_of(one, schema)) is not None:
            raise unusable_section(key, f"its setting {one.name} is {one.type}: {SUPPORTED}.")


def load_config_schema(settings: Settings) -> type[BaseModel]:
    """Return the configuration model of the program of this home."""
    program_class = load_program_class(read_program_name(settings))
    return program_class.get_config_schema()
