"""Statements about files that may go when a disk fills, and about those that went."""

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

import datetime
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database
from acoupi.components.stores.rows import load_recordings
from acoupi.components.stores.sample_tables import SampleTables
from acoupi.components.stores.unsent import has_sound_tables
from acoupi.components.stores.values import (
    Connection,
    as_blob_list,
    as_path_list,
    as_path_text,
    from_microseconds,
    to_microseconds,
)
from acoupi.components.stores.views import SPECIES
from acoupi.space import MOST_SPARE, NOON_S, FileClass, GivenUp, HubAudio, SpacePolicy, Spare

__all__ = ["SpaceTables", "totals_given_up"]

# What nobody has listened to: a model failed on it and left no output.
_UNHEARD = """EXISTS (
    SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state = 'failed' AND NOT EXISTS (
        SELECT 1 FROM model_output o WHERE o.recording_row = r.row AND o.name_model = a.name_model
    )
)"""
_HAS_DETECTIONS = """EXISTS (
    SELECT 1 FROM model_output o CROSS JOIN detection d ON d.output_row = o.row
    WHERE o.recording_row = r.row
)"""
_IS_SAMPLED = "EXISTS (SELECT 1 FROM sample s WHERE s.recording_row = r.row)"
_IS_PROTECTED = "EXISTS (SELECT 1 FROM protected p WHERE p.recording_row = r.row)"

# Whether the hub is to get a file and has not got it. Where no sound is sent to a hub, its table
# is not there: see `_spare_statement`. Either kind is asked for, or (NULL) both.
_OWED = "FALSE /* of the recording */"
_OWED_CLIP = "FALSE /* of the clip */"
_IS_OWED = f"coalesce(:owed = {_OWED}, 1)"
_IS_OWED_CLIP = f"coalesce(:owed = {_OWED_CLIP}, 1)"
_TO_HUB = "EXISTS (SELECT 1 FROM hub_sound h WHERE h.sent_on_us IS NULL AND "

_KEPT = f"FROM recording r WHERE r.state = 'kept' AND r.path IS NOT NULL AND {_IS_OWED}"
_FILE = "SELECT r.row, NULL, r.path, r.created_on_us, r.duration_s"
_OLDEST = "ORDER BY r.created_on_us, r.row LIMIT :limit"

_UNREMARKABLE = f"""
    {_FILE} {_KEPT} AND NOT {_HAS_DETECTIONS} AND NOT {_UNHEARD}
        AND NOT {_IS_SAMPLED} AND NOT {_IS_PROTECTED}
    {_OLDEST}
"""

# The best and the newest of each species and night, among those that have a file.
_RANKED = f"""
    heard AS (
        SELECT r.row AS recording_row, r.created_on_us, {SPECIES} AS species,
            (r.created_on_us / 1000000 + :offset) / 86400 AS night, max(d.score) AS score
        FROM recording r
            CROSS JOIN model_output o ON o.recording_row = r.row
            CROSS JOIN detection d ON d.output_row = o.row
        WHERE (r.state = 'kept' AND r.path IS NOT NULL)
            OR EXISTS (SELECT 1 FROM clip_part x WHERE x.recording_row = r.row)
        GROUP BY r.row, species
    ),
    ranked AS (
        SELECT recording_row, night, score, row_number() OVER (
            PARTITION BY night, species ORDER BY score DESC, created_on_us, recording_row
        ) AS by_score, row_number() OVER (
            PARTITION BY night, species ORDER BY created_on_us DESC, recording_row DESC
        ) AS by_age
        FROM heard
    ),
    valued AS (
        SELECT recording_row, night, max(score) AS score,
            max(by_score <= :best OR by_age <= :newest) AS is_best
        FROM ranked GROUP BY recording_row
    )
"""

# A clip that goes while one of its recordings still waits might be cut again.
_CLIPS = """
    FROM clip c CROSS JOIN clip_part x ON x.clip_row = c.row
        CROSS JOIN recording r ON r.row = x.recording_row
"""
_CLIP = "SELECT r.row, c.row, c.path, min(r.created_on_us), c.duration_s"
_CLIPS_SETTLED = f"GROUP BY c.row HAVING NOT max(r.state = 'captured') AND {_IS_OWED_CLIP}"

