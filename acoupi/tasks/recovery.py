"""The task that finishes what a crash left half done."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from acoupi import data
from acoupi.audio import files, formats
from acoupi.components import types
from acoupi.errors import AcoupiError, AudioError
from acoupi.home import spool_dir
from acoupi.tasks.management import note_missing

__all__ = ["generate_recovery_task"]

_logger = logging.getLogger(__name__)

_BATCH = 200

T = TypeVar("T")


def generate_recovery_task(  # noqa: PLR0917 - in the order of the others
    store: types.Store,
    resend: Callable[[data.Recording], None] | None = None,
    waiting: Callable[[], int] | None = None,
    logger: logging.Logger = _logger,
    required_models: Sequence[str] | None = None,
    tmp_path: Path | None = None,
    *,
    settle_time: float = 60,
    time_limit: float = 600,
    max_resent: int = 100,
) -> Callable[[], None]:
    """Return a task to run at every start and every minute.

    In this order: it ends deletions that were decided, mends recordings that
    were being written, adopts complete files that the store does not know,
    notes which files are lost, and sends recordings to the detection queue again
    that nobody works on. None of it does harm while all is well, and one that
    fails does not stop the others.

    Parameters
    ----------
    store
        Knows what should be there. With ``get_captured_recordings`` it is asked
        for all that waits; without, only for what is in the folder.
    resend
        Sends a recording to detection. None: nothing is sent again.
    waiting
        Counts what waits for detection; only at 0 is anything sent again: else it may
        be among that, and where the model lags, what is new goes first. None: 0.
    logger
        Where the task reports.
    required_models
        Models whose analyses must become final.
    tmp_path
        Folder of the files that wait. None: that of ACOUPI_HOME.
    settle_time
        Seconds for which a file must have rested, and a recording be over,
        before it is taken for left behind.
    time_limit
        Seconds after which whoever began an analysis is taken for dead.
    max_resent
        Most recordings to send again in one pass.
    """
    recovery = _Recovery(
        store=store,
        folder=tmp_path,
        models=frozenset(required_models or ()),
        settle_time=timedelta(seconds=settle_time),
        time_limit=timedelta(seconds=time_limit),
        logger=logger,
    )

    def send_again() -> None:
        if resend is None or (waiting is not None and waiting() > 0):
            return
        stranded = recovery.find_stranded()[:max_resent]
        for recording in stranded:
            resend(recording)
        if stranded:
            logger.warning("Sent %d recordings to detection again", len(stranded))

    def recovery_task() -> None:
        """Finish what a crash left half done."""
        for step in (
            recovery.finish_deletions,
            recovery.mend_recordings,
            recovery.adopt_files,
            recovery.note_lost_files,
            send_again,
        ):
            try:
                step()
            except Exception:
                logger.exception("Recovery: %s failed", step.__name__)

    return recovery_task


@dataclass
class _Recovery:
    store: types.Store
    folder: Path | None
    models: frozenset[str]
    settle_time: timedelta
    time_limit: timedelta
    logger: logging.Logger
    reported: set[Path] = field(default_factory=set)
    """Files that were complained of once."""

    def finish_deletions(self) -> None:
        """Delete what bears the deletion mark."""
        for mark in files.hidden_files(self._spool(), files.DELETED_SUFFIX):
            self._each(mark, self._finish_deletion)

    def mend_recordings(self) -> None:
        """Complete what a recorder was writing when it died."""
        for part in formats.find_parts(self._spool()):
            if self._has_settled(part):
                self._each(part, self._mend)

    def adopt_files(self) -> None:
        """Store recordings whose files are complete and describe themselves."""
        paths = files.list_recordings(self._spool())
        for batch in _batches(paths):
            known = {r.path for r, _ in self.store.get_recordings_info_by_path(batch)}
            for path in batch:
                if path not in known and self._has_settled(path):
                    self._each(path, self._adopt)

    def note_lost_files(self) -> None:
        """Note which captured recordings have no file; a folder that is gone proves nothing."""
        for recording in self._captured():
            path = recording.path
            if path is not None and path.parent.is_dir():
                note_missing(self.store, recording, self.logger)

    def find_stranded(self) -> list[data.Recording]:
        """Return captured recordings that a model must still see and nobody works on."""
        now = data.utc_now()
        stranded = []
        for batch in _batches(list(self._captured()) if self.models else []):
            analyses = self.store.get_analyses(batch)
            stranded += [
                recording
                for recording in batch
                # One of the future: the clock was set back since.
                if abs(now - recording.created_on) > self.settle_time + _length(recording)
                and recording.path is not None
                and recording.path.exists()
                and self._is_stranded(analyses.get(recording.id, []), now)
            ]
        return stranded

    def _is_stranded(self, analyses: list[data.Analysis], now: data.AwareDatetime) -> bool:
        ours = [analysis for analysis in analyses if analysis.name_model in self.models]
        if any(
            analysis.state is data.AnalysisState.RUNNING
            and abs(now - analysis.updated_on) < self.time_limit
            for analysis in ours
        ):
            return False
        return self.models > {analysis.name_model for analysis in ours if analysis.state.is_final}

    def _captured(self) -> Iterable[data.Recording]:
        ask = getattr(self.store, "get_captured_recordings", None)
        if ask is not None:
            found: list[data.Recording] = ask()
            return found
        paths = files.list_recordings(self._spool())
        rows = self.store.get_recordings_info_by_path(paths)
        return sorted((row for row, _ in rows), key=lambda row: row.created_on)

    def _finish_deletion(self, mark: Path) -> None:
        files.finish_deletion(mark, commit=self._note_deleted)

    def _note_deleted(self, path: Path) -> None:
        for recording, _ in self.store.get_recordings_info_by_path([path]):
            self.store.end_recording(recording, data.RecordingState.DELETED)

    def _mend(self, part: Path) -> None:
        mended = formats.salvage(part)
        if mended is not None:
            self.logger.warning("Mended a recording that was interrupted: %s", mended)

    def _adopt(self, path: Path) -> None:
        try:
            recording = formats.read_recording(path)
        except AudioError as error:
            self._complain(path, f"{error} {error.why or ''}".strip())
            return
        self.store.store_recording(recording)
        stored = next((row for row, _ in self.store.get_recordings([recording.id])), recording)
        if stored.path == path:
            self.logger.warning("Adopted a recording that was not stored: %s", path)
        elif stored.path is None:
            self._complain(path, "the store says that its recording has no file any more")
        elif not stored.path.exists() or files.is_same_entry(path, stored.path):
            self.logger.warning("%s is now at %s", stored.path, path)
            self.store.update_recording_path(recording, path)
        elif files.has_same_bytes(path, stored.path):
            self.logger.info("Removing %s: it was moved to %s", path, stored.path)
            path.unlink(missing_ok=True)
        else:
            self._complain(path, f"{stored.path} says that it is the same recording")

    def _complain(self, path: Path, why: str) -> None:
        """Say once that a file is left where it is."""
        if path not in self.reported:
            self.reported.add(path)
            self.logger.warning("Left alone: %s (%s)", path, why)

    def _spool(self) -> Path:
        return self.folder or spool_dir()

    def _has_settled(self, path: Path) -> bool:
        try:
            age = data.utc_now().timestamp() - path.stat().st_mtime
        except FileNotFoundError:
            return False
        # A file of the future: the clock was set back since.
        return abs(age) > self.settle_time.total_seconds()

    def _each(self, path: Path, act: Callable[[Path], object]) -> None:
        try:
            act(path)
        except (AcoupiError, OSError) as error:
            self.logger.warning("Recovery of %s failed: %s", path, error)


def _length(recording: data.Recording) -> timedelta:
    return timedelta(seconds=recording.duration)


def _batches(items: list[T]) -> list[list[T]]:
    return [items[first : first + _BATCH] for first in range(0, len(items), _BATCH)]
