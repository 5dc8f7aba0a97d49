"""Saving managers: the first one that returns a path decides where a recording is kept.

A manager only names the path; the file management task makes the folders and
moves the file, with another name if the path is taken.
"""

import datetime
import logging
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acoupi import data, devices
from acoupi.audio.files import make_folder
from acoupi.audio.formats import format_named
from acoupi.clock import nearest_second
from acoupi.components.types import RecordingSavingManager

__all__ = [
    "NAME_BY_TIME",
    "NAME_BY_UTC",
    "BaseFileManager",
    "DateFileManager",
    "FilenameFormatter",
    "IDFileManager",
    "SaveRecordingManager",
    "sanitize_filename",
]

_module_logger = logging.getLogger(__name__)

NAME_BY_TIME = "{recording.created_on:%Y%m%d_%H%M%S}_{recording.id}.wav"
"""As published programs expect it."""
NAME_BY_UTC = "{recording.created_on:%Y%m%d_%H%M%SZ}_{recording.id}.wav"
"""The same, with its time zone."""

_FORBIDDEN = dict.fromkeys([*map(ord, '<>:"/\\|?*'), *range(32)], "_")
_LONGEST_NAME = 240
"""Bytes. File systems allow 255; the rest leaves room for a number if the name is taken."""


class SaveRecordingManager(RecordingSavingManager):
    """Sorts recordings by the scores of their detections.

    Parameters
    ----------
    dirpath
        Folder for recordings that no model has processed.
    dirpath_true
        For a detection that reaches `detection_threshold`. None: ``true_detections`` in `dirpath`.
    dirpath_false
        For one that only reaches `saving_threshold`. None: ``false_detections`` in `dirpath`.
    timeformat
        Format of the file name: the UTC time of the first frame, without the suffix;
        rounded to the second, unless it asks for microseconds.
    detection_threshold, saving_threshold
        Scores, 0 to 1.
    logger
        None: that of this module.
    """

    def __init__(  # noqa: PLR0917 - published signature
        self,
        dirpath: Path,
        dirpath_true: Path | None = None,
        dirpath_false: Path | None = None,
        timeformat: str = "%Y%m%d_%H%M%S",
        detection_threshold: float = 0.6,
        saving_threshold: float = 0.3,
        logger: logging.Logger | None = None,
    ) -> None:
        self.dirpath = Path(dirpath)
        self.dirpath_true = Path(dirpath_true or self.dirpath / "true_detections")
        self.dirpath_false = Path(dirpath_false or self.dirpath / "false_detections")
        self.timeformat = timeformat
        self.detection_threshold = detection_threshold
        self.saving_threshold = saving_threshold
        self.logger = logger or _module_logger

    def get_saving_recording_path(
        self, model_outputs: list[data.ModelOutput] | None
    ) -> Path | None:
        """Return the folder; None if no detection reaches a threshold.

        The first output with such a detection decides.
        """
        if not model_outputs:
            return self.dirpath
        for output in model_outputs:
            best = max((detection.detection_score for detection in output.detections), default=-1)
            if best >= self.detection_threshold:
                return self.dirpath_true
            if best >= self.saving_threshold:
                return self.dirpath_false
        return None

    def save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> Path | None:
        """Return the path, its folder made; None leaves the recording to the next manager.

        Raises
        ------
        ValueError
            If the recording has no file.
        """
        if recording.path is None:
            raise ValueError(f"recording {recording.id} has no file to keep")
        folder = self.get_saving_recording_path(model_outputs)
        if folder is None:
            return None
        time = recording.created_on.astimezone(datetime.UTC)
        make_folder(folder)  # published programs move the file there themselves
        name = _time_as_text(time, self.timeformat)
        return folder / sanitize_filename(f"{name}{suffix_of(recording)}")


class BaseFileManager(RecordingSavingManager, ABC):
    """Keeps every recording below one folder; a subclass decides where.

    Parameters
    ----------
    directory
        The folder; made when the first recording is given a place in it.
    logger
        None: that of this module.
    """

    def __init__(self, directory: Path, logger: logging.Logger | None = None) -> None:
        self.directory = Path(directory)
        self.logger = logger or _module_logger

    @abstractmethod
    def get_file_path(self, recording: data.Recording) -> Path:
        """Return the path, relative to the folder."""

    def save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> Path:
        """Return the path in the folder, its own folder made.

        Raises
        ------
        ValueError
            If the recording has no file.
        FileNotFoundError
            If its file no longer exists.
        """
        if recording.path is None:
            raise ValueError(f"recording {recording.id} has no file to keep")
        if not recording.path.exists():
            raise FileNotFoundError(
                f"the file of recording {recording.id} is gone: {recording.path}"
            )
        path = self.directory / self.get_file_path(recording)
        make_folder(path.parent)  # published programs move the file there themselves
        return path