_BEYOND_BEST = f"""
    WITH {_RANKED}
    SELECT * FROM (
        {_FILE}, v.night AS night, v.score AS score
        FROM valued v CROSS JOIN recording r ON r.row = v.recording_row
        WHERE NOT v.is_best AND r.state = 'kept' AND r.path IS NOT NULL
            AND NOT {_IS_SAMPLED} AND NOT {_IS_PROTECTED} AND NOT {_UNHEARD} AND {_IS_OWED}
        UNION ALL
        {_CLIP}, min(v.night), max(v.score)
        {_CLIPS} CROSS JOIN valued v ON v.recording_row = r.row
        {_CLIPS_SETTLED} AND NOT max(v.is_best OR {_IS_PROTECTED})
    ) ORDER BY night, score, 4 LIMIT :limit
"""

# The largest hashes first: what is left is still a fair sample.
_REVIEW = f"""
    WITH {_RANKED}
    {_FILE} {_KEPT} AND {_IS_SAMPLED} AND NOT {_IS_PROTECTED}
        AND r.row NOT IN (SELECT recording_row FROM valued WHERE is_best)
    ORDER BY (SELECT max(s.rank) FROM sample s WHERE s.recording_row = r.row) DESC LIMIT :limit
"""

_PROTECTED = f"""
    SELECT * FROM (
        {_FILE} {_KEPT} AND {_IS_PROTECTED}
        UNION ALL
        {_CLIP} {_CLIPS} {_CLIPS_SETTLED} AND max({_IS_PROTECTED})
    ) ORDER BY 4, 1 LIMIT :limit
"""

_NEW = f"""
    SELECT * FROM (
        {_FILE} {_KEPT} AND NOT {_IS_SAMPLED} AND NOT {_IS_PROTECTED} AND NOT {_UNHEARD}
        UNION ALL
        {_CLIP} {_CLIPS} {_CLIPS_SETTLED} AND NOT max({_IS_PROTECTED})
    ) ORDER BY 4 DESC, 1 DESC LIMIT :limit
"""

_SPARE: Mapping[FileClass, str] = {
    FileClass.UNREMARKABLE: _UNREMARKABLE,
    FileClass.BEYOND_BEST: _BEYOND_BEST,
    FileClass.REVIEW: _REVIEW,
    FileClass.PROTECTED: _PROTECTED,
    FileClass.NEW: _NEW,
}
"""What the filters refuse is known to them, and not here."""

_NOTE = """
    INSERT INTO given_up
        (recording_row, path, class, reason, duration_s, bytes, given_up_on_us)
    VALUES (:row, :path, :class, :reason, :duration, :bytes, :now)
"""
_PARTS = """
    SELECT x.recording_row,
        min(r.duration_s, x.start_s + c.duration_s) - max(0, x.start_s)
    FROM clip c CROSS JOIN clip_part x ON x.clip_row = c.row
        CROSS JOIN recording r ON r.row = x.recording_row
    WHERE c.row = ? ORDER BY x.start_s DESC
"""
_END = "UPDATE recording SET path = NULL, state = 'deleted' WHERE row = ?"
_LIMIT_SAMPLE = """
    INSERT INTO sample_limit (sample_group, rank)
    SELECT sample_group, rank FROM sample WHERE recording_row = ?
    ON CONFLICT (sample_group) DO UPDATE SET rank = min(rank, excluded.rank)
"""
_LEAVE_SAMPLE = (
    "DELETE FROM sample WHERE recording_row = ?",
    "DELETE FROM sample_file WHERE recording_row = ?",
)

