"""Files of recordings, under the function names that published programs use."""

import logging
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.audio.files import delete_file, list_recordings, move_file
from acoupi.home import spool_dir

__all__ = [
    "delete_recording",
    "get_temp_dir",
    "get_temp_file_id",
    "get_temp_files",
    "move_recording",
]

_logger = logging.getLogger(__name__)


def get_temp_dir(in_memory: bool = True) -> Path:
    """Return the folder where recordings wait to be analysed: ``data/spool`` of the home.

    Always on a disk: these recordings must survive a power cut.
    """
    return spool_dir()


def get_temp_files(path: Path | None = None) -> list[Path]:
    """Return the complete recordings directly in a folder, oldest first.

    Parameters
    ----------
    path
        None: the folder where recordings wait.
    """
    return list_recordings(spool_dir() if path is None else path)


def get_temp_file_id(path: Path) -> UUID:
    """Return the id of the recording in a file, from the last part of its name.

    Raises
    ------
    ValueError
        If the name has none.

    Examples
    --------
    >>> get_temp_file_id(Path("20240801_203000_7b0cf52e-0b6b-5d3f-9c59-1a3c0f8d4e11.wav"))
    UUID('7b0cf52e-0b6b-5d3f-9c59-1a3c0f8d4e11')
    """
    return UUID(path.stem.rpartition("_")[2])


def move_recording(
    recording: data.Recording, dest: Path, logger: logging.Logger | None = None
) -> Path | None:
    """Move the file of a recording and return its new path.

    If the name is taken, a number is added: no file is ever overwritten. The
    store is not updated. None if the recording has no file.

    Raises
    ------
    OSError
        If the disk is full or fails; then the file stays where it was.
    """
    if recording.path is None:
        (logger or _logger).error("The recording %s has no file to move.", recording.id)
        return None
    return move_file(recording.path, dest)


def delete_recording(recording: data.Recording) -> None:
    """Delete the file of a recording; does nothing if it has none. The store is not updated."""
    if recording.path is None or not delete_file(recording.path):
        _logger.error("The recording %s has no file to delete.", recording.id)
