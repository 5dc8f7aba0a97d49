"""The words for a sensor of a fleet."""

from datetime import datetime
from typing import Any

from acoupi.fleet.judging import Row, span_words

__all__ = [
    "COLUMNS",
    "FIGURES",
    "NOT_SENT",
    "ON_PAGE",
    "RUNS",
    "SENSOR",
    "STATE",
    "WORK",
    "WRONG",
    "row_words",
    "shown_digest",
    "shown_program",
]

SENSOR = {"sensor": "sensor"}
STATE = {"state": "state", "heartbeat": "seen"}
RUNS = {"version": "version", "program": "program", "configuration": "settings"}
FIGURES = {"effort": "last day", "disk": "disk", "microphone": "noise floor"}
WORK = {"to_analyse": "to analyse", "to_send": "to send", "clock": "clock"}
WRONG = {"reasons": ""}
COLUMNS = SENSOR | STATE | RUNS | FIGURES | WORK | {"alarms": "alarms"} | WRONG
"""What `row_words` says, and the head of its column."""
ON_PAGE = FIGURES | WORK | {"version": "version"}
"""What the page of a hub shows beside the state of a sensor and what is wrong."""
NOT_SENT = "not sent"
DIGITS = 8
"""Characters shown of a digest."""


def row_words(row: Row, now: datetime) -> dict[str, Any]:
    """Return a row as a table shows it."""
    if row.heartbeat_on is None:
        return {
            "sensor": row.sensor,
            "state": row.state,
            "heartbeat": "none yet"
            if row.reported_on is None
            else span_words(now - row.reported_on),
            "alarms": row.alarms,
            "reasons": "; ".join(row.reasons),
        }
    ago = now - row.heartbeat_on
    return {
        "sensor": row.sensor,
        "state": row.state,
        "heartbeat": f"{row.heartbeat_on:%Y-%m-%d}" if row.clock_is_wrong else span_words(ago),
        "version": row.version or NOT_SENT,
        "program": shown_program(row.program),
        "configuration": shown_digest(row.configuration),
        "effort": _joined((row.recorded_h, "{:.1f} h"), (row.coverage_percent, "{:.0f} %")),
        "disk": _joined((row.disk_hours_left, "{:.0f} h")),
        "to_analyse": _joined((row.recordings_waiting, "{:.0f}")),
        "to_send": _joined((row.messages_waiting, "{:.0f}")),
        "microphone": _joined(
            (row.noise_floor_dbfs, "{:.0f} dBFS"), (row.noise_floor_change_db, "{:+.0f} dB")
        ),
        "clock": row.clock or NOT_SENT,
        "alarms": row.alarms,
        "reasons": "; ".join(row.reasons),
    }


def _joined(*figures: tuple[float | None, str]) -> str:
    return ", ".join(form.format(one) for one, form in figures if one is not None) or NOT_SENT


def shown_program(name: str | None) -> str:
    """Return the name of a program, without the package of those that come with acoupi."""
    return name.removeprefix("acoupi.programs.") if name else NOT_SENT


def shown_digest(text: str | None) -> str:
    """Return the start of a digest."""
    return text[:DIGITS] if text else NOT_SENT
