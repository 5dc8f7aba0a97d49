"""How much was heard by night, day, hour, species or deployment."""

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from acoupi.exports.reader import Reader
from acoupi.heard import Filters

__all__ = ["BY", "By", "by_time", "count", "keys"]

By = Literal["night", "day", "hour", "species", "deployment"]
"""A night is from noon to noon, called by the date of its evening."""
BY: tuple[By, ...] = ("night", "day", "hour", "species", "deployment")

_NOON = datetime.timedelta(hours=12)


def count(
    reader: Reader, what: str, by: By, filters: Filters, zone: datetime.tzinfo
) -> list[dict[str, Any]]:
    """Count "recordings", or "detections" beside the recordings that were made.

    Parameters
    ----------
    zone
        Of the nights, days and hours.
    """
    counted = _counted(reader, what, by, filters, zone)
    made = None
    if what == "detections" and by != "species":
        made = _counted(reader, "recordings", by, _of_recordings(filters), zone)
    return [
        {by: key, what: counted.get(key, 0), **({} if made is None else {"recordings": made[key]})}
        for key in keys(by, {**(made or {}), **counted})
    ]


def _of_recordings(filters: Filters) -> Filters:
    """Return the filters that apply to recordings, to count them."""
    return replace(filters, models=None, species=None, tags=None, min_score=None, verdicts=None)


def _counted(
    reader: Reader, what: str, by: By, filters: Filters, zone: datetime.tzinfo
) -> Counter[str]:
    ask = reader.count_detections if what == "detections" else reader.count_recordings
    if by == "species":
        return Counter({str(key or "-"): number for key, number in ask("species", filters).items()})
    if by == "deployment":
        names = {str(one.id): one.name for one in reader.get_deployments()}
        found: Counter[str] = Counter()
        for id_, number in ask("deployment", filters).items():
            found[names[str(id_)]] += number
        return found
    return by_time(ask("quarter", filters), by, zone)


def by_time(quarters: Mapping[Any, int], by: By, zone: datetime.tzinfo) -> Counter[str]:
    """Add up counts by quarters of an hour to nights, days or hours of the day."""
    found: Counter[str] = Counter()
    for quarter, number in quarters.items():
        local = datetime.datetime.fromtimestamp(quarter * 900, datetime.UTC).astimezone(zone)
        day = local.replace(tzinfo=None) - (_NOON if by == "night" else _NOON * 0)
        found[f"{local:%H}:00" if by == "hour" else str(day.date())] += number
    return found


def keys(by: By, counted: Mapping[str, int]) -> list[str]:
    """Return the rows in order, including empty days and nights between the first and last."""
    if by in ("species", "deployment"):
        return sorted(counted, key=lambda key: (-counted[key], key))
    if by == "hour" or not counted:
        return sorted(counted)
    first, last = (datetime.date.fromisoformat(ask(counted)) for ask in (min, max))
    return [str(first + datetime.timedelta(days)) for days in range((last - first).days + 1)]
