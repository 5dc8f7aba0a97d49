"""Correction of times after the clock of the machine has been set."""

import logging
import os

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.disk import held_alone
from acoupi.audio.guano import RECORDING_ID, build_guano, corrected_time
from acoupi.components import types
from acoupi.errors import AcoupiError, StoreError
from acoupi.tasks.failures import FAILED

__all__ = ["ClockCorrection", "correct_files"]

_AGAIN_SECONDS = 600.0
"""How often to look for recordings stored late, e.g. by recovery, seconds."""
_STEP_SECONDS = 0.05
_FILES_AT_ONCE = 10
"""Most files to update after one recording; each takes some hundredths of a second."""


def correct_files(store: types.Store, most: int, logger: logging.Logger) -> None:
    """Write corrected times into files that still hold the earlier ones.

    The recorder does so, and whoever manages files: in containers the recorder may not write to
    what is kept. What cannot be written here is left to the other.

    Parameters
    ----------
    most
        Files to look at.
    """
    for doubtful in store.get_files_to_correct(most):
        # A file that was moved meanwhile is corrected in its new place, the next time.
        if _write(doubtful, logger) and not _has_moved(store, doubtful):
            store.note_file_corrected(doubtful)


def _has_moved(store: types.Store, recording: data.Recording) -> bool:
    """Return whether its file was moved since the store was asked for it."""
    stored = (row.path for row, _ in store.get_recordings([recording.id]))
    return any(path not in (None, recording.path) for path in stored)


def _write(recording: data.Recording, logger: logging.Logger) -> bool:
    """Write the corrected time into a file, whose name keeps the first one.

    Returns
    -------
    bool
        False: it is another process that can.
    """
    path = recording.path
    if path is None or recording.capture is None:
        return True
    if path.exists() and not os.access(path, os.W_OK):
        return False
    try:
        with held_alone(path) as is_alone:
            if is_alone:
                fields = formats.read_guano(path)
                if fields.get(RECORDING_ID) == str(recording.id):
                    right = corrected_time(fields, recording.created_on, recording.capture)
                    formats.add_guano(path, build_guano(right))
            return is_alone
    except (AcoupiError, OSError) as error:
        logger.warning("%s keeps its original time: %s", path, error)
    except Exception:
        logger.exception("%s keeps its original time", path)
    return True


class ClockCorrection:
    """Corrects times that were recorded in this boot before the clock was set.

    Only the recorder's process does this, but for the files (`correct_files`). Each step
    can be repeated: the store moves times once, in one transaction, and remembers which
    files still hold the earlier time.

    Parameters
    ----------
    store
        Holds the times.
    logger
        Gets the size of the correction.
    """

    def __init__(self, store: types.Store, logger: logging.Logger) -> None:
        self._store = store
        self._logger = logger
        self._done: tuple[data.BootClock, float, int] | None = None

    def recorded(self, recording: data.Recording, steps: int = 0) -> None:
        """Correct earlier times, if the clock of this recording can be trusted.

        Parameters
        ----------
        recording
            The last one.
        steps
            How often the clock was set since this process began.
        """
        report = recording.capture
        if report is None or report.boot_clock is None or not report.clock_synchronised:
            return
        try:
            self._correct(report.boot_clock, report.clock_error_s, steps)
            correct_files(self._store, _FILES_AT_ONCE, self._logger)
        except StoreError as error:
            self._logger.warning("Times could not be corrected yet: %s", error, extra=FAILED)

    def _correct(self, clock: data.BootClock, error: float | None, steps: int) -> None:
        now = data.monotonic()
        if self._done is not None:
            known, since, before = self._done
            is_same = abs(clock.offset_s - known.offset_s) < _STEP_SECONDS and steps == before
            if known.boot_id == clock.boot_id and is_same and now - since < _AGAIN_SECONDS:
                return
        count, seconds = self._store.correct_times(clock, now, error)
        self._done = (clock, now, steps)
        if count:
            self._logger.warning(
                "The clock was set: the times of %d earlier recordings were moved by %+.3f s",
                count,
                seconds,
            )
