"""The tasks that look for faults, if the sensor raises alarms."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from acoupi import devices
from acoupi.alarms.limits import Alarms
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.components.types import Store
from acoupi.programs import AcoupiProgram
from acoupi.services.alarm_file import alarms_file
from acoupi.services.sensor_state import fact_finder
from acoupi.stack.settings import Settings
from acoupi.tasks.alarms import generate_alarms_task
from acoupi.tasks.failures import FAILED

__all__ = ["alarm_tasks", "calls_server", "dead_mans_task"]

logger = logging.getLogger(__name__)

CALL_INTERVAL = timedelta(seconds=60)


def calls_server(alarms: Alarms) -> bool:
    """Return whether the sensor itself calls a server."""
    return alarms.enabled and alarms.dead_mans_url is not None


def alarm_tasks(
    program: AcoupiProgram[Any], settings: Settings, limits: Alarms
) -> list[tuple[Callable[[], None], timedelta]]:
    """Return the tasks that look for faults and report them, and how often they run."""
    store: Store = program.store  # type: ignore[attr-defined]
    alarms = SqliteAlarmStore(alarms_file(settings))
    find = fact_finder(program, settings, limits, alarms, learns=True)
    message_store = getattr(program, "message_store", None)
    look = generate_alarms_task(find, limits, alarms, message_store, devices.get_device_id)
    tasks = [(look, timedelta(seconds=limits.interval_seconds))]
    if limits.dead_mans_url is not None:
        url = limits.dead_mans_url.get_secret_value()
        tasks.append((dead_mans_task(url, store, alarms), CALL_INTERVAL))
    return tasks


def dead_mans_task(url: str, store: Store, alarms: SqliteAlarmStore) -> Callable[[], None]:
    """Return the task that calls the dead man's switch if there are new recordings."""

    def dead_mans_task() -> None:
        """Call the address if something was recorded since the last successful call."""
        # requests takes 10 MB: only the worker that calls has it.
        from acoupi.components.messengers.dead_man import call_dead_mans_switch  # noqa: PLC0415

        last = store.get_last_recording()
        if last is None:
            return
        new = str(last.created_on.timestamp() + last.duration)
        if alarms.get_notes().get("called_for") == new:
            return
        if why := call_dead_mans_switch(url):
            logger.warning("The dead man's switch was not called: %s.", why, extra=FAILED)
        else:
            alarms.put_look([], {"called_for": new})

    return dead_mans_task
