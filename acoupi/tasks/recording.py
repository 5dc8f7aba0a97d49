"""The task that records."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from acoupi import data, devices
from acoupi.audio import formats
from acoupi.audio.guano import RECORDING_ID, build_guano, guano_of_recording
from acoupi.components import types
from acoupi.deployed import deployed_here, stands_by_here
from acoupi.devices.update_lock import UpdateLock, update_lock_path
from acoupi.effort import CapturePlan
from acoupi.errors import AcoupiError, DeviceError, StoreError
from acoupi.tasks.clocks import ClockCorrection
from acoupi.tasks.effort_log import EffortLog

__all__ = ["generate_recording_task"]

_logger = logging.getLogger(__name__)


def generate_recording_task(
    recorder: types.AudioRecorder,
    store: types.Store,
    logger: logging.Logger = _logger,
    recording_conditions: Sequence[types.RecordingCondition] | None = None,
    *,
    plan: CapturePlan | None = None,
) -> Callable[[], data.Recording | None]:
    """Return a task that records once, if it should.

    Parameters
    ----------
    recorder
        Makes the file.
    store
        Gives the deployment, and stores the recording. Recording does not depend on it: if
        it does not answer, the deployment is the one that the home says is running, else
        the last known one, else a new one named after the current time (UTC).
    logger
        Receives the log lines of the task.
    recording_conditions
        All must hold; None or empty: always record.
    plan
        When the program plans to record, for the effort ledger; None: not known.

    Returns
    -------
    Callable
        Returns the stored recording, its metadata in its file; None if a
        condition did not hold. It raises the errors of recorder and store. If
        the recorder failed but kept a part of the recording, that is stored and
        returned. A recording that could not be stored is complete in its
        folder, and recovery adopts it.

        Whatever keeps it from recording is noted in the store. If there are
        pauses between recordings, no supervisor updates the sensor during one
        (see `acoupi.devices.update_lock`).
    """
    effort, correction = EffortLog(store, plan, logger), ClockCorrection(store, logger)
    # A pause leaves room for updates.
    pauses = plan is not None and not plan.is_continuous
    updates = UpdateLock(update_lock_path()) if pauses else None
    task = _Task(recorder, store, logger, effort, correction, updates)
    if hasattr(recorder, "device_listener"):
        recorder.device_listener = effort

    def recording_task() -> data.Recording | None:
        """Record once, if a deployment may be recorded and every condition holds."""
        if stands_by_here():
            task.stand_by()
            return None
        own = getattr(store, "own_conditions", ())  # published stores may have none
        for condition in (*(recording_conditions or ()), *own):
            if not condition.should_record():
                task.refuse(condition)
                return None
        return task.record()

    # Checked after each run: what waits in the recorder's memory is recorded at once.
    recording_task.is_behind = getattr(recorder, "is_behind", lambda: False)  # type: ignore[attr-defined]
    # Called by the worker every few seconds.
    recording_task.while_waiting = effort.waited  # type: ignore[attr-defined]
    return recording_task


@dataclass
class _Task:
    recorder: types.AudioRecorder
    store: types.Store
    logger: logging.Logger
    effort: EffortLog
    correction: ClockCorrection
    updates: UpdateLock | None
    """Held while recording; None where recordings follow each other without a pause, because an
    update would never get its turn: a recording that it interrupts is kept, but shorter."""
    known: data.Deployment | None = None
    """The last deployment that the store gave."""

    def stand_by(self) -> None:
        """Say that nothing is to be recorded until a deployment is started."""
        self.logger.info("Not recording: the deployment was stopped, and no other was started")
        self.effort.stand_by()
        self._skip()

    def refuse(self, condition: types.RecordingCondition) -> None:
        """Note that a condition does not hold."""
        name = type(condition).__name__
        self.logger.info("Not recording: %s does not hold", name)
        with suppress(StoreError):
            self.effort.begin(self._deployment())
            why = getattr(condition, "why", None) or f"{name} did not hold"
            self.effort.refused(condition.refusal, why)
        self._skip()

    def _skip(self) -> None:
        """Tell a continuous recorder that this slot is skipped on purpose."""
        if (skip := getattr(self.recorder, "skip", None)) is not None:
            skip()

    def record(self) -> data.Recording:
        """Record and store, and note what prevents it."""
        deployment = self._deployment()
        self.effort.begin(deployment)
        recording = self._capture(deployment)
        _describe_in_file(recording, self.logger)
        try:
            self.store.store_recording(recording)
        except Exception:
            self.logger.exception(
                "Recording %s is complete but could not be stored; recovery will adopt %s",
                recording.id,
                recording.path,
            )
            raise
        self.effort.stored()
        self.logger.info("Recorded %s", recording.path)
        self.correction.recorded(recording, self.effort.steps)
        return recording

    def _capture(self, deployment: data.Deployment) -> data.Recording:
        try:
            with self.updates.held() if self.updates else nullcontext():
                recording = self.recorder.record(deployment)
        except Exception as error:
            kept = getattr(error, "kept", None)
            if isinstance(kept, data.Recording):
                self.effort.recorded(kept)
            self.effort.failed(error)
            if isinstance(error, DeviceError):
                why = error.why or "no reason given"
                self.logger.error("Recording failed: %s (%s)", error, why)  # noqa: TRY400
            if not isinstance(kept, data.Recording):
                raise
            return kept
        self.effort.recorded(recording)
        return recording

    def _deployment(self) -> data.Deployment:
        try:
            self.known = self.store.get_current_deployment()
        except StoreError as error:
            self.known = deployed_here().current or self.known or _nameless_deployment()
            self.logger.warning(
                'The store has no deployment, using "%s": %s', self.known.name, error
            )
        return self.known


def _nameless_deployment() -> data.Deployment:
    """Return one for recordings of which nothing says where they belong."""
    now = data.utc_now()
    return data.Deployment(name=now.strftime("%Y%m%d_%H%M%S"), started_on=now)


def _describe_in_file(recording: data.Recording, logger: logging.Logger) -> None:
    """Add GUANO metadata that identify the recording to its file, if it has none."""
    if recording.path is None:
        return
    try:
        there = formats.read_guano(recording.path)
        if there.get(RECORDING_ID) == str(recording.id):
            return
        ours = guano_of_recording(recording, serial=devices.get_device_id())
        formats.add_guano(recording.path, build_guano({**there, **ours}))
    except (AcoupiError, OSError) as error:
        logger.warning("No metadata in %s: %s", recording.path, error)
