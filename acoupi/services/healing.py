"""Heals the stores of a sensor: a damaged one is set aside, and a new one is filled.

It is filled from the readable parts of the damaged file, from ``deployment.json``, and from the
metadata in recordings; messages are made again from the store of recordings. The one service
that keeps the stores does this, when it starts and whenever a process finds a store damaged.
Recording does not wait for it.
"""

import itertools
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.audio import files, formats
from acoupi.audio.guano import CLIP_OF
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteStore, faults
from acoupi.components.stores.database import Database
from acoupi.components.stores.healing import find_damage, note_emptied, set_aside, take_over
from acoupi.components.stores.healings import Healing, database_of, healings_of
from acoupi.data import EffortSpan, EffortState
from acoupi.deployed import deployed_here
from acoupi.effort import CapturePlan
from acoupi.errors import AcoupiError, AudioError
from acoupi.home import spool_folders
from acoupi.programs import AcoupiProgram
from acoupi.services.alarm_file import alarms_file
from acoupi.services.backlog import plan_of
from acoupi.stack.settings import Settings
from acoupi.tasks.detection import messages_of

__all__ = ["Healer", "Kept", "alarms_of", "kept_by"]

logger = logging.getLogger(__name__)

PATIENCE = 2.0
"""Longest time to check the pages of a store when a service starts, seconds."""
WAIT = 60.0
"""Longest time that a starting service waits for healing, seconds."""
REMADE = timedelta(days=2)
"""The age of results up to which messages are made again."""
LOOKED_AT = 5
"""Kept files that are looked up in a store to tell whether it was emptied."""
_TICK = timedelta(microseconds=1)
_BATCH = 200


@dataclass(frozen=True)
class Kept:
    """The stores of a sensor, and what is known without them."""

    store: SqliteStore | None = None
    message_store: SqliteMessageStore | None = None
    alarms: Any = None
    spool: Path | None = None
    recordings: Path | None = None
    """Folders with files of recordings: those that wait, and those that are kept."""
    builders: Sequence[Any] = field(default=())
    """Make the messages about outputs of models."""
    plan: CapturePlan | None = None
    """When the program plans to record; None: unknown."""

    def databases(self) -> Iterator[Database]:
        """Yield the databases of the stores."""
        for store in (self.store, self.message_store, self.alarms):
            if (database := database_of(store)) is not None:
                yield database

    def sounds(self) -> Iterator[tuple[Path, bool]]:
        """Yield the files of recordings, and whether they are kept for good."""
        for folder in spool_folders(self.spool) if self.spool is not None else ():
            yield from ((path, False) for path in files.list_recordings(folder))
        for place, _, _ in os.walk(self.recordings) if self.recordings is not None else ():
            yield from ((path, True) for path in files.list_recordings(Path(place)))


def kept_by(program: AcoupiProgram[Any], settings: Settings) -> Kept:
    """Return the stores of a program; those of a published program may be of another kind."""
    paths = getattr(program.config, "paths", None)
    factories = getattr(program, "get_message_factories", None)
    return Kept(
        _one_of(program, "store", SqliteStore),
        _one_of(program, "message_store", SqliteMessageStore),
        alarms_of(settings),
        _path(paths, "tmp_audio"),
        _path(paths, "recordings"),
        [] if factories is None else factories(program.config),
        plan_of(program),
    )


def alarms_of(settings: Settings) -> Any:
    """Return the store of the alarms, if there is one."""
    path = alarms_file(settings)
    if not path.exists():
        return None
    # Only a sensor that raises alarms pays for their rules.
    from acoupi.components.stores.alarms import SqliteAlarmStore  # noqa: PLC0415

    return SqliteAlarmStore(path)


def _one_of(program: AcoupiProgram[Any], name: str, kind: type) -> Any:
    found = getattr(program, name, None)
    return found if isinstance(found, kind) else None


def _path(paths: object, name: str) -> Path | None:
    found = getattr(paths, name, None)
    return found if isinstance(found, Path) else None


