"""The schedule as a file: what beat reads instead of the program.

`describe_schedule` turns the schedule of an app into plain data, which
`entries.read_schedule` reads. Interval, clock-aligned, crontab and solar
schedules are described in full; of any other kind only the class is noted, and
beat loads the program to get the schedule.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import BaseSchedule, crontab, maybe_schedule, schedule, solar

from acoupi.errors import ConfigurationError
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.services.entries import CRONTAB_FIELDS, VERSION
from acoupi.tasks.schedules import aligned_schedule
from acoupi.writing import RenderedFile

__all__ = ["describe", "describe_schedule", "schedule_file"]


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
    """Return a field as crontab text; Celery also accepts numbers and sets of numbers."""
    if isinstance(value, str | int):
        return str(value)
    return ",".join(str(item) for item in sorted(value))


def schedule_file(app: Celery) -> RenderedFile:
    """Return ``config/schedule.json`` of an app."""
    return RenderedFile(json.dumps(describe_schedule(app), indent=2) + "\n")
