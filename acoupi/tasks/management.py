"""The task that keeps or deletes the files of recordings."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.audio import files
from acoupi.components import types
from acoupi.errors import AudioError
from acoupi.home import spool_dir, spool_folders
from acoupi.space import LEAST_RESERVE, device_of, free_bytes
from acoupi.tasks.clips import Cutter
from acoupi.tasks.clocks import correct_files

__all__ = ["RecordingManagementCondition", "generate_file_management_task", "note_missing"]

_logger = logging.getLogger(__name__)

RecordingManagementCondition = Callable[[data.Recording, list[data.ModelOutputInfo]], bool]
"""Whether a recording's file may be touched yet, given the models that have run on it."""

_BATCH = 200


def generate_file_management_task(  # noqa: PLR0917 - published signature
    store: types.Store,
    file_managers: Sequence[types.RecordingSavingManager],
    logger: logging.Logger = _logger,
    file_filters: Sequence[types.RecordingSavingFilter] | None = None,
    required_models: Sequence[str] | None = None,
    management_conditions: Sequence[RecordingManagementCondition] | None = None,
    tmp_path: Path | None = None,
) -> Callable[[], None]:
    """Return a task that decides on every waiting recording, oldest first.

    A recording that fails is logged and left for the next pass; the others are
    still processed. Two passes at once do no harm. A file is removed only when
    the store knows its new place, or that it was deleted.

    A recording in the store's sample for review is kept, whatever the filters say,
    until others displace it from the sample.

    Where clips are kept (`Store.clips`), the filters that judge detections choose
    those that get one, and the others what is kept whole; see `acoupi.tasks.clips`.

    Parameters
    ----------
    store
        Holds the recordings, and stores what became of their files.
    file_managers
        The first that names a place for a file wins. If none does, the file is
        deleted, or stays where it is if a model failed on it.
    logger
        Receives the log lines of the task.
    file_filters
        One that accepts is enough; without filters every file is kept. A filter
        that fails counts as accepting: no fault may delete a recording.
    required_models
        Their analyses must be final (done, skipped or failed for good) before
        a file is touched.
    management_conditions
        All must hold as well.
    tmp_path
        Folder of the waiting files. None: that of ACOUPI_HOME.
    """
    all_passes = _Management(
        store=store,
        managers=tuple(file_managers),
        filters=tuple(file_filters or ()),
        required_models=frozenset(required_models or ()),
        conditions=tuple(management_conditions or ()),
        logger=logger,
    )

    def file_management_task() -> None:
        """Keep or delete the files of recordings whose processing is finished."""
        rules = replace(all_passes, begun=[])  # two passes may overlap
        folder = tmp_path or spool_dir()
        cutter = rules.cutter(folder) if store.clips.are_on else None
        for recording, infos in rules.find_recordings(folder):
            try:
                if rules.is_ready(recording, infos):
                    rules.manage(recording, cutter)
            except NoRoomError as error:
                rules.wait_for_room(error)
            except Exception:
                logger.exception("Cannot manage %s; it stays for the next run", recording.path)
        rules.end_moves()
        rules.delete_displaced()
        rules.delete_sent()
        correct_files(store, _BATCH, logger)

    return file_management_task


class NoRoomError(Exception):
    """There is no room now where a file is to go; it waits in the spool."""


@dataclass(frozen=True)
class _Begun:
    """A move whose new name is not forced to the disk yet."""

    id_: UUID
    """Id of the recording."""
    path: Path
    final: Path
    commit: files.Commit


