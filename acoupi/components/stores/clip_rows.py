"""Clips as rows of a store."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from acoupi import data
from acoupi.clips import true_time
from acoupi.components.stores.values import Connection, as_id
from acoupi.heard import ClipRow

__all__ = ["beginning_in", "clips_of"]

_CLIPS = """
    SELECT c.id, c.path, p.start_s, c.duration_s, c.missing_before_s, c.missing_after_s
    FROM clip_part p CROSS JOIN clip c ON c.row = p.clip_row
    WHERE p.recording_row = :row
    ORDER BY p.start_s
"""


def clips_of(connection: Connection, recording_row: int) -> tuple[ClipRow, ...]:
    """Return the clips with sound of a recording, in order."""
    rows = connection.execute(_CLIPS, {"row": recording_row})
    return tuple(ClipRow(as_id(id_), Path(os.fsdecode(path)), *rest) for id_, path, *rest in rows)


def beginning_in(
    connection: sqlite3.Connection, row: int, recording: data.Recording
) -> Iterator[data.Recording]:
    """Yield the clips that begin in a recording as recordings, with the time that it has now."""
    for clip in clips_of(connection, row):
        if clip.start_s >= 0:
            began = recording.created_on + true_time(recording, clip.start_s)
            changes = {"id": clip.id, "path": clip.path, "created_on": began}
            yield recording.model_copy(update=changes)
