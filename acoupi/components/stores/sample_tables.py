"""Statements about the sample that is kept for review; see `acoupi.sampling`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database
from acoupi.components.stores.rows import load_recordings
from acoupi.components.stores.values import as_path_text
from acoupi.sampling import Sampling

__all__ = ["SampleTables"]

# The smallest hash that was ever refused: the group is a fair sample of what is below it, also
# after its size was changed.
_LIMIT = "SELECT rank FROM sample_limit WHERE sample_group = :group"

_PUT_LIMIT = """
    INSERT INTO sample_limit (sample_group, rank) VALUES (:group, :rank)
    ON CONFLICT (sample_group) DO UPDATE SET rank = min(rank, excluded.rank)
"""

_PUT = """
    INSERT OR IGNORE INTO sample (sample_group, rank, recording_row)
    SELECT :group, :rank, row FROM recording WHERE id = :id
"""

_BEYOND = """
    SELECT rank, recording_row FROM sample WHERE sample_group = :group
    ORDER BY rank, recording_row LIMIT -1 OFFSET :size
"""

_REMOVE = "DELETE FROM sample WHERE sample_group = :group AND rank >= :rank"

_IS_IN = """
    SELECT 1 FROM sample s JOIN recording r ON r.row = s.recording_row WHERE r.id = :id LIMIT 1
"""

_PUT_FILE = """
    INSERT INTO sample_file (recording_row, path)
    SELECT row, :path FROM recording WHERE id = :id
    ON CONFLICT (recording_row) DO UPDATE SET path = excluded.path
"""

_REMOVE_FILE = """
    DELETE FROM sample_file WHERE recording_row = (SELECT row FROM recording WHERE id = :id)
"""

_DISPLACED = """
    SELECT recording_row, path FROM sample_file f
    WHERE NOT EXISTS (SELECT 1 FROM sample s WHERE s.recording_row = f.recording_row)
"""


class SampleTables:
    """The part of `SqliteStore` that holds the sample."""

    _database: Database
    sampling: Sampling

    def sample_recording(
        self, recording: data.Recording, outputs: Sequence[data.ModelOutput]
    ) -> bool:
        """Put a recording into the sample where it belongs there; return whether it is in it.

        One with a larger hash leaves each group that is full. Repeating it changes nothing.
        """
        groups = self.sampling.groups(recording, outputs)
        if not groups:
            return False
        rank = self.sampling.rank(recording.id)
        with self._database.writing() as connection:
            for group, size in groups.items():
                values = {"group": group, "rank": rank, "id": recording.id.bytes}
                limit = connection.execute(_LIMIT, values).fetchone()
                if limit is not None and rank >= limit[0]:
                    continue
                connection.execute(_PUT, values)
                beyond = connection.execute(_BEYOND, {"group": group, "size": size}).fetchone()
                if beyond is not None:
                    values = {"group": group, "rank": beyond[0]}
                    connection.execute(_PUT_LIMIT, values)
                    connection.execute(_REMOVE, values)
            return connection.execute(_IS_IN, {"id": recording.id.bytes}).fetchone() is not None

    def note_kept_for_sample(self, recording: data.Recording, path: Path) -> None:
        """Note that only the sample keeps this file."""
        values = {"id": recording.id.bytes, "path": as_path_text(path)}
        with self._database.writing() as connection:
            connection.execute(_PUT_FILE, values)

    def get_displaced_recordings(self) -> list[tuple[data.Recording, Path]]:
        """Return the recordings that only the sample kept, and does not keep any more.

        Each with the path of its file, which the recording has no more once it is deleted.
        """
        with self._database.reading() as connection:
            paths = dict(connection.execute(_DISPLACED).fetchall())
            rows = {"rows": json.dumps(list(paths))}
            found = load_recordings(connection, sql.RECORDINGS_BY_ROW, rows)
        return [(one, Path(os.fsdecode(paths[row]))) for row, one in found.items()]

    def forget_displaced(self, recording: data.Recording) -> None:
        """Note that the file of a displaced recording is gone."""
        with self._database.writing() as connection:
            connection.execute(_REMOVE_FILE, {"id": recording.id.bytes})
