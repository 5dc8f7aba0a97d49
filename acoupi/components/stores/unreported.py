"""What of a metadata store its hub does not yet know.

A store has these tables once its sensor reports to a hub, and not before. Triggers note what
changes, in the transaction that changes it, whichever process that is. What is noted goes when the
hub has acknowledged it, unless it changed again meanwhile: it has another number then.
"""

import datetime
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from acoupi import clock
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database, stores_that_only_read
from acoupi.components.stores.unsent import has_sound_tables, put_standing
from acoupi.components.stores.values import from_microseconds, to_microseconds

__all__ = ["Change", "HubStanding", "Unreported", "hub_standing", "known_on"]

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

Kind = Literal["deployment", "notes", "recording", "verdict"]

HOUR = 3600 * 1_000_000
"""Microseconds. Notes of the ledger are reported by the hour in which they begin."""
_TAKEN = 1000
"""Recordings from before there was a hub that are noted at once."""

# AUTOINCREMENT: no number comes twice. `later`: 1 is not new, from 2 on the hub has refused it.
_TABLES = (
    """
    CREATE TABLE unreported (
        change INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        of_row INTEGER NOT NULL,
        hour INTEGER NOT NULL DEFAULT 0,
        later INTEGER NOT NULL DEFAULT 0,
        UNIQUE (kind, of_row, hour)
    )
    """,
    "CREATE INDEX unreported_order ON unreported (later, change)",
    # One row. Recordings up to `last_row` were there before; those up to `taken_row` are noted.
    """
    CREATE TABLE hub_standing (
        hub TEXT NOT NULL,
        taken_row INTEGER NOT NULL,
        last_row INTEGER NOT NULL,
        stamp_us INTEGER NOT NULL DEFAULT 0,
        acknowledged_on_us INTEGER,
        trouble TEXT,
        failures INTEGER NOT NULL DEFAULT 0,
        rests_until_us INTEGER
    )
    """,
)

_MARK = """
    CREATE TABLE IF NOT EXISTS hub_mark (token TEXT PRIMARY KEY, stamp_us INTEGER NOT NULL)
"""
"""The stamp of the last report that the hub acknowledged, and to whom."""
_PUT_MARK = "INSERT OR REPLACE INTO hub_mark VALUES (?, ?)"

_OF_RECORDING = {
    "capture": "UPDATE",
    "capture_clock": "UPDATE OF boot_id, offset_us, corrected_us",
    "analysis": "UPDATE OF state, attempts, error, updated_on_us",
    "model_output": "UPDATE",
    "sample": "UPDATE",
    "clip_part": "UPDATE",
    "given_up": "UPDATE OF class, reason, duration_s, bytes, given_up_on_us",
}
"""Tables with data about a recording, and which changes of their rows matter. Detections and
their tags only change with their output."""


def _noted(kind: Kind, row: str, hour: str = "0") -> str:
    # Not INSERT OR REPLACE: the statement that fires a trigger would decide about conflicts.
    return (
        f"DELETE FROM unreported WHERE kind = '{kind}' AND of_row = {row} AND hour = {hour};"
        f" INSERT INTO unreported (kind, of_row, hour) VALUES ('{kind}', {row}, {hour});"
    )


def _triggers() -> Iterator[tuple[str, str]]:
    """Yield the name of each trigger, and the statement that makes it."""
    both = ("INSERT", "NEW"), ("UPDATE", "NEW")
    ever = (*both, ("DELETE", "OLD"))
    for table, update in _OF_RECORDING.items():
        for event, which in ever:
            when = update if event == "UPDATE" else event
            yield _trigger(table, event, when, _noted("recording", f"{which}.recording_row"))
    for event, which in both:
        yield _trigger("recording", event, event, _noted("recording", f"{which}.row"))
        yield _trigger("deployment", event, event, _noted("deployment", f"{which}.row"))
    for event, which in ever:
        plan = _noted("deployment", f"{which}.deployment_row")
        yield _trigger("effort_plan", event, event, plan)
        sides = ("OLD", "NEW") if event == "UPDATE" else (which,)  # it may move to another hour
        hours = (_noted("notes", f"{s}.deployment_row", f"{s}.start_us / {HOUR}") for s in sides)
        yield _trigger("effort_note", event, event, " ".join(hours))
    yield _trigger("verdict", "INSERT", "INSERT", _noted("verdict", "NEW.row"))
    # The share that is analysed changes with each recording; it is reported when it is final.
    ended = (
        "DELETE FROM unreported WHERE kind = 'recording' AND of_row IN"
        " (SELECT row FROM recording WHERE sampling_row = NEW.row);"
        " INSERT INTO unreported (kind, of_row)"
        " SELECT 'recording', row FROM recording WHERE sampling_row = NEW.row;"
    )
    changed = "UPDATE OF ended_us, made, analysed"
    yield _trigger("sampling", "UPDATE", changed, ended, "WHEN NEW.ended_us IS NOT NULL")


