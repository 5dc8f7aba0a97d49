"""The sound files that an export can hold, with a place as exact as the rest of it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from acoupi.audio.formats import add_guano, read_guano
from acoupi.audio.guano import build_guano, position
from acoupi.errors import AudioError, RecordingFileError
from acoupi.exports.format import audio_path, write_table
from acoupi.exports.source import Source
from acoupi.heard import RecordingRow
from acoupi.opening import open_binary

__all__ = ["MISSING", "WithFile", "copy_audio"]

WithFile = Callable[[RecordingRow], RecordingRow]

MISSING = "audio-missing.csv"


def copy_audio(source: Source, folder: Path, with_file: WithFile) -> None:
    """Copy the files of all recordings; list in ``audio-missing.csv`` those that are not there.

    If coordinates are rounded, they are in the metadata of the copies, too.

    Parameters
    ----------
    with_file
        Returns a recording with its file on this machine; raises RecordingFileError: it has none.

    Raises
    ------
    AudioError
        If two recordings have the same name, or the place in a file cannot be changed.
    """
    (folder / "audio").mkdir()
    missing = list(_copied(source, folder, with_file))
    if missing:
        rows = ([row.id, row.path] for row in missing)
        write_table(folder / MISSING, ("recording_id", "file_path"), rows)


def _copied(source: Source, folder: Path, with_file: WithFile) -> Iterator[RecordingRow]:
    """Copy files, and yield recordings without the file that they should have."""
    for row, _ in source.recordings():
        if row.path is None:
            continue
        target = folder / audio_path(row)
        if target.exists():
            raise AudioError(
                f'cannot copy two recordings with the name "{row.path.name}" into one folder.',
                "choose fewer: --deployment, --from, --to",
                why="files in different folders have the same name.",
            )
        try:
            found = with_file(row).path or row.path
            with open_binary(found) as file, target.open("xb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        except (FileNotFoundError, RecordingFileError):
            yield row
            continue
        if source.coordinate_precision is not None:
            _move(row, target)


def _move(row: RecordingRow, copy: Path) -> None:
    """Put the location of the row into a file, if the file has one."""
    fields = read_guano(copy)
    if "Loc Position" not in fields:
        return
    one = row.deployment
    known = None not in (one.latitude, one.longitude) and position(fields) is not None
    where = f"{one.latitude!r} {one.longitude!r}" if known else None
    add_guano(copy, build_guano({**fields, "Loc Position": where}))
