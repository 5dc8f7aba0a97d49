"""How the programs made from templates are configured."""

import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from acoupi.audio.formats import FileFormat
from acoupi.components.audio_recorder import MicrophoneConfig
from acoupi.components.message_stores import KEEP_DAYS
from acoupi.components.messengers import FileConfig, HTTPConfig, MQTTConfig
from acoupi.components.messengers.plug_ins import with_plug_ins
from acoupi.home import home_dir, spool_dir
from acoupi.programs.core.prompts import NoUserPrompt
from acoupi.programs.fields import LocalPath, TimeOfDay, TimeZoneName
from acoupi.rights import Folder, Kept, Sending, Spool, WrittenFile

__all__ = [
    "AudioConfiguration",
    "BasicProgramConfiguration",
    "DetectionProgramConfiguration",
    "DetectionsConfiguration",
    "MessagingConfig",
    "MessagingProgramConfiguration",
    "PathsConfiguration",
]

LONGEST_INTERVAL = 366 * 86_400
"""Seconds between two runs of a task."""


class AudioConfiguration(BaseModel):
    """How long, how often and when to record."""

    duration: float = Field(
        default=3,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Length of a recording, seconds.",
    )
    interval: float = Field(
        default=10,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds from the start of a recording to the start of the next, "
        "on multiples of it since midnight UTC. If it is at most the duration: no gaps.",
    )
    chunksize: Annotated[int, NoUserPrompt] = Field(
        default=8192, gt=0, le=1_048_576, description="Frames processed at once."
    )
    schedule_start: TimeOfDay = Field(
        default=datetime.time(hour=6, minute=0, second=0),
        description="Local time of day to start recording.",
    )
    schedule_end: TimeOfDay = Field(
        default=datetime.time(hour=22, minute=30, second=0),
        description="Local time of day to stop. Before the start: over midnight. "
        "The same as the start: all day.",
    )

    bits: Annotated[Literal[16, 24], NoUserPrompt] = Field(
        default=16, description="Bits of a sample."
    )
    file_format: Annotated[FileFormat, NoUserPrompt] = Field(
        default="wav",
        description="Format of the files: wav, or flac, which is smaller and as exact.",
    )
    ring_seconds: Annotated[float | None, NoUserPrompt] = Field(
        default=None,
        ge=10,
        allow_inf_nan=False,
        description="Seconds of sound kept in memory, so that a late task or a busy disk "
        "loses nothing; none: 30.",
    )
    ring_bytes: Annotated[int | None, NoUserPrompt] = Field(
        default=None,
        gt=0,
        description="The same as memory in bytes, in place of ring_seconds.",
    )
    idle_close: Annotated[float | None, NoUserPrompt] = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Close the microphone if the next recording is more than this many "
        "seconds away; none: it stays open.",
    )


class PathsConfiguration(BaseModel):
    """Where things are kept."""

    tmp_audio: Annotated[LocalPath, Folder, Spool] = Field(
        default_factory=spool_dir, description="Where recordings wait for the model."
    )
    recordings: Annotated[LocalPath, Folder, Kept] = Field(
        default_factory=lambda: home_dir() / "data" / "recordings",
        description="Where recordings are kept.",
    )
    db_metadata: Annotated[LocalPath, WrittenFile] = Field(
        default_factory=lambda: home_dir() / "data" / "metadata.db",
        description="The database of recordings and detections.",
    )

    @model_validator(mode="after")
    def validate_folders(self) -> Self:
        """Refuse the same folder for waiting and for kept recordings."""
        if self.tmp_audio == self.recordings:
            raise ValueError("tmp_audio and recordings must be different folders")
        return self


class BasicProgramConfiguration(BaseModel):
    """Configuration of a program that records."""

    timezone: TimeZoneName = Field(
        default="Europe/London",
        description="Time zone of the local times, by its IANA name.",
        # The default is that of published programs; setup takes the zone of the machine.
        json_schema_extra={"choices": "timezones", "suggested": "timezone"},
    )
    microphone: MicrophoneConfig = Field(default_factory=MicrophoneConfig)
    recording: AudioConfiguration = Field(default_factory=AudioConfiguration)
    paths: PathsConfiguration = Field(default_factory=PathsConfiguration)


@with_plug_ins
class MessagingConfig(BaseModel):
    """Where messages go, and how often.

    Each destination that is configured gets every message. Messengers that are
    installed as packages of their own have their sections here, too.
    """

    messages_db: Annotated[LocalPath, WrittenFile, Sending] = Field(
        default_factory=lambda: home_dir() / "data" / "messages.db",
        description="The database of waiting messages.",
    )
    message_send_interval: float = Field(
        default=120,
        gt=0,
        le=LONGEST_INTERVAL,
        allow_inf_nan=False,
        description="Seconds between attempts to send waiting messages.",
    )
    max_messages: int | None = Field(
        default=None, gt=0, description="Most messages to send at once; none: all that wait."
    )
    message_order: Literal["oldest_first", "newest_first"] = Field(
        default="oldest_first", description="Which messages to send first."
    )
    heartbeat_interval: float = Field(
        default=60 * 60,
        gt=0,
        le=LONGEST_INTERVAL,
        allow_inf_nan=False,
        description="Seconds between heartbeats.",
    )
    keep_days: Annotated[float | None, NoUserPrompt] = Field(
        default=KEEP_DAYS,
        gt=0,
        le=36_500,
        description="Days after which messages that every destination has are removed from "
        "messages_db; none: never.",
    )
    http: HTTPConfig | None = None
    mqtt: MQTTConfig | None = None
    file: FileConfig | None = None


class MessagingProgramConfiguration(BasicProgramConfiguration):
    """Configuration of a program that sends messages."""

    messaging: MessagingConfig = Field(default_factory=MessagingConfig)


class DetectionsConfiguration(BaseModel):
    """What counts as a detection."""

    threshold: float = Field(
        default=0.2, ge=0, le=1, description="Lowest score to keep; 0 keeps everything."
    )


class DetectionProgramConfiguration(MessagingProgramConfiguration):
    """Configuration of a program that runs a model on its recordings."""

    detections: DetectionsConfiguration = Field(default_factory=DetectionsConfiguration)
