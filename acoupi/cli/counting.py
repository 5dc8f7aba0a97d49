"""``count`` of recordings and of detections: by night, day, hour, species or deployment."""

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from acoupi.cli.output import fitted, print_json, say, shown
from acoupi.errors import ParameterError

if TYPE_CHECKING:
    from acoupi.cli.heard import Heard
    from acoupi.heard import Filters

__all__ = ["count"]

BY = ("night", "day", "hour", "species", "deployment")
NOON = datetime.timedelta(hours=12)
WIDTH = 80
LONGEST_NAME = 32
EIGHTHS = " ▏▎▍▌▋▊▉"


def count(what: str, by: str, heard: "Heard", filters: "Filters", form: str) -> None:
    """Print how many there are, beside the number of recordings that were made.

    Parameters
    ----------
    what
        "recordings" or "detections".
    by
        One of `BY`. A night is from noon to noon, called by the date of its evening.
    form
        "table", "json" or "csv".
    """
    from acoupi.cli.heard import written_csv

    if by not in BY:
        raise ParameterError(
            by, f'--by cannot be "{by}".', "--by night", why=f"it is one of {', '.join(BY)}."
        )
    counted = _counted(what, by, heard, filters)
    made = None
    if what == "detections" and by != "species":
        made = _counted("recordings", by, heard, _of_recordings(filters))
    keys = _keys(by, {**(made or {}), **counted})
    rows = [
        {by: key, what: counted.get(key, 0), **({} if made is None else {"recordings": made[key]})}
        for key in keys
    ]
    if form == "json":
        print_json(rows)
    elif form == "csv":
        written_csv(rows)
    else:
        _show(rows, by, what)


def _of_recordings(filters: "Filters") -> "Filters":
    """Return what the filters say of recordings: of those, how many were made."""
    return replace(filters, models=None, species=None, tags=None, min_score=None, verdicts=None)


def _counted(what: str, by: str, heard: "Heard", filters: "Filters") -> Counter[str]:
    reader = heard.reader
    ask = reader.count_detections if what == "detections" else reader.count_recordings
    if by == "species":
        return Counter({str(key or "-"): number for key, number in ask("species", filters).items()})
    if by == "deployment":
        names = {str(one.id): one.name for one in reader.get_deployments()}
        found: Counter[str] = Counter()
        for id_, number in ask("deployment", filters).items():
            found[names[str(id_)]] += number
        return found
    return _by_time(ask("quarter", filters), by, heard.zone)


def _by_time(quarters: Mapping[Any, int], by: str, zone: datetime.tzinfo) -> Counter[str]:
    found: Counter[str] = Counter()
    for quarter, number in quarters.items():
        local = datetime.datetime.fromtimestamp(quarter * 900, datetime.UTC).astimezone(zone)
        day = local.replace(tzinfo=None) - (NOON if by == "night" else NOON * 0)
        found[f"{local:%H}:00" if by == "hour" else str(day.date())] += number
    return found


def _keys(by: str, counted: Mapping[str, int]) -> list[str]:
    """Return what is shown, in order; days and nights between the first and the last, too."""
    if by in ("species", "deployment"):
        return sorted(counted, key=lambda key: (-counted[key], key))
    if by == "hour" or not counted:
        return sorted(counted)
    first, last = (datetime.date.fromisoformat(ask(counted)) for ask in (min, max))
    return [str(first + datetime.timedelta(days)) for days in range((last - first).days + 1)]


def _show(rows: list[dict[str, Any]], by: str, what: str) -> None:
    if not rows:
        say("Nothing was heard." if what == "detections" else "Nothing was recorded.")
        return
    names = [name for name in rows[0] if name != by]
    first = min(max(len(by), *(len(str(row[by])) for row in rows)), LONGEST_NAME)
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in names]
    heads = "  ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    say(f"{by:<{first}}  {heads}")
    most = max(row[what] for row in rows)
    room = WIDTH - first - sum(widths) - 2 * len(widths) - 2
    for row in rows:
        numbers = "  ".join(
            f"{shown(row[name]):>{width}}" for name, width in zip(names, widths, strict=True)
        )
        label = f"{fitted(str(row[by]), first):<{first}}"
        say(f"{label}  {numbers}  {_bar(row[what], most, room)}".rstrip())


def _bar(number: int, most: int, width: int) -> str:
    """Return a bar in eighths of a character; what is there has at least one.

    Examples
    --------
    >>> _bar(4, 8, 4), _bar(1, 1000, 4), _bar(0, 8, 4)
    ('██', '▏', '')
    """
    eighths = max(number and 1, number * width * 8 // most) if most else 0
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
