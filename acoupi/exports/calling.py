"""A reader whose methods are calls to another process, which reads."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from acoupi.exports.reader import Reader
from acoupi.heard import By, Filters

__all__ = ["CalledReader", "Calls", "called"]

P = ParamSpec("P")
T = TypeVar("T")


class Calls(Protocol):
    """Makes calls of methods of a reader elsewhere."""

    def call(self, function: Callable[..., T], **given: Any) -> T:
        """Return what a method returns."""

    def plain(self, function: Callable[..., T], **given: Any) -> Any:
        """Return what a method returns, as JSON holds it."""

    def rows(self, function: Callable[..., Iterator[T]], **given: Any) -> Iterator[T]:
        """Yield what a method yields."""


def called(
    method: Callable[Concatenate[Any, P], T], how: str = "call"
) -> Callable[Concatenate[Any, P], T]:
    """Return a method with the same arguments that makes a call of a method elsewhere.

    Parameters
    ----------
    method
        Of what is elsewhere.
    how
        Which of `Calls` makes it, that of ``_calls``.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *given = bound.arguments.items()
        return getattr(self._calls, how)(method, **dict(given))

    return cast("Callable[Concatenate[Any, P], T]", call)


class CalledReader:
    """Reads what was heard by calls; see `acoupi.exports.Reader`.

    Parameters
    ----------
    calls
        What makes them.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    get_deployments = called(Reader.get_deployments)
    get_models = called(Reader.get_models)
    get_tags = called(Reader.get_tags)
    recordings = called(Reader.recordings, "rows")
    detections = called(Reader.detections, "rows")
    verdicts = called(Reader.verdicts, "rows")
    species = called(Reader.species)
    ids_of_recordings = called(Reader.ids_of_recordings)
    ids_of_detections = called(Reader.ids_of_detections)
    recording = called(Reader.recording)
    detection = called(Reader.detection)
    detections_in = called(Reader.detections_in)
    capture = called(Reader.capture)
    analyses = called(Reader.analyses)
    get_effort = called(Reader.get_effort)

    def count_recordings(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of recordings by what they have in common."""
        return _counts(by, self._calls.plain(Reader.count_recordings, by=by, filters=filters))

    def count_detections(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of detections by what they have in common."""
        return _counts(by, self._calls.plain(Reader.count_detections, by=by, filters=filters))


def _counts(by: By, found: dict[str, int]) -> dict[str | int, int]:
    """Return counts with their keys; in JSON every key is text."""
    return {int(key) if by == "quarter" else key: number for key, number in found.items()}
