"""Analysing an archive: taking it in, waiting for the workers, reporting results."""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone, tzinfo
from functools import partial
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from acoupi.config import parse_config_from_args
from acoupi.errors import HubUnavailableError, ParameterError
from acoupi.hub.archive_opening import open_archive
from acoupi.hub.archive_places import Archive
from acoupi.hub.archive_rows import Season, Trouble, troubles_in
from acoupi.hub.archives import Patience, TakenIn, take_in_archive
from acoupi.hub.database import HubDatabase
from acoupi.hub.local_workers import LocalWork, local_workers
from acoupi.hub.workers import programs_without_workers
from acoupi.reports import ProgramReport
from acoupi.services.program_report import program_report
from acoupi.stack.loading import load_program_class
from acoupi.system.program_trial import microphone_options

__all__ = [
    "Done",
    "Order",
    "Outcome",
    "Watcher",
    "analyse_archive",
    "program_of",
    "zone_of",
]

PATIENCE = 3600.0
"""Longest time without an answer from a bucket or the database, seconds."""
PAUSE = 2.0
"""Seconds between two looks at the progress."""

_JOBS = """
    FROM program_settings p JOIN job j ON j.settings_row = p.row
        JOIN recording r ON r.row = j.recording_row JOIN deployment w ON w.row = r.deployment_row
    WHERE p.program = :program AND p.digest = :digest AND w.id = :deployment
"""
_STATES = f"SELECT j.state, count(*) {_JOBS} GROUP BY j.state"
_FAILURES = f"SELECT r.path, j.error {_JOBS} AND j.state = 'failed' ORDER BY r.path"
_RETRY = f"""
    UPDATE job SET state = 'waiting', attempts = 0, until_us = 0, error = NULL WHERE row IN (
        SELECT j.row {_JOBS} AND j.state = 'failed'
            AND EXISTS (SELECT 1 FROM audio a WHERE a.recording_row = r.row)
    )
"""  # noqa: S608 - written here
_SPECIES = """
    SELECT species, count(*) FROM v_detection WHERE deployment_id = :deployment
    GROUP BY species ORDER BY count(*) DESC, species
"""
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Order:
    """One run over an archive."""

    place: str
    """Address of the archive."""
    season: Season
    longest_s: float = 60.0
    """Longest recording, seconds; longer files are cut."""
    workers: int = 0
    """Number of processes that analyse on this machine; 0: the hub's workers do."""
    files: Sequence[Path] = ()
    """See `acoupi.hub.analysing.Analyser`."""
    is_awaited: bool = True
    """Whether to wait until all is analysed."""
    is_retried: bool = False
    """Whether to analyse again recordings that failed in an earlier run."""


class Watcher(Protocol):
    """Receives the progress of a run."""

    def taking_in(self, found: TakenIn) -> None:
        """Take note of files that were taken in."""

    def analysing(self, now: "Done") -> None:
        """Take note of recordings that were analysed."""

    def unavailable(self, error: HubUnavailableError) -> None:
        """Take note of something that does not answer; acoupi tries again."""

    def without_workers(self, program: str) -> None:
        """Take note that no worker analyses with this program at present."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run."""

    taken: TakenIn
    analysed: "Done"
    species: dict[str, int]
    """Detections of each species, the most frequent first."""
    troubles: Sequence[Trouble]
    """All files with problems, by name."""


@dataclass(frozen=True, slots=True)
class Done:
    """How many recordings of a deployment a program has analysed, and how many not yet."""

    done: int
    failed: int
    left: int


