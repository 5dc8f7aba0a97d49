"""One validation of everything that was answered."""

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from acoupi.config.answers import Answers
from acoupi.config.dumping import revealed
from acoupi.config.problems import MASK, Naming, Problem, as_error, problems_in
from acoupi.config.secrets import MissingSecret
from acoupi.config.tree import ConfigTree, Place, fields_of, is_struct
from acoupi.errors import ConfigurationError

__all__ = ["find_problems", "validated"]

S = TypeVar("S", bound=BaseModel)


def find_problems(schema: type[BaseModel], answers: Answers) -> list[Problem]:
    """Return all that is wrong with the answers, each place once."""
    return _validate(schema, answers)[1]


def validated(schema: type[S], answers: Answers, *, plain: bool = False) -> S:
    """Return the configuration that the answers make.

    Raises
    ------
    ParameterError
        Naming each setting as its writer wrote it.
    """
    config, problems = _validate(schema, answers)
    if config is None or problems:
        raise as_error(problems, Naming(answers.origins, plain=plain))
    check_round_trip(config)
    return config


def _validate(schema: type[S], answers: Answers) -> tuple[S | None, list[Problem]]:
    problems = [*answers.problems, *_absent_secrets(answers.tree, answers.data)]
    named = {problem.node.place for problem in problems}
    try:
        config = schema.model_validate(answers.data)
        return config, problems + list(_dropped(answers.tree, answers.data, config))
    except ValidationError as error:
        found = problems_in(answers.tree, error, answers.secrets())
    return None, problems + [item for item in found if not _is_covered(item.node.place, named)]


def _dropped(node: ConfigTree, data: Any, value: Any) -> Iterator[Problem]:
    """Give a problem for each section that was taken for one of another kind.

    Where several kinds of section may stand, pydantic takes one that ignores settings
    rather than one in which they are wrong.
    """
    if not isinstance(data, dict) or not is_struct(type(value)):
        return
    fields = fields_of(type(value))
    if len(node.structs) > 1 and not node.is_open and not set(data) <= set(fields):
        yield from _meant(node, data)
        return
    for key, item in data.items():
        below = node.child(key)
        if below is not None and key in fields:
            yield from _dropped(below, item, getattr(value, fields[key][0]))


def _meant(node: ConfigTree, data: dict[str, Any]) -> list[Problem]:
    """Return what is wrong with a section in the kind that has all its settings."""
    for struct in node.structs:
        if set(data) <= set(fields_of(struct)):
            try:
                TypeAdapter(struct).validate_python(data)
            except ValidationError as error:
                return problems_in(ConfigTree(node.place, struct, node.info), error)
    kinds = " or ".join(struct.__name__ for struct in node.structs)
    return [Problem(node, f"its settings are not those of one kind of section ({kinds})")]


def _is_covered(place: Place, named: set[Place]) -> bool:
    return any(place[: len(other)] == other for other in named if other)


def _absent_secrets(node: ConfigTree, value: Any) -> list[Problem]:
    """Return a problem for each secret that is named or masked, and has no value."""
    if isinstance(value, MissingSecret):
        why = f"its value is neither in secrets.env nor in the environment, as {value.name}"
        return [Problem(node, why, kind="missing")]
    if node.is_secret and value == MASK:
        return [Problem(node, "the stars stand for a secret; give the secret itself")]
    if not isinstance(value, dict | list | tuple):
        return []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    below = [(node.child(key) if isinstance(key, str | int) else None, item) for key, item in items]
    return [problem for child, item in below if child for problem in _absent_secrets(child, item)]


def check_round_trip(config: BaseModel) -> None:
    """Refuse a configuration that could not be read back as it is.

    Raises
    ------
    ConfigurationError
        If writing and reading it would fail or change it.
    """
    before = revealed(config)
    try:
        after = revealed(type(config).model_validate(json.loads(json.dumps(before))))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"]) or "it"
        raise ConfigurationError(
            "this configuration could not be read back once it is written.",
            "report this to the author of the program, with the option you gave",
            why=f"{name}: {' '.join(problem['msg'].split())}.",
        ) from error
    if before != after:
        raise ConfigurationError(
            "this configuration would not be the same once it is written and read back.",
            "report this to the author of the program, with the option you gave",
            why=f"{type(config).__name__} does not validate what it serialises.",
        )
