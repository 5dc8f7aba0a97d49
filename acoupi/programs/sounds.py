"""A sensor that detects sounds of animals, without naming the species.

It looks at every recording with the reference detector (`acoupi.components.models`), keeps the
recordings in which something was heard, reports them, and says once an hour that it lives. Its
hours can follow the sun. ``acoupi setup --preset bats`` (birds, insects) sets it up with sense.
"""

from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from acoupi import components
from acoupi.components import types
from acoupi.components.models import BandEnergyConfig, BandEnergyModel
from acoupi.components.saving_managers import NAME_BY_UTC
from acoupi.programs.templates import (
    AudioConfiguration,
    DetectionProgram,
    DetectionProgramConfiguration,
)

__all__ = ["ConfigSchema", "Program", "SunRecording"]


class SunRecording(AudioConfiguration):
    """How long, how often and when to record: by the clock, or by the sun."""

    follow_sun: Literal["night", "day"] | None = Field(
        default=None,
        description="Record from dusk to dawn (night) or from dawn to dusk (day), at the "
        "deployment; none: from schedule_start to schedule_end. If it does not get dark "
        "for weeks (in June, north of 60 degrees), there is no night.",
    )
    sun_margin: float = Field(
        default=30,
        ge=0,
        le=720,
        allow_inf_nan=False,
        description="Minutes to record before the night (or day) starts and after it ends.",
    )


class ConfigSchema(DetectionProgramConfiguration):
    """Configuration of the program."""

    recording: SunRecording = Field(default_factory=SunRecording)
    detector: BandEnergyConfig = Field(default_factory=BandEnergyConfig)
    saving_threshold: float | None = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Keep recordings with a sound of at least this score; none: keep all.",
    )


class Program(DetectionProgram[ConfigSchema]):
    """Detects sounds of animals, without naming the species."""

    config_schema = ConfigSchema
    filename_template = NAME_BY_UTC
    notice: ClassVar[str] = (
        "A detection means that something rose above the background there: a call, often an "
        "echo or a noise, and never which animal it was. No detection does not mean silence: "
        "constant sound (a cricket, a pond of frogs) counts as background. "
        "How well it does: docs/detector.md; how often it is right at your site: acoupi review"
    )

    def configure_model(self, config: ConfigSchema) -> types.Model:
        """Use the reference detector."""
        return BandEnergyModel(config.detector)

    def get_recording_conditions(self, config: ConfigSchema) -> list[types.RecordingCondition]:
        """Record by the sun, if that is chosen; else by the clock."""
        part = config.recording.follow_sun
        if part is None:
            return super().get_recording_conditions(config)
        return [
            components.FollowsTheSun(
                part,
                config.recording.sun_margin,
                ZoneInfo(str(config.timezone)),
                get_deployment=self.store.get_current_deployment,
            )
        ]

    def get_message_factories(self, config: ConfigSchema) -> list[types.MessageBuilder[Any]]:
        """Report every recording in which a sound was detected."""
        return [components.DetectionThresholdMessageBuilder(config.detections.threshold)]

    def get_recording_filters(self, config: ConfigSchema) -> list[types.RecordingSavingFilter]:
        """Keep recordings with a clear sound."""
        if config.saving_threshold is None:
            return []
        return [components.SavingThreshold(config.saving_threshold)]
