"""The task that runs a model on a recording."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components import types
from acoupi.provenance import Provenance, provenance_of

__all__ = ["generate_detection_task", "messages_of", "model_name"]

_logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3


def generate_detection_task(  # noqa: PLR0917 - published signature
    store: types.Store,
    model: types.Model,
    message_store: types.MessageStore,
    logger: logging.Logger = _logger,
    output_cleaners: Sequence[types.ModelOutputCleaner] | None = None,
    processing_filters: Sequence[types.ProcessingFilter] | None = None,
    message_factories: Sequence[types.MessageBuilder[Any]] | None = None,
    *,
    configuration: str = "",
    max_attempts: int = MAX_ATTEMPTS,
) -> Callable[[data.Recording], None]:
    """Return a task that analyses a recording with a model.

    It may be interrupted at any point and run again: the result is one output
    and one set of messages. The attempt is counted first, the output is stored
    before the messages made from it, and the analysis is closed last. An output
    that is already stored is not computed again.

    Parameters
    ----------
    store
        Stores the output and the progress of the analysis.
    model
        The analysis is filed under its `model_name`, whatever name its outputs
        carry.
    message_store
        Receives the messages.
    logger
        Receives the log lines of the task.
    output_cleaners
        Applied in order.
    processing_filters
        All must accept for the model to run; otherwise the analysis is skipped.
    message_factories
        Each receives the stored output.
    configuration
        Identifies the settings that the output depends on; it is part of the
        output's id. With other settings, a recording gets another output.
    max_attempts
        How often the model is tried on a recording, at least 1.

    Returns
    -------
    Callable
        Returns nothing. An error is stored with the analysis (to be retried, or
        failed for good) and then raised, so that the worker counts a failure;
        nothing depends on it being caught.
    """
    if max_attempts < 1:
        raise ValueError(f"max_attempts must be at least 1, not {max_attempts}")
    name = model_name(model)
    steps = _Detection(
        store=store,
        model=model,
        name=name,
        configuration=configuration,
        provenance=cache(partial(provenance_of, model, name, configuration)),
        message_store=message_store,
        cleaners=tuple(output_cleaners or ()),
        filters=tuple(processing_filters or ()),
        builders=tuple(message_factories or ()),
        logger=logger,
    )

    def end(analysis: data.Analysis, state: data.AnalysisState, error: str | None = None) -> None:
        changes = {"state": state, "error": error, "updated_on": data.utc_now()}
        store.end_analysis(analysis.model_copy(update=changes))

    def detection_task(recording: data.Recording) -> None:
        """Run the model on a recording, store the output and make messages from it."""
        if _must_wait(store, recording):
            return  # recovery sends it again
        recording, analysis = _begin(store, recording, name)
        if analysis.state.is_final:
            logger.info(
                "%s: the analysis by %s is already %s", recording.id, name, analysis.state.value
            )
            return
        if analysis.attempts > max_attempts:
            error_text = analysis.error or f"the worker died during {max_attempts} attempts"
            logger.error("Giving up %s with %s: %s", recording.id, name, error_text)
            end(analysis, data.AnalysisState.FAILED, error_text)
            return
        try:
            state = steps.analyse(recording, analysis.analysed_fraction)
        except Exception as error:
            is_last = analysis.attempts >= max_attempts
            state = data.AnalysisState.FAILED if is_last else data.AnalysisState.RETRY
            logger.exception(
                "%s failed on %s (%s), attempt %d of %d",
                name, recording.id, recording.path, analysis.attempts, max_attempts,
            )  # fmt: skip
            end(analysis, state, _one_line(error))
            raise
        end(analysis, state)

    return detection_task


def _must_wait(store: types.Store, recording: data.Recording) -> bool:
    """Return whether models are to run when nothing is recorded, and something is."""
    if store.backlog.policy != "nightly":
        return False
    stored = next((row for row, _ in store.get_recordings([recording.id])), recording)
    return store.backlog.holds_back(stored.deployment, data.utc_now())


def _begin(
    store: types.Store, recording: data.Recording, name: str
) -> tuple[data.Recording, data.Analysis]:
    if store.backlog.policy == "newest_first":
        return store.begin_newest_analysis(recording, name)
    return recording, store.begin_analysis(recording, name)


def model_name(model: types.Model) -> str:
    """Return the name a model is filed under: its ``name``, ``__name__`` or class name."""
    for attribute in ("name", "__name__"):
        name = getattr(model, attribute, None)
        if name:
            return str(name)
    return type(model).__name__


@dataclass(frozen=True)
class _Detection:
    store: types.Store
    model: types.Model
    name: str
    configuration: str
    provenance: Callable[[], Provenance]
    """Reads the weights: only called where the model runs, after it has."""
    message_store: types.MessageStore
    cleaners: tuple[types.ModelOutputCleaner, ...]
    filters: tuple[types.ProcessingFilter, ...]
    builders: tuple[types.MessageBuilder[Any], ...]
    logger: logging.Logger

    def analyse(self, recording: data.Recording, fraction: float = 1.0) -> data.AnalysisState:
        """Do the work; return how the analysis ends.

        Parameters
        ----------
        recording
            Which.
        fraction
            Share of the recordings around it that are analysed.
        """
        if not all(f.should_process_recording(recording) for f in self.filters):
            self.logger.info("Skipping %s: a processing filter refused it", recording.id)
            return data.AnalysisState.SKIPPED
        output_id = data.derived_id(recording.id, self.name, self.configuration)
        output = self._find_output(recording, output_id)
        if output is None:
            output = self._make_output(self._as_it_is_now(recording), output_id)
            self.store.store_model_output(output)
        if fraction < 1:
            output = output.model_copy(update={"analysed_fraction": fraction})
        self._store_messages(output)
        return data.AnalysisState.DONE

    def _find_output(self, recording: data.Recording, output_id: UUID) -> data.ModelOutput | None:
        outputs = self.store.get_recording_model_outputs(recording)
        return next((output for output in outputs if output.id == output_id), None)

    def _as_it_is_now(self, recording: data.Recording) -> data.Recording:
        """Return the recording with its current path and time, and its capture report.

        Meanwhile its file may have been moved, or the clock set. The report of the
        capture does not travel with a task, and a model must know what was lost.
        """
        stored = next((row for row, _ in self.store.get_recordings([recording.id])), None)
        if stored is None:
            return recording
        has_moved = recording.path is not None and not recording.path.exists()
        if has_moved and stored.path is not None and stored.path.exists():
            return stored
        capture = stored.capture or recording.capture
        return recording.model_copy(update={"created_on": stored.created_on, "capture": capture})

    def _make_output(self, recording: data.Recording, output_id: UUID) -> data.ModelOutput:
        output = self.model.run(recording)
        for cleaner in self.cleaners:
            output = cleaner.clean(output)
        detections = [
            _checked(detection, data.derived_id(output_id, index))
            for index, detection in enumerate(output.detections)
        ]
        changes = {
            "id": output_id,
            "recording": recording,
            "detections": detections,
            "provenance": self.provenance(),
        }
        return output.model_copy(update=changes)

    def _store_messages(self, output: data.ModelOutput) -> None:
        """Store the messages of every builder, even if one fails; then raise its error."""
        failure: Exception | None = None
        for position, builder in enumerate(self.builders):
            try:
                for message in messages_of(builder, position, output):
                    self.message_store.store_message(message)
            except Exception as error:
                self.logger.exception("%s made no message", type(builder).__name__)
                failure = failure or error
        if failure is not None:
            raise failure


def messages_of(
    builder: types.MessageBuilder[Any], position: int, output: data.ModelOutput
) -> Iterator[data.Message]:
    """Yield what a builder makes of an output: each time under the same ids.

    Parameters
    ----------
    position
        Of the builder among those of the program.
    """
    made = builder.build_message(output)
    messages = made if isinstance(made, list) else [] if made is None else [made]
    for index, message in enumerate(messages):
        yield message.model_copy(
            update={
                "id": data.derived_id(output.id, type(builder).__name__, position, index),
                "message_type": message.message_type or data.MessageType.DETECTION,
            }
        )


def _checked(detection: data.Detection, id_: UUID) -> data.Detection:
    """Return a detection with this id, its values checked and made plain.

    A model or a cleaner may have changed them by `model_copy`, which checks nothing.

    Raises
    ------
    ValueError
        If a value is not one that a detection can have.
    """
    box = detection.location
    values = {
        **detection.__dict__,
        "id": id_,
        "location": box and type(box).model_validate(box.__dict__),
    }
    return type(detection).model_validate(values)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]
