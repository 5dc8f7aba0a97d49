"""Formatting values for pages."""

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acoupi.clock import nearest_second
from acoupi.data import Analysis, AnalysisState, CaptureReport
from acoupi.telling import VERDICT_MARKS, clock_words, shown_seconds, shown_share
from acoupi.web.flat import Recording
from acoupi.web.sensor import JsonObject

__all__ = ["FILTERS", "clock_of", "effort", "fate"]

LEVELS = 8
"""Number of shades of an hour of effort, besides none."""
LONGEST_GAPS = 30
_STATES = {
    "captured": "",
    "kept": "file kept",
    "clipped": "clips kept in place of the file",
    "deleted": "file deleted, by the saving filters or for lack of room",
    "lost": "its file disappeared; acoupi did not delete it",
}
_ANALYSES = {
    AnalysisState.RUNNING: "{} is analysing it now",
    AnalysisState.RETRY: "{} will try again",
    AnalysisState.SKIPPED: "not analysed by {}: a processing filter refused it",
    AnalysisState.FAILED: "{} failed",
    AnalysisState.LEFT_OUT: "{} had no time for it",
    AnalysisState.HUB: "{} runs at the hub",
}


def _time(text: str, where: datetime.tzinfo, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time as it is shown: local to the sensor, to the second."""
    return nearest_second(datetime.datetime.fromisoformat(text)).astimezone(where).strftime(form)


def _band(row: Mapping[str, Any]) -> str:
    if row["low_hz"] is None:
        return ""
    return f"{row['low_hz'] / 1000:.3g}-{row['high_hz'] / 1000:.3g}"


def _size(number: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> _size(999), _size(12_340_000_000)
    ('999 B', '12.3 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _value(value: Any) -> str:
    """Return a setting in its form, as it comes back if unchanged."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _words(name: str) -> str:
    return name.replace("_", " ")


FILTERS: dict[str, Callable[..., str]] = {
    "band": _band,
    "mark": lambda verdict: VERDICT_MARKS.get(verdict or "", ""),
    "seconds": shown_seconds,
    "share": shown_share,
    "size": _size,
    "time": _time,
    "value": _value,
    "words": _words,
}
"""Filters of the templates."""


def clock_of(capture: JsonObject | None) -> str:
    """Return how reliable the time of a recording is."""
    return clock_words(None if capture is None else CaptureReport.model_validate(capture))


def fate(row: Recording, analyses: Sequence[Analysis]) -> str:
    """Return the state of a recording in words, and why."""
    number = row["detection_count"]
    state = _STATES[row["recording_state"]]
    troubles = [
        f"{_ANALYSES[one.state].format(one.name_model)}{f': {one.error}' if one.error else ''}"
        for one in analyses
        if one.state in _ANALYSES
    ]
    if number:
        found = f"{number} found"
    elif any(one.state is AnalysisState.DONE for one in analyses):
        found = "nothing found"
    else:
        found = "" if analyses else "waits for its analysis"
    return "; ".join(filter(None, [found, *troubles, state]))


def effort(found: JsonObject) -> JsonObject:
    """Return a report of effort as a page shows it, with its longest gaps."""
    gaps = sorted(found["holes"], key=lambda one: -one["lost_s"])[:LONGEST_GAPS]
    return {
        **found,
        "days": [_day(one) for one in found["days"]],
        "states": [(_words(state), s) for state, s in found["states_s"].items() if s],
        "holes": sorted(gaps, key=lambda one: str(one["start"])),
        "more_holes": len(found["holes"]) - len(gaps),
    }


def _day(day: JsonObject) -> JsonObject:
    hours = {one["hour"]: one for one in day["hours"]}
    return {**day, "hours": [_hour(hour, hours.get(hour)) for hour in range(24)]}


def _hour(hour: int, known: JsonObject | None) -> JsonObject:
    """Return the shade of an hour, and its description."""
    when = f"{hour:02}:00"
    if known is None:
        return {"level": "outside", "says": f"{when}: outside this period"}
    share = known["captured_share"]
    if share is None:
        return {"level": "idle", "says": f"{when}: nothing planned"}
    if not known["recorded_s"]:
        return {"level": "none", "says": f"{when}: nothing recorded of the plan"}
    level = 1 + int(share * (LEVELS - 1))
    return {"level": str(level), "says": f"{when}: {shown_share(share)}"}
