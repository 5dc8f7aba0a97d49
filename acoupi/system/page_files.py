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
"""Most bytes of one read."""
FOLDERS = ("paths.tmp_audio", "paths.recordings")
REASONS = {
    RecordingState.CLIPPED: "only its clips are left: acoupi detections play and copy use them",
    RecordingState.DELETED: "the saving filters did not keep it",
    RecordingState.LOST: "it disappeared; acoupi did not delete it",
    RecordingState.CLIPPED: "only its clips were kept",
}


class RecordingFiles:
    """Reads files of recordings.

    Parameters
    ----------
    settings
        Settings of the home; only files in its recording folders are read.
    reader
        Returns the reader of recordings.
    """

    def __init__(self, settings: Settings, reader: Callable[[], Reader]) -> None:
        self._settings, self._reader = settings, reader

    def find(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return the file of a recording, or of a clip.

        Raises
        ------
        RecordingFileError
            If there is none, with the reason, and whether there may be one later.
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
        """Return a part of a file, at most `MOST` bytes; shorter at its end.

        Raises
        ------
        RecordingFileError
            As for `find`.
        """
        with self._open(self._path(recording_id, clip_id)[0]) as file:
            file.seek(max(offset, 0))
            return file.read(min(max(length, 0), MOST))

    def _path(self, recording_id: UUID, clip_id: UUID | None) -> tuple[Path, int]:
        row = self._reader().recording(recording_id)
        if row is None:
            raise _none(404, "there is no recording with that id")
        if clip_id is not None:
            paths = [one.path for one in row.clips if one.id == clip_id]
            if not paths:
                raise _none(410, "it does not have that clip (any more)")
            return paths[0], row.samplerate_hz
        if row.path is None or row.state in REASONS:
            raise _none(410, REASONS.get(row.state, "it no longer has a file"))
        return row.path, row.samplerate_hz

    def _open(self, path: Path) -> BinaryIO:
        """Open a sound file in a folder of recordings, without following links."""
        try:
            for folder in self._folders():
                if path.is_relative_to(folder) and is_sound_file(path.name):
                    return open_binary(path, beneath=folder)
        except FileNotFoundError as error:
            raise _none(503, "it is being moved") from error
        except OSError as error:
            raise _none(503, f"it cannot be read ({error.strerror or error})") from error
        raise _none(404, "its file is not in a folder of recordings")

    def _folders(self) -> Iterator[Path]:
        yield self._settings.home / "data"
        for name in FOLDERS:
            found = configured_path(self._settings, name)
            if found is not None:
                yield found


def _none(status: int, why: str) -> RecordingFileError:
    return RecordingFileError(
        "this recording has no file.",
        "acoupi recordings show ID",
        why=f"{why}.",
        status=status,
    )
