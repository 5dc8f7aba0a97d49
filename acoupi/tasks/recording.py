"""The task that records."""

import logging
from collections.abc import Callable, Sequence

from acoupi import data, devices
from acoupi.audio import wav
from acoupi.audio.guano import RECORDING_ID, build_guano, guano_of_recording
from acoupi.components import types
from acoupi.errors import AcoupiError, DeviceError, StoreError

__all__ = ["generate_recording_task"]

_logger = logging.getLogger(__name__)


def generate_recording_task(
    recorder: types.AudioRecorder,
    store: types.Store,
    logger: logging.Logger = _logger,
    recording_conditions: Sequence[types.RecordingCondition] | None = None,
) -> Callable[[], data.Recording | None]:
    """Return a task that records once, if it should.

    Parameters
    ----------
    recorder
        Makes the file.
    store
        Gives the deployment, and remembers the recording. If it does not
        answer, the last known deployment serves: recording goes on.
    logger
        Where the task reports.
    recording_conditions
        All must hold; None or empty: always record.

    Returns
    -------
    Callable
        Returns the recording, stored, its file describing itself; None if a
        condition did not hold. It raises what recorder and store raise. A
        recording that could not be stored is complete in its folder, and
        recovery adopts it.
    """
    known: list[data.Deployment] = []

    def current_deployment() -> data.Deployment:
        try:
            known[:] = [store.get_current_deployment()]
        except StoreError as error:
            if not known:
                raise
            logger.warning("The store gives no deployment, taking the last known: %s", error)
        return known[0]

    def recording_task() -> data.Recording | None:
        """Record once, if every condition holds."""
        for condition in recording_conditions or ():
            if not condition.should_record():
                logger.info("Not recording: %s does not hold", type(condition).__name__)
                return None
        deployment = current_deployment()
        try:
            recording = recorder.record(deployment)
        except DeviceError as error:
            logger.error("Recording failed: %s (%s)", error, error.why or "no reason given")  # noqa: TRY400
            raise
        _describe_in_file(recording, logger)
        try:
            store.store_recording(recording)
        except Exception:
            logger.exception(
                "Recording %s is complete but could not be stored; recovery will adopt %s",
                recording.id,
                recording.path,
            )
            raise
        logger.info("Recorded %s", recording.path)
        return recording

    return recording_task


def _describe_in_file(recording: data.Recording, logger: logging.Logger) -> None:
    """Add GUANO metadata that name the recording to its file, if it has none."""
    if recording.path is None:
        return
    try:
        there = wav.read_guano(recording.path)
        if there.get(RECORDING_ID) == str(recording.id):
            return
        ours = guano_of_recording(recording, serial=devices.get_device_id())
        wav.add_guano(recording.path, build_guano({**there, **ours}))
    except (AcoupiError, OSError) as error:
        logger.warning("No metadata in %s: %s", recording.path, error)
