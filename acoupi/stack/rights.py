"""The needs of a configuration: a network, folders, secrets.

Nothing is inferred from the names of fields. Fields declare it with marks (`acoupi.rights`);
unmarked fields of other programs keep working:

- a path can be written, in its folder if it looks like a file. A file whose
  folder a container must not see is mounted by itself, read-only;
- a program without messengers and without a marked server has a network if
  its own fields hold any text, which might be an address. It declares a
  `Server`, or ``AcoupiWorker(network=False)``, to have none.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from acoupi.config import describe, is_valid_without_secrets
from acoupi.config.dumping import SecretSplitter, dumped
from acoupi.home import without_dots
from acoupi.rights import (
    Folder,
    Kept,
    ReadOnly,
    Sending,
    Server,
    Spool,
    WrittenFile,
    marks_of,
)
from acoupi.stack.access import Place

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = [
    "TOO_WIDE",
    "addresses_in",
    "can_withhold_secrets",
    "names_server",
    "places_of",
    "secret_names",
    "sends_to_server",
]

TOO_WIDE = ("/", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var", "/var/run")
"""Folders with more than a container may see."""
_NO_ADDRESS = (int, float, Path, datetime.date, datetime.time, datetime.timedelta)


class _Leaf(NamedTuple):
    """One value of a configuration, and the field that holds it."""

    value: Any
    owner: type[BaseModel]
    attribute: str

    @property
    def marks(self) -> frozenset[type]:
        return marks_of(self.owner, self.attribute)

    @property
    def is_foreign(self) -> bool:
        return _is_foreign(self.owner, self.attribute)


def _is_foreign(owner: type, attribute: str) -> bool:
    """Return whether a field is in no class of acoupi, so that its author may not know marks."""
    return not any(
        attribute in getattr(base, "model_fields", {})
        for base in owner.__mro__
        if base.__module__.partition(".")[0] == "acoupi"
    )


def _leaves(config: BaseModel | None) -> Iterator[_Leaf]:
    for name in type(config).model_fields if config is not None else ():
        yield from _below(getattr(config, name), type(config), name)  # type: ignore[arg-type]


def _below(value: Any, owner: type[BaseModel], attribute: str) -> Iterator[_Leaf]:
    if isinstance(value, BaseModel):
        yield from _leaves(value)
    elif isinstance(value, dict | list | tuple | set | frozenset):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _below(item, owner, attribute)
    else:
        yield _Leaf(value, owner, attribute)


def sends_to_server(program: "AcoupiProgram[Any]") -> bool:
    """Return whether a program sends messages to other machines."""
    messengers = getattr(program, "messengers", None)
    if messengers is None:
        return names_server(program.config)
    return any(getattr(messenger, "needs_network", True) for messenger in messengers)


def names_server(config: BaseModel | None) -> bool:
    """Return whether a configuration names a server to send messages to, or may name one."""
    leaves = [leaf for leaf in _leaves(config) if leaf.value]
    if any(Server in leaf.marks for leaf in leaves):
        return True
    if config is None or _declares_server(type(config)):
        return False
    return any(leaf.is_foreign and not isinstance(leaf.value, _NO_ADDRESS) for leaf in leaves)


def addresses_in(config: BaseModel | None) -> list[Any]:
    """Return the servers that a configuration names, and possible ones, in order."""
    declares = config is not None and _declares_server(type(config))
    return [
        leaf.value
        for leaf in _leaves(config)
        if Server in leaf.marks
        or (not declares and leaf.is_foreign and not isinstance(leaf.value, _NO_ADDRESS))
    ]


def _declares_server(schema: type[BaseModel]) -> bool:
    """Return whether the author of a schema marks servers."""
    owners = [place.owner for place in describe(schema).walk() if place.owner]
    return any(
        Server in marks_of(owner, attribute) and _is_foreign(owner, attribute)
        for owner, attribute in owners
        if issubclass(owner, BaseModel)
    )


def secret_names(config: BaseModel | None) -> list[str]:
    """Return the names of the variables that hold the secrets of a configuration, sorted."""
    secrets: dict[str, str] = {}
    if config is not None:
        dumped(config, SecretSplitter(secrets))
    return sorted(secrets)


def can_withhold_secrets(config: BaseModel | None) -> bool:
    """Return whether the configuration still validates with its secrets withheld."""
    return config is None or is_valid_without_secrets(config)


def places_of(config: BaseModel | None, home: Path) -> dict[Path, set[Place]]:
    """Return the folders and files that a configuration names, and what each of them is.

    Parameters
    ----------
    config
        Of the program.
    home
        ACOUPI_HOME: a folder above it is not mounted for the sake of a file in it.
    """
    places: dict[Path, set[Place]] = {}
    for leaf in _leaves(config):
        value = leaf.value
        if isinstance(value, Path) and _is_below_home(value, leaf.marks):
            value = without_dots(home / value)
        if isinstance(value, Path) and value.is_absolute():
            path, is_read = _seen_at(value, leaf.marks, home)
            places.setdefault(path, set()).add(_place(leaf.marks, is_read=is_read))
    return places


def _is_below_home(path: Path, marks: frozenset[type]) -> bool:
    """Return whether a relative path is one below ACOUPI_HOME, in a folder that may be mounted."""
    is_certificate = {ReadOnly, Sending} <= marks
    return is_certificate or (WrittenFile in marks and len(path.parts) > 1)


def _seen_at(path: Path, marks: frozenset[type], home: Path) -> tuple[Path, bool]:
    """Return what to mount for a path, and whether it is read-only."""
    if ReadOnly in marks:
        return path, True
    if WrittenFile in marks:
        return path.parent, False
    if Folder in marks or not path.suffix:
        return path, False
    if str(path.parent) in TOO_WIDE or home.is_relative_to(path.parent):
        return path, True
    return path.parent, False


def _place(marks: frozenset[type], *, is_read: bool) -> Place:
    if Sending in marks:
        return "keys" if is_read else "outbox"
    if Spool in marks:
        return "spool"
    if Kept in marks:
        return "recordings"
    if WrittenFile in marks:
        return "data"
    return "read" if is_read else "written"
