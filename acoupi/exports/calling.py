"""A reader whose methods are calls to another process, which reads."""

import datetime
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar
from uuid import UUID

from acoupi import data
from acoupi.effort import EffortHistory
from acoupi.exports.reader import Reader
from acoupi.heard import (
    By,
    DetectionRow,
    Filters,
    RecordingRow,
    SpeciesRow,
    VerdictRow,
)

__all__ = ["CalledReader", "Calls"]

T = TypeVar("T")


class Calls(Protocol):
    """Makes calls of methods of a reader elsewhere."""

    def call(self, function: Callable[..., T], **given: Any) -> T:
        """Return what a method returns."""

    def plain(self, function: Callable[..., T], **given: Any) -> Any:
        """Return what a method returns, as JSON holds it."""

    def rows(self, function: Callable[..., Iterator[T]], **given: Any) -> Iterator[T]:
        """Yield what a method yields."""


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

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""
        return self._calls.call(Reader.get_deployments)

    def get_models(self) -> list[str]:
        """Return the names of the models that have analysed anything, sorted."""
        return self._calls.call(Reader.get_models)

    def get_tags(self) -> list[data.Tag]:
        """Return every tag that a model ever gave, sorted."""
        return self._calls.call(Reader.get_tags)

    def recordings(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[RecordingRow]:
        """Yield recordings, with the number of all their detections."""
        return self._calls.rows(
            Reader.recordings, filters=filters, newest_first=newest_first, after=after, limit=limit
        )

    def detections(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[DetectionRow]:
        """Yield detections, each with its recording."""
        return self._calls.rows(
            Reader.detections, filters=filters, newest_first=newest_first, after=after, limit=limit
        )

    def verdicts(self, filters: Filters) -> Iterator[VerdictRow]:
        """Yield every verdict on the detections that pass, in their order."""
        return self._calls.rows(Reader.verdicts, filters=filters)

    def count_recordings(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of recordings by what they have in common."""
        return _counts(by, self._calls.plain(Reader.count_recordings, by=by, filters=filters))

    def count_detections(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of detections by what they have in common."""
        return _counts(by, self._calls.plain(Reader.count_detections, by=by, filters=filters))

    def species(self, filters: Filters) -> list[SpeciesRow]:
        """Return each species, when it was first and last heard, and its best clip."""
        return self._calls.call(Reader.species, filters=filters)

    def ids_of_recordings(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so, at most `limit`."""
        return self._calls.call(Reader.ids_of_recordings, beginning=beginning, limit=limit)

    def ids_of_detections(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so, at most `limit`."""
        return self._calls.call(Reader.ids_of_detections, beginning=beginning, limit=limit)

    def recording(self, id_: UUID) -> RecordingRow | None:
        """Return a recording; None if there is none with that id."""
        return self._calls.call(Reader.recording, id_=id_)

    def detection(self, id_: UUID) -> DetectionRow | None:
        """Return a detection; None if there is none with that id."""
        return self._calls.call(Reader.detection, id_=id_)

    def detections_in(self, recording_id: UUID) -> list[DetectionRow]:
        """Return all detections in a recording, in order of their start."""
        return self._calls.call(Reader.detections_in, recording_id=recording_id)

    def capture(self, recording_id: UUID) -> data.CaptureReport | None:
        """Return how a recording was captured; None where that is not known."""
        return self._calls.call(Reader.capture, recording_id=recording_id)

    def analyses(self, recording_id: UUID) -> list[data.Analysis]:
        """Return what each model has done with a recording."""
        return self._calls.call(Reader.analyses, recording_id=recording_id)

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return the facts about a deployment, or a part of it; None if it is not stored."""
        return self._calls.call(Reader.get_effort, deployment=deployment, since=since, until=until)


def _counts(by: By, found: dict[str, int]) -> dict[str | int, int]:
    """Return counts with their keys; in JSON every key is text."""
    return {int(key) if by == "quarter" else key: number for key, number in found.items()}
