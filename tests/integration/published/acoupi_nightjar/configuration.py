"""What users of the sensor can set."""
# Written as it often is in the field, for Python 3.9.
# ruff: noqa: UP045

import datetime
from pathlib import Path
from typing import Annotated, Optional

from pydantic import BaseModel, Field

from acoupi.components.audio_recorder import MicrophoneConfig
from acoupi.programs.core import NoUserPrompt
from acoupi.programs.templates import (
    AudioConfiguration,
    DetectionProgramConfiguration,
    MessagingConfig,
    PathsConfiguration,
)


class NightAudio(AudioConfiguration):
    """Records at night, seldom."""

    duration: int = 3
    interval: int = 10
    chunksize: Annotated[int, NoUserPrompt] = 8192
    schedule_start: datetime.time = Field(default=datetime.time(hour=19, minute=0, second=0))
    schedule_end: datetime.time = Field(default=datetime.time(hour=7, minute=0, second=0))


class SavingPaths(PathsConfiguration):
    """Two folders for what was heard, and what was perhaps heard."""

    heard: str = "nightjars"
    unsure: str = "no_nightjars"


class SavingFilters(BaseModel):
    """Which files are worth a place on the card."""

    starttime: datetime.time = datetime.time(hour=19)
    endtime: datetime.time = datetime.time(hour=7)
    before_dawndusk_duration: int = 0
    after_dawndusk_duration: int = 0
    frequency_duration: int = 0
    frequency_interval: int = 0
    saving_threshold: float = 0.3
    tags: list[str] = Field(default_factory=list)


class Summaries(BaseModel):
    """How often, and in which bands."""

    interval: int = 3600
    low_band_threshold: Optional[float] = 0.0
    mid_band_threshold: Optional[float] = 0.0
    high_band_threshold: Optional[float] = 0.0


class ModelSettings(BaseModel):
    """What the model takes for a nightjar."""

    detection_threshold: float = 0.4
    weights: Optional[Path] = None


class ConfigSchema(DetectionProgramConfiguration):
    """All of it."""

    microphone: MicrophoneConfig
    recording: NightAudio = Field(default_factory=NightAudio)
    paths: SavingPaths = Field(default_factory=SavingPaths)
    messaging: MessagingConfig = Field(default_factory=MessagingConfig)
    model: ModelSettings = Field(default_factory=ModelSettings)
    saving_filters: Optional[SavingFilters] = Field(default_factory=SavingFilters)
    summariser: Optional[Summaries] = Field(default_factory=Summaries)
