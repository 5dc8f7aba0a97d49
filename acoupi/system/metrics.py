"""The metrics of a sensor, running or not, for commands."""

from typing import Any

from acoupi.alarms.limits import Alarms
from acoupi.components.stores.database import stores_that_only_read
from acoupi.components.types import Store
from acoupi.errors import ConfigurationError
from acoupi.home import using_home
from acoupi.programs import AcoupiProgram
from acoupi.services.alarm_file import alarms_file
from acoupi.services.metrics import metrics
from acoupi.services.sensor_state import StateFinder
from acoupi.system.sensor import Sensor

__all__ = ["sensor_metrics"]


def sensor_metrics(sensor: Sensor, program: AcoupiProgram[Any]) -> str:
    """Return the metrics as text, in the format of Prometheus.

    Raises
    ------
    ConfigurationError
        If the program has no store of recordings.
    AcoupiError
        If a store cannot be read.
    """
    if not isinstance(getattr(program, "store", None), Store):
        raise ConfigurationError(
            f"the program {sensor.program_name} has no metrics.",
            "acoupi status",
            why="it does not store its recordings with acoupi.",
        )
    limits: Alarms = sensor.own_config.alarms  # type: ignore[attr-defined]
    if not alarms_file(sensor.settings).exists():
        limits = limits.model_copy(update={"enabled": False})
    with using_home(sensor.settings.home), stores_that_only_read():
        return metrics(StateFinder(program, sensor.settings, sensor.program_name, limits)())
