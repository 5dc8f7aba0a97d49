"""Marks of configuration fields: the rights of containers, and whether setup asks.

A field carries them in ``Annotated``, as classes. They are inherited: a subclass
that changes only the default of a field keeps its marks.

    class Upload(BaseModel):
        address: Annotated[str, Server]
        labels: Annotated[Path | None, ReadOnly] = None

A path without a mark can be written, but not by models: its folder is mounted if its
name has a suffix, else the path itself. `acoupi.stack.access` decides which service may do what
with each kind.
"""

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

__all__ = [
    "Folder",
    "Kept",
    "NoUserPrompt",
    "ReadOnly",
    "Sending",
    "Server",
    "Spool",
    "WrittenFile",
    "marks_of",
]


class ReadOnly:
    """A file or folder that is only read: mounted separately, read-only."""


class Folder:
    """A folder that is written to: mounted separately, whatever its name looks like."""


class WrittenFile:
    """A file that is written: its folder is mounted, because a database has a journal beside it."""


class Spool:
    """The folder where recordings wait: a model reads it, and recorder and manager write there."""


class Kept:
    """The folder where recordings are kept: only the manager writes there."""


class Sending:
    """A path for messages only: models and the recorder neither read nor write it."""


class Server:
    """The address of another machine: if it is set, the worker that sends has a network."""


_MARKS = (ReadOnly, Folder, WrittenFile, Spool, Kept, Sending, Server)


def marks_of(model: type[BaseModel], attribute: str) -> frozenset[type]:
    """Return the marks of a field, else those of this field in the nearest base class.

    Examples
    --------
    >>> from typing import Annotated
    >>> class Upload(BaseModel):
    ...     address: Annotated[str | None, Server] = None
    >>> class Ours(Upload):
    ...     address: str = "hub.example.org"
    >>> marks_of(Ours, "address") == {Server}
    True
    """
    for owner in model.__mro__:
        info = getattr(owner, "model_fields", {}).get(attribute)
        if info is None:
            continue
        found = {*info.metadata, *_annotated(info.annotation)}
        marks = frozenset(mark for mark in _MARKS if mark in found)
        if marks:
            return marks
    return frozenset()


def _annotated(annotation: Any) -> Iterator[Any]:
    """Yield the annotations anywhere in a type: in a union, or for the items of a list."""
    if typing.get_origin(annotation) is typing.Annotated:
        yield from annotation.__metadata__
    for part in typing.get_args(annotation):
        yield from _annotated(part)


class NoUserPrompt:
    """Mark a field as one that setup never asks about.

    It can still be given as an option, in a file or in the environment.

    Examples
    --------
    >>> from typing import Annotated
    >>> from pydantic import BaseModel
    >>> class Buffer(BaseModel):
    ...     frames: Annotated[int, NoUserPrompt] = 8192
    >>> NoUserPrompt in Buffer.model_fields["frames"].metadata
    True
    """
