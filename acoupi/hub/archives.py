"""Taking in recordings of others: a folder or a bucket becomes a deployment, and stays as it is.

A run may be ended at any moment and begun again: what is known of a file is stored with the
recordings in it, and the next run reads only what is new or has changed. An archive is a sensor
of the hub that has no token.
"""

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from acoupi import data
from acoupi.hub.archive_files import Read, Refused, read_entry
from acoupi.hub.archive_places import Archive, Entry
from acoupi.hub.archive_rows import ArchiveRows, Fate, Season
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import add_sensor

__all__ = ["TakenIn", "take_in_archive"]

AT_ONCE = 200
"""Files that are taken in together; what is held in memory does not grow with an archive."""
READERS = 4
"""Files that are read at a time: a disk in the network, or a bucket, answers slowly."""


@dataclass
class TakenIn:
    """How many files were found, by what became of them."""

    fates: Counter[Fate] = field(default_factory=Counter)
    known: int = 0
    """From an earlier run, and not changed since."""
    vanished: int = 0
    """Known from an earlier run, and not found in this one."""
    recordings: int = 0
    """New to the hub."""
    bytes: int = 0
    """That were read."""
    others: Counter[str] = field(default_factory=Counter)
    """Files that are no sound, by suffix."""

    @property
    def files(self) -> int:
        """Sound files that were looked at."""
        return self.known + self.fates.total()


def take_in_archive(
    database: HubDatabase,
    archive: Archive,
    season: Season,
    *,
    longest_s: float,
    progress: Callable[[TakenIn], None],
) -> TakenIn:
    """Let a hub know every recording of an archive, and what is to analyse it.

    Parameters
    ----------
    database
        Of the hub.
    archive
        Where the recordings are, and stay.
    season
        What they are to the hub.
    longest_s
        A longer file is cut into equal pieces that are not, seconds.
    progress
        Called after some hundred files, with what was found so far.

    Raises
    ------
    HubError
        If the archive or the database cannot be read. What was taken in by then stays.
    """
    add_sensor(database, season.sensor)
    now, found = data.utc_now(), TakenIn()
    rows = ArchiveRows(database, archive, season, now)
    with ThreadPoolExecutor(READERS) as readers:
        for entries in _batches(archive.entries(), found.others):
            fresh = rows.unknown(entries)
            reads = list(readers.map(_reader(archive, longest_s, now), fresh))
            fates, recordings = rows.store(entries, reads)
            found.fates.update(fates)
            found.known += len(entries) - len(fresh)
            found.recordings += recordings
            found.bytes += sum(one.bytes for one in fresh)
            progress(found)
    found.vanished = rows.finish()
    return found


def _reader(
    archive: Archive, longest_s: float, now: datetime.datetime
) -> Callable[[Entry], Read | Refused]:
    def read(entry: Entry) -> Read | Refused:
        if entry.refused:
            return Refused(entry, entry.refused)
        return read_entry(archive, entry, longest_s=longest_s, now=now)

    return read


def _batches(entries: Iterable[Entry], others: Counter[str]) -> Iterator[list[Entry]]:
    found = _sounds(entries, others)
    while batch := list(islice(found, AT_ONCE)):
        yield list({one.key: one for one in batch}.values())


def _sounds(entries: Iterable[Entry], others: Counter[str]) -> Iterator[Entry]:
    """Yield what may hold sound, and folders that cannot be read; count the rest."""
    for one in entries:
        if one.is_sound or one.key.endswith("/"):
            yield one
        else:
            stem, dot, suffix = one.key.rpartition("/")[2].rpartition(".")
            others[(dot + suffix if stem else suffix).lower()] += 1