class DateFileManager(BaseFileManager):
    """Keeps recordings in folders year/month/day, UTC and without leading zeros.

    Parameters
    ----------
    directory
        The folder of the years.
    filename_template
        Python format syntax with the fields of ``recording``, ``deployment``
        and ``device``, e.g. ``{deployment.name}_{recording.created_on:%H%M}.wav``.
        Times are UTC, rounded to the second unless the format asks for
        microseconds. None values are left out; characters that a file name
        cannot hold become ``_``; a final ``.wav`` becomes ``.flac`` for a FLAC
        recording.
    logger
        None: that of this module.

    Raises
    ------
    ValueError
        If the template names an unknown field, or has an invalid format.
    """

    def __init__(
        self,
        directory: Path,
        filename_template: str = NAME_BY_TIME,
        logger: logging.Logger | None = None,
    ) -> None:
        super().__init__(directory, logger)
        self.filename_template = filename_template
        self._format(_sample_recording(), data.DeviceInfo(id="sample"))

    def get_file_path(self, recording: data.Recording) -> Path:
        """Return ``year/month/day/name``.

        Raises
        ------
        ValueError
            If the template gives this recording no usable name.
        """
        time = nearest_second(recording.created_on.astimezone(datetime.UTC))
        device = data.DeviceInfo(id="")
        if "{device" in self.filename_template:
            device = data.DeviceInfo(id=devices.get_device_info().id)
        name = self._format(recording, device)
        if name.lower().endswith(".wav"):
            name = name[: -len(".wav")] + suffix_of(recording)
        return Path(str(time.year), str(time.month), str(time.day), name)

    def _format(self, recording: data.Recording, device: data.DeviceInfo) -> str:
        utc = recording.created_on.astimezone(datetime.UTC)
        values = {
            "recording": recording.model_copy(update={"created_on": utc}),
            "deployment": recording.deployment,
            "device": device,
        }
        try:
            name = sanitize_filename(
                FilenameFormatter().vformat(self.filename_template, (), values)
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"the file name template {self.filename_template!r} cannot be used: {error}"
            ) from error
        if not name:
            raise ValueError(
                f"the file name template {self.filename_template!r} results in no name"
            )
        return name


class IDFileManager(BaseFileManager):
    """Keeps every recording in one folder, under its id."""

    def get_file_path(self, recording: data.Recording) -> Path:
        """Return ``<recording id>.wav``, or ``.flac`` for a FLAC recording."""
        return Path(f"{recording.id}{suffix_of(recording)}")


class FilenameFormatter(string.Formatter):
    """Formats file names: None values are left out, and only public fields can be used."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the object for the first name of a field; ValueError if it is unknown."""
        if key not in kwargs:
            raise ValueError(f"{key!r} is unknown; it may name {', '.join(kwargs) or 'nothing'}")
        return kwargs[str(key)]

    def get_field(
        self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Return a field by its dotted name; a field of None is None."""
        root, *names = field_name.split(".")
        value = self.get_value(root, args, kwargs)
        for name in names:
            if value is None:
                break
            if not name or name.startswith("_") or not hasattr(value, name):
                raise ValueError(f"there is no field {field_name!r}")
            value = getattr(value, name)
        return value, root

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return the value as text; None is always empty."""
        if value is None:
            return ""
        if isinstance(value, datetime.datetime) and format_spec:
            return _time_as_text(value, format_spec)
        return str(super().format_field(value, format_spec))


def _time_as_text(time: datetime.datetime, timeformat: str) -> str:
    return (time if "%f" in timeformat else nearest_second(time)).strftime(timeformat)


def suffix_of(recording: data.Recording) -> str:
    """Return what the name of a recording's file ends in: its format, or else ``.wav``."""
    suffix = recording.path.suffix.lower() if recording.path else ""
    return suffix if format_named(suffix[1:]) else ".wav"


def sanitize_filename(filename: str) -> str:
    r"""Return the name with ``_`` for invalid characters, shortened to fit.

    Examples
    --------
    >>> sanitize_filename("My Site/1.wav")
    'My Site_1.wav'
    """
    name = filename.translate(_FORBIDDEN)
    if name.startswith("."):  # it would be hidden, or a folder
        name = f"_{name}"
    suffix = Path(name).suffix
    stem = name.removesuffix(suffix) if suffix else name
    room = _LONGEST_NAME - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore") + suffix


def _sample_recording() -> data.Recording:
    time = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    return data.Recording(
        path=Path("sample.wav"),
        duration=1,
        samplerate=48_000,
        created_on=time,
        deployment=data.Deployment(
            name="sample", latitude=1.5, longitude=2.5, started_on=time, ended_on=time
        ),
    )
