"""The sensor for its web page: implements `acoupi.web.sensor.Sensor` for a home.

It runs where the services run, in a container or not, without contacting an engine: it judges
services by their pulses.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import __version__, clock
from acoupi.audio import system_clock
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteReader
from acoupi.components.stores.database import stores_that_only_read
from acoupi.config.page_keys import Keys, read_keys, write_keys
from acoupi.config.sensor import load_sensor
from acoupi.data import Deployment
from acoupi.deployed import known_deployed
from acoupi.devices import get_device_info
from acoupi.door.caller import owner_key
from acoupi.effort import CapturePlan, EffortHistory
from acoupi.errors import AcoupiError, ConfigurationError, DeviceError, StoreError
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.heard import RecordingFile, VerdictRow
from acoupi.home import using_home
from acoupi.opening import open_binary, read_text
from acoupi.services.alarm_facts import hours_until_full
from acoupi.stack.settings import Settings
from acoupi.stack.web import keys_file
from acoupi.system.alarms import alarm_store, every_alarm, suspect_times
from acoupi.system.home_files import configured_path
from acoupi.system.page_files import RecordingFiles
from acoupi.system.pending import pending_of
from acoupi.system.reading import reader_of, store_file, store_of, zone_of
from acoupi.system.sensor import running_sensor
from acoupi.system.state import sensor_status
from acoupi.system.state import store_of as store_that_is_there

__all__ = ["PageSensor"]

JsonObject = dict[str, Any]

LEVEL_DAYS, ALARM_DAYS = 7, 30
MOST_LEVELS, MOST_LETTERS = 500, 50
PLAN_DAYS = 2
"""How far ahead to look for the next planned recording."""
MOST_METRICS = 1024 * 1024
"""Most bytes of the metrics."""
LOG_END = 256 * 1024
"""Bytes at the end of a log that are read."""
OF_THE_OWNER = frozenset({
    "add_verdict",
    "apply_settings",
    "set_password",
    "start_deployment",
    "stop_deployment",
})  # fmt: skip
"""Calls at the door that need the owner's key."""
TROUBLE = (" ERROR ", " CRITICAL ")


