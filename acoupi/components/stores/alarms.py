"""The alarms of a sensor in a small SQLite file of their own.

A file of its own: the stores of recordings and messages may belong to a program that brings its
own, and a home without alarms has none.
"""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from acoupi.alarms.episodes import Alarm, suspect_spans
from acoupi.alarms.floors import HourFloor
from acoupi.components.stores.database import Database, Schema
from acoupi.components.stores.values import from_microseconds, to_microseconds
from acoupi.errors import AlarmStoreError

__all__ = ["SqliteAlarmStore"]

_VERSION_1 = (
    """
    CREATE TABLE alarm (
        key TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        detail TEXT NOT NULL,
        raised_on_us INTEGER,
        ended_on_us INTEGER,
        is_told INTEGER NOT NULL DEFAULT 0,
        is_end_told INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (key, since_us)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX alarm_untold ON alarm (since_us) WHERE NOT is_end_told",
    """
    CREATE TABLE hour_floor (
        hour_us INTEGER PRIMARY KEY,
        median_dbfs REAL NOT NULL,
        quietest_dbfs REAL NOT NULL
    )
    """,
    "CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)

SCHEMA = Schema(
    store="alarm store",
    application_id=0x6163414C,  # "acAL"
    migrations=(_VERSION_1,),
    peer_tables=frozenset(),
    error=AlarmStoreError,
)

_PUT = """
    INSERT OR REPLACE INTO alarm
        (key, since_us, detail, raised_on_us, ended_on_us, is_told, is_end_told)
    VALUES (:key, :since, :detail, :raised_on, :ended_on, :is_told, :is_end_told)
"""
_COLUMNS = """
    SELECT key, since_us, detail, raised_on_us, ended_on_us, is_told, is_end_told FROM alarm
"""
_OPEN = f"{_COLUMNS} WHERE NOT is_end_told ORDER BY since_us, key"
_ALARMS = f"""{_COLUMNS}
    WHERE coalesce(ended_on_us, :until) >= :since AND since_us <= :until ORDER BY since_us, key
"""
_PUT_FLOOR = "INSERT OR REPLACE INTO hour_floor VALUES (:hour, :median, :quietest)"
_FLOORS = "SELECT * FROM hour_floor WHERE hour_us >= :since ORDER BY hour_us"
_FORGET_FLOORS = "DELETE FROM hour_floor WHERE hour_us < :since"
_PUT_NOTE = "INSERT OR REPLACE INTO note VALUES (:key, :value)"


class SqliteAlarmStore:
    """Stores alarms, and what the rules must remember from one look to the next.

    Parameters
    ----------
    path
        The database file; made at the first use.

    Raises
    ------
    AlarmStoreError
        From every method: if the disk is full, read-only or failing, or the file is another's.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()

    def put_look(self, alarms: Sequence[Alarm], notes: dict[str, Any]) -> None:
        """Store alarms and notes in one transaction; an alarm with key and start is replaced."""
        with self._database.writing() as connection:
            connection.executemany(_PUT, [_values(one) for one in alarms])
            rows = [{"key": key, "value": json.dumps(value)} for key, value in notes.items()]
            connection.executemany(_PUT_NOTE, rows)

    def get_open(self) -> list[Alarm]:
        """Return the alarms that are active, or whose messages have not been made yet."""
        with self._database.reading() as connection:
            return [_alarm(row) for row in connection.execute(_OPEN)]

    def get_active(self) -> list[Alarm]:
        """Return the alarms that are not over, the oldest first."""
        return [one for one in self.get_open() if one.is_active]

    def get_alarms(
        self, since: datetime | None = None, until: datetime | None = None
    ) -> list[Alarm]:
        """Return every alarm that was active between two times, the oldest first."""
        values = {
            "since": 0 if since is None else to_microseconds(since),
            "until": 2**62 if until is None else to_microseconds(until),
        }
        with self._database.reading() as connection:
            return [_alarm(row) for row in connection.execute(_ALARMS, values)]

    def get_suspect(self, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
        """Return when the microphone heard nothing by its own trend, between two times."""
        return suspect_spans(self.get_alarms(since, until), until)

    def get_notes(self) -> dict[str, Any]:
        """Return the notes of the last look."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT key, value FROM note").fetchall()
        return {key: json.loads(value) for key, value in rows}

    def put_floors(self, floors: Sequence[HourFloor], forget_before: datetime) -> None:
        """Store the noise floors of hours, and remove those from before a time."""
        with self._database.writing() as connection:
            connection.executemany(
                _PUT_FLOOR,
                [
                    {
                        "hour": to_microseconds(one.hour),
                        "median": one.median,
                        "quietest": one.quietest,
                    }
                    for one in floors
                ],
            )
            connection.execute(_FORGET_FLOORS, {"since": to_microseconds(forget_before)})

    def get_floors(self, since: datetime) -> list[HourFloor]:
        """Return the noise floors of the hours from a time on, in order."""
        with self._database.reading() as connection:
            rows = connection.execute(_FLOORS, {"since": to_microseconds(since)}).fetchall()
        return [HourFloor(from_microseconds(hour), *levels) for hour, *levels in rows]


def _values(alarm: Alarm) -> dict[str, Any]:
    return {
        "key": alarm.key,
        "since": to_microseconds(alarm.since),
        "detail": alarm.detail,
        "raised_on": alarm.raised_on and to_microseconds(alarm.raised_on),
        "ended_on": alarm.ended_on and to_microseconds(alarm.ended_on),
        "is_told": alarm.is_told,
        "is_end_told": alarm.is_end_told,
    }


def _alarm(row: sqlite3.Row | tuple[Any, ...]) -> Alarm:
    key, since, detail, raised_on, ended_on, is_told, is_end_told = row
    return Alarm(
        key,
        from_microseconds(since),
        detail,
        None if raised_on is None else from_microseconds(raised_on),
        None if ended_on is None else from_microseconds(ended_on),
        bool(is_told),
        bool(is_end_told),
    )
