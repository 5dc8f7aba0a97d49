"""News of a sensor since the last query, collected once for all viewers."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

from acoupi import data
from acoupi.errors import AcoupiError
from acoupi.exports.flat import Flattener, flat_recording
from acoupi.heard import DetectionRow, Filters, RecordingRow
from acoupi.web.sensor import Sensor

__all__ = ["Event", "News"]

_LOOKED_AT = 50
"""Number of newest recordings that are checked; older ones are not news."""
_REMEMBERED = 20
_MOST_OF_ONE = 50
"""Most detections of a recording in the news; its page has all of them."""

_FILTERED = "A processing filter refused it."
_UNWANTED = "No saving filter kept it."


class Event(NamedTuple):
    """A piece of news: detection, recording, now or problem."""

    kind: str
    content: dict[str, Any]


_Seen = tuple[data.RecordingState, int]
"""Of a recording: its state, and how many detections there are in it."""


class News:
    """Collects news. It blocks, and is used by one thread at a time.

    Parameters
    ----------
    sensor
        The sensor.
    """

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self._seen: dict[UUID, _Seen] | None = None
        self._told: dict[UUID, set[UUID]] = {}
        """Detections that were reported, by recording."""
        self._recent: dict[str, deque[Event]] = {
            kind: deque(maxlen=_REMEMBERED) for kind in ("recording", "detection")
        }
        self._state: dict[str, Event] = {}
        """The last news, by subject."""

    def recent(self) -> list[Event]:
        """Return the current state for a new viewer: the last news of each kind."""
        heard = [event for events in self._recent.values() for event in events]
        return [*heard, *self._state.values()]

    def heard(self) -> list[Event]:
        """Return recordings that are new or in another state, and new detections."""
        return self._checked("heard", self._heard)

    def state(self) -> list[Event]:
        """Return the state of the sensor if it is another."""
        return self._checked("state", self._now)

    def _checked(self, what: str, find: Callable[[], Iterator[Event]]) -> list[Event]:
        """Return the news; if the sensor does not answer, report that once."""
        told: dict[str, Any] = {"asked_for": what, "error": None}
        found: list[Event] = []
        try:
            found = list(find())
        except AcoupiError as error:
            told |= {"error": error.message, "why": error.why, "try": error.help}
        if told["error"] is None and what not in self._state:
            return found
        return [*self._changed(what, Event("problem", told)), *found]

    def _changed(self, what: str, event: Event) -> list[Event]:
        """Return a state if it differs from the last reported one."""
        if self._state.get(what) == event:
            return []
        self._state[what] = event
        return [event]

    def _now(self) -> Iterator[Event]:
        now = {key: value for key, value in self._sensor.now().items() if key != "time"}
        yield from self._changed("now", Event("now", now))

    def _heard(self) -> Iterator[Event]:
        reader = self._sensor.reader
        rows = list(reader.recordings(Filters(), newest_first=True, limit=_LOOKED_AT))
        seen = self._seen
        if seen is None:
            found = list(reader.detections(Filters(), newest_first=True, limit=_REMEMBERED))
            yield from self._detections(reversed(found))
        # The oldest first: what is told last is the newest.
        for row in reversed(rows if seen is not None else rows[:_REMEMBERED]):
            before = (seen or {}).get(row.id)
            if before == _seen(row):
                continue
            if (
                seen is not None
                and row.detections
                and (before is None or before[1] != row.detections)
            ):
                yield from self._detections(reader.detections_in(row.id)[-_MOST_OF_ONE:])
            yield self._remember(Event("recording", self._told_of(row)))
        self._seen = {row.id: _seen(row) for row in rows}
        self._told = {id_: told for id_, told in self._told.items() if id_ in self._seen}

    def _detections(self, rows: Iterable[DetectionRow]) -> Iterator[Event]:
        flatten = Flattener()
        for one in rows:
            told = self._told.setdefault(one.recording.id, set())
            if one.id not in told:
                told.add(one.id)
                yield self._remember(Event("detection", flatten(one)))

    def _remember(self, event: Event) -> Event:
        self._recent[event.kind].append(event)
        return event

    def _told_of(self, row: RecordingRow) -> dict[str, Any]:
        return {
            **flat_recording(row),
            "detection_count": row.detections,
            "rejected": self._why_rejected(row),
        }

    def _why_rejected(self, row: RecordingRow) -> str | None:
        """Return why the sound was not kept, or not analysed; None where it was."""
        if row.state not in {data.RecordingState.DELETED, data.RecordingState.KEPT}:
            return None
        for one in self._sensor.reader.analyses(row.id):
            if one.state is data.AnalysisState.FAILED:
                return f"Its analysis by {one.name_model} failed: {one.error or 'no reason given'}."
            if one.state is data.AnalysisState.SKIPPED:
                return _FILTERED
            if one.state is data.AnalysisState.LEFT_OUT:
                return f"{one.name_model} had no time for it: {one.error}."
        return _UNWANTED if row.state is data.RecordingState.DELETED else None


def _seen(row: RecordingRow) -> _Seen:
    return row.state, row.detections or 0