@dataclass(frozen=True)
class _Management:
    store: types.Store
    managers: tuple[types.RecordingSavingManager, ...]
    filters: tuple[types.RecordingSavingFilter, ...]
    required_models: frozenset[str]
    conditions: tuple[RecordingManagementCondition, ...]
    logger: logging.Logger
    begun: list["_Begun"] = field(default_factory=list)
    """Moves of this pass."""
    reported: set[UUID] = field(default_factory=set)
    """Recordings without a place that were reported already."""
    lacking: set[str] = field(default_factory=set)
    """Why files wait in the spool, as reported already."""

    def find_recordings(
        self, folder: Path
    ) -> Iterator[tuple[data.Recording, list[data.ModelOutputInfo]]]:
        """Yield the stored recordings of a folder, oldest first; names begin with the time."""
        paths = [path for each in spool_folders(folder) for path in files.list_recordings(each)]
        paths.sort(key=lambda path: path.name)
        for first in range(0, len(paths), _BATCH):
            batch = paths[first : first + _BATCH]
            rows = self.store.get_recordings_info_by_path(batch)
            yield from sorted(rows, key=lambda row: row[0].created_on)

    def is_ready(self, recording: data.Recording, infos: list[data.ModelOutputInfo]) -> bool:
        """Return whether the file is no longer needed in its place."""
        done = {info.name_model for info in infos}
        if self.required_models:
            # An output may be only half the work (no messages yet): the analysis decides.
            for analysis in self.store.get_analyses([recording]).get(recording.id, []):
                if analysis.state.is_final:
                    done.add(analysis.name_model)
                else:
                    done.discard(analysis.name_model)
        is_done = self.required_models <= done
        return is_done and all(condition(recording, infos) for condition in self.conditions)

    def cutter(self, folder: Path) -> Cutter:
        """Return what cuts clips in one pass."""
        return Cutter(
            store=self.store,
            folder=folder,
            is_ready=self.is_ready,
            wanted=self.find_wanted,
            find_place=self._find_place,
            logger=self.logger,
        )

    def manage(self, recording: data.Recording, cutter: Cutter | None) -> None:
        """Move or delete the file of a recording, once its clips are made."""
        path = recording.path
        if path is None:
            return
        try:
            self._decide(recording, path, cutter)
        except FileNotFoundError:
            if path.exists():
                raise
            note_missing(self.store, recording, self.logger)

    def _decide(self, recording: data.Recording, path: Path, cutter: Cutter | None) -> None:
        outputs = self.store.get_recording_model_outputs(recording)
        analyses = self.store.get_analyses([recording]).get(recording.id, [])
        failed = _failed_models(outputs, analyses)
        is_untouched = not outputs and not analyses
        is_spared = self.store.backlog.keep_files and any(
            one.state is data.AnalysisState.LEFT_OUT for one in analyses
        )
        is_sampled = self.store.sample_recording(recording, outputs)
        is_wanted = is_spared or self._is_wanted(recording, outputs, is_untouched=is_untouched)
        if cutter is not None and not failed and not is_wanted:
            try:
                if not cutter.release(recording):
                    return
            except AudioError:
                self.logger.exception("No clip can be cut from %s, which is kept whole", path)
                is_wanted = True
        if not failed and not is_wanted and not is_sampled:
            self._dispose(recording, path, outputs)
            return
        destination = self._find_place(recording, outputs)
        is_for_sample = not failed and (destination is None or not is_wanted)
        if destination is None and (failed or is_sampled):
            destination = self._find_place(recording, [])  # as if no model had run
        if destination is not None:
            self._move(recording, path, destination, is_for_sample if is_sampled else None)
        elif not failed and not is_sampled:
            self.logger.warning("Deleting %s: no saving manager chooses a folder for it", path)
            self._delete(recording, path)
        elif recording.id not in self.reported:
            self.reported.add(recording.id)
            why = (
                f"{', '.join(failed)} failed on it" if failed else "it is in the sample for review"
            )
            self.logger.warning(
                "Leaving %s: no saving manager chooses a folder for it, and %s", path, why
            )

    def _is_wanted(
        self, recording: data.Recording, outputs: list[data.ModelOutput], *, is_untouched: bool
    ) -> bool:
        """Return whether a filter wants the whole file; without filters all are wanted.

        Of a recording that was analysed where clips are kept, those that judge detections do not.
        """
        is_doubtful = False
        are_clipped = self.store.clips.are_on and bool(outputs)
        for saving_filter in self.filters:
            if is_untouched and saving_filter.judges_detections:
                is_doubtful = True
                continue
            if are_clipped and saving_filter.judges_detections:
                continue
            try:
                if saving_filter.should_save_recording(recording, outputs):
                    return True
            except Exception:
                is_doubtful = True
                name = type(saving_filter).__name__
                self.logger.exception("%s failed on %s, which is kept", name, recording.path)
        return is_doubtful or not (self.filters or are_clipped)

    def find_wanted(self, recording: data.Recording) -> list[data.ModelOutput]:
        """Return the outputs with the detections that are to be kept in clips.

        Those that a filter accepts each by itself; all, if none is accepted so though a filter
        accepts them together, or no filter judges them. None of a recording that stays whole.
        """
        outputs = self.store.get_recording_model_outputs(recording)
        analyses = self.store.get_analyses([recording]).get(recording.id, [])
        if _failed_models(outputs, analyses) or self._is_wanted(
            recording, outputs, is_untouched=not outputs and not analyses
        ):
            return []
        judges = [one for one in self.filters if one.judges_detections]
        if not judges:
            return outputs
        accepted = [
            _only(output, lambda one: _accept(judges, recording, one)) for output in outputs
        ]
        if any(output.detections for output in accepted):
            return accepted
        return outputs if _accept(judges, recording, *outputs) else []

    def _find_place(
        self, recording: data.Recording, outputs: list[data.ModelOutput]
    ) -> Path | None:
        self._check_mounts()
        failure: Exception | None = None
        for manager in self.managers:
            try:
                place = manager.save_recording(recording, outputs)
            except FileNotFoundError:
                raise
            except Exception as error:
                self.logger.exception("%s failed on %s", type(manager).__name__, recording.path)
                failure = failure or error
            else:
                if place is not None:
                    return Path(place)
        if failure is not None:
            raise failure
        return None

    def _check_mounts(self) -> None:
        """Raise before a manager makes a folder where the disk for it is not mounted."""
        space = self.store.space
        if space is not None and (mount := space.missing_mount(space.recordings)):
            raise NoRoomError(f"no disk is mounted at {mount}")

    def _check_room(self, path: Path, destination: Path) -> None:
        """Raise rather than fill another disk below its reserve."""
        space = self.store.space
        if space is None or device_of(path) == device_of(destination):
            return
        if free_bytes(destination) - path.stat().st_size < space.reserve_bytes:
            raise NoRoomError(f"the disk of {destination.parent} has only its reserve left")

    def wait_for_room(self, error: "NoRoomError") -> None:
        """Say once why files wait in the spool; nothing that must be moved is lost."""
        if str(error) not in self.lacking:
            self.lacking.add(str(error))
            self.logger.error("Recordings wait in the spool: %s", error)

    def _move(
        self,
        recording: data.Recording,
        path: Path,
        destination: Path,
        is_for_sample: bool | None,
    ) -> None:
        def commit(final: Path) -> None:
            if is_for_sample:
                self.store.note_kept_for_sample(recording, final)
            elif is_for_sample is False:  # the settings may have changed since a crash
                self.store.forget_displaced(recording)
            self.store.update_recording_path(recording, final)

        self._check_room(path, destination)
        final = files.begin_move(
            path, destination, is_taken=lambda name: self._is_anothers(recording, name)
        )
        self.begun.append(_Begun(recording.id, path, final, commit))
        if is_for_sample is not None or len(self.begun) >= _BATCH:
            self.end_moves()  # the next recording may take its place in the sample

    def end_moves(self) -> None:
        """Complete the moves that have begun; one commit of the file system holds their names."""
        begun, self.begun[:] = list(self.begun), []
        for folder in {one.final.parent for one in begun}:
            try:
                files.force_names(folder)
            except OSError:
                self.logger.exception("Files moved to %s are moved again", folder)
                begun = [one for one in begun if one.final.parent != folder]
        for one in begun:
            try:
                files.end_move(one.path, one.final, commit=one.commit)
            except Exception:
                self.logger.exception("Cannot manage %s; it stays for the next run", one.path)
            else:
                self.logger.info("Moved %s to %s", one.path, one.final)

    def _is_anothers(self, recording: data.Recording, path: Path) -> bool:
        if any(one.final == path and one.id_ != recording.id for one in self.begun):
            return True
        owners = self.store.get_recordings_info_by_path([path])
        return self.store.is_clip(path) or any(owner.id != recording.id for owner, _ in owners)

    def _delete(self, recording: data.Recording, path: Path) -> None:
        was_there = files.delete_file(
            path,
            commit=lambda _: self.store.end_recording(recording, data.RecordingState.DELETED),
        )
        if not was_there:
            note_missing(self.store, recording, self.logger)

    def delete_displaced(self) -> None:
        """Delete the files that only the sample for review kept, and no longer keeps."""
        for recording, path in self.store.get_displaced_recordings():
            if recording.path not in {path, None}:
                continue  # it is being moved there
            if self.store.is_owed_to_hub(recording):
                continue
            try:
                self.logger.info("Deleting %s: others replaced it in the sample", path)
                self._delete(recording, path)
                self.store.forget_displaced(recording)
            except Exception:
                self.logger.exception("Cannot delete %s; it stays for the next run", path)

    def delete_sent(self) -> None:
        """Delete the files that were only kept until the hub has them."""
        for recording, path in self.store.get_recordings_at_hub():
            try:
                self.logger.info("Deleting %s: the hub has it, and no filter keeps it", path)
                self._delete(recording, path)
            except Exception:
                self.logger.exception("Cannot delete %s; it stays for the next run", path)

    def _dispose(
        self, recording: data.Recording, path: Path, outputs: list[data.ModelOutput]
    ) -> None:
        """Delete files that no filter keeps; files for the hub are kept until it has them."""
        if self.store.is_owed_to_hub(recording):
            place = self._find_place(recording, outputs) or self._find_place(recording, [])
            if place is not None and self._has_room(place):
                self.store.note_kept_for_hub(recording)
                self._move(recording, path, place, None)
                return
            self.logger.warning(
                "The hub does not have %s yet, and there is no room to keep it", path
            )
        self.logger.info("Deleting %s: no filter keeps it whole", path)
        self._delete(recording, path)

    def _has_room(self, place: Path) -> bool:
        space = self.store.space
        return free_bytes(place) > (LEAST_RESERVE if space is None else space.reserve_bytes)


