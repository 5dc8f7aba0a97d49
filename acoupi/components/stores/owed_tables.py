"""Which files a sensor owes to its hub: they go from a disk after all others."""

import os
from pathlib import Path

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database
from acoupi.components.stores.rows import load_recordings
from acoupi.components.stores.unsent import begin_to_note, has_sound_tables
from acoupi.space import HubAudio

__all__ = ["OwedTables"]

_OF_RECORDING = "recording_row = (SELECT row FROM recording WHERE id = :id) AND clip_row IS NULL"
_IS_OWED = f"SELECT 1 FROM hub_sound WHERE {_OF_RECORDING} AND sent_on_us IS NULL"  # noqa: S608
_KEEP = f"UPDATE hub_sound SET goes = 1 WHERE {_OF_RECORDING}"  # noqa: S608
_AT_HUB = """
    SELECT r.row, r.path FROM hub_sound h CROSS JOIN recording r ON r.row = h.recording_row
    WHERE h.goes AND r.path IS NOT NULL AND r.state = 'kept'
        AND (h.sent_on_us IS NOT NULL OR :is_off)
        AND NOT EXISTS (SELECT 1 FROM protected p WHERE p.recording_row = r.row)
    ORDER BY h.row LIMIT 500
"""


class OwedTables:
    """The part of `SqliteStore` that knows what a hub has not got."""

    _database: Database
    hub_audio: HubAudio

    def is_owed_to_hub(self, recording: data.Recording) -> bool:
        """Return whether the hub should get the file of a recording, and does not have it yet."""
        if self.hub_audio == "none":
            return False
        begin_to_note(self._database, self.hub_audio)
        with self._database.reading() as connection:
            owed = connection.execute(_IS_OWED, {"id": recording.id.bytes})
            return owed.fetchone() is not None

    def note_kept_for_hub(self, recording: data.Recording) -> None:
        """Note that a file is kept only until the hub has it."""
        with self._database.writing() as connection:
            connection.execute(_KEEP, {"id": recording.id.bytes})

    def get_recordings_at_hub(self) -> list[tuple[data.Recording, Path]]:
        """Return recordings that were kept only for the hub, and need not be any more.

        Each with the path of its file. None that a person protects.
        """
        with self._database.reading() as connection:
            if not has_sound_tables(connection):
                return []
            values = {"is_off": self.hub_audio == "none"}
            paths = dict(connection.execute(_AT_HUB, values).fetchall())
            rows = {"rows": str(list(paths))}
            found = load_recordings(connection, sql.RECORDINGS_BY_ROW, rows)
        return [(one, Path(os.fsdecode(paths[row]))) for row, one in found.items()]
