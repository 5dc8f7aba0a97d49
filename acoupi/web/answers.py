"""The data of the pages: one function for each page and its JSON twin."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast
from uuid import UUID

from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from acoupi.errors import ParameterError
from acoupi.exports.counting import by_time, count, keys
from acoupi.exports.flat import Flattener, flat_clip, flat_recording, iso_time
from acoupi.heard import DetectionRow, RecordingRow, SpeciesRow
from acoupi.telling import around
from acoupi.web.asking import Ask
from acoupi.web.flat import Detection, Recording
from acoupi.web.sensor import Health, JsonObject, Now, Setting

__all__ = [
    "DeploymentsAnswer",
    "DetectionAnswer",
    "Detections",
    "RecordingAnswer",
    "Recordings",
    "SpeciesAnswer",
    "SpeciesList",
    "counts",
    "deployment",
    "deployments",
    "detection",
    "detections",
    "effort",
    "health",
    "now",
    "recording",
    "recordings",
    "settings",
    "settings_schema",
    "species",
    "species_list",
    "tags",
]


class Detections(TypedDict):
    """A page of detections, the newest first."""

    detections: list[Detection]
    next: str | None
    """What to give as `after` for the next page; None: there are no more."""


class Clip(TypedDict):
    """The part of a file around a detection, seconds."""

    id: str | None
    """Id of the clip that holds it; None: times are relative to the recording."""
    start: float
    end: float


class DetectionAnswer(TypedDict):
    """All data about a detection."""

    detection: Detection
    clip: Clip
    capture: JsonObject | None
    """How the recording was captured; None if unknown."""
    others: list[Detection]
    """What else was found in the same recording."""


class Recordings(TypedDict):
    """A page of recordings, the newest first."""

    recordings: list[Recording]
    next: str | None


class RecordingAnswer(TypedDict):
    """All data about a recording."""

    recording: Recording
    clips: list[JsonObject]
    """Clips that are kept after its file was deleted."""
    capture: JsonObject | None
    analyses: list[JsonObject]
    detections: list[Detection]


class Heard(TypedDict):
    """A summary of one species."""

    species: str
    """"" stands for detections without a tag."""
    detections: int
    first: str
    last: str
    best_detection: str | None
    """The detection with the highest score that has a file."""


class SpeciesList(TypedDict):
    """A summary of each species, the most frequent first."""

    species: list[Heard]


class Counted(TypedDict):
    """Number of detections in a night or an hour of the day."""

    key: str
    detections: int


class SpeciesAnswer(TypedDict):
    """When one species was heard."""

    heard: Heard | None
    """The summary; None: nothing with these filters."""
    hours: list[Counted]
    """By hour of the day, local to the sensor; all 24."""
    nights: list[Counted]
    """Nights from noon to noon, named by the date of the evening; from the first to the last."""


class DeploymentsAnswer(TypedDict):
    """Every deployment, in the order of their start."""

    deployments: list[JsonObject]


def now(ask: Ask) -> Now:
    """Return the state of the sensor."""
    return ask.sensor.now()


def health(ask: Ask) -> Health:
    """Return the trend of the microphone, past alarms, dead letters and errors in logs."""
    return ask.sensor.health()


def effort(ask: Ask) -> JsonObject:
    """Return how every second of a deployment was spent."""
    since, until = ask.period
    return ask.sensor.effort(deployment(ask), since, until)


def deployment(ask: Ask) -> UUID | None:
    """Return the requested deployment; None: the latest."""
    name = ask.text("deployment")
    return None if name is None else ask.choosing.deployments_named(name)[-1].id


def deployments(ask: Ask) -> DeploymentsAnswer:
    """Return every deployment."""
    return {
        "deployments": [one.model_dump(mode="json") for one in ask.reader.get_deployments()],
    }


def settings(ask: Ask) -> dict[str, list[Setting]]:
    """Return every setting with its value; secrets without."""
    return {"settings": ask.sensor.settings()}


def settings_schema(ask: Ask) -> JsonObject:
    """Return the JSON Schema of all settings."""
    return ask.sensor.settings_schema()


def detections(ask: Ask) -> Detections:
    """Return detections, the newest first, a page at a time."""
    rows = ask.reader.detections(
        ask.filters, newest_first=True, after=ask.after, limit=ask.limit + 1
    )
    page, more = _page(rows, ask.limit)
    return {"detections": _flat(page), "next": more}


def detection(ask: Ask) -> DetectionAnswer:
    """Return all data about a detection."""
    row = ask.reader.detection(ask.id())
    if row is None:
        raise HTTPException(404, f"There is no detection {ask.id()}.")
    held_by = row.clip
    start, end = around(row if held_by is None else row.in_clip(held_by))
    clip_id = None if held_by is None else str(held_by.id)
    found = ask.reader.detections_in(row.recording.id)
    return {
        "detection": _flat([row])[0],
        "clip": {"id": clip_id, "start": start, "end": end},
        "capture": _capture(ask, row.recording.id),
        "others": _flat(one for one in found if one.id != row.id),
    }


def recordings(ask: Ask) -> Recordings:
    """Return recordings, with and without detections, the newest first, a page at a time."""
    rows = ask.reader.recordings(
        ask.filters, newest_first=True, after=ask.after, limit=ask.limit + 1
    )
    page, more = _page(rows, ask.limit)
    return {"recordings": list(map(_recording, page)), "next": more}


def recording(ask: Ask) -> RecordingAnswer:
    """Return all data about a recording."""
    id_ = ask.id()
    row = ask.reader.recording(id_)
    if row is None:
        raise HTTPException(404, f"There is no recording {id_}.")
    return {
        "recording": _recording(row),
        "clips": list(map(flat_clip, row.clips)),
        "capture": _capture(ask, id_),
        "analyses": [one.model_dump(mode="json") for one in ask.reader.analyses(id_)],
        "detections": _flat(ask.reader.detections_in(id_)),
    }


def _capture(ask: Ask, recording_id: UUID) -> JsonObject | None:
    found = ask.reader.capture(recording_id)
    return None if found is None else found.model_dump(mode="json")


def _page(rows: Iterator[Any], limit: int) -> tuple[list[Any], str | None]:
    page = list(islice(rows, limit + 1))
    return page[:limit], str(page[limit - 1].id) if len(page) > limit else None


def _flat(rows: Iterable[DetectionRow]) -> list[Detection]:
    return cast("list[Detection]", list(map(Flattener(), rows)))


def _recording(row: RecordingRow) -> Recording:
    return cast("Recording", {**flat_recording(row), "detection_count": row.detections})


def species_list(ask: Ask) -> SpeciesList:
    """Return a summary of each species."""
    return {"species": [_heard(one) for one in ask.reader.species(ask.filters)]}


def _heard(row: SpeciesRow) -> Heard:
    return {
        "species": row.name,
        "detections": row.detections,
        "first": iso_time(row.first_on),
        "last": iso_time(row.last_on),
        "best_detection": None if row.best is None else str(row.best),
    }


def species(ask: Ask) -> SpeciesAnswer:
    """Return when one species was heard; the filter `species` names it."""
    name = ask.text("species")
    if name is None:
        raise ParameterError(
            "", "no species is named.", "species=NAME", why="the page shows one species."
        )
    rows = [one for one in ask.reader.species(ask.filters) if one.name == name]
    quarters = ask.reader.count_detections("quarter", ask.filters)
    hours, nights = (by_time(quarters, by, ask.zone) for by in ("hour", "night"))
    every_hour = [f"{hour:02}:00" for hour in range(24)]
    return {
        "heard": _heard(rows[0]) if rows else None,
        "hours": [{"key": one, "detections": hours[one]} for one in every_hour],
        "nights": [{"key": one, "detections": nights[one]} for one in keys("night", nights)],
    }


def counts(ask: Ask) -> dict[str, list[JsonObject]]:
    """Return how many detections there are by night, day, hour, species or deployment."""
    return {"counts": count(ask.reader, "detections", ask.by, ask.filters, ask.zone)}


def tags(ask: Ask) -> dict[str, list[str]]:
    """Return the names that filters can have."""
    found = [one.value for one in ask.reader.get_tags()]
    return {
        "species": sorted(dict.fromkeys(found)),
        "models": ask.reader.get_models(),
        "deployments": list(dict.fromkeys(one.name for one in ask.reader.get_deployments())),
    }
