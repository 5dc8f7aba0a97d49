"""Collects the state of the whole sensor, in the worker of the default queue or a command."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import acoupi
from acoupi import devices
from acoupi.alarms.limits import Alarms
from acoupi.audio import system_clock
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.components.types import Store
from acoupi.config.sensor import load_sensor
from acoupi.services.alarm_facts import FactFinder
from acoupi.services.alarm_file import alarms_file
from acoupi.services.metrics import SensorState
from acoupi.services.space_state import space_state
from acoupi.space import disk_sizes
from acoupi.stack.doors import WEB
from acoupi.stack.extra_services import extra_service_names
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BEAT
from acoupi.tasks.messaging import messenger_names

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = ["StateFinder", "fact_finder"]


def fact_finder(
    program: "AcoupiProgram[Any]",
    settings: Settings,
    limits: Alarms,
    alarms: SqliteAlarmStore | None,
    *,
    learns: bool,
) -> FactFinder:
    """Return the `FactFinder` of a sensor."""
    plan = getattr(program, "get_capture_plan", None)
    return FactFinder(
        program.store,  # type: ignore[attr-defined]
        getattr(program, "message_store", None),
        alarms,
        limits,
        run_dirs=(settings.run_dir, settings.home / "run"),
        services=_services(program, settings),
        folders=_folders(program, settings),
        messengers=messenger_names(getattr(program, "messengers", None) or []),
        plan=None if plan is None else plan(program.config),
        learns=learns,
    )


def _services(program: "AcoupiProgram[Any]", settings: Settings) -> Sequence[str]:
    """Return the names of all services that have a pulse."""
    workers = [worker.name for worker in program.get_worker_config().workers]
    page = [WEB] if load_sensor(settings).web.enabled else []
    return [*workers, BEAT, *page, *extra_service_names(settings)]


def _folders(program: "AcoupiProgram[Any]", settings: Settings) -> Sequence[Path]:
    """Return the folders that the sensor writes to."""
    recordings = getattr(getattr(program.config, "paths", None), "recordings", None)
    return [settings.home / "data", *([recordings] if isinstance(recordings, Path) else [])]


class StateFinder:
    """Collects the state of a sensor, and changes nothing.

    Parameters
    ----------
    program
        A program with a store of recordings; if that is not acoupi's own, some facts stay unknown.
    settings
        Settings of the home.
    name
        Configuration of the program, as it was set up.
    limits
        The limits of the alarms.
    """

    def __init__(
        self, program: "AcoupiProgram[Any]", settings: Settings, name: str, limits: Alarms
    ) -> None:
        self._store: Store = program.store  # type: ignore[attr-defined]
        self._messages = getattr(program, "message_store", None)
        is_kept = limits.enabled and alarms_file(settings).exists()
        self._alarms = SqliteAlarmStore(alarms_file(settings)) if is_kept else None
        self._find = fact_finder(program, settings, limits, self._alarms, learns=False)
        self._folders = _folders(program, settings)
        self._info = {"version": acoupi.__version__, "program": name}

    def __call__(self) -> SensorState:
        """Return the state of the sensor now.

        Raises
        ------
        MetadataStoreError, MessageStoreError, AlarmStoreError
            If a store cannot be read.
        """
        facts, _ = self._find({} if self._alarms is None else self._alarms.get_notes())
        deployments = self._store.get_deployments()
        running = [one for one in deployments[-1:] if one.ended_on is None]
        return SensorState(
            facts=facts,
            pulses=self._find.pulses(),
            alarms=None if self._alarms is None else self._alarms.get_active(),
            info={**self._info, "device": devices.get_device_id()},
            deployment=running[0] if running else None,
            last_recording=self._ask("get_last_recording", None),
            recordings=self._ask("count_recordings", {}),
            analyses=self._ask("count_analyses", {}),
            detections=self._ask("count_detections_by_model", {}),
            messages=_asked(self._messages, "count_deliveries", {}),
            disks={folder: disk_sizes(folder) for folder in self._folders},
            clock_error_s=system_clock.read_clock_state().error,
            space=None
            if self._store.space is None
            else space_state(self._store, self._store.space),
        )

    def _ask(self, method: str, otherwise: Any) -> Any:
        return _asked(self._store, method, otherwise)


def _asked(store: object, method: str, otherwise: Any) -> Any:
    """Return data from a store; stores of published programs have less."""
    ask = getattr(store, method, None)
    return otherwise if ask is None else ask()
