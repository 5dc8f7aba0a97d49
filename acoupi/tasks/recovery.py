"""The task that completes what a crash left unfinished."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from acoupi import data
from acoupi.audio import files, formats
from acoupi.components import types
from acoupi.errors import AcoupiError, AudioError
from acoupi.home import spool_dir, spool_folders
from acoupi.tasks.failures import FAILED
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

    In this order: it completes deletions that were decided, repairs recordings
    that were being written, adopts complete files that the store does not know,
    notes which files are lost, and sends recordings that no worker is handling
    to the detection queue again. None of this does harm while all is well, and
    a step that fails does not stop the others.

    Parameters
    ----------
    store
        Knows which recordings exist. If it has ``get_captured_recordings``, all
        that wait are checked; otherwise only those in the folder.
    resend
        Sends a recording to detection. None: nothing is resent.
    waiting
        Counts the messages waiting for detection. Only at 0 is anything resent:
        otherwise it may be among them, and where the model lags, new recordings
        go first. None: 0.
    logger
        Receives the log lines of the task.
    required_models
        Models whose analyses must become final.
    tmp_path
        Folder of the waiting files. None: that of ACOUPI_HOME.
    settle_time
        Seconds for which a file must be unchanged, and a recording be over,
        before it counts as left behind.
    time_limit
        Seconds after which a worker that began an analysis counts as dead.
    max_resent
        Most recordings to resend in one pass.
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
        """Complete what a crash left unfinished."""
        for step in (
            recovery.settle_deployments,
            recovery.finish_deletions,
            recovery.mend_recordings,
            recovery.adopt_files,
            recovery.note_strange_entries,
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
    """Files already reported."""

    def settle_deployments(self) -> None:
        """End in the store what a command that was cut short left open."""
        settle = getattr(self.store, "settle_deployments", None)
        for one in settle() if settle is not None else ():
            self.logger.warning(
                "The deployment %s had been left open; it has been ended now", one.name
            )

    def finish_deletions(self) -> None:
        """Delete files with a deletion mark."""
        for folder in self._spool():
            for mark in files.hidden_files(folder, files.DELETED_SUFFIX):
                self._each(mark, self._finish_deletion)

    def mend_recordings(self) -> None:
        """Complete recordings that were being written when the recorder died."""
        for folder in self._spool():
            for part in formats.find_parts(folder):
                self._each(part, self._repair)

    def adopt_files(self) -> None:
        """Store recordings from complete files with their own metadata."""
        for batch in _batches(self._files()):
            known = {r.path for r, _ in self.store.get_recordings_info_by_path(batch)}
            for path in batch:
                if path not in known:
                    self._each(path, self._adopt)

    def note_strange_entries(self) -> None:
        """Say once what is in the folder that is no file though its name says so."""
        for folder in self._spool():
            for path, kind in files.strange_entries(folder):
                self._complain(path, f"it is {kind}, not a file")

    def note_lost_files(self) -> None:
        """Note which captured recordings have no file; a missing folder proves nothing."""
        for recording in self._captured():
            path = recording.path
            if path is not None and path.parent.is_dir():
                self._each(path, lambda _, lost=recording: self._note_lost(lost))  # type: ignore[misc]

    def find_stranded(self) -> list[data.Recording]:
        """Return captured recordings that a model must still process and no worker is handling."""
        now = data.utc_now()
        stranded = []
        for batch in _batches(list(self._not_held_back(now)) if self.models else []):
            analyses = self.store.get_analyses(batch)
            stranded += [
                recording
                for recording in batch
                # Dated in the future: the clock was set back since.
                if abs(now - recording.created_on) > self.settle_time + _length(recording)
                and recording.path is not None
                and recording.path.exists()
                and self._is_stranded(analyses.get(recording.id, []), now)
            ]
        return stranded

    def _not_held_back(self, now: data.AwareDatetime) -> Iterable[data.Recording]:
        """Yield captured recordings, but for those whose analysis the backlog policy puts off."""
        held: dict[UUID, bool] = {}
        for recording in self._captured():
            deployment = recording.deployment
            if deployment.id not in held:
                held[deployment.id] = self.store.backlog.holds_back(deployment, now)
            if not held[deployment.id]:
                yield recording

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
        rows = self.store.get_recordings_info_by_path(self._files())
        return sorted((row for row, _ in rows), key=lambda row: row.created_on)

    def _finish_deletion(self, mark: Path) -> None:
        files.finish_deletion(mark, commit=self._note_deleted)

    def _note_deleted(self, path: Path) -> None:
        for recording, _ in self.store.get_recordings_info_by_path([path]):
            self.store.end_recording(recording, data.RecordingState.DELETED)

    def _note_lost(self, recording: data.Recording) -> None:
        note_missing(self.store, recording, self.logger)

    def _repair(self, part: Path) -> None:
        if not self._has_settled(part):
            return
        repaired = formats.salvage(part)
        if repaired is not None:
            self.logger.warning("Repaired an interrupted recording: %s", repaired)

    def _adopt(self, path: Path) -> None:
        if not self._has_settled(path):
            return
        try:
            recording = formats.read_recording(path)
        except AudioError as error:
            self._complain(path, f"{error} {error.why or ''}".strip())
            return
        self.store.store_recording(recording)
        self._correct(recording)
        stored = next((row for row, _ in self.store.get_recordings([recording.id])), recording)
        if stored.path == path:
            self.logger.warning("Adopted a recording that was not in the store: %s", path)
        elif stored.path is None:
            self._complain(path, "according to the store, its recording no longer has a file")
        elif not stored.path.exists() or files.is_same_entry(path, stored.path):
            self.logger.warning("%s is now at %s", stored.path, path)
            self.store.update_recording_path(recording, path)
        elif files.has_same_bytes(path, stored.path):
            self.logger.info("Removing %s: it was moved to %s", path, stored.path)
            path.unlink(missing_ok=True)
        else:
            self._complain(path, f"{stored.path} is the same recording according to its metadata")

    def _correct(self, recording: data.Recording) -> None:
        """Correct its time if the clock of its boot was set before it was stored."""
        correct = getattr(self.store, "correct_late", None)  # published stores have none
        if correct is not None and correct(recording):
            self.logger.warning("Corrected the time of recording %s", recording.id)

    def _complain(self, path: Path, why: str) -> None:
        """Report once that a file is left where it is."""
        if path not in self.reported:
            self.reported.add(path)
            self.logger.warning("Not touched: %s (%s)", path, why)

    def _spool(self) -> tuple[Path, ...]:
        return spool_folders(self.folder or spool_dir())

    def _files(self) -> list[Path]:
        return [path for folder in self._spool() for path in files.list_recordings(folder)]

    def _has_settled(self, path: Path) -> bool:
        try:
            age = data.utc_now().timestamp() - path.stat().st_mtime
        except FileNotFoundError:
            return False
        # Dated in the future: the clock was set back since.
        return abs(age) > self.settle_time.total_seconds()

    def _each(self, path: Path, act: Callable[[Path], object]) -> None:
        """Do it to one of many files: whatever is wrong with it, the others get their turn."""
        try:
            act(path)
        except (AcoupiError, OSError) as error:
            self.logger.warning("Recovery of %s failed: %s", path, error, extra=FAILED)
        except Exception:
            self.logger.exception("Recovery of %s failed", path)


def _length(recording: data.Recording) -> timedelta:
    return timedelta(seconds=recording.duration)


def _batches(items: list[T]) -> list[list[T]]:
    return [items[first : first + _BATCH] for first in range(0, len(items), _BATCH)]
