"""The history of configurations: since when each was in force, and what set it.

The history is ``config/history.jsonl``, one configuration a line, without secrets. It is written
in the same commit as the configuration. The newest `MOST` are kept.
"""

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

import acoupi
from acoupi import data
from acoupi.clock import nearest_second
from acoupi.commit import is_there, read_whole, whole
from acoupi.config import Document
from acoupi.config.documents import load_document, parsed_settings
from acoupi.config.names import SENSOR
from acoupi.config.sensor import sensor_schema
from acoupi.deferred import DeferredModel
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.home import using_home
from acoupi.stack.configured import read_program_name
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings
from acoupi.writing import RenderedFile, disk_error

if TYPE_CHECKING:
    from acoupi.system.planning import SetupRequest

__all__ = [
    "Change",
    "InForce",
    "changes_between",
    "history_file",
    "history_files",
    "read_history",
    "request_of",
]

FILE = "history.jsonl"
MOST = 1000
BEFORE = "before the history was kept"


class InForce(DeferredModel):
    """A configuration that came into force."""

    on: datetime.datetime
    by: str
    """The command that set it, such as "acoupi setup"."""
    version: str
    """Version of acoupi; empty if unknown."""
    program: str
    settings: dict[str, Any]
    """Settings as in ``program.json``: secrets are references."""
    sensor: dict[str, Any]
    """As in ``sensor.json``."""

    def is_same(self, other: "InForce") -> bool:
        """Return whether its settings are the same as another's."""
        return not any(changes_between(other, self))


class Change(NamedTuple):
    """A setting that differs between two configurations."""

    setting: str
    before: Any
    after: Any
    """The values; None if the setting is missing."""


def history_file(settings: Settings) -> Path:
    """Return the file of a home's history."""
    return settings.program_config_file.with_name(FILE)


def read_history(settings: Settings) -> list[InForce]:
    """Return the history, the oldest configuration first.

    Damaged lines are skipped.

    Raises
    ------
    DeviceError
        If the file cannot be read.
    """
    return list(_entries(_text(settings)))


def history_files(
    settings: Settings, files: Mapping[Path, RenderedFile], by: str
) -> dict[Path, RenderedFile]:
    """Return the history file with the new configuration in these files added.

    No file if that is in force already.

    Parameters
    ----------
    files
        The files of the commit; configuration files that are missing in it stay unchanged.
    by
        The command that sets it.
    """
    text = _text(settings)
    known = list(_entries(text))
    if not known and (old := _present(settings)) is not None:
        known = [old]
        text = _line(old)
    new = _entry(settings, files, by)
    if known and new.is_same(known[-1]):
        return {}
    lines = [*text.splitlines(), _line(new)][-MOST:]
    return {history_file(settings): RenderedFile("\n".join(lines) + "\n")}


def changes_between(before: InForce, after: InForce) -> Iterator[Change]:
    """Yield the settings that differ, by name."""
    old, new = _flat(before), _flat(after)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield Change(name, old.get(name), new.get(name))


def request_of(settings: Settings, number: int | None = None) -> tuple[InForce, "SetupRequest"]:
    """Return an earlier configuration, and the request that restores it.

    Parameters
    ----------
    number
        Its number, 1 for the oldest; None: the previous one.

    Raises
    ------
    AcoupiError
        If there is none, or it is no longer valid (a secret may be missing).
    """
    from acoupi.system.planning import SetupRequest  # noqa: PLC0415 - only here

    known = read_history(settings)
    number = len(known) - 1 if number is None else number
    if not 1 <= number <= len(known):
        raise ConfigurationError(
            "there is no earlier configuration to return to."
            if number < 1
            else f"there is no configuration {number}.",
            "acoupi config history",
            why=f"the history of this sensor has {len(known)} configurations.",
        )
    wanted = known[number - 1]
    folder = settings.program_config_file.parent
    with using_home(settings.home):
        schema = load_program_class(wanted.program).get_config_schema()
        document = _document(wanted.settings, wanted, folder)
        sensor = _document(wanted.sensor, wanted, folder)
        own = sensor_schema()
        request = SetupRequest(
            wanted.program,
            config=load_document(document, schema),
            sensor=load_document(sensor, own, names=SENSOR, only=frozenset(own.model_fields)),
            origin=f"acoupi config undo, to that of {_told(wanted)}",
        )
    return wanted, request


def _document(content: dict[str, Any], entry: InForce, folder: Path) -> Document:
    origin = f"the configuration of {_told(entry)}"
    return Document(json.dumps(content), ".json", origin, folder)


def _told(entry: InForce) -> str:
    return f"{nearest_second(entry.on):%Y-%m-%d %H:%M:%S} UTC"


def _text(settings: Settings) -> str:
    path = history_file(settings)
    try:
        return read_whole(path, errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise disk_error("read", path, error) from error


def _line(entry: InForce) -> str:
    return entry.model_dump_json()


def _entries(text: str) -> Iterator[InForce]:
    for line in text.splitlines():
        try:
            yield InForce.model_validate_json(line)
        except ValidationError:
            continue


def _present(settings: Settings) -> InForce | None:
    """Return the settings in force in a home without history; None if they cannot be read."""
    path = settings.program_config_file
    if not is_there(path):
        return None
    try:
        return InForce(
            on=datetime.datetime.fromtimestamp(whole(path).stat().st_mtime, datetime.UTC),
            by=BEFORE,
            version="",
            program=read_program_name(settings),
            settings=_parsed(path, {}),
            sensor=_parsed(settings.sensor_config_file, {}),
        )
    except (AcoupiError, OSError):
        return None


def _entry(settings: Settings, files: Mapping[Path, RenderedFile], by: str) -> InForce:
    return InForce(
        on=data.utc_now(),
        by=by,
        version=acoupi.__version__,
        program=files[settings.program_name_file].text.strip(),
        settings=_parsed(settings.program_config_file, files),
        sensor=_parsed(settings.sensor_config_file, files),
    )


def _parsed(path: Path, files: Mapping[Path, RenderedFile]) -> dict[str, Any]:
    if path in files:
        return Document(files[path].text, ".json", str(path)).parsed()
    return parsed_settings(path)


def _flat(entry: InForce) -> dict[str, Any]:
    sections = {"": entry.settings, f"{SENSOR.section}.": entry.sensor}
    return {"program": entry.program} | {
        f"{section}{name}": value
        for section, content in sections.items()
        for name, value in _leaves(content)
    }


def _leaves(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
