"""A program whose model computes for as long as a heavy one: on one thread, the same each time."""

import os

import numpy as np

from acoupi import data
from acoupi.components import types
from acoupi.components.models import BandEnergyModel
from acoupi.programs import demo

__all__ = ["ROUNDS", "ConfigSchema", "HeavyModel", "Program", "compute"]

ROUNDS = "BENCH_ROUNDS"
"""The variable that says how much a recording costs."""


def compute(rounds: int) -> None:
    """Do so much work."""
    block = np.arange(2**15, dtype=np.float64)
    for _ in range(rounds):
        np.abs(np.fft.rfft(block)).sum()


class HeavyModel(BandEnergyModel):
    """Finds what the reference model finds, at the cost of a heavy one."""

    def run(self, recording: data.Recording) -> data.ModelOutput:
        """Compute, then run."""
        compute(int(os.environ.get(ROUNDS, "0")))
        return super().run(recording)


class ConfigSchema(demo.ConfigSchema):
    """As of the demo."""


class Program(demo.Program):
    """The demo, with that model."""

    config_schema = ConfigSchema

    def configure_model(self, config: demo.ConfigSchema) -> types.Model:
        """Use that model."""
        return HeavyModel(config.detector)
