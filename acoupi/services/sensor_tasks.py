"""Gives a program the sensor's own tasks (alarms, metrics, hub, …) that are turned on."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acoupi.alarms.limits import Alarms
from acoupi.components.types import Store
from acoupi.config.hub import Hub
from acoupi.config.sensor import Metrics
from acoupi.home import expanded
from acoupi.opening import at, opened_folder
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.services.backlog import impossible, limit_backlog
from acoupi.stack.settings import Settings
from acoupi.writing import write_atomic

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = ["add_sensor_tasks", "metrics_file", "metrics_task"]

OWN_FILE = "acoupi.prom"
HOME_ASSISTANT_INTERVAL = timedelta(seconds=60)
Tasks = list[tuple[Callable[[], None], timedelta]]


def add_sensor_tasks(
    program: "AcoupiProgram[Any]", settings: Settings, name: str, sensor: Any
) -> None:
    """Register the tasks that are turned on in ``config/sensor.json``, in the default queue.

    Raises
    ------
    ConfigurationError
        If the program has no store of recordings, no worker has the default queue, the backlog
        policy is not possible, or the hub cannot analyse what is left to it.
    """
    if sensor.analysis.where != "sensor":
        _leave_to_hub(program, sensor)
    limit_backlog(program, sensor.backlog)
    store = getattr(program, "store", None)
    if isinstance(store, Store):
        store.hub_audio = sensor.hub.sends
    if sensor.disk.enabled:
        _add(program, "sensor.disk.enabled false", lambda: _space_tasks(program, settings, sensor))
    if sensor.alarms.enabled:
        setting = "sensor.alarms.enabled false"
        _add(program, setting, lambda: _alarm_tasks(program, settings, sensor.alarms))
    if sensor.hub.url is not None:
        _add(program, "sensor.hub.url null", lambda: _hub_tasks(program, settings, sensor))
    if metrics_file(settings, sensor) is not None:
        in_file = sensor.metrics.textfile is not None
        setting = "sensor.metrics.textfile null" if in_file else "sensor.web.metrics false"
        _add(program, setting, lambda: _metrics_tasks(program, settings, name, sensor))
    if told := _tell_home_assistant(program):
        setting = "messaging.mqtt.home_assistant false"
        _add(program, setting, lambda: _state_tasks(program, settings, name, sensor, told))


def _add(program: "AcoupiProgram[Any]", turned_off: str, make: Callable[[], Tasks]) -> None:
    """Register tasks; `turned_off` is the setting that turns them off."""
    refused = partial(impossible, turned_off.partition(" ")[0], turned_off)
    if not isinstance(getattr(program, "store", None), Store):
        raise refused("it has no store of recordings")
    try:
        for task, interval in make():
            program.add_task(function=task, schedule=interval, queue=DEFAULT_QUEUE)
    except ValueError as error:
        raise refused(str(error)) from error


# Most sensors do without these; imported here, only their users pay for them.


def _space_tasks(program: "AcoupiProgram[Any]", settings: Settings, sensor: Any) -> Tasks:
    from acoupi.services.space import space_tasks  # noqa: PLC0415

    return space_tasks(program, settings, sensor.disk)


def _alarm_tasks(program: "AcoupiProgram[Any]", settings: Settings, limits: Alarms) -> Tasks:
    from acoupi.services.alarms import alarm_tasks  # noqa: PLC0415

    return alarm_tasks(program, settings, limits)


def _leave_to_hub(program: "AcoupiProgram[Any]", sensor: Any) -> None:
    from acoupi.services.hub_analysis import leave_to_hub  # noqa: PLC0415

    leave_to_hub(program, sensor)


def _hub_tasks(program: "AcoupiProgram[Any]", settings: Settings, sensor: Any) -> Tasks:
    from acoupi.components.stores import SqliteStore  # noqa: PLC0415

    store: Any = getattr(program, "store", None)
    if not isinstance(store, SqliteStore):
        raise ValueError("its store is of a kind that cannot report to a hub")  # noqa: TRY004
    path, messages = store.db_path, getattr(program, "message_store", None)
    hub: Hub = sensor.hub

    @cache
    def task() -> Callable[[], None]:  # made in the worker that sends
        from acoupi.services.hub import make_hub_task, make_reporter  # noqa: PLC0415

        reporter = make_reporter(path, program, leaves_all=sensor.analysis.where == "both")
        return make_hub_task(
            path,
            messages,
            hub,
            reporter=reporter,
            settings=settings,
            config=program.config,
            logger=program.logger,
        )

    def hub_task() -> None:
        """Report to the hub what it does not have."""
        task()()

    return [(hub_task, timedelta(seconds=hub.interval_seconds))]


def _metrics_tasks(
    program: "AcoupiProgram[Any]", settings: Settings, name: str, sensor: Any
) -> Tasks:
    wanted: Metrics = sensor.metrics
    find = _finder(program, settings, name, sensor)
    path = metrics_file(settings, sensor)
    assert path is not None
    task = metrics_task(find, path)
    return [(task, timedelta(seconds=wanted.interval_seconds))]


def _tell_home_assistant(program: "AcoupiProgram[Any]") -> list[Any]:
    """Return the messengers that announce the sensor to Home Assistant."""
    messengers = getattr(program, "messengers", None) or []
    return [one for one in messengers if getattr(one, "home_assistant", False)]


def _state_tasks(
    program: "AcoupiProgram[Any]", settings: Settings, name: str, sensor: Any, told: list[Any]
) -> Tasks:
    find = _finder(program, settings, name, sensor)

    def home_assistant_task() -> None:
        """Publish the state of every entity that has changed."""
        from acoupi.services.home_assistant import publish_states  # noqa: PLC0415

        publish_states(program, find(), told)

    return [(home_assistant_task, HOME_ASSISTANT_INTERVAL)]


def _finder(
    program: "AcoupiProgram[Any]", settings: Settings, name: str, sensor: Any
) -> Callable[[], Any]:
    @cache
    def finder() -> Callable[[], Any]:
        from acoupi.services.sensor_state import StateFinder  # noqa: PLC0415

        return StateFinder(program, settings, name, sensor.alarms)

    def find() -> Any:
        return finder()()

    return find


def metrics_file(settings: Settings, sensor: Any) -> Path | None:
    """Return the file of the metrics; None if they are turned off.

    Without a textfile for node_exporter, it is beside the pulse of its worker, for the page.
    """
    if sensor.metrics.textfile is not None:
        return settings.home / expanded(sensor.metrics.textfile)
    return settings.run_dir / OWN_FILE if sensor.web.enabled and sensor.web.metrics else None


def metrics_task(find: Callable[[], Any], path: Path) -> Callable[[], None]:
    """Return the task that writes the metrics into a text file."""

    def metrics_task() -> None:
        """Write the metrics of the sensor; readers see the old file or the new one."""
        from acoupi.services.metrics import metrics  # noqa: PLC0415 - see above

        path.parent.mkdir(parents=True, exist_ok=True)
        with opened_folder(path.parent) as folder:
            write_atomic(at(folder, path.name), metrics(find()))

    return metrics_task
