"""Taking in recordings of others: a folder or a bucket becomes a deployment, and stays as it is.

A run may be ended at any moment and begun again: what is known of a file is stored with the
recordings in it, and the next run reads only what is new or has changed. An archive is a sensor
of the hub that has no token.
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
"""Files that are taken in together; what is held in memory does not grow with an archive."""
BYTES_AT_ONCE = 1 << 30
"""Bytes after which no more files are taken in together: long ones are many recordings."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to reach what does not answer."""
READERS = 4
"""Files that are read at a time: a disk in the network, or a bucket, answers slowly."""


class Patience:
    """Tries again what does not answer, less and less often.

    Parameters
    ----------
    seconds
        After which it gives up, if nothing answered meanwhile.
    say
        Told what does not answer, when it begins.
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
        """Return what something returns, as soon as it does not raise a `HubUnavailableError`."""
        while True:
            try:
                result = act()
            except HubUnavailableError as error:
                self.wait(error)
            else:
                self.over()
                return result

    def wait(self, error: HubUnavailableError) -> None:
        """Wait a while; raise the error if that was tried for long enough."""
        if self._waited >= self._seconds:
            raise error
        if not self._waited:
            self._say(error)
        self._pause = min(max(1.0, 2 * self._pause), LONGEST_PAUSE)
        self._sleep(self._pause)
        self._waited += self._pause

    def over(self) -> None:
        """Note that all answers again."""
        self._waited = self._pause = 0.0


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
    def by_fate(self) -> dict[str, int]:
        """How many sound files became what, in words."""
        fates: dict[str, int] = {fate: self.fates[fate] for fate in FATES}
        return {"known": self.known, **fates, "vanished": self.vanished}

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
    patience: Patience,
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
    patience
        For an archive or a database that does not answer.

    Raises
    ------
    HubError
        If the archive or the database cannot be read. What was taken in by then stays.
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
    """Read and store what is new of some files; return those, and what became of them."""
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
    """Yield every file, also where listing them fails now and then."""
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
    """Yield what may hold sound, and folders that cannot be read; count the rest."""
    for one in entries:
        if one.is_sound or one.key.endswith("/"):
            yield one
        else:
            stem, dot, suffix = one.key.rpartition("/")[2].rpartition(".")
            others[(dot + suffix if stem else suffix).lower()] += 1