def _trigger(table: str, event: str, when: str, does: str, only: str = "") -> tuple[str, str]:
    name = f"report_{table}_{event.lower()}"
    return name, f"CREATE TRIGGER {name} AFTER {when} ON {table} {only} BEGIN {does} END"


# What was there before anything was noted, but for recordings: they are many.
_TAKE_ALL = (
    "DELETE FROM unreported",
    "DELETE FROM hub_standing",
    """
    INSERT INTO hub_standing (hub, taken_row, last_row, stamp_us)
    VALUES (:hub, 0, (SELECT coalesce(max(row), 0) FROM recording), :stamp)
    """,
    "INSERT INTO unreported (kind, of_row) SELECT 'deployment', row FROM deployment ORDER BY row",
    f"""
    INSERT INTO unreported (kind, of_row, hour, later)
    SELECT DISTINCT 'notes', deployment_row, start_us / {HOUR}, 1 FROM effort_note
    """,
    "INSERT INTO unreported (kind, of_row, later) SELECT 'verdict', row, 1 FROM verdict",
)

_TAKE = """
    INSERT OR IGNORE INTO unreported (kind, of_row, later)
    SELECT 'recording', row, 1 FROM recording WHERE row > :taken AND row <= :last
    ORDER BY row LIMIT :limit
"""
_TAKEN_UNTIL = """
    UPDATE hub_standing SET taken_row = coalesce((
        SELECT max(row) FROM (
            SELECT row FROM recording WHERE row > :taken AND row <= :last ORDER BY row LIMIT :limit
        )
    ), last_row)
"""

_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'hub_standing'"
_HAS_MARK = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'hub_mark'"
_MADE = (
    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 7) = 'report_'"
)

_NEXT = """
    SELECT change, kind, of_row, hour FROM unreported ORDER BY later, change LIMIT :limit
"""
_WAITING = """
    SELECT (SELECT count(*) FROM unreported) + (
        SELECT count(*) FROM recording r WHERE r.row > s.taken_row AND r.row <= s.last_row
    ), s.hub, s.acknowledged_on_us, s.trouble, s.failures, s.rests_until_us
    FROM hub_standing s
"""


