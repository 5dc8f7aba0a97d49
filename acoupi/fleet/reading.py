"""Reads messages of sensors: lines of files, as the file messenger writes them, and MQTT topics."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from acoupi.errors import ConfigurationError
from acoupi.fleet.judging import Fleet

__all__ = ["put_files", "put_published"]

LONGEST_LINE = 1_048_576
"""Most bytes of a line; longer ones are skipped."""


def put_files(fleet: Fleet, place: str) -> int:
    """Put the messages of a file, of all ``*.jsonl`` in a folder, or ("-") of stdin into a fleet.

    Returns
    -------
    int
        Number of lines that are not messages.

    Raises
    ------
    ConfigurationError
        If it cannot be read.
    """
    bad = 0
    try:
        for file in _files(place):
            with nullcontext(sys.stdin.buffer) if file is None else file.open("rb") as stream:
                bad += sum(not _put(fleet, line) for line in _lines(stream))
    except OSError as error:
        raise ConfigurationError(
            f'the messages in "{place}" cannot be read.',
            "acoupi fleet status --messages FILE",
            why=error.strerror,
        ) from error
    return bad


def put_published(fleet: Fleet, topic: str, payload: bytes) -> None:
    """Put what a sensor published on an MQTT topic into a fleet; anything else is ignored."""
    parts = topic.split("/")
    if parts[-1] == "status" and len(parts) > 1 and payload in (b"online", b"offline"):
        fleet.put_presence(parts[-2], is_offline=payload == b"offline")
        return
    try:
        fleet.put(json.loads(payload))
    except (ValueError, RecursionError):
        return


def _files(place: str) -> list[Path | None]:
    if place == "-":
        return [None]
    if not Path(place).is_dir():
        return [Path(place)]
    found = Path(place).rglob("*.jsonl")
    # config/history.jsonl of a home holds settings that were in force.
    return [*sorted(one for one in found if one.parent.name != "config")]


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines that are not empty; one that is too long as an empty one."""
    while line := stream.readline(LONGEST_LINE):
        if not line.endswith(b"\n") and len(line) == LONGEST_LINE:
            while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield b""
        elif line.strip():
            yield line


def _put(fleet: Fleet, line: bytes) -> bool:
    """Put a message into the fleet; return whether the line was one."""
    try:
        message: Any = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(message, dict) or "message_type" not in message:
        return False
    fleet.put(message.get("content"), created_on=_time(message.get("created_on")))
    return True


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
