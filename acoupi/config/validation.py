"""The single validation of all answers."""

import json
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from acoupi.config.answers import Answers, as_input, below
from acoupi.config.dumping import revealed
from acoupi.config.names import Place
from acoupi.config.problems import MASK, Problem, as_error, oneline, problems_in, redacted
from acoupi.config.secrets import MissingSecret
from acoupi.config.tree import ConfigTree
from acoupi.errors import AcoupiError, ConfigurationError

__all__ = ["absent_secrets", "check_round_trip", "made", "validate", "validated"]

S = TypeVar("S", bound=BaseModel)


def validated(schema: type[S], answers: Answers) -> S:
    """Return the configuration of the answers.

    Raises
    ------
    ParameterError
        Naming each setting as its writer wrote it.
    """
    config, problems = validate(schema, answers)
    if config is None or problems:
        raise as_error(problems, answers.origins)
    check_round_trip(config)
    return config


def validate(schema: type[S], answers: Answers) -> tuple[S | None, list[Problem]]:
    """Return the configuration if it is valid, and all problems, each place once."""
    tree = answers.tree
    problems = [
        *answers.problems,
        *absent_secrets(tree, answers.data),
        *_of_other_kinds(tree, answers.data),
    ]
    named = {problem.node.place for problem in problems}
    try:
        return made(schema, answers.data, answers.secrets()), problems
    except ValidationError as error:
        found = problems_in(tree, error, answers.secrets())
    return None, problems + [item for item in found if not _is_covered(item.node.place, named)]


def made(
    kind: Any,
    data: Any,
    secrets: Iterable[str] = (),
    *,
    strict: bool = False,
    from_attributes: bool = False,
) -> Any:
    """Return what pydantic makes of values; as from texts, also where a schema is strict.

    Parameters
    ----------
    kind
        The schema, or the type of one setting.
    secrets
        Texts that must not be repeated.
    strict, from_attributes
        As in pydantic.

    Raises
    ------
    ValidationError
        If a value is wrong.
    ConfigurationError
        If a check or a default of the schema itself fails: with the line in which it does.
    """
    try:
        return TypeAdapter(kind).validate_python(
            data, strict=strict, from_attributes=from_attributes
        )
    except (ValidationError, AcoupiError):
        raise
    except Exception as error:  # a schema may run any code
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = redacted(oneline(f"{type(error).__name__}: {error}").rstrip(":"), secrets)
        raise ConfigurationError(
            f"{getattr(kind, '__name__', 'the program')} fails to check its settings.",
            "report this to the author of the program, with the settings you gave",
            why=f"{said}, in {where.name} ({where.filename}, line {where.lineno}).",
        ) from error


def _of_other_kinds(node: ConfigTree, value: Any) -> Iterator[Problem]:
    """Yield a problem for each section that has settings of another kind of section."""
    if isinstance(value, dict) and node.tag and value.get(node.tag) is not None:
        told_by, given = node.child(node.tag), value[node.tag]
        every, node = node, node.of_kind(given)
        wrong = [str(key) for key in value if node.child(key) is None]
        if told_by is not None and wrong:
            why = f"a {node.title} of this kind has no setting {' or '.join(wrong)}"
            fits = (tag for tag in told_by.choices if every.of_kind(tag).child(wrong[0]))
            yield Problem(told_by, why, str(given), better=next(map(str, fits), None))
    for child, item in below(node, value):
        if child is not None:
            yield from _of_other_kinds(child, item)


def _is_covered(place: Place, named: set[Place]) -> bool:
    return any(place[: len(other)] == other for other in named if other)


def absent_secrets(node: ConfigTree, value: Any) -> Iterator[Problem]:
    """Yield a problem for each secret that is named or masked, and has no value."""
    if isinstance(value, MissingSecret):
        why = f"its value is neither in secrets.env nor in the environment, as {value.name}"
        yield Problem(node, why, kind="missing")
    elif node.is_secret and value == MASK:
        yield Problem(node, "the asterisks hide a secret; give the secret itself")
    for child, item in below(node, value):
        if child is not None:
            yield from absent_secrets(child, item)


def check_round_trip(config: BaseModel) -> None:
    """Refuse a configuration that would change when it is written and read back.

    Raises
    ------
    ConfigurationError
        If writing and reading it would fail or change it.
    """
    try:
        after = made(type(config), json.loads(json.dumps(revealed(config))))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"]) or "it"
        raise ConfigurationError(
            "this configuration could not be read back from its file.",
            "report this to the author of the program, with the option you gave",
            why=f"{name}: {' '.join(problem['msg'].split())}.",
        ) from error
    if as_input(config) != as_input(after):
        raise ConfigurationError(
            "this configuration would change when it is written and read back.",
            "report this to the author of the program, with the option you gave",
            why=f"{type(config).__name__} does not validate what it serialises.",
        )
