"""The connected program: the default program, with messages."""

import datetime

from pydantic import Field

from acoupi.components import types
from acoupi.components.saving_managers import NAME_BY_UTC
from acoupi.programs import saving
from acoupi.programs.fields import TimeOfDay
from acoupi.programs.templates.configuration import MessagingProgramConfiguration
from acoupi.programs.templates.messaging import MessagingProgram

__all__ = ["Connected_ConfigSchema", "Program", "SaveRecordingFilter"]


class SaveRecordingFilter(saving.SaveRecordingFilter):
    """What to keep: a recording is kept if any of these accepts it."""

    starttime: TimeOfDay = Field(
        default=datetime.time(hour=18, minute=30, second=0),
        description="Keep recordings made from this local time of day...",
    )


class Connected_ConfigSchema(MessagingProgramConfiguration):
    """Configuration of the connected program."""

    recording_saving: SaveRecordingFilter | None = None
    """What to keep; None keeps everything."""


class Program(MessagingProgram[Connected_ConfigSchema]):
    """Records, keeps what its filters accept, and sends heartbeats."""

    config_schema = Connected_ConfigSchema
    filename_template = NAME_BY_UTC

    def get_recording_filters(
        self, config: Connected_ConfigSchema
    ) -> list[types.RecordingSavingFilter]:
        """Return the filters of the section ``recording_saving``."""
        return saving.saving_filters(config.recording_saving, config.timezone)
