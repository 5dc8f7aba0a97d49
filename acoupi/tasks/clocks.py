"""What the recorder does once the clock of the machine has been set."""

import logging

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.guano import RECORDING_ID, build_guano, corrected_time
from acoupi.components import types
from acoupi.errors import AcoupiError, StoreError

__all__ = ["ClockCorrection"]

_AGAIN_SECONDS = 600.0
"""How often to look for what was stored late, e.g. by recovery."""
_STEP_SECONDS = 0.05
_FILES_AT_ONCE = 10
"""After one recording: a file takes a disk some hundredths of a second."""


class ClockCorrection:
    """Corrects the times of a boot that were told before the clock was set.

    Only the recorder's process does it. Each step can be done again: the
    store moves times once, in one transaction, and remembers which files do
    not tell it yet.

    Parameters
    ----------
    store
        Where the times are.
    logger
        Where it says by how much.
    """

    def __init__(self, store: types.Store, logger: logging.Logger) -> None:
        self._store = store
        self._logger = logger
        self._done: tuple[data.BootClock, float] | None = None

    def recorded(self, recording: data.Recording) -> None:
        """Correct what is to be corrected, if the clock of this recording can be believed."""
        report = recording.capture
        if report is None or report.boot_clock is None or not report.clock_synchronised:
            return
        try:
            self._correct(report.boot_clock, report.clock_error_s)
            for doubtful in self._store.get_files_to_correct(_FILES_AT_ONCE):
                self._write(doubtful)
                self._store.note_file_corrected(doubtful)
        except StoreError as error:
            self._logger.warning("Times are not corrected yet: %s", error)

    def _correct(self, clock: data.BootClock, error: float | None) -> None:
        now = data.monotonic()
        if self._done is not None:
            known, since = self._done
            is_same = abs(clock.offset_s - known.offset_s) < _STEP_SECONDS
            if known.boot_id == clock.boot_id and is_same and now - since < _AGAIN_SECONDS:
                return
        count, seconds = self._store.correct_times(clock, now, error)
        self._done = (clock, now)
        if count:
            self._logger.warning(
                "The clock was set: %d recordings of before now bear times %+.3f s from the first",
                count,
                seconds,
            )

    def _write(self, recording: data.Recording) -> None:
        """Have the file tell the corrected time; its name keeps the first one."""
        if recording.path is None or recording.capture is None:
            return
        try:
            fields = formats.read_guano(recording.path)
            if fields.get(RECORDING_ID) == str(recording.id):
                right = corrected_time(fields, recording.created_on, recording.capture)
                formats.add_guano(recording.path, build_guano(right))
        except (AcoupiError, OSError) as error:
            self._logger.warning("%s keeps its first time: %s", recording.path, error)
