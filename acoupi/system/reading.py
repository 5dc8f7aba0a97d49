"""Reading what a sensor heard from its stores, without its program or any change."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from acoupi.components.message_stores import SqliteMessageReader
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.errors import ConfigurationError
from acoupi.home import expanded
from acoupi.stack.configured import answered, require_configured
from acoupi.stack.settings import Settings

__all__ = [
    "message_reader_of",
    "reader_of",
    "store_file",
    "store_of",
    "threshold_of",
    "zone_of",
]

THRESHOLDS = ("threshold", "detection_threshold")
"""Names of programs' settings for the lowest score that they report."""


def reader_of(settings: Settings) -> SqliteReader:
    """Return a reader of the recordings and detections of a sensor, running or not.

    Raises
    ------
    NotConfiguredError
        If there is no sensor in the home.
    ConfigurationError
        If nothing has been recorded yet, or its program stores recordings elsewhere.
    """
    return SqliteReader(_store_path(settings))


def store_of(settings: Settings) -> SqliteStore:
    """Return the store of a sensor, for additions by a person.

    Raises
    ------
    NotConfiguredError, ConfigurationError
        As `reader_of`.
    """
    return SqliteStore(_store_path(settings))


def _store_path(settings: Settings) -> Path:
    path = store_file(settings)
    if not path.exists():
        raise ConfigurationError(
            "nothing has been recorded yet.",
            'acoupi start "Old oak"',
            why=f'there is no "{path}".',
        )
    return path


def store_file(settings: Settings) -> Path:
    """Return the path of a sensor's store of recordings; the file may not exist yet.

    Raises
    ------
    NotConfiguredError
        If there is no sensor in the home.
    ConfigurationError
        If its program has no such setting.
    """
    require_configured(settings)
    text = answered(settings, "paths", "db_metadata")
    if not isinstance(text, str):
        raise ConfigurationError(
            "the path of this sensor's recordings is unknown.",
            "acoupi config get",
            why="its program has no setting paths.db_metadata.",
        )
    return expanded(text)


def message_reader_of(settings: Settings) -> SqliteMessageReader | None:
    """Return a reader of the messages of a sensor; None if its program does not store them."""
    text = answered(settings, "messaging", "messages_db") or answered(
        settings, "paths", "db_messages"
    )
    return SqliteMessageReader(expanded(text)) if isinstance(text, str) else None


def zone_of(settings: Settings) -> datetime.tzinfo:
    """Return the time zone of the program; without one, that of this machine."""
    name = answered(settings, "timezone")
    try:
        return ZoneInfo(name)
    except (TypeError, ValueError, LookupError, OSError):
        here = datetime.datetime.fromtimestamp(0, datetime.UTC).astimezone().tzinfo
        return here or datetime.UTC


def threshold_of(settings: Settings) -> tuple[str, float] | None:
    """Return the program's setting for the lowest score to report, and its value.

    None if there is none, or several without ``detections.threshold``.
    """
    found = dict(_thresholds(answered(settings)))
    usual = "detections.threshold"
    name = usual if usual in found else next(iter(found), "")
    return (name, found[name]) if name and (name == usual or len(found) == 1) else None


def _thresholds(section: Any, place: str = "") -> Iterator[tuple[str, float]]:
    for name, value in section.items() if isinstance(section, dict) else ():
        if name in THRESHOLDS and isinstance(value, int | float):
            yield f"{place}{name}", float(value)
        yield from _thresholds(value, f"{place}{name}.")
