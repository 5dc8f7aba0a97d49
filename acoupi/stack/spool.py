"""The part of the spool that is in memory, in the stack."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from acoupi.config.sensor import Spool
from acoupi.errors import ConfigurationError
from acoupi.home import memory_folder
from acoupi.stack.access import Mount
from acoupi.stack.stack import Service, Stack

__all__ = ["MEMORY_VOLUME", "memory_mounts", "memory_of", "with_memory"]

MEMORY_VOLUME = "spool-memory"
"""The volume of containers for recordings that wait in memory."""
_MEBIBYTE = 1 << 20


def with_memory(stack: Stack, spool_folder: Path | None, spool: Spool) -> Stack:
    """Return a stack in which each service has the memory with the same rights as the spool.

    Its contents count as memory of the recorder, whose limit is raised.

    Raises
    ------
    ConfigurationError
        If the program has no spool.
    """
    if not spool.memory_mb:
        return stack
    if spool_folder is None or stack.recorder is None:
        raise ConfigurationError(
            f"{stack.program} cannot record to memory.",
            "acoupi config set sensor.spool.memory_mb 0",
            why="it has no recorder, or no folder paths.tmp_audio in which recordings wait.",
        )
    workers = {one.name for one in stack.workers}
    services = (
        _with_memory(one, memory_folder(spool_folder), spool) if one.name in workers else one
        for one in stack.services
    )
    return replace(stack, services=tuple(services))


def _with_memory(service: Service, folder: Path, spool: Spool) -> Service:
    above = [one for one in service.mounts if folder.is_relative_to(one.source)]
    if not above:
        return service
    nearest = max(above, key=lambda one: len(one.source.parts))
    more = spool.memory_mb * _MEBIBYTE if service.role == "recorder" else 0
    memory = service.limits.memory_bytes
    limits = replace(service.limits, memory_bytes=None if memory is None else memory + more)
    mounts = (*service.mounts, Mount(folder, read_only=nearest.read_only))
    return replace(service, mounts=mounts, limits=limits)


def memory_mounts(stack: Stack) -> Iterator[Path]:
    """Yield the folder in memory, if the stack has one."""
    if memory_of(stack):
        yield from dict.fromkeys(
            one.source
            for service in stack.workers
            for one in service.mounts
            if one.source.name == "memory"
        )


def memory_of(stack: Stack) -> int:
    """Return the megabytes of the spool that are in memory; 0: none."""
    spool = getattr(stack.sensor, "spool", None)
    return 0 if spool is None else int(spool.memory_mb)
