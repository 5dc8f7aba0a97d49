"""What an export is made from: rows of a reader, and the effort of the deployments they are of."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from uuid import UUID

from acoupi import data
from acoupi.effort import PlanFrom
from acoupi.errors import ParameterError
from acoupi.exports.clipped import in_files
from acoupi.exports.effort_report import Effort
from acoupi.exports.reader import Reader
from acoupi.heard import DetectionRow, Filters, RecordingRow, VerdictRow

__all__ = ["Site", "Source", "rounded", "with_coordinates"]


@dataclass(frozen=True)
class Site:
    """A deployment, and its effort in the exported time."""

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


class Source:
    """What is exported: rows with the coordinates that others may see.

    Parameters
    ----------
    reader
        What reads them.
    filters
        Which.
    sites
        Their deployments, with their true coordinates.
    precision
        Degrees to which coordinates are rounded; None: they stay as they are.
    place
        Latitude and longitude of deployments that have none.
    """

    def __init__(
        self,
        reader: Reader,
        filters: Filters,
        sites: Sequence[Site],
        precision: float | None = None,
        place: tuple[float, float] | None = None,
    ) -> None:
        self._reader = reader
        self._filters = filters
        self._is_placed = precision is not None or place is not None
        self._place = place
        self._known: dict[UUID, data.Deployment] = {}
        self.coordinate_precision = precision
        self.sites = [replace(one, deployment=self._deployment(one.deployment)) for one in sites]

    @property
    def latest(self) -> datetime.datetime:
        """The last moment that is accounted for."""
        return max(one.effort.until for one in self.sites)

    def detections(self) -> Iterator[DetectionRow]:
        """Yield the detections that pass; those of one recording share it."""
        rows = self._reader.detections(self._filters)
        return self._moved(rows) if self._is_placed else rows

    def all_recordings(self) -> Iterator[RecordingRow]:
        """Yield the recordings that pass."""
        return map(self._recording, self._reader.recordings(self._filters))

    def files(self) -> Iterator[tuple[RecordingRow, list[DetectionRow]]]:
        """Yield recordings and clips with those of their detections that pass, at least one each.

        The times of a detection are those in its file.
        """
        for sound, rows in in_files(by_recording(self.detections())):
            if rows:
                yield sound, rows

    def recordings(self) -> Iterator[tuple[RecordingRow, list[DetectionRow]]]:
        """Yield every recording or clip with its detections that pass, also one without any.

        The two are read side by side, so that what the sensor stores meanwhile cannot part
        them. A recording that began before the time that was chosen is there, too, if one of
        its detections passes. Of one that was given up after clips were cut from it come the
        clips, each as a recording of its own.
        """
        return in_files(self._side_by_side())

    def _side_by_side(self) -> Iterator[tuple[RecordingRow, list[DetectionRow]]]:
        found = _by_start(self.detections())
        start, rows = next(found, _NO_MORE)
        for time, group in groupby(self.all_recordings(), key=lambda row: row.started_on):
            while start < time:
                yield from rows.values()
                start, rows = next(found, _NO_MORE)
            for recording in group:
                own = rows.pop(recording.id, None) if start == time else None
                yield recording, own[1] if own else []
        while rows:
            yield from rows.values()
            start, rows = next(found, _NO_MORE)

    def verdicts(self) -> Iterator[VerdictRow]:
        """Yield every verdict on the detections that pass, withdrawn ones too."""
        return self._reader.verdicts(self._filters)

    def count_detections(self) -> int:
        """Return how many pass."""
        return sum(self._reader.count_detections("species", self._filters).values())

    def _moved(self, rows: Iterator[DetectionRow]) -> Iterator[DetectionRow]:
        before: RecordingRow | None = None
        for row in rows:
            if before is None or before.id != row.recording.id:
                before = self._recording(row.recording)
            yield replace(row, recording=before)

    def _recording(self, row: RecordingRow) -> RecordingRow:
        if not self._is_placed:
            return row
        return replace(row, deployment=self._deployment(row.deployment))

    def _deployment(self, one: data.Deployment) -> data.Deployment:
        if one.id not in self._known:
            precision, place = self.coordinate_precision, self._place
            self._known[one.id] = with_coordinates(one, precision, place)
        return self._known[one.id]


def by_recording(rows: Iterable[DetectionRow]) -> Iterator[tuple[RecordingRow, list[DetectionRow]]]:
    """Yield each recording with its detections; rows of one recording must follow each other."""
    for _, found in groupby(rows, key=lambda row: row.recording.id):
        group = list(found)
        yield group[0].recording, group


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
            f"the coordinates {latitude:g}, {longitude:g} are not valid.",
            "--latitude 51.5 --longitude -0.1",
            why="latitudes are -90 to 90, longitudes -180 to 180 degrees.",
        )