def analyse_archive(
    url: str, order: Order, watcher: Watcher, sleep: Callable[[float], object] = time.sleep
) -> Outcome:
    """Take in an archive, and have every recording in it analysed.

    Parameters
    ----------
    url
        Of the database of the hub.
    order
        What is to be done.
    watcher
        Is told how far it is.
    sleep
        Waits so many seconds.

    Raises
    ------
    If there is no such archive, or something did not answer for long. Work done by then is
    kept, and the next run continues from there.
        stays, and the same again goes on from there.
    """
    season, patience = order.season, Patience(PATIENCE, watcher.unavailable, sleep)
    archive, database = open_archive(order.place), HubDatabase(url)
    with ExitStack() as stack:
        stack.callback(database.close)
        _require_both(database, archive)
        workers: LocalWork | None = None
        if order.workers:
            own = HubDatabase(url)
            stack.callback(own.close)
            workers = stack.enter_context(
                local_workers(own, season.program.program, order.workers, order.files)
            )
        taken = take_in_archive(
            database,
            archive,
            season,
            longest_s=order.longest_s,
            progress=watcher.taking_in,
            patience=patience,
        )
        if order.is_retried:
            patience.with_(partial(_retry, database, season))
        if order.is_awaited and workers is None:
            alone = patience.with_(partial(programs_without_workers, database))
            if season.program.program in alone:
                watcher.without_workers(season.program.program)
        while (now := patience.with_(partial(_done, database, season))).left and order.is_awaited:
            watcher.analysing(now)
            if workers is not None:
                workers.require_well()
            sleep(PAUSE)
        troubles = [*troubles_in(database, archive, season), *_failures(database, season)]
        return Outcome(taken, now, _species(database, season), troubles)


def _require_both(database: HubDatabase, archive: Archive) -> None:
    """Raise at once if something is missing that waiting would not bring."""
    with database.reading():
        pass
    if next(archive.entries(), None) is None:
        raise ParameterError(
            "FOLDER",
            f'there is no file in "{archive.url}".',
            "mount the disk, or correct the address",
            why="it is empty; files from earlier runs stay in the hub.",
        )


def program_of(name: str, options: list[str]) -> ProgramReport:
    """Return a program that is installed here, with the settings that options give it.

    Parameters
    ----------
    name
        As `acoupi setup` takes it.
    options
        As `acoupi setup` takes them; where there are none, its defaults.

    Raises
    ------
    AcoupiError
        If there is no such program, or it has no such setting.
    """
    program = load_program_class(name)
    words = [*microphone_options(name, options), *options]
    config = parse_config_from_args(program.get_config_schema(), words, prompt=False, environ={})
    return program_report(program, config)


def zone_of(text: str) -> tzinfo:
    """Return a time zone by its name, or by its offset from UTC.

    Raises
    ------
    ParameterError
        If there is none.

    Examples
    --------
    >>> str(zone_of("Europe/London")), str(zone_of("-05:00"))
    ('Europe/London', 'UTC-05:00')
    """
    if found := _OFFSET.fullmatch(text):
        sign = -1 if found[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(found[2]), minutes=int(found[3])))
    try:
        return UTC if text == "UTC" else ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ParameterError(
            "--timezone",
            f'there is no time zone "{text}".',
            "--timezone Europe/London   or   --timezone +01:00",
            why="it is an IANA name, or a fixed offset from UTC such as +01:00.",
        ) from error


def _done(database: HubDatabase, season: Season) -> Done:
    with database.reading() as connection:
        states = Counter(dict(connection.execute(_STATES, _keys(season)).fetchall()))
    return Done(
        states["done"], states["failed"], states.total() - states["done"] - states["failed"]
    )


def _retry(database: HubDatabase, season: Season) -> None:
    with database.writing() as connection:
        connection.execute(_RETRY, _keys(season))


def _failures(database: HubDatabase, season: Season) -> list[Trouble]:
    """Return the recordings whose analysis failed, and why."""
    with database.reading() as connection:
        found = connection.execute(_FAILURES, _keys(season))
        return [Trouble(path, "failed", why or "no reason given") for path, why in found]


def _species(database: HubDatabase, season: Season) -> dict[str, int]:
    """Return how many detections there are of each species; the most frequent first."""
    with database.reading() as connection:
        rows = connection.execute(_SPECIES, {"deployment": str(season.deployment_id)})
        return {species or "": count for species, count in rows}


def _keys(season: Season) -> dict[str, object]:
    program = season.program
    keys = {"program": program.program, "digest": program.digest}
    return keys | {"deployment": season.deployment_id.bytes}