_UNFINISHED = """
    SELECT g.path FROM given_up g
    WHERE g.path IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM recording r WHERE r.path = g.path)
        AND NOT EXISTS (SELECT 1 FROM clip c WHERE c.path = g.path)
    LIMIT :limit
"""
_FINISH = """
    UPDATE given_up SET path = NULL
    WHERE path IN (SELECT acoupi_path(value) FROM json_each(?))
"""
_FINISH_TAKEN = """
    UPDATE given_up AS g SET path = NULL
    WHERE g.path IS NOT NULL AND (
        EXISTS (SELECT 1 FROM recording r WHERE r.path = g.path)
        OR EXISTS (SELECT 1 FROM clip c WHERE c.path = g.path)
    )
"""

_TOTALS = """
    SELECT g.class, count(DISTINCT g.recording_row), sum(g.duration_s), sum(g.bytes),
        max(g.given_up_on_us)
    FROM given_up g CROSS JOIN recording r ON r.row = g.recording_row
    WHERE (:deployment IS NULL
            OR r.deployment_row = (SELECT row FROM deployment WHERE id = :deployment))
        AND r.created_on_us >= :since AND r.created_on_us < :until
    GROUP BY g.class
"""
_OF_RECORDING = """
    SELECT class, reason, given_up_on_us FROM given_up
    WHERE recording_row = (SELECT row FROM recording WHERE id = ?) ORDER BY row DESC LIMIT 1
"""

_PROTECT = """
    INSERT OR IGNORE INTO protected (recording_row)
    SELECT row FROM recording WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
"""
_UNPROTECT = """
    DELETE FROM protected WHERE recording_row IN (
        SELECT row FROM recording WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
    )
"""

_EVER = (-(2**62), 2**62)


