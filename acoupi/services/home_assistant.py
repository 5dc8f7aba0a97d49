"""The states of a sensor's entities in Home Assistant."""

import datetime
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from acoupi import clock, data
from acoupi.alarms.rules import RULES
from acoupi.components.messengers.home_assistant import UNKNOWN, Announcement
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.heard import DetectionRow, Filters
from acoupi.programs import AcoupiProgram
from acoupi.services.metrics import SensorState

if TYPE_CHECKING:
    from acoupi.components.messengers import MQTTMessenger

__all__ = ["entity_states", "publish_states"]

_LONGEST = 255
"""Longest state that Home Assistant accepts, characters."""
_WORDS: dict[str, str] = {rule.key: rule.description for rule in RULES}


def publish_states(
    program: AcoupiProgram[Any], state: SensorState, messengers: "Sequence[MQTTMessenger]"
) -> None:
    """Publish the state of every entity that has changed.

    Raises
    ------
    MessageSendError
        If a broker cannot be reached, or refuses the message.
    """
    today, last = _found(program, state)
    for messenger in messengers:
        announcement = messenger.announcement
        messenger.publish_states(entity_states(announcement, state, today, last))


def _found(
    program: AcoupiProgram[Any], state: SensorState
) -> tuple[int | None, DetectionRow | None]:
    """Return the number of today's detections, and the last one; None if unknown."""
    store = program.store  # type: ignore[attr-defined]
    if not isinstance(store, SqliteStore) or not store.db_path.exists():
        return None, None
    zone = ZoneInfo(str(getattr(program.config, "timezone", None) or "UTC"))
    midnight = state.facts.now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    with SqliteReader(store.db_path) as reader:
        counts = reader.count_detections("deployment", Filters(since=midnight))
        last = next(reader.detections(Filters(), newest_first=True, limit=1), None)
    return sum(counts.values()), last


def entity_states(
    announcement: Announcement, state: SensorState, today: int | None, last: DetectionRow | None
) -> dict[str, str]:
    """Return the state of each entity, and its attributes, by topic."""
    states = {
        announcement.state_topic(key): _text(value)
        for key, value in _values(state, today, last).items()
    }
    attributes = {"last_detection": _of_detection(last), "alarm": _of_alarms(state)}
    return states | {
        announcement.attributes_topic(key): json.dumps(found, ensure_ascii=False)
        for key, found in attributes.items()
    }


def _text(value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="seconds")
    return str(value)[:_LONGEST]


def _values(state: SensorState, today: int | None, last: DetectionRow | None) -> dict[str, object]:
    facts = state.facts
    health = facts.heard[-1].health if facts.heard else None
    is_recording = facts.cannot_record == "" and not facts.missing_s
    lost = None if facts.planned_s is None else facts.planned_s - facts.recorded_s
    return {
        "recording": is_recording and state.deployment is not None,
        "last_detection": None if last is None else _name(last),
        "detections_today": today,
        "last_recording": state.last_recording and state.last_recording.created_on,
        "recorded_share": _rounded(_share(facts.recorded_s, facts.planned_s), 1),
        "lost_seconds": _rounded(lost, 0),
        "waiting_recordings": state.recordings.get(data.RecordingState.CAPTURED),
        "alarm": None if state.alarms is None else bool(list(state.alarms)),
        "microphone_problem": bool(facts.cannot_record or (health and health.faults())),
        "noise_floor": _rounded(health.noise_floor_dbfs if health else None, 1),
        "services_problem": bool(facts.down),
        "clock_problem": None if facts.clock_is_set is None else not facts.clock_is_set,
        "supply_problem": facts.has_low_voltage,
        "disk_hours_left": _rounded(facts.disk_hours, 0),
        "disk_free": _rounded(None if facts.free_bytes is None else facts.free_bytes / 1e9, 1),
        "temperature": _rounded(facts.temperature_celsius, 0),
    }


def _share(part: float, whole: float | None) -> float | None:
    return 100 * part / whole if whole else None


def _rounded(value: float | None, digits: int) -> float | int | None:
    """Return a figure rounded so that it changes rarely; None if it is unknown or infinite."""
    if value is None or value == float("inf"):
        return None
    return round(value, digits) if digits else round(value)


def _name(row: DetectionRow) -> str:
    return row.species.tag.value if row.species is not None else "unknown"


def _of_detection(row: DetectionRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {
        "score": round(row.score, 3),
        "model": row.model,
        "time": clock.shown_in_utc(row.started_on),
        "recording": str(row.recording.id),
    }


def _of_alarms(state: SensorState) -> dict[str, Any]:
    active = state.alarms or ()
    return {"active": [f"{_WORDS.get(one.key, one.key)} {one.detail}" for one in active]}
