"""Gives a program the tasks by which the sensor looks after itself, where they are turned on."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from acoupi.alarms.limits import Alarms
from acoupi.components.types import Store
from acoupi.config.sensor import Metrics
from acoupi.errors import ConfigurationError
from acoupi.opening import at, opened_folder
from acoupi.programs import AcoupiProgram
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.stack.settings import Settings
from acoupi.writing import write_atomic

__all__ = ["add_sensor_tasks", "metrics_file", "metrics_task"]

Tasks = list[tuple[Callable[[], None], timedelta]]


def add_sensor_tasks(
    program: AcoupiProgram[Any], settings: Settings, name: str, sensor: Any
) -> None:
    """Register what is turned on in ``config/sensor.json`` in the default queue.

    Raises
    ------
    ConfigurationError
        If the program has no store of recordings, or nobody listens to the default queue.
    """
    # Most sensors do without: each pays for what it has.
    if sensor.alarms.enabled:
        from acoupi.services.alarms import alarm_tasks  # noqa: PLC0415

        _add(program, "alarms.enabled", lambda: alarm_tasks(program, settings, sensor.alarms))
    if sensor.metrics.textfile is not None:
        _add(program, "metrics.textfile", lambda: _metrics_tasks(program, settings, name, sensor))


def _add(program: AcoupiProgram[Any], setting: str, make: Callable[[], Tasks]) -> None:
    try:
        if not isinstance(getattr(program, "store", None), Store):
            raise ValueError("it has no store of recordings")
        for task, interval in make():
            program.add_task(function=task, schedule=interval, queue=DEFAULT_QUEUE)
    except ValueError as error:
        raise ConfigurationError(
            f"the program {type(program).__name__} cannot have sensor.{setting}.",
            f"acoupi config set sensor.{setting} {'false' if 'enabled' in setting else 'null'}",
            why=f"{error}.",
        ) from error


def _metrics_tasks(
    program: AcoupiProgram[Any], settings: Settings, name: str, sensor: Any
) -> Tasks:
    wanted: Metrics = sensor.metrics
    task = metrics_task(program, settings, name, sensor.alarms, metrics_file(settings, wanted))
    return [(task, timedelta(seconds=wanted.interval_seconds))]


def metrics_file(settings: Settings, wanted: Metrics) -> Path:
    """Return the path of the text file, which must be turned on."""
    assert wanted.textfile is not None
    return settings.home / wanted.textfile.expanduser()


def metrics_task(
    program: AcoupiProgram[Any], settings: Settings, name: str, limits: Alarms, path: Path
) -> Callable[[], None]:
    """Return the task that writes the metrics into a text file."""
    find: Any = None

    def metrics_task() -> None:
        """Write the metrics of the sensor; whoever reads sees the old file or the new one."""
        from acoupi.services.metrics import metrics  # noqa: PLC0415 - see above
        from acoupi.services.sensor_state import StateFinder  # noqa: PLC0415

        nonlocal find
        find = find or StateFinder(program, settings, name, limits)
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened_folder(path.parent) as folder:
            write_atomic(at(folder, path.name), metrics(find()))

    return metrics_task
