"""The sound files that an export can hold, with a place as exact as the rest of it."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from acoupi.audio.formats import add_guano, read_guano
from acoupi.audio.guano import build_guano, position
from acoupi.errors import AudioError, HubUnavailableError, RecordingFileError
from acoupi.exports.format import audio_path, write_table
from acoupi.exports.source import Source
from acoupi.heard import RecordingRow
from acoupi.opening import open_binary

__all__ = ["MISSING", "WithFile", "copy_audio"]

WithFile = Callable[[RecordingRow], RecordingRow]

MISSING = "audio-missing.csv"

PATIENCE = 900.0
"""Seconds to wait for a hub that does not answer, in all."""
FIRST_WAIT = 1.0
"""Seconds after which it is asked again, where it does not say; doubled each time."""
MOST_FAILURES = 3
"""Files in a row that did not come, after which none is asked for."""

logger = logging.getLogger(__name__)


def copy_audio(source: Source, folder: Path, with_file: WithFile) -> None:
    """Copy the files of all recordings; list in ``audio-missing.csv`` those that are not there.

    A hub that does not answer is asked again, for `PATIENCE` seconds of the export in all.

    If coordinates are rounded, they are in the metadata of the copies, too.

    Parameters
    ----------
    with_file
        Returns a recording with its file on this machine; raises RecordingFileError: it has none,
        and HubUnavailableError: it cannot be fetched now.

    Raises
    ------
    AudioError
        If two recordings have the same name, or the place in a file cannot be changed.
    """
    (folder / "audio").mkdir()
    missing = list(_copied(source, folder, with_file))
    if missing:
        rows = ([row.id, row.path, why] for row, why in missing)
        write_table(folder / MISSING, ("recording_id", "file_path", "why"), rows)


def _copied(
    source: Source, folder: Path, with_file: WithFile
) -> Iterator[tuple[RecordingRow, str]]:
    """Copy files, and yield recordings without the file that they should have, and why."""
    patient = _Patient(with_file)
    # All first: a hub does not wait with the next row until some files are copied.
    for row in [row for row, _ in source.recordings() if row.path is not None]:
        assert row.path is not None
        target = folder / audio_path(row)
        if target.exists():
            raise AudioError(
                f'cannot copy two recordings with the name "{row.path.name}" into one folder.',
                "choose fewer: --deployment, --from, --to",
                why="files in different folders have the same name.",
            )
        try:
            found = patient.with_file(row).path or row.path
            with open_binary(found) as file, target.open("xb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        except (FileNotFoundError, RecordingFileError):
            yield row, "there is no file"
            continue
        except HubUnavailableError as error:
            yield row, error.message
            continue
        if source.coordinate_precision is not None:
            _move(row, target)


class _Patient:
    """Fetches files from a hub that may be away for a while."""

    def __init__(self, with_file: WithFile) -> None:
        self._with_file = with_file
        self._patience = PATIENCE
        """Seconds that are left to wait."""
        self._failures = 0
        """Files in a row that did not come."""
        self._last: HubUnavailableError | None = None

    def with_file(self, row: RecordingRow) -> RecordingRow:
        """Return a recording with its file.

        Raises
        ------
        HubUnavailableError
            If the patience is at its end, and the hub does not answer.
        """
        if self._last is not None and self._failures >= MOST_FAILURES:
            raise self._last
        wait = FIRST_WAIT
        while True:
            try:
                found = self._with_file(row)
            except HubUnavailableError as error:
                pause = wait if error.retry_after is None else error.retry_after
                if pause > self._patience:
                    self._failures, self._last = self._failures + 1, error
                    raise
                logger.warning("%s It is asked again in %g s.", error.message, pause)
                time.sleep(pause)
                self._patience -= max(pause, FIRST_WAIT)
                wait = 2 * wait
            else:
                self._failures = 0
                return found


def _move(row: RecordingRow, copy: Path) -> None:
    """Put the location of the row into a file, if the file has one."""
    fields = read_guano(copy)
    if "Loc Position" not in fields:
        return
    one = row.deployment
    known = None not in (one.latitude, one.longitude) and position(fields) is not None
    where = f"{one.latitude!r} {one.longitude!r}" if known else None
    add_guano(copy, build_guano({**fields, "Loc Position": where}))
