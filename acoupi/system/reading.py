"""What a sensor heard, read from its stores: without its program, and with nothing changed."""

import datetime
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from acoupi.commit import read_whole
from acoupi.components.message_stores import SqliteMessageReader
from acoupi.components.stores import SqliteReader
from acoupi.config.names import nearest
from acoupi.data import Deployment
from acoupi.errors import ConfigurationError, ParameterError
from acoupi.exports import Reader
from acoupi.stack.configured import require_configured
from acoupi.stack.settings import Settings

__all__ = ["deployments_named", "known_as", "message_reader_of", "reader_of", "zone_of"]


def reader_of(settings: Settings) -> SqliteReader:
    """Return what reads the recordings and detections of a sensor, running or not.

    Raises
    ------
    NotConfiguredError
        If there is no sensor in the home.
    ConfigurationError
        If nothing has been recorded yet, or its program stores recordings elsewhere.
    """
    require_configured(settings)
    text = _setting(settings, "paths", "db_metadata")
    if not isinstance(text, str):
        raise ConfigurationError(
            "this sensor keeps its recordings where acoupi does not know them.",
            "acoupi config show",
            why="its program has no setting paths.db_metadata.",
        )
    path = Path(text).expanduser()
    if not path.exists():
        raise ConfigurationError(
            "nothing has been recorded yet.",
            'acoupi deployment start --name "Old oak"',
            why=f'there is no "{path}".',
        )
    return SqliteReader(path)


def message_reader_of(settings: Settings) -> SqliteMessageReader | None:
    """Return what reads the messages of a sensor; None if its program has no store of them."""
    text = _setting(settings, "messaging", "messages_db") or _setting(
        settings, "paths", "db_messages"
    )
    return SqliteMessageReader(Path(text).expanduser()) if isinstance(text, str) else None


def zone_of(settings: Settings) -> datetime.tzinfo:
    """Return the time zone of the program; without one, that of this machine."""
    name = _setting(settings, "timezone")
    try:
        return ZoneInfo(name)
    except (TypeError, ValueError, LookupError, OSError):
        here = datetime.datetime.fromtimestamp(0, datetime.UTC).astimezone().tzinfo
        return here or datetime.UTC


def _setting(settings: Settings, *names: str) -> Any:
    try:
        value: Any = json.loads(read_whole(settings.program_config_file))
        for name in names:
            value = value[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value


def deployments_named(reader: Reader, text: str) -> list[Deployment]:
    """Return the deployments of a name, or the one of an id or its unique beginning.

    Raises
    ------
    ParameterError
        If there is none; the nearest name is told.
    """
    found = reader.get_deployments()
    named = [one for one in found if one.name == text]
    begins = [one for one in found if len(text) > 3 and str(one.id).startswith(text.lower())]
    if named or len(begins) == 1:
        return named or begins
    known_as("--deployment", "deployment", text, [one.name for one in found])
    raise ParameterError(
        text,
        f'"{text}" is the beginning of {len(begins)} ids of deployments.',
        f"--deployment {begins[0].id}",
        why="a beginning must fit one of them only.",
    )


def known_as(option: str, what: str, text: str, known: list[str]) -> str:
    """Return a text that is known.

    Raises
    ------
    ParameterError
        If it is not; the nearest one is told.
    """
    if text in known:
        return text
    few = list(dict.fromkeys(known))
    near = nearest(text, few) or (few[0] if few else None)
    names = ", ".join(f'"{one}"' for one in few[:8]) + (", …" if len(few) > 8 else "")
    raise ParameterError(
        text,
        f'there is no {what} "{text}" in what was heard.',
        f'{option} "{near}"' if near else "acoupi recordings list",
        why=f"there is {names or 'none at all'}.",
    )
