"""The sound that a hub should get from a sensor, and which of it the hub has.

A metadata store has these tables once its sensor sends sound, and not before. Triggers note which
recordings and clips are to be sent, in the transaction that makes them so; a row stays when the
hub has acknowledged the digest of its sound.
"""

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

import datetime
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import clock
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database, stores_that_only_read
from acoupi.components.stores.values import as_id, from_microseconds, to_microseconds
from acoupi.space import HubAudio

__all__ = [
    "SoundStanding",
    "Unsent",
    "UnsentSound",
    "begin_to_note",
    "has_sound_tables",
    "put_standing",
    "sound_standing",
]

_TABLES = (
    # `goes`: the filters do not want the file; it is kept only until the hub has it.
    """
    CREATE TABLE hub_sound (
        row INTEGER PRIMARY KEY,
        recording_row INTEGER NOT NULL REFERENCES recording (row) ON DELETE CASCADE,
        clip_row INTEGER REFERENCES clip (row) ON DELETE CASCADE,
        later INTEGER NOT NULL DEFAULT 0,
        goes INTEGER NOT NULL DEFAULT 0,
        sent_on_us INTEGER
    )
    """,
    "CREATE UNIQUE INDEX hub_sound_recording ON hub_sound (recording_row) WHERE clip_row IS NULL",
    "CREATE UNIQUE INDEX hub_sound_clip ON hub_sound (clip_row) WHERE clip_row IS NOT NULL",
    "CREATE INDEX hub_sound_unsent ON hub_sound (later, row) WHERE sent_on_us IS NULL",
    "CREATE INDEX hub_sound_goes ON hub_sound (row) WHERE goes",
    # One row.
    """
    CREATE TABLE hub_sound_standing (
        hub TEXT NOT NULL,
        policy TEXT NOT NULL,
        sent_on_us INTEGER,
        trouble TEXT,
        failures INTEGER NOT NULL DEFAULT 0,
        rests_until_us INTEGER
    )
    """,
)

_KEPT = "r.state = 'kept' AND r.path IS NOT NULL"
_HEARD = """EXISTS (
    SELECT 1 FROM model_output o CROSS JOIN detection d ON d.output_row = o.row
    WHERE o.recording_row = r.row
)"""
_SAMPLED = "EXISTS (SELECT 1 FROM sample s WHERE s.recording_row = r.row)"
_WANTED: dict[HubAudio, str] = {
    "none": "0",
    "detections": f"{_KEPT} AND {_HEARD}",
    "sample": f"{_KEPT} AND {_SAMPLED}",
    "all": "r.path IS NOT NULL",
}
"""The recordings whose sound the hub gets."""


def _put(policy: HubAudio, of: str, later: int = 0) -> str:
    """Return a statement that notes recordings; none twice."""
    return f"""
        INSERT INTO hub_sound (recording_row, later)
        SELECT r.row, {later} FROM recording r WHERE {of} AND {_WANTED[policy]} AND NOT EXISTS (
            SELECT 1 FROM hub_sound h WHERE h.recording_row = r.row AND h.clip_row IS NULL
        )
    """


def _put_clips(of: str, later: int = 0) -> str:
    return f"""
        INSERT INTO hub_sound (recording_row, clip_row, later)
        SELECT min(x.recording_row), x.clip_row, {later} FROM clip_part x
        WHERE {of} AND NOT EXISTS (SELECT 1 FROM hub_sound h WHERE h.clip_row = x.clip_row)
        GROUP BY x.clip_row
    """


_DROP = "DELETE FROM hub_sound WHERE sent_on_us IS NULL AND clip_row IS NULL AND recording_row = "


def _triggers(policy: HubAudio) -> Iterator[tuple[str, str]]:
    """Yield the name of each trigger, and the statement that makes it."""
    if policy == "none":
        return
    new = _put(policy, "r.row = NEW.row")
    yield _trigger("recording", "INSERT", new)
    yield _trigger("recording", "UPDATE", new, "OF path, state")
    gone = f"{_DROP} NEW.row"
    yield _trigger("lost", "UPDATE", gone, "OF path", "recording", "WHEN NEW.path IS NULL")
    if policy == "detections":
        yield _trigger("clip_part", "INSERT", _put_clips("x.clip_row = NEW.clip_row"))
        output = "(SELECT o.recording_row FROM model_output o WHERE o.row = NEW.output_row)"
        yield _trigger("detection", "INSERT", _put(policy, f"r.row = {output}"))
    if policy == "sample":
        yield _trigger("sample", "INSERT", _put(policy, "r.row = NEW.recording_row"))
        left = f"{_DROP} OLD.recording_row AND NOT goes AND NOT EXISTS (SELECT 1 FROM sample s"
        yield _trigger("sample", "DELETE", f"{left} WHERE s.recording_row = OLD.recording_row)")


