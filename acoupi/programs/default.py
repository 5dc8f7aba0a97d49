"""The default program: records by day, and keeps what its filters accept."""

from acoupi.components import types
from acoupi.components.saving_managers import NAME_BY_UTC
from acoupi.programs.saving import SaveRecordingFilter, saving_filters
from acoupi.programs.templates.basic import BasicProgram
from acoupi.programs.templates.configuration import BasicProgramConfiguration

__all__ = ["ConfigSchema", "Program", "SaveRecordingFilter"]


class ConfigSchema(BasicProgramConfiguration):
    """Configuration of the default program."""

    recording_saving: SaveRecordingFilter | None = None
    """What to keep; None keeps everything."""


class Program(BasicProgram[ConfigSchema]):
    """Records, and keeps what its filters accept."""

    config_schema = ConfigSchema
    filename_template = NAME_BY_UTC

    def get_recording_filters(self, config: ConfigSchema) -> list[types.RecordingSavingFilter]:
        """Return the filters of the section ``recording_saving``."""
        return saving_filters(config.recording_saving, config.timezone)
