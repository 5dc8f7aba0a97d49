"""Taking in recordings of other recorders: a folder or bucket becomes a deployment, unchanged.

A run may stop at any moment and be started again: what is known of a file is stored with the
recordings in it, and the next run reads only files that are new or changed. To the hub, an
archive is a sensor that has no token.
"""

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from acoupi import data
from acoupi.errors import HubUnavailableError
from acoupi.hub.archive_files import Read, Refused, read_entry
from acoupi.hub.archive_places import Archive, Entry
from acoupi.hub.archive_rows import FATES, ArchiveRows, Fate, Season
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import add_sensor

__all__ = ["Patience", "TakenIn", "take_in_archive"]

T = TypeVar("T")

AT_ONCE = 200
"""Files that are taken in together, so that memory does not grow with the archive."""
BYTES_AT_ONCE = 1 << 30
"""Most bytes of files that are taken in together: long files are many recordings."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to reach something that does not answer."""
READERS = 4
"""Files that are read in parallel: network disks and buckets answer slowly."""


class Patience:
    """Retries when something does not answer, less and less often.

    Parameters
    ----------
    seconds
        Time without any answer after which it raises the error.
    say
        Called with the first error of an outage.
    sleep
        Waits so many seconds.
    """

    def __init__(
        self,
        seconds: float,
        say: Callable[[HubUnavailableError], object],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._seconds, self._say, self._sleep = seconds, say, sleep
        self._waited = self._pause = 0.0

    def with_(self, act: Callable[[], T]) -> T:
        """Call something until it no longer raises a `HubUnavailableError`; return its result."""
        while True:
            try:
                result = act()
            except HubUnavailableError as error:
                self.wait(error)
            else:
                self.over()
                return result

    def wait(self, error: HubUnavailableError) -> None:
        """Wait a while; raise the error if it has lasted too long."""
        if self._waited >= self._seconds:
            raise error
        if not self._waited:
            self._say(error)
        self._pause = min(max(1.0, 2 * self._pause), LONGEST_PAUSE)
        self._sleep(self._pause)
        self._waited += self._pause

    def over(self) -> None:
        """Note that everything answers again."""
        self._waited = self._pause = 0.0


@dataclass
class TakenIn:
    """How many files were found, by their state."""

    fates: Counter[Fate] = field(default_factory=Counter)
    known: int = 0
    """Files from an earlier run, unchanged since."""
    vanished: int = 0
    """Files known from an earlier run but not found in this one."""
    recordings: int = 0
    """Recordings that are new to the hub."""
    bytes: int = 0
    """Bytes that were read."""
    others: Counter[str] = field(default_factory=Counter)
    """Other files, by suffix."""

    @property
    def by_fate(self) -> dict[str, int]:
        """Numbers of sound files by state, in words."""
        fates: dict[str, int] = {fate: self.fates[fate] for fate in FATES}
        return {"known": self.known, **fates, "vanished": self.vanished}

    @property
    def files(self) -> int:
        """Number of sound files that were looked at."""
        return self.known + self.fates.total()


def take_in_archive(
    database: HubDatabase,
    archive: Archive,
    season: Season,
    *,
    longest_s: float,
    progress: Callable[[TakenIn], None],
    patience: Patience,
) -> TakenIn:
    """Tell a hub about every recording of an archive, and the program that analyses it.

    Parameters
    ----------
    database
        Of the hub.
    archive
        Where the recordings are; they stay there.
    season
        How the hub stores them.
    longest_s
        Longest recording, seconds; a longer file is cut into equal parts.
    progress
        Called after some hundred files, with what was found so far.
    patience
        For an archive or a database that does not answer.

    Raises
    ------
    HubError
        If the archive or the database cannot be read. Files taken in by then are kept.
    """
    now, found = data.utc_now(), TakenIn()
    read = _reader(archive, longest_s, now)

    def begin() -> ArchiveRows:
        add_sensor(database, season.sensor)
        return ArchiveRows(database, archive, season, now)

    rows = patience.with_(begin)
    with ThreadPoolExecutor(READERS) as readers:
        for entries in _batches(_listed(archive, patience), found.others):
            take = partial(_take, rows, entries, partial(readers.map, read))
            fresh, fates, recordings = patience.with_(take)
            found.fates.update(fates)
            found.known += len(entries) - len(fresh)
            found.recordings += recordings
            found.bytes += sum(one.bytes for one in fresh)
            progress(found)
    found.vanished = patience.with_(rows.finish)
    return found


def _take(
    rows: ArchiveRows,
    entries: Sequence[Entry],
    read: Callable[[Sequence[Entry]], Iterable[Read | Refused]],
) -> tuple[list[Entry], Counter[Fate], int]:
    """Read and store the new ones of some files; return them with their states."""
    fresh = rows.unknown(entries)
    return fresh, *rows.store(entries, list(read(fresh)))


def _reader(
    archive: Archive, longest_s: float, now: datetime.datetime
) -> Callable[[Entry], Read | Refused]:
    def read(entry: Entry) -> Read | Refused:
        if entry.refused:
            return Refused(entry, entry.refused)
        return read_entry(archive, entry, longest_s=longest_s, now=now)

    return read


def _listed(archive: Archive, patience: Patience) -> Iterator[Entry]:
    """Yield every file, even if listing them fails now and then."""
    last = ""
    while True:
        try:
            for one in archive.entries(last):
                last = one.key
                patience.over()
                yield one
        except HubUnavailableError as error:
            patience.wait(error)
        else:
            return


def _batches(entries: Iterable[Entry], others: Counter[str]) -> Iterator[list[Entry]]:
    """Yield some files at a time, fewer if they are long; none twice."""
    batch: dict[str, Entry] = {}
    size = 0
    for one in _sounds(entries, others):
        batch[one.key] = one
        size += one.bytes
        if len(batch) >= AT_ONCE or size >= BYTES_AT_ONCE:
            yield list(batch.values())
            batch, size = {}, 0
    if batch:
        yield list(batch.values())


def _sounds(entries: Iterable[Entry], others: Counter[str]) -> Iterator[Entry]:
    """Yield possible sound files, and folders that cannot be read; count the rest."""
    for one in entries:
        if one.is_sound or one.key.endswith("/"):
            yield one
        else:
            stem, dot, suffix = one.key.rpartition("/")[2].rpartition(".")
            others[(dot + suffix if stem else suffix).lower()] += 1
