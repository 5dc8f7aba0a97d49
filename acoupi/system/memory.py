"""Recordings that wait in memory, and would be lost in a power cut."""

from acoupi.components.stores import SqliteStore
from acoupi.components.stores.database import stores_that_only_read
from acoupi.config.sensor import load_sensor
from acoupi.deferred import DeferredModel
from acoupi.errors import AcoupiError
from acoupi.home import memory_folder
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path

__all__ = ["InMemory", "in_memory"]


class InMemory(DeferredModel):
    """The recordings that wait in memory."""

    memory_mb: int
    """Size limit, megabytes."""
    recordings: int
    seconds: float
    """Their total duration."""

    def words(self) -> str:
        """Return it in words, with the loss in a power cut."""
        if not self.recordings:
            return f"in memory (at most {self.memory_mb} MB): nothing is waiting there now"
        one = "recording" if self.recordings == 1 else "recordings"
        return (
            f"in memory (at most {self.memory_mb} MB): a power cut now would lose "
            f"{self.recordings} {one}, {self.seconds:.0f} s of sound"
        )


def in_memory(settings: Settings) -> InMemory | None:
    """Return the recordings in memory; None if all wait on the disk, or it is unknown."""
    try:
        most = load_sensor(settings).spool.memory_mb
        spool = configured_path(settings, "paths.tmp_audio")
        path = configured_path(settings, "paths.db_metadata")
        if not most or spool is None or path is None:
            return None
        with stores_that_only_read():
            waiting = SqliteStore(path).get_captured_recordings()
    except AcoupiError:
        return None  # a damaged file is reported by its own reader
    folder = memory_folder(spool)
    there = [one for one in waiting if one.path is not None and one.path.parent == folder]
    return InMemory(
        memory_mb=most, recordings=len(there), seconds=sum(one.duration for one in there)
    )
