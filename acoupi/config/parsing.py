"""A configuration from all its sources: `parse_config_from_args`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from acoupi.config.answers import Answers, as_input
from acoupi.config.documents import Document
from acoupi.config.names import PROGRAM, Names, Place
from acoupi.config.problems import OPTION, Origin, as_error, named, show
from acoupi.config.questions import Ask, interview
from acoupi.config.secrets import MissingSecret
from acoupi.config.sources import custom_places, read_environment, read_options
from acoupi.config.tree import ConfigTree, describe
from acoupi.config.validation import absent_secrets, validate, validated
from acoupi.config.values import from_data
from acoupi.errors import AcoupiError, ConfigurationError

__all__ = ["parse_config_from_args"]

A = TypeVar("A", bound=BaseModel)


def parse_config_from_args(
    schema: type[A],
    args: list[str] | None = None,
    prompt: bool = True,
    *,
    file: Path | Document | None = None,
    environ: Mapping[str, str] | None = None,
    previous: BaseModel | Mapping[str, Any] | None = None,
    ask: Ask | None = None,
    names: Names = PROGRAM,
    suggestions: Mapping[str, Any] | None = None,
) -> A:
    """Return the configuration from options, variables, a file and answers combined.

    Strongest first: answers to questions, options, variables, the file, the values of an earlier
    setup, suggestions, defaults. They are combined and validated once, by pydantic.

    Parameters
    ----------
    args
        Options: ``--a.b value``, ``--a.b=value``, ``--flag``, ``--no-flag``, lists as
        repeated options or JSON, ``--dict.key value``, ``null``.
    prompt
        Ask for values that were not given; needs `ask`.
    file
        A JSON, YAML or TOML file.
    environ
        Where ``ACOUPI_CONFIG__A__B=value`` is looked up; None: the environment.
    previous
        Values of an earlier setup; settings that are not in the schema are dropped.
    ask
        Asks the person a `Question`.
    names
        The names of options and variables of this configuration.
    suggestions
        Values that replace the default of settings that ask for it
        (``json_schema_extra={"suggested": "timezone"}``), by what it asks for.

    Raises
    ------
    ParameterError
        If a setting is unknown, missing or not valid: named as its writer wrote it, with the
        valid values and, for a typo, the nearest valid name.
    ConfigurationError
        If the file cannot be read.

    Examples
    --------
    >>> class Recording(BaseModel):
    ...     duration: float = 3
    >>> class Schema(BaseModel):
    ...     recording: Recording = Recording()
    >>> parse_config_from_args(Schema, ["--recording.duration", "5"], prompt=False, environ={})
    Schema(recording=Recording(duration=5.0))
    """
    answers = Answers(describe(schema, names))
    custom = custom_places(answers.tree)
    foreign = _gather(
        answers,
        custom=custom,
        args=list(args or ()),
        file=file,
        environ=environ,
        previous=previous,
    )
    if answers.problems:
        raise as_error(answers.problems, answers.origins)
    _suggest(answers, suggestions or {})
    asking = ask is not None and prompt
    for place in custom:
        _take_over(answers, place, foreign, prompt=asking)
    if asking and ask is not None:
        _refuse_what_was_given(schema, answers)
        interview(schema, answers, ask, set(custom))
    return validated(schema, answers)


def _gather(
    answers: Answers,
    *,
    custom: Sequence[Place],
    args: list[str],
    file: Path | Document | None,
    environ: Mapping[str, str] | None,
    previous: BaseModel | Mapping[str, Any] | None,
) -> list[str]:
    """Combine all sources, weakest first; return options for models that set themselves up."""
    environ = os.environ if environ is None else environ
    if previous is not None:
        before = as_input(previous) if isinstance(previous, BaseModel) else dict(previous)
        answers.merge(before, OPTION, given=False)
    if file is not None:
        document = file if isinstance(file, Document) else Document.read(Path(file))
        answers.merge(document.with_secrets(environ), Origin("file", document.origin))
    answers.data = from_data(answers.tree, answers.data, answers.problems)
    variables = read_environment(answers, environ, custom)
    return [*variables, *read_options(answers, args, custom)]


def _suggest(answers: Answers, suggestions: Mapping[str, Any]) -> None:
    for node in answers.tree.members:
        if node.suggested in suggestions and not answers.has(node.place):
            answers.put(node, suggestions[str(node.suggested)], OPTION)
            answers.given.discard(node.place)


def _refuse_what_was_given(schema: type[BaseModel], answers: Answers) -> None:
    """Fail before the first question if an option or the file is wrong."""
    wrong = [
        problem
        for problem in validate(schema, answers)[1]
        if problem.kind != "missing"
        and any(given == problem.node.place[: len(given)] for given in answers.given)
    ]
    if wrong:
        raise as_error(wrong, answers.origins)


def _take_over(answers: Answers, place: Place, foreign: list[str], *, prompt: bool) -> None:
    """Let a published model set up its own subtree from the values given for it."""
    node = answers.tree.find([str(key) for key in place]) or answers.tree
    prefix = node.name
    start = f"--{prefix}." if prefix else "--"
    own = _own_options(foreign, start)
    known = {option.partition("=")[0] for option in own}
    value = answers.get(place) if place else answers.data
    absent = [one for one in absent_secrets(node, value) if one.node.option not in known]
    if absent and not prompt:
        raise as_error(absent, answers.origins)
    own += [text for pair in _as_options(value, start) if pair[0] not in known for text in pair]
    if not own and not prompt and not (node.is_required or not place):
        return
    try:
        made = node.custom_setup(own, prompt=prompt, prefix=prefix)
    except (AcoupiError, KeyboardInterrupt, EOFError):
        raise
    except (Exception, SystemExit) as error:
        raise _refused(node, error) from error
    answers.put(node, as_input(made), OPTION)


def _own_options(foreign: Sequence[str], start: str) -> list[str]:
    found: list[str] = []
    taking = False
    for text in foreign:
        if text.startswith("--"):
            taking = text.startswith(start)
        if taking:
            found.append(text)
    return found


def _as_options(value: Any, start: str) -> list[tuple[str, str]]:
    """Return the plain values of a section as options."""
    if not isinstance(value, dict):
        return []
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, MissingSecret):
            continue
        if isinstance(item, dict):
            found += _as_options(item, f"{start}{key}.")
        elif item is not None and show(item) is not None:
            found.append((f"{start}{key}", str(show(item))))
    return found


def _refused(node: ConfigTree, error: BaseException) -> ConfigurationError:
    text = " ".join(str(error).split())
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ConfigurationError(
        f"{named(node, {})} could not be set up.",
        f"{node.names.listing}; then give its settings as options {node.option}.NAME VALUE",
        why=f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}.",
    )