class SpaceTables(SampleTables):
    """The part of `SqliteStore` about files that may be deleted, and deleted ones."""

    _database: Database
    can_give_up: ClassVar[bool] = True
    hub_audio: HubAudio

    def get_spare_files(
        self,
        kind: FileClass,
        policy: SpacePolicy,
        limit: int = MOST_SPARE,
        *,
        owed: bool | None = None,
    ) -> list[Spare]:
        """Return the kept files of a class, in the order of deletion.

        Parameters
        ----------
        owed
            Only those that a hub is to get and has not got, or only others; None: all.
        """
        if kind not in _SPARE:
            return []
        values = _spare_values(policy, limit, owed)
        with self._database.reading() as connection:
            rows = connection.execute(self._spare_statement(connection, kind), values)
            return [
                Spare(row, clip, Path(os.fsdecode(path)), from_microseconds(created), duration)
                for row, clip, path, created, duration, *_ in rows
            ]

    def count_spare_files(
        self, kind: FileClass, policy: SpacePolicy, *, owed: bool | None = None
    ) -> int:
        """Return how many kept files there are of a class; `owed` as in `get_spare_files`."""
        if kind not in _SPARE:
            return 0
        values = _spare_values(policy, -1, owed)
        with self._database.reading() as connection:
            statement = f"SELECT count(*) FROM ({self._spare_statement(connection, kind)})"
            return int(connection.execute(statement, values).fetchone()[0])

    def _spare_statement(self, connection: sqlite3.Connection, kind: FileClass) -> str:
        if self.hub_audio == "none" or not has_sound_tables(connection):
            return _SPARE[kind]
        of_recording = f"{_TO_HUB} h.recording_row = r.row AND h.clip_row IS NULL)"
        of_clip = f"{_TO_HUB} h.clip_row = c.row)"
        return _SPARE[kind].replace(_OWED, of_recording).replace(_OWED_CLIP, of_clip)

    def give_up(self, files: Sequence[tuple[Spare, int]], kind: FileClass, reason: str) -> None:
        """Record in one transaction that files are given up, each with its bytes.

        They are to be removed after that, and then `note_removed`.
        """
        now = to_microseconds(data.utc_now())
        with self._database.writing() as connection:
            for spare, size in files:
                note: dict[str, object] = {"class": kind.value, "reason": reason, "now": now}
                note |= {"path": as_path_text(spare.path), "bytes": size}
                if spare.clip_row is None:
                    _give_up_recording(connection, spare, note)
                else:
                    _give_up_clip(connection, spare.clip_row, note)

    def get_unremoved(self, limit: int = 1000) -> list[Path]:
        """Return the files that were given up but not removed yet.

        A name that another recording has taken since is not among them.
        """
        with self._database.reading() as connection:
            rows = connection.execute(_UNFINISHED, {"limit": limit}).fetchall()
        return [Path(os.fsdecode(path)) for (path,) in rows]

    def note_removed(self, paths: Iterable[Path]) -> None:
        """Note that files are removed, and forget names that others have taken."""
        with self._database.writing() as connection:
            connection.execute(_FINISH, (as_path_list(paths),))
            connection.execute(_FINISH_TAKEN)

    def count_given_up(
        self,
        deployment: data.Deployment | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> dict[FileClass, GivenUp]:
        """Return the deletions of each class, of recordings that started in [since, until)."""
        with self._database.reading() as connection:
            return totals_given_up(connection, deployment, since, until)

    def why_given_up(self, recording_id: UUID) -> tuple[FileClass, str, datetime.datetime] | None:
        """Return the class of a recording that was given up, the reason, and when; else None."""
        with self._database.reading() as connection:
            row = connection.execute(_OF_RECORDING, (recording_id.bytes,)).fetchone()
        return None if row is None else (FileClass(row[0]), row[1], from_microseconds(row[2]))

    def protect(self, recordings: Collection[UUID]) -> None:
        """Keep the files of recordings even if the disk fills; repeating it changes nothing."""
        with self._database.writing() as connection:
            connection.execute(_PROTECT, {"ids": as_blob_list(recordings)})

    def unprotect(self, recordings: Collection[UUID]) -> None:
        """Let the files of recordings go like others."""
        with self._database.writing() as connection:
            connection.execute(_UNPROTECT, {"ids": as_blob_list(recordings)})

    def get_newest(self, limit: int = 20) -> list[data.Recording]:
        """Return the recordings that began last, the newest first."""
        with self._database.reading() as connection:
            return list(
                load_recordings(connection, sql.NEWEST_RECORDINGS, {"limit": limit}).values()
            )


def _spare_values(policy: SpacePolicy, limit: int, owed: bool | None) -> dict[str, int | None]:
    offset = data.utc_now().astimezone(policy.zone).utcoffset() or datetime.timedelta()
    return {
        "limit": limit,
        "owed": owed,
        "best": policy.best,
        "newest": policy.newest,
        "offset": round(offset.total_seconds()) - NOON_S,
    }


def totals_given_up(
    connection: Connection,
    deployment: data.Deployment | None,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
) -> dict[FileClass, GivenUp]:
    """Return the deletions of each class, of recordings that started in [since, until)."""
    values = {
        "deployment": None if deployment is None else deployment.id.bytes,
        "since": _EVER[0] if since is None else to_microseconds(since),
        "until": _EVER[1] if until is None else to_microseconds(until),
    }
    return {
        FileClass(kind): GivenUp(number, seconds, int(size), from_microseconds(last))
        for kind, number, seconds, size, last in connection.execute(_TOTALS, values)
    }


def _give_up_recording(
    connection: sqlite3.Connection, spare: Spare, note: Mapping[str, object]
) -> None:
    own = {"row": spare.recording_row, "duration": spare.duration_s}
    connection.execute(_NOTE, {**note, **own})
    connection.execute(_END, (spare.recording_row,))
    connection.execute(_LIMIT_SAMPLE, (spare.recording_row,))
    for statement in _LEAVE_SAMPLE:
        connection.execute(statement, (spare.recording_row,))


def _give_up_clip(
    connection: sqlite3.Connection, clip_row: int, note: Mapping[str, object]
) -> None:
    """Note it for each recording that the clip has sound of; the first has its file."""
    parts = connection.execute(_PARTS, (clip_row,)).fetchall()
    for row, seconds in parts:
        connection.execute(_NOTE, {**note, "row": row, "duration": max(0.0, seconds)})
        note = {**note, "path": None, "bytes": 0}
    connection.execute("DELETE FROM clip WHERE row = ?", (clip_row,))
