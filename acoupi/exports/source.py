"""What an export is made from: rows of a reader, and the effort of the deployments they are of."""

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from acoupi import data
from acoupi.effort import EffortHistory, PlanFrom
from acoupi.errors import ParameterError
from acoupi.exports.effort_report import Effort
from acoupi.exports.reader import Reader
from acoupi.heard import By, DetectionRow, Filters, RecordingRow, VerdictRow

__all__ = ["PlacedReader", "Site", "Source", "rounded", "with_coordinates"]


@dataclass(frozen=True)
class Site:
    """A deployment, and what is known of its effort in the time that is exported."""

    deployment: data.Deployment
    ended_on: datetime.datetime
    """Its end; of one that has not ended, its last known second."""
    effort: Effort
    plans: Sequence[PlanFrom] = ()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.deployment.ended_on is None

    @property
    def schedule(self) -> str:
        """When it planned to record, in words; empty: not known."""
        if not self.plans:
            return ""
        plan = self.plans[-1].plan
        if plan.is_continuous:
            return f"continuous, in files of {plan.duration:g} s"
        return f"{plan.duration:g} s every {plan.interval:g} s"


@dataclass(frozen=True)
class Source:
    """What is exported."""

    reader: Reader
    filters: Filters
    sites: Sequence[Site]
    coordinate_precision: float | None = None
    """Degrees to which coordinates were rounded; None: they are as they were set."""

    def recordings(self) -> Iterator[tuple[RecordingRow, list[DetectionRow]]]:
        """Yield every recording with its detections that pass, also one without any.

        The two are read side by side, so that what the sensor stores meanwhile cannot part
        them. A recording that began before the time that was chosen is there, too, if one of
        its detections passes.
        """
        found = _by_start(self.reader.detections(self.filters))
        start, rows = next(found, _NO_MORE)
        for time, group in groupby(
            self.reader.recordings(self.filters), key=lambda row: row.started_on
        ):
            while start < time:
                yield from rows.values()
                start, rows = next(found, _NO_MORE)
            for recording in group:
                own = rows.pop(recording.id, None) if start == time else None
                yield recording, own[1] if own else []
        while rows:
            yield from rows.values()
            start, rows = next(found, _NO_MORE)

    @property
    def latest(self) -> datetime.datetime:
        """The last moment that is accounted for."""
        return max(one.effort.until for one in self.sites)


_Rows = dict[UUID, tuple[RecordingRow, list[DetectionRow]]]
_NO_MORE: tuple[datetime.datetime, _Rows] = (
    datetime.datetime.max.replace(tzinfo=datetime.UTC),
    {},
)


def _by_start(rows: Iterator[DetectionRow]) -> Iterator[tuple[datetime.datetime, _Rows]]:
    """Yield the recordings that begin at one moment, each with its detections."""
    for start, group in groupby(rows, key=lambda row: row.recording.started_on):
        found: _Rows = {}
        for row in group:
            found.setdefault(row.recording.id, (row.recording, []))[1].append(row)
        yield start, found


