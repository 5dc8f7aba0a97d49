"""A program that records, runs a model on every recording, and reports detections."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from acoupi import components, data, tasks
from acoupi.components import types
from acoupi.programs.core.workers import (
    DEFAULT_QUEUE,
    DETECTION_QUEUE,
    RECORDING_QUEUE,
    AcoupiWorker,
    WorkerConfig,
)
from acoupi.programs.templates.basic import check_component, recording_schedule
from acoupi.programs.templates.configuration import (
    DetectionProgramConfiguration,
    DetectionsConfiguration,
)
from acoupi.programs.templates.digests import digest_of, plain_settings
from acoupi.programs.templates.messaging import MessagingProgram
from acoupi.tasks.detection import model_name

# Published programs import the configurations from here, too.
__all__ = [
    "DetectionProgram",
    "DetectionProgramConfiguration",
    "DetectionsConfiguration",
    "configuration_digest",
]

C = TypeVar("C", bound=DetectionProgramConfiguration)

# They say where things go, and change nothing about what a model finds.
NOT_ABOUT_DETECTIONS = ("paths", "messaging")


class DetectionProgram(MessagingProgram[C], ABC):
    """A program that records, runs a model on every recording, and reports detections.

    `configure_model` must be given. Override points beside those of
    `MessagingProgram`:

    - `get_processing_filters`: which recordings the model is run on (all must hold);
    - `get_output_cleaners`: what is removed from its outputs, one after the other;
    - `get_message_factories`: what is told of each output.

    The model runs in a worker of its own. A recording stays in the spool until
    the model is done with it, has failed on it for good, or was not to be run.
    One that it failed on is kept, whatever the saving filters say.
    """

    worker_config = WorkerConfig(
        workers=[
            AcoupiWorker(name="recording", queues=[RECORDING_QUEUE], concurrency=1),
            AcoupiWorker(name="detection", queues=[DETECTION_QUEUE], concurrency=1),
            AcoupiWorker(name="default", queues=[DEFAULT_QUEUE]),
        ]
    )

    model: types.Model

    def setup(self, config: C) -> None:
        """Build the components and register the tasks; touches nothing."""
        self.model = self.configure_model(config)
        super().setup(config)

    def check(self, config: C) -> None:
        """Check the model, too, if it can be checked."""
        super().check(config)
        if not self.leaves_models_out:
            check_component(self.model)

    @abstractmethod
    def configure_model(self, config: C) -> types.Model:
        """Return the model.

        It should load its weights when it is first run, not here: every
        process builds the program, and only one of them runs the model.
        """

    def get_processing_filters(self, config: C) -> list[types.ProcessingFilter]:
        """Return the processing filters: all must accept; without any, the model always runs."""
        return []

    def get_output_cleaners(self, config: C) -> list[types.ModelOutputCleaner]:
        """Return the output cleaners; by default one for the threshold, if it is above 0."""
        if config.detections.threshold <= 0:
            return []
        return [components.ThresholdDetectionCleaner(config.detections.threshold)]

    def get_message_factories(self, config: C) -> list[types.MessageBuilder[Any]]:
        """Return the message builders; by default none."""
        return []

    def get_required_models(self, config: C) -> list[str]:
        """Return the name of the model: a file is not moved before it has finished."""
        return [model_name(self.model)]

    def get_recording_callbacks(self, config: C) -> list[Callable[..., Any]]:
        """Return the detection task."""
        return [self.create_detection_task(config)]

    def create_detection_task(self, config: C) -> Callable[[data.Recording], None]:
        """Return the task that runs the model on a recording."""
        return tasks.generate_detection_task(
            store=self.store,
            model=self.model,
            message_store=self.message_store,
            logger=self.logger.getChild("detection"),
            output_cleaners=self.get_output_cleaners(config),
            processing_filters=self.get_processing_filters(config),
            message_factories=self.get_message_factories(config),
            configuration=configuration_digest(config),
        )

    def register_recording_task(self, config: C) -> None:
        """Record at every interval; recordings go to the detection queue."""
        self.add_task(
            function=self.create_recording_task(config),
            callbacks=self.get_recording_callbacks(config),
            schedule=recording_schedule(config.recording.duration, config.recording.interval),
            queue=RECORDING_QUEUE,
            callback_queue=DETECTION_QUEUE,
        )


def configuration_digest(config: BaseModel) -> str:
    """Return a short text that is the same for the same settings of a model.

    It becomes part of the ids of a model's outputs: analysed again with the
    same settings, a recording gives the same outputs. Without secrets, and
    without the sections on paths and messages, which change nothing about
    what is found.

    Examples
    --------
    >>> from pydantic import SecretStr
    >>> class Config(BaseModel):
    ...     threshold: float = 0.2
    ...     password: SecretStr = SecretStr("a")
    >>> configuration_digest(Config()) == configuration_digest(Config(password=SecretStr("b")))
    True
    >>> configuration_digest(Config()) == configuration_digest(Config(threshold=0.3))
    False
    """
    settings = {
        name: value
        for name, value in plain_settings(config).items()
        if name not in NOT_ABOUT_DETECTIONS
    }
    return digest_of(settings)
