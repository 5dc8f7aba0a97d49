"""Correction of times after the clock of the machine has been set."""

import logging

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.guano import RECORDING_ID, build_guano, corrected_time
from acoupi.components import types
from acoupi.errors import AcoupiError, StoreError
from acoupi.tasks.failures import FAILED

__all__ = ["ClockCorrection"]

_AGAIN_SECONDS = 600.0
"""How often to look for recordings stored late, e.g. by recovery, seconds."""
_STEP_SECONDS = 0.05
_FILES_AT_ONCE = 10
"""Most files to update after one recording; each takes some hundredths of a second."""


class ClockCorrection:
    """Corrects times that were recorded in this boot before the clock was set.

    Only the recorder's process does this. Each step can be repeated: the store
    moves times once, in one transaction, and remembers which files still hold
    the earlier time.

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
            for doubtful in self._store.get_files_to_correct(_FILES_AT_ONCE):
                self._write(doubtful)
                if not self._has_moved(doubtful):  # else it is corrected there, the next time
                    self._store.note_file_corrected(doubtful)
        except StoreError as error:
            self._logger.warning("Times are not corrected yet: %s", error, extra=FAILED)

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

    def _has_moved(self, recording: data.Recording) -> bool:
        """Return whether its file was moved since the store was asked for it."""
        stored = (row.path for row, _ in self._store.get_recordings([recording.id]))
        return any(path not in (None, recording.path) for path in stored)

    def _write(self, recording: data.Recording) -> None:
        """Write the corrected time into the file; its name keeps the first one."""
        if recording.path is None or recording.capture is None:
            return
        try:
            fields = formats.read_guano(recording.path)
            if fields.get(RECORDING_ID) == str(recording.id):
                right = corrected_time(fields, recording.created_on, recording.capture)
                formats.add_guano(recording.path, build_guano(right))
        except (AcoupiError, OSError) as error:
            self._logger.warning("%s keeps its first time: %s", recording.path, error)
        except Exception:
            self._logger.exception("%s keeps its first time", recording.path)