class PlacedReader:
    """A reader that gives every deployment other coordinates, in every row.

    Effort is still worked out with the true ones.

    Parameters
    ----------
    reader
        What reads.
    precision
        Degrees to which coordinates are rounded; None: they stay as they are.
    place
        Latitude and longitude of deployments that have none.
    """

    def __init__(
        self,
        reader: Reader,
        precision: float | None = None,
        place: tuple[float, float] | None = None,
    ) -> None:
        self._reader = reader
        self._precision = precision
        self._place = place
        self._known: dict[UUID, data.Deployment] = {}

    def close(self) -> None:
        """Let go of the store."""
        self._reader.close()

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""
        return [self._deployment(one) for one in self._reader.get_deployments()]

    def get_models(self) -> list[str]:
        """Return the names of the models that have analysed anything, sorted."""
        return self._reader.get_models()

    def get_tags(self) -> list[data.Tag]:
        """Return every tag that a model ever gave, sorted."""
        return self._reader.get_tags()

    def recordings(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[RecordingRow]:
        """Yield recordings, with the number of all their detections."""
        rows = self._reader.recordings(filters, newest_first=newest_first, after=after, limit=limit)
        return map(self._recording, rows)

    def detections(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[DetectionRow]:
        """Yield detections, each with its recording; those of one recording share it."""
        rows = self._reader.detections(filters, newest_first=newest_first, after=after, limit=limit)
        before: RecordingRow | None = None
        for row in rows:
            if before is None or before.id != row.recording.id:
                before = self._recording(row.recording)
            yield dataclasses.replace(row, recording=before)

    def verdicts(self, filters: Filters) -> Iterator[VerdictRow]:
        """Yield every verdict on the detections that pass, withdrawn ones too, in their order."""
        return self._reader.verdicts(filters)

    def count_recordings(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of recordings by what they have in common."""
        return self._reader.count_recordings(by, filters)

    def count_detections(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of detections by what they have in common."""
        return self._reader.count_detections(by, filters)

    def ids_of_recordings(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so."""
        return self._reader.ids_of_recordings(beginning, limit)

    def ids_of_detections(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so."""
        return self._reader.ids_of_detections(beginning, limit)

    def recording(self, id_: UUID) -> RecordingRow | None:
        """Return a recording; None if there is none of that id."""
        row = self._reader.recording(id_)
        return None if row is None else self._recording(row)

    def detection(self, id_: UUID) -> DetectionRow | None:
        """Return a detection; None if there is none of that id."""
        row = self._reader.detection(id_)
        return row and dataclasses.replace(row, recording=self._recording(row.recording))

    def detections_in(self, recording_id: UUID) -> list[DetectionRow]:
        """Return all detections in a recording, in order of their start."""
        return [
            dataclasses.replace(row, recording=self._recording(row.recording))
            for row in self._reader.detections_in(recording_id)
        ]

    def capture(self, recording_id: UUID) -> data.CaptureReport | None:
        """Return how a recording was captured; None where that is not known."""
        return self._reader.capture(recording_id)

    def analyses(self, recording_id: UUID) -> list[data.Analysis]:
        """Return what each model has done with a recording."""
        return self._reader.analyses(recording_id)

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return what is known of a deployment, or of a part of it; None if it is not stored."""
        return self._reader.get_effort(deployment, since, until)

    def _recording(self, row: RecordingRow) -> RecordingRow:
        return dataclasses.replace(row, deployment=self._deployment(row.deployment))

    def _deployment(self, one: data.Deployment) -> data.Deployment:
        known = self._known.get(one.id)
        if known is None or known.ended_on != one.ended_on:
            known = self._known[one.id] = with_coordinates(one, self._precision, self._place)
        return known


def with_coordinates(
    one: data.Deployment, precision: float | None, place: tuple[float, float] | None = None
) -> data.Deployment:
    """Return a deployment with rounded coordinates, or with `place` where it has none.

    Raises
    ------
    ParameterError
        If the place is on no map.

    Examples
    --------
    >>> oak = data.Deployment(name="Old oak", latitude=51.5074, longitude=-0.1278)
    >>> found = with_coordinates(oak, 0.1)
    >>> found.latitude, found.longitude
    (51.5, -0.1)
    """
    latitude, longitude = one.latitude, one.longitude
    if latitude is None or longitude is None:
        if place is None:
            return one
        latitude, longitude = place
        _check(latitude, longitude)
    found = {"latitude": rounded(latitude, precision), "longitude": rounded(longitude, precision)}
    return one.model_copy(update=found)


def rounded(degrees: float, precision: float | None) -> float:
    """Return degrees rounded to a multiple of `precision`; None: as they are."""
    if not precision:
        return degrees
    return round(round(degrees / precision) * precision, 9)


def _check(latitude: float, longitude: float) -> None:
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ParameterError(
            f"{latitude}, {longitude}",
            f"the coordinates cannot be {latitude:g}, {longitude:g}.",
            "--latitude 51.5 --longitude -0.1",
            why="latitudes are -90 to 90, longitudes -180 to 180 degrees.",
        )
