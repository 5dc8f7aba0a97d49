"""The rights of services on each place of the disk: one table for all targets.

A service has one or more jobs, which follow from its queues; it may do what any of
them may. The table is also what ``tests/docker/test_access.py`` tries from inside
containers, and what the page ``docs/security.md`` shows.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

__all__ = ["ACCESS", "Access", "Job", "Mount", "Place", "access_of", "mounts_for"]


class Access(IntEnum):
    """Rights on a place; each includes the ones before it."""

    NONE = 0
    READ = 1
    WRITE = 2


NONE, READ, WRITE = Access
Job = Literal["recorder", "model", "manager", "sender", "beat", "web"]
"""recorder: serves the queue of the recording task; model: the queue ``detection``;
manager: any other queue; sender: has a network; beat: sends the periodic tasks; web: serves
the page (its mounts, and what the page adds to others, are in `acoupi.stack.web`)."""
Place = Literal[
    "config", "data", "spool", "recordings", "cache", "outbox", "keys", "read", "written"
]

ACCESS: Mapping[Place, Mapping[Job, Access]] = {
    "config": dict.fromkeys(("recorder", "model", "manager", "sender", "beat", "web"), READ),
    "data": {"recorder": WRITE, "manager": WRITE, "sender": WRITE},
    "spool": {"recorder": WRITE, "model": READ, "manager": WRITE, "sender": READ},
    "recordings": {"recorder": READ, "manager": WRITE, "sender": READ},
    "cache": {"recorder": READ, "model": READ, "manager": READ, "sender": READ},
    "outbox": {"manager": WRITE, "sender": WRITE},
    "keys": {"sender": READ},
    "read": {"recorder": READ, "model": READ, "manager": READ, "sender": READ},
    "written": {"recorder": WRITE, "model": READ, "manager": WRITE, "sender": WRITE},
}
"""Anything else is NONE. Each service also writes its own log and part of ``run/``."""


@dataclass(frozen=True)
class Mount:
    """A folder mounted into a service, at the same absolute path as on the host."""

    source: Path
    read_only: bool = False


def access_of(jobs: Collection[Job], places: Iterable[Place]) -> Access:
    """Return the rights of a service with these jobs on something that is all these places.

    Examples
    --------
    >>> access_of(["model"], ["spool"]).name, access_of(["model", "manager"], ["spool"]).name
    ('READ', 'WRITE')
    """
    found = (ACCESS[place].get(job, NONE) for place in places for job in jobs)
    return max(found, default=NONE)


def mounts_for(
    jobs: Collection[Job], places: Mapping[Path, Collection[Place]]
) -> tuple[Mount, ...]:
    """Return the mounts that give a service what it may have, by path.

    A place below another is mounted separately only if the rights on it differ. It cannot be hidden
    there: whoever may write a folder can read all of it. Read-only places below are not mounted
    separately, because nothing makes them if they are missing.
    """
    mounts: dict[Path, Access] = {}
    for path in sorted(places):
        access = access_of(jobs, places[path])
        above = next((mounts[one] for one in path.parents if one in mounts), NONE)
        is_kept = access is not NONE and set(places[path]) != {"read"}
        if access > above or (access < above and is_kept):
            mounts[path] = access
    return tuple(Mount(path, read_only=access is READ) for path, access in mounts.items())
