"""The messengers that can be configured: those of acoupi, and those that are installed beside it.

A package brings one by an entry point of the group ``acoupi.messengers``, named as its
section. What is installed is looked up once in a process (4 ms), when the schema of
``messaging`` is made; the classes of acoupi are imported when one is configured.

One that cannot be used is named at setup. A sensor that has it configured records on:
the section is kept as it is, and its messages wait.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, create_model, model_serializer

from acoupi import data
from acoupi.components import types
from acoupi.components.messengers.config import (
    AppriseConfig,
    FileConfig,
    HTTPConfig,
    MQTTConfig,
)
from acoupi.deferred import DeferredModel
from acoupi.errors import AcoupiError, ConfigurationError, HealthCheckError, MessageSendError

__all__ = [
    "GROUP",
    "UnusableMessenger",
    "make_messengers",
    "messengers_in",
    "sections_of_plug_ins",
    "unusable_messengers",
    "unusable_section",
    "with_plug_ins",
]

GROUP = "acoupi.messengers"
_HERE = "acoupi.components.messengers"
_KEY = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

_KEPT: dict[str, Any] = {"secret": True, "opaque": True}
"""Marks a section that cannot be read: it is kept unchanged and never shown."""

M = TypeVar("M", bound=BaseModel)


class _Kind(NamedTuple):
    """One messenger that can be configured."""

    config: type[BaseModel]
    place: EntryPoint
    """Where its class is; loading it may import a network library."""


# One line for each messenger of acoupi.
_SHIPPED = {
    "http": _Kind(HTTPConfig, EntryPoint("http", f"{_HERE}.http:HTTPMessenger", GROUP)),
    "mqtt": _Kind(MQTTConfig, EntryPoint("mqtt", f"{_HERE}.mqtt:MQTTMessenger", GROUP)),
    "file": _Kind(FileConfig, EntryPoint("file", f"{_HERE}.file:FileMessenger", GROUP)),
    "apprise": _Kind(
        AppriseConfig, EntryPoint("apprise", f"{_HERE}.phones:AppriseMessenger", GROUP)
    ),
}


class _Known(NamedTuple):
    kinds: dict[str, _Kind]
    faults: dict[str, ConfigurationError]
    """Why a section cannot be used."""


@cache
def _known() -> _Known:
    installed: dict[str, set[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        installed.setdefault(point.name, set()).add(point)
    found = _Known(dict(_SHIPPED), {})
    for key, points in sorted(installed.items()):
        try:
            found.kinds[key] = _Kind(_load(key, points).Config, next(iter(points)))
        except ConfigurationError as error:
            found.faults[key] = error
    return found


def _load(key: str, points: set[EntryPoint]) -> type[types.Messenger]:
    """Return the class of a messenger that is installed.

    Raises
    ------
    ConfigurationError
        If it cannot be imported, is not a messenger, or its key is another's.
    """
    packages = sorted({_package(point) for point in points})
    if key in _SHIPPED or len({point.value for point in points}) > 1:
        others = ["acoupi"] if key in _SHIPPED else []
        raise _unusable(key, packages, f"{' and '.join([*others, *packages])} each have one.")
    try:
        messenger = next(iter(points)).load()
    except (Exception, SystemExit) as error:
        why = f"importing it failed: {type(error).__name__}: {' '.join(str(error).split())}"
        raise _unusable(key, packages, f"{why.rstrip('.')}.") from error
    if fault := _not_a_messenger(key, messenger):
        raise _unusable(key, packages, fault)
    return cast("type[types.Messenger]", messenger)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _unusable(key: str, packages: Sequence[str], why: str) -> ConfigurationError:
    return ConfigurationError(
        f'the messenger "{key}" of {" and ".join(packages)} cannot be used.',
        f"python -m pip install --upgrade {packages[-1]}   or uninstall it",
        why=why,
    )


def _not_a_messenger(key: str, messenger: object) -> str | None:
    """Return what is wrong with a class, or None."""
    if not isinstance(messenger, type) or not issubclass(messenger, types.Messenger):
        return f"{messenger!r} does not extend acoupi.components.types.Messenger."
    own, config = getattr(messenger, "key", None), getattr(messenger, "Config", None)
    if own != key:
        return f'its entry point is called "{key}" and its key is "{own}": they must be the same.'
    if not _is_section(key):
        return f'"{key}" cannot be a section: lower-case letters, digits and single underscores.'
    if not isinstance(config, type) or not issubclass(config, BaseModel):
        return f"{messenger.__name__}.Config must be a pydantic model."
    return None


def _is_section(key: str) -> bool:
    is_taken = hasattr(BaseModel, key) or key.startswith("model_")
    return _KEY.fullmatch(key) is not None and not is_taken


class _WithPlugIns(DeferredModel):
    """Writes the sections of plug-ins only where they are set.

    So a configuration can still be read where a plug-in that it does not use is gone.
    """

    plug_in_sections: ClassVar[frozenset[str]]
    unusable_messengers: ClassVar[tuple[ConfigurationError, ...]]

    @model_serializer(mode="wrap")
    def _without_absent_sections(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        absent = {key for key in self.plug_in_sections if written.get(key) is None}
        return {key: value for key, value in written.items() if key not in absent}


def with_plug_ins(model: type[M]) -> type[M]:
    """Return a schema of ``messaging`` with a section for each messenger that it does not name.

    Without plug-ins that is the class itself.
    """
    kinds, faults = _known()
    taken = {
        key: _unusable(key, [_package(kind.place)], f"messaging.{key} is another setting.")
        for key, kind in kinds.items()
        if key in model.model_fields and key not in _SHIPPED
    }
    fields: dict[str, Any] = {
        key: (kind.config | None, Field(None, description=_meaning(kind.config)))
        for key, kind in kinds.items()
        if key not in model.model_fields
    }
    fields |= {
        key: (
            dict[str, Any] | None,
            Field(None, json_schema_extra=_KEPT),
        )
        for key in faults
        if key not in model.model_fields and _is_section(key)
    }
    if not fields and not faults and not taken:
        return model
    made = create_model(
        model.__name__,
        __base__=(_WithPlugIns, cast("type[_WithPlugIns]", model)),
        __module__=model.__module__,
        __doc__=model.__doc__,
        **fields,
    )
    schema = cast("type[_WithPlugIns]", made)
    schema.plug_in_sections = frozenset(fields)
    schema.unusable_messengers = (*faults.values(), *taken.values())
    return cast("type[M]", schema)


def _meaning(config: type[BaseModel]) -> str | None:
    return (config.__doc__ or "").strip().partition("\n")[0] or None


def unusable_messengers(model: type) -> tuple[ConfigurationError, ...]:
    """Return why messengers cannot be used, if a class is a schema of ``messaging``."""
    return getattr(model, "unusable_messengers", ())


def sections_of_plug_ins(model: type) -> frozenset[str]:
    """Return the keys of the sections of plug-ins, if a class is a schema of ``messaging``."""
    return getattr(model, "plug_in_sections", frozenset())


def unusable_section(key: str, why: str) -> ConfigurationError:
    """Return the error about a messenger with settings that no configuration can have."""
    return _unusable(key, [_package(_known().kinds[key].place)], why)


def messengers_in(messaging: object) -> list[str]:
    """Return the configured messengers, by their keys, in a file's section ``messaging``."""
    return [key for key in _known().kinds if isinstance(messaging, dict) and messaging.get(key)]


