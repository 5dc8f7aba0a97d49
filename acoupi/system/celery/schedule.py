"""The schedule as a file: what beat reads instead of the program.

`describe_schedule` turns the schedule of an app into plain data,
`read_schedule` turns it back into schedules. Interval, clock-aligned, crontab
and solar schedules are described; of any other kind only the class is noted,
and beat loads the program to have it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar

from acoupi import data
from acoupi.errors import ConfigurationError
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.system.writing import RenderedFile, disk_error
from acoupi.tasks.schedules import aligned_schedule

__all__ = ["Entry", "UnknownSchedule", "describe_schedule", "read_schedule", "schedule_file"]

VERSION = 1
CRONTAB_FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")


@dataclass(frozen=True)
class UnknownSchedule:
    """Stands for a schedule of a kind that only the program knows."""

    kind: str
    """Module and name of its class."""


@dataclass(frozen=True)
class Entry:
    """One periodic task."""

    name: str
    task: str
    queue: str
    schedule: BaseSchedule | UnknownSchedule
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    expires: float | None = None
    """Seconds after which its message is stale; None: when its next slot comes."""


def describe_schedule(app: Celery) -> dict[str, Any]:
    """Return the schedule of an app as plain data, sorted by the entries' names.

    Raises
    ------
    ConfigurationError
        If the arguments of an entry cannot be written as JSON.
    """
    entries = []
    for name, entry in sorted((app.conf.beat_schedule or {}).items()):
        options = dict(entry.get("options") or {})
        task = entry["task"]
        described = {
            "name": name,
            "task": task,
            "queue": options.get("queue") or _queue_of(app, task),
            "args": list(entry.get("args") or ()),
            "kwargs": dict(entry.get("kwargs") or {}),
            "expires": _seconds(options.get("expires")),
            "schedule": describe(maybe_schedule(entry["schedule"], entry.get("relative", False))),
        }
        try:
            json.dumps(described)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f'the periodic task "{task}" cannot be scheduled.',
                "give it arguments that are text, numbers, lists or mappings",
                why=f"its arguments cannot be written as JSON: {error}.",
            ) from error
        entries.append(described)
    return {"version": VERSION, "entries": entries}


def _queue_of(app: Celery, task: str) -> str:
    routes = app.conf.task_routes or {}
    route = routes.get(task) if isinstance(routes, Mapping) else None
    return str((route or {}).get("queue") or DEFAULT_QUEUE)


def _seconds(value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if isinstance(value, int | float) else None


def describe(when: BaseSchedule) -> dict[str, Any]:
    """Return a schedule as plain data.

    Examples
    --------
    >>> describe(schedule(timedelta(seconds=10)))
    {'kind': 'interval', 'every_s': 10.0}
    """
    if type(when) is aligned_schedule:
        every = when.run_every.total_seconds()
        return {"kind": "aligned", "every_s": every, "offset_s": when.offset_seconds}
    if type(when) is schedule:
        return {"kind": "interval", "every_s": when.run_every.total_seconds()}
    if type(when) is crontab:
        fields = {name: _cron_field(getattr(when, f"_orig_{name}")) for name in CRONTAB_FIELDS}
        return {"kind": "crontab", **fields}
    if type(when) is solar:
        return {
            "kind": "solar",
            "event": when.event,
            "latitude": when.lat,
            "longitude": when.lon,
        }
    return {"kind": "program", "class": f"{type(when).__module__}.{type(when).__qualname__}"}


def _cron_field(value: Any) -> str:
    """Write a field as in a crontab; Celery also takes numbers and sets of them."""
    if isinstance(value, str | int):
        return str(value)
    return ",".join(str(item) for item in sorted(value))


def restore(described: Mapping[str, Any]) -> BaseSchedule | UnknownSchedule:
    """Return the schedule that `describe` described, on the clock of `acoupi.data`.

    Examples
    --------
    >>> restore(describe(crontab(hour="6,18", minute=0)))
    <crontab: 0 6,18 * * * (m/h/dM/MY/d)>
    """
    kind = described["kind"]
    if kind == "interval":
        return schedule(timedelta(seconds=described["every_s"]), nowfun=_now)
    if kind == "aligned":
        every = timedelta(seconds=described["every_s"])
        return aligned_schedule(every, described["offset_s"], nowfun=_now)
    if kind == "crontab":
        return crontab(**{name: described[name] for name in CRONTAB_FIELDS}, nowfun=_now)
    if kind == "solar":
        place = described["latitude"], described["longitude"]
        return solar(described["event"], *place, nowfun=_now)
    return UnknownSchedule(str(described.get("class", kind)))


def _now() -> Any:
    return data.utc_now()


def schedule_file(app: Celery) -> RenderedFile:
    """Return ``config/schedule.json`` of an app."""
    return RenderedFile(json.dumps(describe_schedule(app), indent=2) + "\n")


def read_schedule(path: Path) -> list[Entry]:
    """Return the entries of a schedule file.

    Raises
    ------
    ConfigurationError
        If there is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_text())
        _check_version(content["version"])
        return [_entry(described) for described in content["entries"]]
    except FileNotFoundError as error:
        raise ConfigurationError(
            f'there is no schedule in "{path}".', "acoupi setup", why="setup writes it."
        ) from error
    except OSError as error:
        raise disk_error("read", path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f'cannot read "{path}".',
            "acoupi setup",
            why=f"it does not hold what setup writes there ({error}).",
        ) from error


def _check_version(version: object) -> None:
    if version != VERSION:
        raise ValueError(f"it has version {version}, this acoupi reads {VERSION}")


def _entry(described: Mapping[str, Any]) -> Entry:
    return Entry(
        name=described["name"],
        task=described["task"],
        queue=described["queue"],
        args=tuple(described["args"]),
        kwargs=described["kwargs"],
        expires=described["expires"],
        schedule=restore(described["schedule"]),
    )