def _only(
    output: data.ModelOutput, is_accepted: Callable[[data.ModelOutput], bool]
) -> data.ModelOutput:
    """Return an output with those of its detections that are accepted each by itself."""
    alone = (output.model_copy(update={"detections": [one]}) for one in output.detections)
    kept = [one.detections[0] for one in alone if is_accepted(one)]
    return output.model_copy(update={"detections": kept})


def _accept(
    judges: Sequence[types.RecordingSavingFilter],
    recording: data.Recording,
    *outputs: data.ModelOutput,
) -> bool:
    """Return whether one accepts; one that fails does, for no fault may cost a detection."""
    for judge in judges:
        try:
            if judge.should_save_recording(recording, list(outputs)):
                return True
        except Exception:
            _logger.exception("%s failed on %s", type(judge).__name__, recording.path)
            return True
    return False


def _failed_models(
    outputs: Sequence[data.ModelOutput], analyses: Sequence[data.Analysis]
) -> list[str]:
    """Return the models that failed for good and left no output."""
    heard = {output.name_model for output in outputs}
    failed = (one.name_model for one in analyses if one.state is data.AnalysisState.FAILED)
    return sorted(name for name in failed if name not in heard)


def note_missing(store: types.Store, recording: data.Recording, logger: logging.Logger) -> None:
    """Note that the file of a recording is lost, unless a pass is handling it or has done so.

    The order matters: a pass records what it did before it removes the deletion
    mark, or the file itself.
    """
    path = recording.path
    if path is None or os.path.lexists(path) or files.deletion_mark(path).exists():
        return
    if any(row.path == path for row, _ in store.get_recordings([recording.id])):
        logger.error("The file of recording %s is lost: %s", recording.id, path)
        store.end_recording(recording, data.RecordingState.LOST)