def make_messengers(messaging: BaseModel, logger: logging.Logger) -> list[types.Messenger]:
    """Return a messenger for each section of ``messaging`` that is set.

    Raises
    ------
    ConfigurationError
        If a plug-in refuses its own section.
    """
    return list(_made(messaging, logger))


def _made(messaging: BaseModel, logger: logging.Logger) -> Iterator[types.Messenger]:
    kinds, faults = _known()
    for key, kind in kinds.items():
        section = getattr(messaging, key, None)
        # A program may have a setting of its own by the name of a plug-in.
        if isinstance(section, kind.config) or (key in _SHIPPED and section is not None):
            yield _make(kind, section, logger)
    for key, error in faults.items():
        if isinstance(getattr(messaging, key, None), dict):
            logger.error("%s %s", error, error.why)
            yield UnusableMessenger(key, error)


def _make(kind: _Kind, section: BaseModel, logger: logging.Logger) -> types.Messenger:
    messenger: type[types.Messenger] = kind.place.load()
    try:
        return messenger.from_config(section, logger)
    except AcoupiError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f'the messenger "{kind.place.name}" of {_package(kind.place)} cannot be created.',
            f"acoupi config get messaging.{kind.place.name}",
            why=f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".") + ".",
        ) from error


class UnusableMessenger(types.Messenger):
    """Placeholder for a configured messenger that cannot be used; its messages wait."""

    def __init__(self, key: str, error: ConfigurationError) -> None:
        self._name = key
        self._error = error

    @property
    def name(self) -> str:
        """Its section."""
        return self._name

    def send_message(self, message: data.Message) -> data.Response:
        """Raise `MessageSendError`: nothing is sent, and nothing is lost."""
        raise MessageSendError(self._error.message, self._error.help, why=self._error.why)

    def check(self) -> None:
        """Raise `HealthCheckError`, saying why it cannot be used."""
        raise HealthCheckError(self._error.message, self._error.help, why=self._error.why)
