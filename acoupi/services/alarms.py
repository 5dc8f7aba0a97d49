"""Gives a program the task that looks for faults, where the sensor is to raise alarms."""

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from acoupi import devices
from acoupi.alarms.limits import Alarms
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.components.types import Store
from acoupi.errors import ConfigurationError
from acoupi.programs import AcoupiProgram
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.services.alarm_facts import FactFinder
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BEAT
from acoupi.tasks.alarms import generate_alarms_task
from acoupi.tasks.messaging import messenger_names

__all__ = ["add_alarms", "alarms_file", "calls_server", "dead_mans_task"]

logger = logging.getLogger(__name__)

CALL_INTERVAL = timedelta(seconds=60)


def alarms_file(settings: Settings) -> Path:
    """Return where the alarms of a home are stored; there is none unless they are on."""
    return settings.home / "data" / "alarms.db"


def calls_server(alarms: Alarms) -> bool:
    """Return whether the sensor itself calls a server."""
    return alarms.enabled and alarms.dead_mans_url is not None


def add_alarms(program: AcoupiProgram[Any], settings: Settings, limits: Alarms) -> None:
    """Register the task in the default queue, if alarms are on.

    Raises
    ------
    ConfigurationError
        If the program has no store of recordings, or nobody listens to the default queue.
    """
    if not limits.enabled:
        return
    store = getattr(program, "store", None)
    if not isinstance(store, Store):
        raise _impossible(program, "it has no store of recordings")
    alarms = SqliteAlarmStore(alarms_file(settings))
    find = _finder(program, store, settings, limits, alarms)
    message_store = getattr(program, "message_store", None)
    tasks: list[tuple[Callable[[], None], timedelta]] = [
        (
            generate_alarms_task(find, limits, alarms, message_store, devices.get_device_id),
            timedelta(seconds=limits.interval_seconds),
        )
    ]
    if limits.dead_mans_url is not None:
        url = limits.dead_mans_url.get_secret_value()
        tasks.append((dead_mans_task(url, store, alarms), CALL_INTERVAL))
    try:
        for task, interval in tasks:
            program.add_task(function=task, schedule=interval, queue=DEFAULT_QUEUE)
    except ValueError as error:
        raise _impossible(program, str(error)) from error


def _impossible(program: AcoupiProgram[Any], why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the program {type(program).__name__} cannot raise alarms.",
        "acoupi config set sensor.alarms.enabled false",
        why=f"{why}.",
    )


def _finder(
    program: AcoupiProgram[Any],
    store: Store,
    settings: Settings,
    limits: Alarms,
    alarms: SqliteAlarmStore,
) -> FactFinder:
    recordings = getattr(getattr(program.config, "paths", None), "recordings", None)
    folders = [settings.home / "data", *([recordings] if isinstance(recordings, Path) else [])]
    plan = getattr(program, "get_capture_plan", None)
    workers = [worker.name for worker in program.get_worker_config().workers]
    return FactFinder(
        store,
        getattr(program, "message_store", None),
        alarms,
        limits,
        run_dir=settings.run_dir,
        services=[*workers, BEAT],
        folders=folders,
        messengers=messenger_names(getattr(program, "messengers", None) or []),
        plan=None if plan is None else plan(program.config),
    )


def dead_mans_task(url: str, store: Store, alarms: SqliteAlarmStore) -> Callable[[], None]:
    """Return the task that calls the dead man's switch if there is new sound."""

    def dead_mans_task() -> None:
        """Call the address if something was recorded since the last call that arrived."""
        # requests takes 10 MB: only the worker that calls has it.
        from acoupi.components.messengers.dead_man import call_dead_mans_switch  # noqa: PLC0415

        last = store.get_last_recording()
        if last is None:
            return
        new = str(last.created_on.timestamp() + last.duration)
        if alarms.get_notes().get("called_for") == new:
            return
        if why := call_dead_mans_switch(url):
            logger.warning("The dead man's switch was not called: %s.", why)
        else:
            alarms.put_look([], {"called_for": new})

    return dead_mans_task