_STAMP = "SELECT max(stamp_us) FROM hub_standing"
_NEWEST = """
    SELECT max(time) FROM (
        SELECT max(created_on_us) AS time FROM recording
        UNION ALL SELECT max(updated_on_us) FROM analysis
        UNION ALL SELECT max(end_us) FROM effort_note
    )
"""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that the hub does not know, or not as it is now."""

    number: int
    """No other change ever has it; a later change of the same has a greater one."""
    kind: Kind
    row: int
    """Row of the recording, the verdict, or the deployment."""
    hour: int
    """For notes: hours since 1970 in UTC."""


@dataclass(frozen=True, slots=True)
class HubStanding:
    """How far a sensor has come in reporting to its hub."""

    waiting: int
    """Recordings, verdicts, deployments and hours of the ledger that the hub does not know."""
    hub: str
    acknowledged_on: datetime.datetime | None
    trouble: str | None
    """Why the last report was not taken, or a part of it; None: all is well."""
    failures: int
    """Passes in a row that ended in trouble."""
    rests_until: datetime.datetime | None
    """Nothing is sent before."""


class Unreported:
    """Changes of a metadata store, until its hub knows them.

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

    def start(self, hub: str) -> HubStanding:
        """Track changes from now on, and everything so far if the hub is new.

        Also if the notes may have gaps: after a repair of the store, or another version.
        """
        triggers = dict(_triggers())
        with self._database.reading() as connection:
            if dict(connection.execute(_MADE).fetchall()) == triggers:
                standing = _standing(connection)
                if standing is not None and standing.hub == hub:
                    return standing
        with self._database.writing() as connection:
            _make(connection, triggers, hub)
            standing = _standing(connection)
            assert standing is not None
            return standing

    def mark(self, token: str) -> int | None:
        """Return the stamp of the last report that was acknowledged to a token of the hub.

        Under another token the sensor is another one to the hub, or the home is a copy.
        """
        with self._database.reading() as connection:
            if connection.execute(_HAS_MARK).fetchone() is None:
                return None
            values = (token,)
            found = connection.execute("SELECT stamp_us FROM hub_mark WHERE token = ?", values)
            return next((stamp for (stamp,) in found), None)

    def set_mark(self, token: str, stamp: datetime.datetime) -> None:
        """Note the stamp of a report that was acknowledged."""
        with self._database.writing() as connection:
            connection.execute(_MARK)
            connection.execute(_PUT_MARK, (token, to_microseconds(stamp)))

    def start_over(self) -> None:
        """Let the next `start` note all that is there, sound too: the hub knows it no more."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM hub_mark")
            connection.execute("UPDATE hub_standing SET hub = ''")
            if has_sound_tables(connection):
                connection.execute("UPDATE hub_sound_standing SET hub = ''")

    def next(self, limit: int) -> list[Change]:
        """Return what to report next, new changes first."""
        values = {"limit": limit}
        with self._database.reading() as connection:
            found = connection.execute(_NEXT, values).fetchall()
            taken, last = connection.execute(
                "SELECT taken_row, last_row FROM hub_standing"
            ).fetchone()
        if len(found) < limit and taken < last:
            more = {"taken": taken, "last": last, "limit": _TAKEN}
            with self._database.writing() as connection:
                connection.execute(_TAKE, more)
                connection.execute(_TAKEN_UNTIL, more)
                found = connection.execute(_NEXT, values).fetchall()
        return [Change(*row) for row in found]

    def stamp(self) -> datetime.datetime:
        """Return the time of a report: now, but later than that of every earlier report.

        The clock of a board may be set back; the hub leaves out what seems to be older. A copy
        of the store that is imported lies between two reports: see `known_on`.
        """
        with self._database.writing() as connection:
            (last,) = connection.execute("SELECT stamp_us FROM hub_standing").fetchone()
            stamp = max(to_microseconds(clock.utc_now()), last + 2)
            connection.execute("UPDATE hub_standing SET stamp_us = ?", (stamp,))
        return from_microseconds(stamp)

    def acknowledge(self, changes: Sequence[Change]) -> None:
        """Forget what the hub knows now; what changed again since stays."""
        values = {"now": to_microseconds(clock.utc_now())}
        with self._database.writing() as connection:
            connection.executemany(
                "DELETE FROM unreported WHERE change = ?", [(one.number,) for one in changes]
            )
            connection.execute("UPDATE hub_standing SET acknowledged_on_us = :now", values)

    def postpone(self, change: Change) -> None:
        """Report something after all else: the hub refuses it."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE unreported SET later = max(later + 1, 2) WHERE change = ?", (change.number,)
            )

    def settle(self, trouble: str | None, rests_for: float = 0) -> None:
        """Note how a pass ended, and for how many seconds nothing is to be sent."""
        put_standing(self._database, "hub_standing", trouble, rests_for)


def hub_standing(path: Path) -> HubStanding | None:
    """Return how far the sensor of a store has come; None if it never reported to a hub."""
    with stores_that_only_read():
        database = Database(path, sql.SCHEMA)
    with database.reading() as connection:
        is_there = connection.execute(_IS_THERE).fetchone()
        found = _standing(connection) if is_there else None
    database.close()
    return found


def known_on(path: Path, now: datetime.datetime) -> datetime.datetime:
    """Return the time of what a store knows, which may be a copy on another machine.

    Of a sensor that reports to a hub itself, that is after its last report of this store and
    before the next, whenever the copy is imported: the hub keeps what is newer. Of any other it
    is now.

    Parameters
    ----------
    now
        By the clock of the hub.
    """
    with stores_that_only_read():
        database = Database(path, sql.SCHEMA)
    with database.reading() as connection:
        is_there = connection.execute(_IS_THERE).fetchone()
        stamp = connection.execute(_STAMP).fetchone()[0] if is_there else None
        newest = connection.execute(_NEWEST).fetchone()[0] or 0
    database.close()
    if not stamp:
        return now
    return from_microseconds(max(stamp + 1, min(newest, to_microseconds(now))))


def _make(connection: sqlite3.Connection, triggers: dict[str, str], hub: str) -> None:
    """Make tables and triggers again; earlier notes cannot be relied on."""
    for name, _ in connection.execute(_MADE).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    if connection.execute(_IS_THERE).fetchone() is None:
        for statement in _TABLES:
            connection.execute(statement)
    found = connection.execute("SELECT stamp_us FROM hub_standing").fetchone()
    for statement in triggers.values():
        connection.execute(statement)
    for statement in _TAKE_ALL:
        values = {"hub": hub, "stamp": found[0] if found else 0} if ":hub" in statement else {}
        connection.execute(statement, values)


def _standing(connection: sqlite3.Connection) -> HubStanding | None:
    found = connection.execute(_WAITING).fetchone()
    if found is None:
        return None
    waiting, hub, acknowledged, trouble, failures, until = found
    return HubStanding(
        waiting=waiting,
        hub=hub,
        acknowledged_on=None if acknowledged is None else from_microseconds(acknowledged),
        trouble=trouble,
        failures=failures,
        rests_until=None if until is None else from_microseconds(until),
    )
