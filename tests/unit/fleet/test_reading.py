"""Messages from files and topics, and what is left out of them."""

import json
import sys
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components.messengers import FileMessenger
from acoupi.errors import ConfigurationError
from acoupi.fleet.judging import Fleet
from acoupi.fleet.reading import LONGEST_LINE, put_files, put_published

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
BEAT = json.dumps({"sent_on": NOW.isoformat(), "device_id": "a", "status": "OK"})


def names(fleet: Fleet) -> list[str]:
    return [one.sensor for one in fleet.rows()]


def write(file: Path, *contents: str | bytes) -> Path:
    """Let the file messenger write the messages."""
    for content in contents:
        message = data.Message(content=content, message_type=data.MessageType.HEARTBEAT)
        FileMessenger(file).send_message(message)
    return file


def test_what_the_file_messenger_writes_is_read(tmp_path: Path) -> None:
    fleet = Fleet(NOW)

    bad = put_files(fleet, str(write(tmp_path / "m", BEAT, b"\xff\xfe", "text", "[1]")))

    assert (bad, names(fleet)) == (0, ["a"])


def test_of_a_folder_every_file_of_lines_is_read(tmp_path: Path) -> None:
    fleet = Fleet(NOW)
    write(tmp_path / "one" / "messages.jsonl", BEAT)
    write(tmp_path / "two.jsonl", BEAT.replace('"a"', '"b"'))
    history = tmp_path / "one" / "config" / "history.jsonl"
    history.parent.mkdir()
    history.write_text('{"settings": {}}\n')
    write(tmp_path / "other.txt", BEAT.replace('"a"', '"c"'))

    bad = put_files(fleet, str(tmp_path))

    assert (bad, names(fleet)) == (0, ["a", "b"])


def test_stdin_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(NOW)
    said = BytesIO(write(tmp_path / "m", BEAT).read_bytes())
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(said))

    put_files(fleet, "-")

    assert names(fleet) == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"[]",
        b'{"content": 1}',
        b"\xff",
        b"[" * 100_000,
        b'{"message_type": "heartbeat", "x": "' + b"x" * LONGEST_LINE + b'"}',
    ],
)
def test_a_line_that_is_no_message_is_counted_and_costs_no_other(
    tmp_path: Path, line: bytes
) -> None:
    fleet, file = Fleet(NOW), write(tmp_path / "m", BEAT)
    file.write_bytes(line + b"\n\n" + file.read_bytes())

    assert (put_files(fleet, str(file)), names(fleet)) == (1, ["a"])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        put_files(Fleet(NOW), str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("topic", "payload", "found"),
    [
        ("acoupi/heartbeat", BEAT.encode(), [("a", "well")]),
        ("acoupi/a/status", b"offline", [("a", "silent")]),
        ("acoupi/a/status", b"online", [("a", "well")]),
        ("status", b"offline", []),
        ("acoupi/a/status", b"maybe", []),
        ("acoupi/a", b"\xff" * 9, []),
        ("acoupi/a", b"[" * 100_000, []),
    ],
)
def test_what_is_published_is_told_apart(
    topic: str, payload: bytes, found: list[tuple[str, str]]
) -> None:
    fleet = Fleet(NOW)

    put_published(fleet, topic, payload)

    assert [(one.sensor, one.state) for one in fleet.rows()] == found
