"""The sensor behind a door: the worker of the default queue answers the page.

This process opens no store and no recording. Rows come in batches of some hundred, so neither
side ever holds all of them.
"""

import datetime
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from acoupi import errors as all_errors
from acoupi.door.caller import owner_key
from acoupi.door.client import exchanged
from acoupi.door.wire import (
    MOST_ANSWER_BYTES,
    Answer,
    Request,
    Trouble,
    pack,
    parse,
    result_of,
    rows_of,
)
from acoupi.errors import AcoupiError, ParameterError, RecordingFileError, StoreError
from acoupi.exports.calling import CalledReader
from acoupi.heard import RecordingFile, VerdictRow
from acoupi.web.sensor import Health, JsonObject, Now, Plan, Sensor, Setting

__all__ = ["DoorReader", "DoorSensor", "reader_at"]

DEADLINE = 30.0
"""Seconds for an answer: the answering process may have to start first."""

T = TypeVar("T")


class _Door:
    """Makes calls through the door in a folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind

    def call(self, function: Callable[..., T], **given: Any) -> T:
        """Return what a method of the sensor returns."""
        with closing(self._answers(function, given)) as answers:
            result: T = result_of(function, next(answers).result)
            return result

    def plain(self, function: Callable[..., T], **given: Any) -> Any:
        """Return what a method of the sensor returns, as JSON holds it."""
        with closing(self._answers(function, given)) as answers:
            return next(answers).result

    def rows(self, function: Callable[..., Iterator[T]], **given: Any) -> Iterator[T]:
        """Yield what a method of the sensor yields."""
        with closing(self._answers(function, given)) as answers:
            for answer in answers:
                yield from rows_of(function, answer.result)
                if not answer.more:
                    return

    def _answers(self, function: Callable[..., Any], given: dict[str, Any]) -> Any:
        name = inspect.unwrap(function).__name__
        request = pack(
            Request(store=self._kind, path="", method=name, arguments=given, key=owner_key.get())
        )
        try:
            for content in exchanged(self._folder, request, DEADLINE):
                answer: Answer = parse(content, Answer, MOST_ANSWER_BYTES)
                if answer.error is not None:
                    raise _error_of(answer.error)
                yield answer
        except OSError as problem:
            raise StoreError(
                "the sensor does not answer the page.",
                "acoupi workers status",
                why=f"the worker of the default queue did not answer {name} ({problem}).",
            ) from problem


def _error_of(trouble: Trouble) -> Exception:
    """Return the error that an answer tells."""
    if trouble.is_value:
        return ParameterError("", "this cannot be answered.", why=f"{trouble.message}.")
    if trouble.status is not None:
        return RecordingFileError(
            trouble.message, trouble.help, why=trouble.why, status=trouble.status
        )
    kind = getattr(all_errors, trouble.kind, StoreError)
    if issubclass(kind, ParameterError):
        return ParameterError("", trouble.message, trouble.help, why=trouble.why)
    found: AcoupiError = kind(trouble.message, trouble.help, why=trouble.why)
    return found


class DoorReader(CalledReader):
    """Reads what a sensor heard through its door; see `acoupi.exports.Reader`.

    Parameters
    ----------
    folder
        Of the door: see `acoupi.door.folders.door_folder`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_Door(folder, "reader"))


class DoorSensor:
    """The sensor, through its door; see `acoupi.web.sensor.Sensor`.

    Parameters
    ----------
    folder
        Of the door.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._door = _Door(folder, "sensor")
        self._reader = DoorReader(folder)

    @property
    def reader(self) -> DoorReader:
        """What reads recordings and detections."""
        return self._reader

    @property
    def child_reader(self) -> tuple[str, str]:
        """How a process of its own reads the same: a function, and its argument."""
        return "acoupi.web.door_sensor:reader_at", str(self._folder)

    def metrics(self) -> str:
        """Return the metrics for Prometheus."""
        return str(self._door.plain(Sensor.metrics))

    def now(self) -> Now:
        """Return the state of the sensor."""
        found: Now = self._door.plain(Sensor.now)
        return found

    def health(self) -> Health:
        """Return recent events."""
        found: Health = self._door.plain(Sensor.health)
        return found

    def effort(
        self,
        deployment: UUID | None,
        since: datetime.datetime | None,
        until: datetime.datetime | None,
    ) -> JsonObject:
        """Return the output of ``acoupi effort --json``."""
        given = {"deployment": deployment, "since": since, "until": until}
        found: JsonObject = self._door.plain(Sensor.effort, **given)
        return found

    def find_file(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        """Return the file of a recording.

        Raises
        ------
        RecordingFileError
            If there is none, with the reason.
        """
        return self._door.call(self.find_file, recording_id=recording_id, clip_id=clip_id)

    def read_file(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        """Return a part of the file of a recording: at most 1 MiB, less at its end."""
        given = {"recording_id": recording_id, "offset": offset, "length": length}
        return self._door.call(self.read_file, **given, clip_id=clip_id)

    def add_verdict(self, verdict: VerdictRow) -> None:
        """Store a person's verdict on a detection or a recording."""
        self._door.plain(Sensor.add_verdict, verdict=verdict)

    def settings_schema(self) -> JsonObject:
        """Return the JSON Schema of all settings, those of the sensor below ``sensor``."""
        found: JsonObject = self._door.plain(Sensor.settings_schema)
        return found

    def settings(self) -> list[Setting]:
        """Return every setting in the order of the configuration."""
        found: list[Setting] = self._door.plain(Sensor.settings)
        return found

    def plan_settings(self, changes: Mapping[str, Any]) -> Plan:
        """Return the effects of changes, without making them."""
        found: Plan = self._door.plain(Sensor.plan_settings, changes=dict(changes))
        return found

    def apply_settings(self, changes: Mapping[str, Any], by: str) -> Plan:
        """Change settings."""
        found: Plan = self._door.plain(Sensor.apply_settings, changes=dict(changes), by=by)
        return found

    def start_deployment(
        self, name: str, latitude: float | None, longitude: float | None, by: str
    ) -> JsonObject:
        """Start a deployment; return it."""
        given = {"name": name, "latitude": latitude, "longitude": longitude, "by": by}
        found: JsonObject = self._door.plain(Sensor.start_deployment, **given)
        return found

    def stop_deployment(self, by: str) -> JsonObject | None:
        """Stop recording and end the deployment; return it, None if none was running."""
        found: JsonObject | None = self._door.plain(Sensor.stop_deployment, by=by)
        return found

    def set_password(self, salt: str, password: str) -> None:
        """Set a new password for the page; see `acoupi.config.page_keys.Keys`."""
        self._door.plain(self.set_password, salt=salt, password=password)


def reader_at(folder: str) -> DoorReader:
    """Return the reader through the door in a folder."""
    return DoorReader(Path(folder))
