"""A program whose model takes its process with it, as a fault in a library does."""

import os

from acoupi import data
from acoupi.components import types
from acoupi.programs import sounds

__all__ = ["Program"]


class _Deadly(types.Model):
    name = "Deadly"

    def run(self, recording: data.Recording) -> data.ModelOutput:
        """End the process at a recording of half a second."""
        if recording.duration < 1:
            os._exit(9)
        return data.ModelOutput(name_model=self.name, recording=recording)


class Program(sounds.Program):
    """Analyses nothing."""

    def configure_model(self, config: sounds.ConfigSchema) -> types.Model:
        """Return the model."""
        del config
        return _Deadly()
