"""The sensor behind a door: the worker of the default queue answers the page.

This process opens no store and no recording. Rows come in batches of some hundred, so neither
side ever holds all of them.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

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
from acoupi.exports.calling import CalledReader, called
from acoupi.web.sensor import Files, Sensor

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
        self._calls = _Door(folder, "sensor")
        self._reader = DoorReader(folder)

    @property
    def reader(self) -> DoorReader:
        """What reads recordings and detections."""
        return self._reader

    @property
    def child_reader(self) -> tuple[str, str]:
        """How a process of its own reads the same: a function, and its argument."""
        return "acoupi.web.door_sensor:reader_at", str(self._folder)

    metrics = called(Sensor.metrics, "plain")
    now = called(Sensor.now, "plain")
    health = called(Sensor.health, "plain")
    effort = called(Sensor.effort, "plain")
    find_file = called(Files.find_file)
    read_file = called(Files.read_file)
    add_verdict = called(Sensor.add_verdict, "plain")
    settings_schema = called(Sensor.settings_schema, "plain")
    settings = called(Sensor.settings, "plain")
    plan_settings = called(Sensor.plan_settings, "plain")
    apply_settings = called(Sensor.apply_settings, "plain")
    start_deployment = called(Sensor.start_deployment, "plain")
    stop_deployment = called(Sensor.stop_deployment, "plain")

    def set_password(self, salt: str, password: str) -> None:
        """Set a new password for the page; see `acoupi.config.page_keys.Keys`."""
        self._calls.plain(self.set_password, salt=salt, password=password)


def reader_at(folder: str) -> DoorReader:
    """Return the reader through the door in a folder."""
    return DoorReader(Path(folder))
