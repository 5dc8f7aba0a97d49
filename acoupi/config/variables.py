"""A configuration as environment variables, and the table of all variables.

A sensor that sets itself up (in a fleet, a container) uses only these.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from acoupi.config.dumping import SecretSplitter, dumped, mask
from acoupi.config.names import PROGRAM, Names
from acoupi.config.parsing import parse_config_from_args
from acoupi.config.problems import show
from acoupi.config.questions import kind_of
from acoupi.config.tree import ConfigTree, describe
from acoupi.errors import ConfigurationError

__all__ = ["Setting", "as_variables", "settings_table"]

_LIMITS = {
    "gt": "more than {}",
    "ge": "at least {}",
    "lt": "less than {}",
    "le": "at most {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "multiple_of": "a multiple of {}",
}


# ---- from a configuration


def as_variables(config: BaseModel, names: Names = PROGRAM) -> dict[str, str]:
    """Return the settings that differ from the defaults as variables, without secrets.

    Raises
    ------
    ConfigurationError
        Naming a setting that cannot be a variable.

    Examples
    --------
    >>> class Recording(BaseModel):
    ...     duration: float = 3
    >>> class Schema(BaseModel):
    ...     recording: Recording = Recording()
    >>> as_variables(Schema(recording=Recording(duration=5)))
    {'ACOUPI_CONFIG__RECORDING__DURATION': '5.0'}
    """
    tree = describe(type(config), names)
    variables = dict(_differing(tree, config, dumped(config, mask), None))
    _check_carried(config, variables, names)
    return variables


def _differing(
    node: ConfigTree, value: BaseModel, plain: Any, default: Any
) -> Iterator[tuple[str, str]]:
    """Yield the variables of a section for values that differ from `default` or its fields'."""
    here = replace(node, annotation=type(value))
    same_kind = isinstance(default, type(value))
    for member in here.members:
        name = str(member.place[-1])
        given = getattr(value, name, None)
        usual = getattr(default, name, None) if same_kind else member.default
        # On another machine, another value would be suggested.
        is_answered = member.suggested is not None and name in value.model_fields_set
        tells_kind = name == node.tag and not same_kind
        is_usual = given == usual and not is_answered and not tells_kind
        if member.is_secret or is_usual or _holds_secret(given):
            continue
        if isinstance(given, BaseModel):
            inside = dict(_differing(member, given, plain[name], usual))
            # A section that exists with only default values.
            yield from (inside or {member.variable: "{}"}).items()
        else:
            yield member.variable, _text(plain[name])


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_secret, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_secret, value))
    return isinstance(value, SecretStr | SecretBytes)


def _text(plain: Any) -> str:
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _check_carried(config: BaseModel, variables: Mapping[str, str], names: Names) -> None:
    """Raise unless the variables, with the secrets, reproduce the configuration."""
    secrets: dict[str, str] = {}
    dumped(config, SecretSplitter(secrets, names))
    wanted = dumped(config, mask)
    environ = {**secrets, **variables}
    try:
        again = parse_config_from_args(type(config), [], prompt=False, environ=environ, names=names)
    except ConfigurationError as error:
        raise _not_carried("the configuration", error.message) from error
    where = _first_difference(wanted, dumped(again, mask))
    if where is not None:
        raise _not_carried(".".join(where) or "the configuration", "it would be read differently")


def _not_carried(what: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} cannot be given as a variable.",
        "leave it at its default, and give it by ACOUPI_CONFIG_URL",
        why=why if why.endswith(".") else f"{why}.",
    )


def _first_difference(one: Any, other: Any) -> tuple[str, ...] | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            below = _first_difference(one.get(key), other.get(key))
            if below is not None:
                return (str(key), *below)
        return None
    return None if one == other else ()


# ---- the table


@dataclass(frozen=True)
class Setting:
    """One row of the table of settings."""

    variable: str
    kind: str
    default: str
    """Empty: no default, or one suggested by the place of the sensor."""
    valid: str
    """Its range or its choices; empty: any of its kind."""
    meaning: str
    section: str
    """Its section, as in ``messaging.mqtt``; empty: at the top."""
    is_optional: bool
    """Whether its section only exists once one of its settings is given."""
    is_secret: bool


def settings_table(schema: type[BaseModel], names: Names = PROGRAM) -> list[Setting]:
    """Return every setting of a schema that a variable can give, in order.

    Examples
    --------
    >>> from pydantic import Field
    >>> class Schema(BaseModel):
    ...     threshold: float = Field(default=0.2, ge=0, le=1, description="Score to keep.")
    >>> row, = settings_table(Schema)
    >>> row.variable, row.kind, row.default, row.valid
    ('ACOUPI_CONFIG__THRESHOLD', 'number', '0.2', 'at least 0, at most 1')
    """
    return list(_rows(describe(schema, names)))


def _rows(node: ConfigTree, *, optional: bool = False) -> Iterator[Setting]:
    for member in (one for one in node.members if not one.is_section):
        yield Setting(
            variable=member.variable,
            kind=kind_of(member),
            default="" if member.is_secret or member.suggested else _shown(member.default),
            valid=", ".join(_valid(member)),
            meaning=_meaning(member),
            section=node.name,
            is_optional=optional,
            is_secret=member.is_secret,
        )
    for member in (one for one in node.members if one.is_section):
        absent = member.is_nullable and member.default is None
        yield from _rows(member, optional=optional or absent)


def _meaning(member: ConfigTree) -> str:
    text = member.description or ""
    if member.suggested is None:
        return text
    return f"{text} Default: the zone of the coordinates, else that of the machine.".lstrip()


def _shown(default: Any) -> str:
    plain = to_jsonable_python(default)
    if plain is None or plain in ([], {}):
        return ""
    return str(show(plain)) if not isinstance(plain, list | dict) else json.dumps(plain)


def _valid(node: ConfigTree) -> Iterator[str]:
    if node.choices:
        yield " or ".join(str(show(choice)) for choice in node.choices)
    for mark in node.info.metadata if node.info else ():
        for name, words in _LIMITS.items():
            limit = getattr(mark, name, None)
            if limit is not None:
                yield words.format(f"{limit:g}" if isinstance(limit, int | float) else limit)
    if node.is_nullable and not node.is_secret:
        yield "or none"