def _trigger(  # noqa: PLR0917 - the parts of the statement, in their order
    name: str, event: str, does: str, columns: str = "", table: str = "", only: str = ""
) -> tuple[str, str]:
    name, table = f"sound_{name}_{event.lower()}", table or name
    return (
        name,
        f"CREATE TRIGGER {name} AFTER {event} {columns} ON {table} {only} BEGIN {does}; END",
    )


_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'hub_sound_standing'"
_MADE = (
    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 6) = 'sound_'"
)
_POLICY = "SELECT hub, policy FROM hub_sound_standing"

# What the hub does not know yet is sent later; it learns of clips when the whole file is no more.
# A file in the spool is about to be moved.
_DUE = """
    SELECT h.row, r.id, c.id, coalesce(c.path, r.path)
    FROM hub_sound h
        CROSS JOIN recording r ON r.row = h.recording_row
        LEFT JOIN clip c ON c.row = h.clip_row
    WHERE h.sent_on_us IS NULL AND CASE
            WHEN h.clip_row IS NULL THEN r.state = 'kept' ELSE r.state NOT IN ('kept', 'captured')
        END
        AND coalesce(c.path, r.path) IS NOT NULL
        AND NOT EXISTS (
            SELECT 1 FROM unreported u WHERE u.kind = 'recording' AND u.of_row = r.row
        )
        AND NOT EXISTS (SELECT 1 FROM hub_standing s WHERE r.row > s.taken_row
            AND r.row <= s.last_row)
    ORDER BY h.later, h.row LIMIT 1
"""
_STANDING = """
    SELECT s.policy, n.files, n.oldest_us, s.sent_on_us, s.trouble, s.failures, s.rests_until_us
    FROM hub_sound_standing s CROSS JOIN (
        SELECT count(*) AS files, min(r.created_on_us) AS oldest_us
        FROM hub_sound h CROSS JOIN recording r ON r.row = h.recording_row
        WHERE h.sent_on_us IS NULL AND (h.clip_row IS NULL OR r.state <> 'kept')
    ) n
"""


@dataclass(frozen=True, slots=True)
class Unsent:
    """A sound that the hub has not got."""

    row: int
    id: UUID
    """Id of the recording, or of the clip."""
    path: Path
    is_clip: bool


@dataclass(frozen=True, slots=True)
class SoundStanding:
    """How far a sensor has come in sending sound to its hub."""

    policy: HubAudio
    waiting: int
    """Files to send to the hub."""
    oldest_on: datetime.datetime | None
    """When the oldest of them was recorded."""
    sent_on: datetime.datetime | None
    """When the hub last acknowledged one."""
    trouble: str | None
    """Why the last one was not taken; None: all is well."""
    failures: int
    """Passes in a row that ended in trouble."""
    rests_until: datetime.datetime | None
    """Nothing is sent before."""


