"""A program whose model waits for a gate to open, so that a test can end it in the middle."""

import os
import time
from pathlib import Path

from acoupi import data
from acoupi.components import types
from acoupi.components.models import BandEnergyModel
from acoupi.programs import demo

__all__ = ["ConfigSchema", "GatedModel", "Program"]

GATE = "TEST_GATE"
"""The variable that names the folder: each run notes itself there, and goes on once it is open."""
DEADLINE = 120.0


class GatedModel(BandEnergyModel):
    """Finds what the reference model finds, once it may."""

    def run(self, recording: data.Recording) -> data.ModelOutput:
        """Note that it runs, wait, and run."""
        gate = Path(os.environ[GATE])
        (gate / f"{recording.id}-{os.getpid()}").touch()
        end = time.monotonic() + DEADLINE
        while not (gate / "open").exists() and time.monotonic() < end:
            time.sleep(0.02)
        return super().run(recording)


class ConfigSchema(demo.ConfigSchema):
    """As of the demo."""


class Program(demo.Program):
    """The demo, with that model."""

    config_schema = ConfigSchema

    def configure_model(self, config: demo.ConfigSchema) -> types.Model:
        """Use that model."""
        return GatedModel(config.detector)