class Healer:
    """Heals the stores of a sensor, in a thread of its own.

    Parameters
    ----------
    kept
        The stores.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._databases = list(kept.databases())
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Check all stores; wait for the healing, but not for very long."""
        self._begin()
        self.wait(WAIT)

    def look(self) -> None:
        """Heal any store that a process has found damaged since; costs nothing otherwise."""
        if any(faults.is_suspect(one.path) for one in self._databases):
            self._begin()

    def wait(self, seconds: float) -> None:
        """Wait for the healing, at most so long."""
        if self._thread is not None:
            self._thread.join(seconds)

    def heal(self) -> list[Healing]:
        """Heal damaged stores, and finish interrupted healing; return what was done."""
        done: list[Healing] = []
        for database in self._databases:
            try:
                done += self._heal(database)
            except (AcoupiError, OSError) as error:
                logger.warning("The %s could not be healed: %s", database.schema.store, error)
        return done

    def _begin(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="healing", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self.heal()
        except Exception:
            logger.exception("The stores could not be healed")

    def _heal(self, database: Database) -> Iterator[Healing]:
        why = find_damage(database, PATIENCE)
        begun = set_aside(database, why) if why is not None else self._forgotten(database)
        if begun is not None:
            logger.error(
                'The %s is damaged (%s). It is kept as "%s", and a new one takes its place.',
                begun.store,
                begun.why,
                begun.aside,
            )
        for healing in healings_of(database.path):
            if healing.finished_on is None:
                self._finish(database, healing)
                yield healing

    def _forgotten(self, database: Database) -> Healing | None:
        """Note that a store was emptied or removed: it does not have the existing recordings."""
        store = self._kept.store
        if store is None or database is not database_of(store):
            return None
        counts = store.count_recordings()
        if sum(counts.values()) > counts[data.RecordingState.CAPTURED]:
            return None  # it is not a new one
        kept = (path for path, is_kept in self._kept.sounds() if is_kept)
        if any(_is_unknown(store, path) for path in itertools.islice(kept, LOOKED_AT)):
            return note_emptied(database, "it was empty or missing")
        return None

    def _finish(self, database: Database, healing: Healing) -> None:
        store = self._kept.store
        if store is not None and database is database_of(store):
            _Rebuilt(store, self._kept, database, healing).run()
        elif database is database_of(self._kept.message_store):
            self._finish_messages(database, healing)
        else:
            take_over(database, healing)
        healing.finished_on = data.utc_now()
        healing.write()
        logger.error("Healed: %s.", healing.told)

    def _finish_messages(self, database: Database, healing: Healing) -> None:
        if take_over(database, healing, at_once=True):
            return
        since = healing.found_on - REMADE
        number = _remake(self._kept, since)
        healing.lost += [
            "which of the other messages had been sent",
            f"those made before {since:%Y-%m-%d %H:%M} UTC, unless they had been sent",
        ]
        healing.rows["messages made again, with their earlier ids"] = number


def _is_unknown(store: SqliteStore, path: Path) -> bool:
    """Return whether a file is a recording, by its metadata, that the store does not have."""
    try:
        recording = formats.read_recording(path)
        is_clip = CLIP_OF in formats.read_guano(path)
    except (AudioError, OSError):
        return False
    return not is_clip and not store.get_recordings([recording.id])


def _remake(kept: Kept, since: data.AwareDatetime) -> int:
    """Make the messages of recent results again; return how many there are."""
    if kept.store is None or kept.message_store is None:
        return 0
    number = 0
    for output in kept.store.get_model_outputs(after=since):
        for position, builder in enumerate(kept.builders):
            for message in messages_of(builder, position, output):
                kept.message_store.store_message(message)
                number += 1
    return number


@dataclass
class _Rebuilt:
    """A store of recordings that is being filled again."""

    store: SqliteStore
    kept: Kept
    database: Database
    healing: Healing

    def run(self) -> None:
        """Fill it."""
        for deployment in deployed_here().every:
            if deployment.id not in {one.id for one in self.store.get_deployments()}:
                self.store.store_deployment(deployment)
        is_whole = take_over(self.database, self.healing)
        if not is_whole:
            unknown = self._adopt_all()
            # Now more recordings have their deployments.
            is_whole = take_over(self.database, self.healing)
            self.healing.lost += unknown
        self.store.settle_deployments()
        self._note_plan()
        self._note_effort(is_whole=is_whole)

    def _adopt_all(self) -> list[str]:
        """Store the recordings that their files describe; return what is unknown of others."""
        unknown = []
        for batch in _batches(self.kept.sounds()):
            paths = [path for path, _ in batch]
            known = {one.path for one, _ in self.store.get_recordings_info_by_path(paths)}
            for path, is_kept in batch:
                try:
                    if path not in known:
                        self._adopt(path, is_kept=is_kept)
                except (AudioError, OSError) as error:
                    unknown.append(f"what {path.name} is: {error}")
        return unknown

    def _adopt(self, path: Path, *, is_kept: bool) -> None:
        if CLIP_OF in formats.read_guano(path):
            return  # its clips were on the lost pages
        recording = formats.read_recording(path)
        if self.store.get_recordings([recording.id]):
            return
        self.store.store_recording(recording)
        if is_kept:
            self.store.update_recording_path(recording, path)
        self.healing.from_files += 1

    def _note_plan(self) -> None:
        """Note what a running recorder has reported at its start and does not repeat."""
        if self.kept.plan is None:
            return
        now = self.healing.found_on
        for one in self.store.get_deployments():
            if one.ended_on is None:
                history = self.store.get_effort(one, now, now)
                since = now if history is not None and history.plans else one.started_on
                self.store.note_plan(one, self.kept.plan, since)

    def _note_effort(self, *, is_whole: bool) -> None:
        """Note in the ledger why the reasons of missed time may be unknown."""
        name, now = self.healing.aside.name, self.healing.found_on
        if is_whole:
            detail = f"the database was damaged, but nothing in it was lost ({name})"
        else:
            detail = f"the notes on this time were lost with a damaged database ({name})"
        for one in self.store.get_deployments():
            end = min(one.ended_on or now, now)
            start = one.started_on + _TICK
            if is_whole:
                last = self.store.get_alive_until(one) or one.started_on
                start, end = last, last + _TICK
            if start < end and (not is_whole or one.ended_on is None):
                span = EffortSpan(start, end, EffortState.NOT_RUNNING, detail)
                self.store.note_effort(one, [span])


def _batches(items: Iterable[tuple[Path, bool]]) -> Iterator[list[tuple[Path, bool]]]:
    batch: list[tuple[Path, bool]] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
