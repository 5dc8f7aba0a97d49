"""A sensor to try without a microphone, and an example of a program.

It records a synthetic soundscape for three seconds in every five, looks for
sounds with the reference model, keeps the recordings with a clear one and deletes
the others, and writes a message about each to a file (and sends it to the servers
of ``messaging.http`` and ``messaging.mqtt``, if set). All intervals are short, so
that a minute shows everything a sensor does:

    acoupi setup --program acoupi.programs.demo --no-prompt
    acoupi deployment start --name demo --latitude 51.54 --longitude -0.01

A program is a configuration with suitable defaults, and a subclass of a template
with what is different. Your own program looks like this one.
"""

import datetime
from typing import Any

from pydantic import Field

from acoupi import components
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import types
from acoupi.components.audio_recorder import MicrophoneConfig
from acoupi.components.messengers import FileConfig
from acoupi.components.models import BandEnergyConfig, BandEnergyModel
from acoupi.components.saving_managers import NAME_BY_UTC
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.programs.fields import TimeOfDay
from acoupi.programs.templates import (
    AudioConfiguration,
    DetectionProgram,
    DetectionProgramConfiguration,
    MessagingConfig,
)

__all__ = ["ConfigSchema", "Program"]


class DemoMicrophone(MicrophoneConfig):
    """A simulated microphone."""

    simulated: SimulatedAudio | None = Field(default_factory=SimulatedAudio)


class DemoRecording(AudioConfiguration):
    """Three seconds of every five, all day."""

    interval: float = Field(default=5, gt=0, le=86_400, allow_inf_nan=False)
    schedule_start: TimeOfDay = datetime.time()
    schedule_end: TimeOfDay = datetime.time()


class DemoMessaging(MessagingConfig):
    """Messages every ten seconds, to a file."""

    message_send_interval: float = Field(default=10, gt=0, le=86_400, allow_inf_nan=False)
    heartbeat_interval: float = Field(default=60, gt=0, le=86_400, allow_inf_nan=False)
    file: FileConfig | None = Field(default_factory=FileConfig)


class ConfigSchema(DetectionProgramConfiguration):
    """Configuration of the demo program."""

    microphone: DemoMicrophone = Field(default_factory=DemoMicrophone)
    recording: DemoRecording = Field(default_factory=DemoRecording)
    messaging: DemoMessaging = Field(default_factory=DemoMessaging)
    detector: BandEnergyConfig = Field(default_factory=BandEnergyConfig)
    saving_threshold: float = Field(
        default=0.5, ge=0, le=1, description="Keep recordings with a sound of at least this score."
    )
    management_interval: float = Field(
        default=10,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds between two rounds of keeping or deleting recordings.",
    )


class Program(DetectionProgram[ConfigSchema]):
    """Records a synthetic soundscape, and shows everything a sensor does."""

    config_schema = ConfigSchema
    filename_template = NAME_BY_UTC

    def configure_model(self, config: ConfigSchema) -> types.Model:
        """Use the reference model."""
        return BandEnergyModel(config.detector)

    def get_message_factories(self, config: ConfigSchema) -> list[types.MessageBuilder[Any]]:
        """Report every recording in which a sound was detected."""
        return [components.DetectionThresholdMessageBuilder(config.detections.threshold)]

    def get_recording_filters(self, config: ConfigSchema) -> list[types.RecordingSavingFilter]:
        """Keep recordings with a clear sound."""
        return [components.SavingThreshold(config.saving_threshold)]

    def register_file_management_task(self, config: ConfigSchema) -> None:
        """Keep or delete more often than every two minutes."""
        self.add_task(
            self.create_file_management_task(config),
            schedule=config.management_interval,
            queue=DEFAULT_QUEUE,
        )
