"""Clips that are kept in place of files: their tables and statements; see `acoupi.clips`."""

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

import datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from acoupi import data
from acoupi.clips import Clip, ClipSettings, Stretch
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database
from acoupi.components.stores.effort_tables import capture_of_row
from acoupi.components.stores.rows import load_recordings
from acoupi.components.stores.values import as_path_text, to_microseconds

__all__ = ["ClipTables", "given_up"]

_PUT = """
    INSERT INTO clip (
        id, path, stream_id, first_frame, frames, duration_s, missing_before_s, missing_after_s
    )
    VALUES (
        :id, :path, :stream_id, :first_frame, :frames, :duration, :missing_before, :missing_after
    )
    ON CONFLICT (id) DO NOTHING
"""

_PUT_PART = """
    INSERT OR IGNORE INTO clip_part (recording_row, clip_row, start_s)
    SELECT r.row, c.row, :start FROM recording r, clip c WHERE r.id = :recording AND c.id = :clip
"""

# Neither clips nor recordings of a stream overlap: of those that begin at `first` or earlier, the
# last one may reach it. (Looking at the ends of all would take long after some weeks.)
_FROM_FIRST = """
    {table}
    WHERE stream_id = :stream_id AND first_frame <= :last AND first_frame >= coalesce(
        (
            SELECT max(first_frame) FROM {table}
            WHERE stream_id = :stream_id AND first_frame <= :first
        ), :first
    ) AND first_frame + frames >= :first
    ORDER BY first_frame
"""

_CLIPPED = f"SELECT first_frame, first_frame + frames FROM {_FROM_FIRST.format(table='clip')}"

_IS_CLIP = "SELECT 1 FROM clip WHERE path = :path LIMIT 1"

_STREAM = f"SELECT recording_row FROM {_FROM_FIRST.format(table='capture')}"


_GIVEN_UP = """
    SELECT coalesce(sum(r.duration_s), 0), coalesce(sum((
        SELECT sum(min(r.duration_s, p.start_s + c.duration_s) - max(0, p.start_s))
        FROM clip_part p CROSS JOIN clip c ON c.row = p.clip_row
        WHERE p.recording_row = r.row
    )), 0)
    FROM recording r INDEXED BY recording_deployment
    WHERE r.deployment_row = (SELECT row FROM deployment WHERE id = :deployment)
        AND r.created_on_us >= :since AND r.created_on_us < :until AND r.state = 'deleted'
"""


class ClipTables:
    """The part of `SqliteStore` that holds clips."""

    _database: Database
    can_clip: ClassVar[bool] = True
    clips: ClipSettings

    def get_stream(self, stream_id: UUID, frames: Stretch) -> list[data.Recording]:
        """Return the recordings that have some of these frames, the earliest first.

        Each comes with the report of its capture; also those that have no file any more.
        """
        found = []
        with self._database.reading() as connection:
            rows = connection.execute(_STREAM, _bounds(stream_id, frames)).fetchall()
            for (row,) in rows:
                values = {"rows": f"[{row}]"}
                recording = load_recordings(connection, sql.RECORDINGS_BY_ROW, values)[row]
                recording.capture = capture_of_row(connection, row)
                found.append(recording)
        return found

    def put_clip(self, clip: Clip) -> None:
        """Note that a clip is in its file; the same again changes nothing."""
        values = {
            "id": clip.id.bytes,
            "path": as_path_text(clip.path),
            "stream_id": clip.stream_id.bytes,
            "first_frame": clip.first_frame,
            "frames": clip.frames,
            "duration": clip.frames / clip.samplerate,
            "missing_before": clip.missing_before_s,
            "missing_after": clip.missing_after_s,
        }
        with self._database.writing() as connection:
            connection.execute(_PUT, values)
            for recording, start in clip.parts.items():
                values = {"clip": clip.id.bytes, "recording": recording.bytes, "start": start}
                connection.execute(_PUT_PART, values)

    def get_clipped(self, stream_id: UUID, frames: Stretch) -> list[Stretch]:
        """Return which of these frames (and others around them) are in clips, in order."""
        with self._database.reading() as connection:
            found = connection.execute(_CLIPPED, _bounds(stream_id, frames))
            return [Stretch(first, last) for first, last in found]

    def get_given_up(
        self, deployment: data.Deployment, since: datetime.datetime, until: datetime.datetime
    ) -> tuple[float, float]:
        """Return how much sound of deleted files there was, and how much of it clips hold.

        Seconds, of the recordings of a deployment that began in [since, until).
        """
        with self._database.reading() as connection:
            return given_up(connection, deployment, since, until)

    def is_clip(self, path: Path) -> bool:
        """Return whether this is the file of a clip."""
        with self._database.reading() as connection:
            return bool(connection.execute(_IS_CLIP, {"path": as_path_text(path)}).fetchone())


def given_up(
    connection: Any, deployment: data.Deployment, since: datetime.datetime, until: datetime.datetime
) -> tuple[float, float]:
    """Return how much sound of deleted files there was, and how much of it clips hold, s."""
    values = {
        "deployment": deployment.id.bytes,
        "since": to_microseconds(since),
        "until": to_microseconds(until),
    }
    deleted, in_clips = connection.execute(_GIVEN_UP, values).fetchone()
    return deleted, in_clips


def _bounds(stream_id: UUID, frames: Stretch) -> dict[str, Any]:
    return {"stream_id": stream_id.bytes, "first": frames.first, "last": frames.last}
