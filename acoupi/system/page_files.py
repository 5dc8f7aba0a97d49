"""The files of recordings, for the page: by the id of a recording, never by a path."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from acoupi.audio.formats import is_sound_file, media_type
from acoupi.data import RecordingState
from acoupi.errors import RecordingFileError
from acoupi.exports.reader import Reader
from acoupi.heard import RecordingFile
from acoupi.opening import open_binary
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path

__all__ = ["MOST", "RecordingFiles"]

MOST = 1024 * 1024
"""Bytes that are read at once."""
FOLDERS = ("paths.tmp_audio", "paths.recordings")
REASONS = {
    RecordingState.CLIPPED: "only clips are left of it, which acoupi detections play and copy find",
    RecordingState.DELETED: "the saving filters did not keep it",
    RecordingState.LOST: "it disappeared; acoupi did not delete it",
    RecordingState.CLIPPED: "only its clips were kept",
}


class RecordingFiles:
    """Reads them.

    Parameters
    ----------
    settings
        Of the home: what is not in a folder of its recordings is not read.
    reader
        Returns what knows the recordings.
    """

    def __init__(self, settings: Settings, reader: Callable[[], Reader]) -> None:
        self._settings, self._reader = settings, reader

    def find(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return what there is of a file, or of that of a clip.

        Raises
        ------
        RecordingFileError
            If there is none; says why, and whether there may be one later.
        """
        path, samplerate = self._path(recording_id, clip_id)
        with self._open(path) as file:
            return RecordingFile(
                name=path.name,
                size=os.fstat(file.fileno()).st_size,
                media_type=media_type(path.name),
                samplerate_hz=samplerate,
            )

    def read(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        """Return a part of a file, at most `MOST` bytes; less at its end.

        Raises
        ------
        RecordingFileError
            As `find`.
        """
        with self._open(self._path(recording_id, clip_id)[0]) as file:
            file.seek(max(offset, 0))
            return file.read(min(max(length, 0), MOST))

    def _path(self, recording_id: UUID, clip_id: UUID | None) -> tuple[Path, int]:
        row = self._reader().recording(recording_id)
        if row is None:
            raise _none(404, "there is no recording of that id")
        if clip_id is not None:
            paths = [one.path for one in row.clips if one.id == clip_id]
            if not paths:
                raise _none(410, "it has no such clip (any more)")
            return paths[0], row.samplerate_hz
        if row.path is None or row.state in REASONS:
            raise _none(410, REASONS.get(row.state, "there is no file of it any more"))
        return row.path, row.samplerate_hz

    def _open(self, path: Path) -> BinaryIO:
        """Open a sound file that is in a folder of recordings, through no link."""
        try:
            for folder in self._folders():
                if path.is_relative_to(folder) and is_sound_file(path.name):
                    return open_binary(path, beneath=folder)
        except FileNotFoundError as error:
            raise _none(503, "it is being moved") from error
        except OSError as error:
            raise _none(503, f"it cannot be read ({error.strerror or error})") from error
        raise _none(404, "its file is in no folder of recordings")

    def _folders(self) -> Iterator[Path]:
        yield self._settings.home / "data"
        for name in FOLDERS:
            found = configured_path(self._settings, name)
            if found is not None:
                yield found


def _none(status: int, why: str) -> RecordingFileError:
    return RecordingFileError(
        "there is no file of this recording.",
        "acoupi recordings show ID",
        why=f"{why}.",
        status=status,
    )
