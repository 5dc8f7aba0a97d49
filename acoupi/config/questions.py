"""The questions of setup: described here, asked by the command line.

`interview` goes through a schema and makes a `Question` of each setting that has no value
yet; an injected function answers them. After a wrong answer the question is asked again,
with what was wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from acoupi.config.answers import Answers, as_input
from acoupi.config.names import Place
from acoupi.config.problems import OPTION, Problem, as_error, problems_in, show
from acoupi.config.secrets import MissingSecret
from acoupi.config.tree import ConfigTree
from acoupi.config.validation import made, validate
from acoupi.config.values import from_data, from_text
from acoupi.errors import AcoupiError

__all__ = ["Ask", "Question", "interview"]

_KINDS = {
    "bool": "yes or no",
    "int": "whole number",
    "float": "number",
    "time": "time of day",
    "date": "date",
    "datetime": "date and time",
    "timedelta": "duration",
    "Path": "path",
    "SecretStr": "text, not shown",
    "SecretBytes": "text, not shown",
}


@dataclass(frozen=True)
class Question:
    """One question.

    Parameters
    ----------
    name
        The setting, as in ``recording.duration``; its option is this after two dashes.
    description
        Its meaning; None if the schema has no description.
    kind
        The kind of answer: "whole number", "time of day", "choice", "yes or no", ...; of a
        section "section" (it has defaults) or "optional section" (it may be absent).
    default
        The answer for Enter; for a secret, whether there is one.
    required
        Whether there is no default, so that an answer is needed.
    choices
        The possible answers; empty: any.
    choices_from
        Where choices come from instead: "microphones", "timezones", ...
    secret
        Whether typing must be hidden.
    is_section
        Whether it asks about a whole section, to include or change it: answer true or false.
    problem
        What was wrong with the last answer.
    """

    name: str
    kind: str
    description: str | None = None
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()
    choices_from: str | None = None
    secret: bool = False
    is_section: bool = False
    problem: AcoupiError | None = None


Ask = Callable[[Question], Any]


def kind_of(node: ConfigTree) -> str:
    """Return the kind of value of a place, in a few words."""
    if node.choices:
        return "choice"
    if node.is_list or node.slots:
        return "JSON list" if node.has_compound_items else "list, separated by commas"
    if node.value_type is not None or node.is_section:
        return "JSON object"
    names = [getattr(kind, "__name__", "text") for kind in node.kinds]
    return " or ".join(dict.fromkeys(_KINDS.get(name, "text") for name in names))


def question_for(answers: Answers, node: ConfigTree, *, section: bool = False) -> Question:
    """Describe the question about one place."""
    default = as_input(node.default)
    if answers.has(node.place):
        held = answers.get(node.place)
        default = None if isinstance(held, MissingSecret) else held
    if section and node.is_nullable:
        kind, default = "optional section", default is not None
    elif section:
        kind, default = "section", not answers.has(node.place) and not _knows_itself(node)
    else:
        kind = kind_of(node)
    return Question(
        name=node.name,
        kind=kind,
        description=node.description,
        default=default is not None if node.is_secret else default,
        required=node.is_required and not answers.has(node.place) and not section,
        choices=() if section else tuple(str(show(choice)) for choice in node.choices),
        choices_from=node.choices_from,
        secret=node.is_secret,
        is_section=section,
    )


def _knows_itself(node: ConfigTree) -> bool:
    """Whether to skip a section: it has only paths with defaults."""
    leaves = [below for below in node.walk() if not below.is_section]
    return all(not one.is_required and set(one.kinds) <= {Path} for one in leaves)


def _is_asked(answers: Answers, node: ConfigTree) -> bool:
    """Whether to ask about a place; not if it has a default that nobody would type."""
    if not node.is_prompted or (answers.is_given(node.place) and not node.is_section):
        return False
    is_typed = node.value_type is None and not node.has_compound_items
    return node.is_required or node.is_section or is_typed


def interview(schema: type[BaseModel], answers: Answers, ask: Ask, skip: set[Place]) -> None:
    """Ask for all values that were not given, until they are valid.

    Parameters
    ----------
    ask
        Answers one question: with text, with a value, or with the question's own default.
    skip
        Places handled by models that set themselves up.
    """
    asked: dict[Place, ConfigTree] = {}
    _ask_section(answers, answers.tree, ask, skip, asked)
    while problems := validate(schema, answers)[1]:
        again = _blamed(problems, asked)
        if not again:
            return
        for problem, node in again:
            _ask_value(answers, node, ask, _told(problem, answers))


def _told(problem: Problem, answers: Answers) -> AcoupiError:
    return as_error([problem], answers.origins)


def _blamed(
    problems: list[Problem], asked: Mapping[Place, ConfigTree]
) -> list[tuple[Problem, ConfigTree]]:
    """Return the questions to ask again: those at, above or below a problem."""
    found: dict[Place, tuple[Problem, ConfigTree]] = {}
    for problem in problems:
        place = problem.node.place
        for other, node in asked.items():
            if other[: len(place)] == place or place[: len(other)] == other:
                found.setdefault(other, (problem, node))
    return list(found.values())


def _ask_section(
    answers: Answers,
    section: ConfigTree,
    ask: Ask,
    skip: set[Place],
    asked: dict[Place, ConfigTree],
) -> None:
    for node in _members(answers, section):
        if node.place in skip or not _is_asked(answers, node):
            continue
        if not node.is_section:
            asked[node.place] = node
            _ask_value(answers, node, ask)
        elif _is_wanted(answers, node, ask):
            _ask_section(answers, node, ask, skip, asked)


def _members(answers: Answers, section: ConfigTree) -> Iterator[ConfigTree]:
    """Yield the members of a section; if there are several kinds, the choice of kind first."""
    told_by = section.child(section.tag) if section.tag else None
    if told_by is None:
        yield from section.members
        return
    yield told_by
    kind = section.of_kind(answers.get(told_by.place))
    yield from (member for member in kind.members if member.place != told_by.place)


def _is_wanted(answers: Answers, node: ConfigTree, ask: Ask) -> bool:
    """Whether to ask about the settings of a section."""
    if answers.is_given(node.place):
        return answers.get(node.place) is not None
    if node.is_required and not node.is_nullable:
        answers.data_at(node)
        return True
    question = question_for(answers, node, section=True)
    wanted = _answered(answers, node, ask, question, TypeAdapter(bool).validate_python)
    if not wanted and node.is_nullable:
        answers.put(node, None, OPTION)
        answers.given.discard(node.place)
    elif wanted:
        answers.data_at(node)
    return bool(wanted)


def _ask_value(
    answers: Answers, node: ConfigTree, ask: Ask, problem: AcoupiError | None = None
) -> None:
    question = replace(question_for(answers, node), problem=problem)
    kept = question.default

    def check(answer: Any) -> Any:
        if node.is_secret and (answer is True or answer == "") and kept:
            return answers.get(node.place)
        return _valid(node, answer)

    value = _answered(answers, node, ask, question, check)
    answers.put(node, value, OPTION)
    answers.given.discard(node.place)


def _answered(
    answers: Answers, node: ConfigTree, ask: Ask, question: Question, check: Callable[[Any], Any]
) -> Any:
    """Ask until the answer is valid."""
    while True:
        answer = ask(question)
        try:
            return check(answer)
        except ValidationError as error:
            wrong: AcoupiError = _told(problems_in(node, error)[0], answers)
        except AcoupiError as error:
            wrong = error
        question = replace(question, problem=wrong)


def _valid(node: ConfigTree, answer: Any) -> Any:
    """Return an answer in a form that pydantic accepts, or raise the problem."""
    problems: list[Problem] = []
    if answer is False and node.is_secret:
        answer = None
    if isinstance(answer, str):
        value = from_text(node, answer, problems, commas=True)
    else:
        value = from_data(node, answer, problems)
    if problems:
        raise as_error(problems)
    limits = node.info.metadata if node.info else []
    annotation: Any = Annotated[node.annotation, *limits] if limits else node.annotation
    made(annotation, value)
    return value
