"""Additional mounts of the default queue's worker when it runs the sensor's own tasks."""

from dataclasses import replace
from pathlib import Path

from acoupi.stack.access import Mount
from acoupi.stack.doors import door_keeper
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack

__all__ = ["with_watcher"]


def with_watcher(
    stack: Stack, settings: Settings, *, sees_services: bool, writes: Path | None = None
) -> Stack:
    """Return a stack whose worker of the default queue can read the state of other services.

    Call this when all services are in the stack.

    Parameters
    ----------
    sees_services
        Whether it sees the pulses of the others, read-only.
    writes
        A file that it writes; None: none.
    """
    keeper = door_keeper(stack)
    if keeper is None:
        return stack
    others = [one.name for one in stack.services if one.name != keeper.name and one.health]
    mounts = [
        Mount(settings.of_service(name).run_dir, read_only=True)
        for name in (others if sees_services else ())
    ]
    seen = [one.source for one in keeper.mounts if not one.read_only]
    if writes is not None and not any(writes.is_relative_to(folder) for folder in seen):
        mounts.append(Mount(writes.parent))
    known = {one.source for one in keeper.mounts}
    new = (one for one in mounts if one.source not in known)
    watcher = replace(keeper, mounts=(*keeper.mounts, *new))
    services = tuple(watcher if one is keeper else one for one in stack.services)
    return replace(stack, services=services)