class PageSensor:
    """A sensor, for its page.

    Parameters
    ----------
    settings
        Of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: SqliteReader | None = None
        self._files = RecordingFiles(settings, lambda: self.reader)

    def close(self) -> None:
        """Close the store."""
        if self._reader is not None:
            self._reader.close()

    def find(self, kind: str, path: str) -> Any:
        """Return the object that answers a call at the door: this, its reader, or None."""
        return self if kind == "sensor" else self.reader if kind == "reader" else None

    @property
    def reader(self) -> SqliteReader:
        """The reader of recordings and detections; it is empty if there is no store yet."""
        if self._reader is None:
            self._reader = SqliteReader(store_file(self._settings))
        return self._reader

    @property
    def child_reader(self) -> tuple[str, str]:
        """How a separate process reads the same data."""
        return "acoupi.system.page:reader_at", str(self._settings.home)

    # State

    def metrics(self) -> str:
        """Return the metrics as they were last written; a worker writes them once a minute."""
        from acoupi.services.sensor_tasks import metrics_file  # noqa: PLC0415 - Celery

        path = metrics_file(self._settings, load_sensor(self._settings))
        try:
            return read_text(path, MOST_METRICS) if path is not None else ""
        except OSError as error:
            raise DeviceError(
                "there are no metrics yet.",
                "ask again in a minute",
                why="the worker of the default queue has not written any since it started.",
            ) from error

    def now(self) -> JsonObject:
        """Return the state of the sensor."""
        settings = self._settings
        with using_home(settings.home):
            sensor = running_sensor(settings)
            status = sensor_status(sensor)
        state = system_clock.read_clock_state()
        words = status.model_dump(mode="json")
        return {
            "time": clock.utc_now().isoformat(),
            "timezone": getattr(zone_of(settings), "key", "UTC"),
            "device": get_device_info().id,
            "version": __version__,
            "ok": status.is_well,
            "status": words | {"pending": pending_of(settings)},
            "alarms": words["alarms"],
            "next_recording": self._next_recording(),
            "disks": list(self._disks()),
            "clock": {"synchronised": state.is_synchronised, "error_s": state.error},
        }

    def _next_recording(self) -> str | None:
        current = known_deployed(self._settings.deployment_file).current
        now = clock.utc_now()
        try:
            store = store_that_is_there(self._settings)
            if current is None or store is None:
                return None
            history = store.get_effort(current, now - timedelta(days=1), now)
        except StoreError:
            return None  # the state of the program reports it
        found = None if history is None else next_slot(history, now)
        return None if found is None else found.isoformat()

    def _disks(self) -> Iterator[JsonObject]:
        """Yield each disk that recordings or messages are written to, once."""
        home, seen = self._settings.home, set()
        named = ("paths.tmp_audio", "paths.recordings", "paths.db_metadata")
        for path in [home, *(configured_path(self._settings, name) for name in named)]:
            if path is None or not path.exists() or path.stat().st_dev in seen:
                continue
            seen.add(path.stat().st_dev)
            found = os.statvfs(path)
            free = found.f_bavail * found.f_frsize
            yield {
                "path": str(path),
                "free_bytes": free,
                "total_bytes": found.f_blocks * found.f_frsize,
                "hours_left": self._hours_left(free),
            }

    def _hours_left(self, free: float) -> float | None:
        """Return when a disk will be full, from the samples of alarms; None if they are off."""
        store = alarm_store(self._settings)
        if store is None:
            return None
        try:
            samples = store.get_notes().get("free", [])
        except AcoupiError:
            return None
        hours = hours_until_full(samples, free, clock.utc_now())
        return None if hours is None or hours == float("inf") else hours

    # History

    def health(self) -> JsonObject:
        """Return recent events."""
        since = clock.utc_now() - timedelta(days=ALARM_DAYS)
        alarms = [one.model_dump(mode="json") for one in every_alarm(self._settings, since)]
        return {
            "levels": self._levels(),
            "alarms": alarms,
            "dead_letters": self._dead_letters(),
            "errors": list(self._errors()),
        }

    def _levels(self) -> list[JsonObject]:
        store = store_that_is_there(self._settings)
        if store is None:
            return []
        now = clock.utc_now()
        heard = store.get_heard(now - timedelta(days=LEVEL_DAYS), now, limit=MOST_LEVELS)
        return [
            {
                "time": one.start.isoformat(),
                "rms_dbfs": one.health.rms_dbfs,
                "peak_dbfs": one.health.peak_dbfs,
                "noise_floor_dbfs": one.health.noise_floor_dbfs,
                "faults": one.health.faults(),
            }
            for one in heard
        ]

    def _dead_letters(self) -> list[JsonObject]:
        path = configured_path(self._settings, "messaging.messages_db")
        if path is None:
            return []
        with stores_that_only_read():
            store = SqliteMessageStore(path)
        try:
            letters = store.get_dead_letters()
        finally:
            store.close()
        return [
            {
                "message_id": str(one.message.id),
                "messenger": one.messenger,
                "created_on": one.message.created_on.isoformat(),
                "attempts": one.attempts,
                "last_error": one.last_error,
            }
            for one in letters[: -MOST_LETTERS - 1 : -1]
        ]

    def _errors(self) -> Iterator[JsonObject]:
        sensor = running_sensor(self._settings)
        for service in sensor.services:
            folder = sensor.target.settings_of(service.name).log_dir
            line = last_trouble(folder / f"{service.name}.log")
            if line is not None:
                time, _, rest = line.partition(" ")
                yield {"service": service.name, "time": time, "line": rest}

    def effort(
        self, deployment: UUID | None, since: datetime | None, until: datetime | None
    ) -> JsonObject:
        """Return what ``acoupi effort --json`` prints."""
        reader_of(self._settings)  # raises if nothing was recorded
        store = store_that_is_there(self._settings)
        if store is None:
            raise ConfigurationError(
                "there is no effort to report.",
                'acoupi start "Old oak"',
                why="nothing has been recorded yet.",
            )
        which = find_deployment(store, None if deployment is None else str(deployment))
        suspect = suspect_times(self._settings)
        found, spans = read_effort(store, which, since, until, grouped=True, suspect=suspect)
        return measure(found, spans).as_json()

    # Sound

    def find_file(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return the file of a recording."""
        return self._files.find(recording_id, clip_id)

    def read_file(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        """Return a part of the file of a recording, at most `page_files.MOST` bytes."""
        return self._files.read(recording_id, offset, length, clip_id)

    # Writing

    def door_check(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Refuse calls for the owner, unless they carry the owner's key.

        Raises
        ------
        StoreError
            If the key is missing or wrong.
        """
        keys = read_keys(keys_file(self._settings))
        if method in OF_THE_OWNER and (keys is None or not keys.opens(owner_key.get())):
            raise StoreError(
                "only someone who is logged in may change this.",
                "log in again",
                why=f"{method} came without the key of the owner.",
            )

    def set_password(self, salt: str, password: str) -> None:
        """Set a new password for the page; see `acoupi.config.page_keys.Keys`."""
        keys = Keys(secrets.token_hex(16), salt=salt, password=password)
        write_keys(keys_file(self._settings), keys, "the page")

    def add_verdict(self, verdict: VerdictRow) -> None:
        """Store a person's verdict on a detection or a recording."""
        store = store_of(self._settings)
        try:
            store.add_verdict(verdict)
        finally:
            store.close()

    def settings_schema(self) -> JsonObject:
        """Return the JSON Schema of all settings."""
        from acoupi.system import page_settings  # noqa: PLC0415 - status does without

        return page_settings.schema_of(running_sensor(self._settings))

    def settings(self) -> list[JsonObject]:
        """Return every setting in the order of the configuration."""
        from acoupi.system import page_settings  # noqa: PLC0415 - status does without

        return page_settings.settings_of(running_sensor(self._settings))

    def plan_settings(self, changes: Mapping[str, Any]) -> JsonObject:
        """Return the effects of changes, without making them."""
        from acoupi.system import page_changes  # noqa: PLC0415 - status does without

        return page_changes.planned(self._settings, changes).as_json("planned")

    def apply_settings(self, changes: Mapping[str, Any], by: str) -> JsonObject:
        """Change settings, or keep the changes until a command is run on the host."""
        from acoupi.system import page_changes  # noqa: PLC0415 - status does without

        return page_changes.apply(self._settings, changes, by)

    def start_deployment(
        self, name: str, latitude: float | None, longitude: float | None, by: str
    ) -> JsonObject:
        """Start a deployment; return it."""
        from acoupi.system import page_changes  # noqa: PLC0415 - status does without

        started = page_changes.start(self._settings, name, latitude, longitude, by)
        return started.model_dump(mode="json")

    def stop_deployment(self, by: str) -> JsonObject | None:
        """Stop recording and end the deployment; return it, None if none was running."""
        from acoupi.system import page_changes  # noqa: PLC0415 - status does without

        ended: Deployment | None = page_changes.stop(self._settings, by)
        return None if ended is None else ended.model_dump(mode="json")


def reader_at(home: str) -> SqliteReader:
    """Return the reader of a home's recordings."""
    return PageSensor(Settings(home=Path(home))).reader


def last_trouble(path: Path) -> str | None:
    """Return the last line of a log that reports an error, or None."""
    try:
        with open_binary(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_END))
            text = file.read(LOG_END).decode(errors="replace")
    except OSError:
        return None
    lines = [line for line in text.splitlines() if any(word in line for word in TROUBLE)]
    return lines[-1] if lines else None


def next_slot(history: EffortHistory, now: datetime) -> datetime | None:
    """Return when the next recording is planned to begin; None: not within two days.

    Slots follow the last recording at whole intervals, within the windows of the plan.
    """
    if not history.plans:
        return None
    plan: CapturePlan = history.plans[-1].plan
    every = round(plan.interval * 1e6)
    low = clock.to_microseconds(now)
    anchor = history.captured[-1].last_start if history.captured else 0
    high = low + PLAN_DAYS * 86_400_000_000
    hours = [one.spans(low, high, history.deployment) for one in plan.windows]
    time = low
    while time < high:
        time = anchor - (anchor - time) // every * every  # the next slot from then on
        openings = [_opening(spans, time) for spans in hours]
        if None in openings:
            return None
        latest = max((one for one in openings if one is not None), default=time)
        if latest == time:
            return clock.from_microseconds(time)
        time = latest
    return None


def _opening(spans: list[tuple[int, int]], time: int) -> int | None:
    """Return the first moment at or after a time that is within a span, or None."""
    return next((max(start, time) for start, end in spans if time < end), None)