class UnsentSound:
    """The sound of a metadata store that its hub has not got.

    Parameters
    ----------
    path
        The metadata store.

    Raises
    ------
    MetadataStoreError
        From every method, as `SqliteStore`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, sql.SCHEMA)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()

    def start(self, hub: str, policy: HubAudio) -> SoundStanding | None:
        """Track what to send from now on, and existing files; None: nothing.

        Another hub is to get all of it; by another policy, what is unsent is chosen anew.
        """
        triggers = dict(_triggers(policy))
        with self._database.reading() as connection:
            is_there = has_sound_tables(connection)
            if not is_there and policy == "none":
                return None
            made = dict(connection.execute(_MADE).fetchall())
            if is_there and made == triggers:
                known = connection.execute(_POLICY).fetchone()
                if known == (hub, policy):
                    return _standing(connection)
        with self._database.writing() as connection:
            _make(connection, triggers, hub, policy)
            return _standing(connection)

    def next(self) -> Unsent | None:
        """Return what to send next: new files first, refused ones last."""
        with self._database.reading() as connection:
            found = connection.execute(_DUE).fetchone()
        if found is None:
            return None
        row, recording, clip, path = found
        is_clip = clip is not None
        return Unsent(row, as_id(clip if is_clip else recording), Path(os.fsdecode(path)), is_clip)

    def acknowledge(self, sound: Unsent) -> None:
        """Note that the hub has a sound."""
        values = {"row": sound.row, "now": to_microseconds(clock.utc_now())}
        with self._database.writing() as connection:
            connection.execute("UPDATE hub_sound SET sent_on_us = :now WHERE row = :row", values)
            connection.execute("UPDATE hub_sound_standing SET sent_on_us = :now", values)

    def postpone(self, sound: Unsent) -> None:
        """Send a sound after all others: the hub refuses it, or its file is not there."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE hub_sound SET later = max(later + 1, 2) WHERE row = ?", (sound.row,)
            )

    def settle(self, trouble: str | None, rests_for: float = 0) -> None:
        """Note how a pass ended, and for how many seconds nothing is to be sent."""
        put_standing(self._database, "hub_sound_standing", trouble, rests_for)


def put_standing(database: Database, table: str, trouble: str | None, rests_for: float) -> None:
    """Note how a pass ended, and for how many seconds nothing is to be sent."""
    until = clock.utc_now() + datetime.timedelta(seconds=rests_for)
    values = {"trouble": trouble, "until": to_microseconds(until) if rests_for else None}
    with database.writing() as connection:
        connection.execute(
            f"UPDATE {table} SET trouble = :trouble, rests_until_us = :until,"
            " failures = CASE WHEN :trouble IS NULL THEN 0 ELSE failures + 1 END",
            values,
        )


def begin_to_note(database: Database, policy: HubAudio) -> None:
    """Make a store track the sound for its hub, if it does not yet.

    A file may be about to be deleted before anything was ever sent.
    """
    with database.reading() as connection:
        if has_sound_tables(connection):
            return
    with database.writing() as connection:
        if not has_sound_tables(connection):
            _make(connection, dict(_triggers(policy)), "", policy)


def sound_standing(path: Path) -> SoundStanding | None:
    """Return how far the sensor of a store has come; None if it never sent sound to a hub."""
    with stores_that_only_read():
        database = Database(path, sql.SCHEMA)
    with database.reading() as connection:
        found = _standing(connection) if has_sound_tables(connection) else None
    database.close()
    return found


def has_sound_tables(connection: sqlite3.Connection) -> bool:
    """Return whether a store tracks the sound for a hub."""
    return connection.execute(_IS_THERE).fetchone() is not None


def _make(
    connection: sqlite3.Connection, triggers: dict[str, str], hub: str, policy: HubAudio
) -> None:
    for name, _ in connection.execute(_MADE).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    if not has_sound_tables(connection):
        for statement in _TABLES:
            connection.execute(statement)
    known: Any = connection.execute(_POLICY).fetchone()
    if known is not None and known[0] != hub:
        connection.execute("UPDATE hub_sound SET sent_on_us = NULL, later = 1")
    for statement in triggers.values():
        connection.execute(statement)
    connection.execute("DELETE FROM hub_sound WHERE sent_on_us IS NULL AND NOT goes")
    connection.execute(_put(policy, "1", later=1))
    if policy == "detections":
        connection.execute(_put_clips("1", later=1))
    connection.execute("DELETE FROM hub_sound_standing")
    connection.execute("INSERT INTO hub_sound_standing (hub, policy) VALUES (?, ?)", (hub, policy))


def _standing(connection: sqlite3.Connection) -> SoundStanding | None:
    found = connection.execute(_STANDING).fetchone()
    if found is None:
        return None
    policy, files, oldest, sent, trouble, failures, until = found
    return SoundStanding(
        policy=policy,
        waiting=files,
        oldest_on=None if oldest is None else from_microseconds(oldest),
        sent_on=None if sent is None else from_microseconds(sent),
        trouble=trouble,
        failures=failures,
        rests_until=None if until is None else from_microseconds(until),
    )
