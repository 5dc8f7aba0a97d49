"""Messages into a file."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components.messengers import FileConfig, FileMessenger
from acoupi.data import MessageType, ResponseStatus
from acoupi.errors import HealthCheckError, MessageSendError
from tests.services import DEADLINE

NIGHT = datetime(2024, 8, 1, 20, 30, tzinfo=UTC)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_message_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "messages.jsonl"
    sent = data.Message(
        content='{"a": [1, "ü"]}', created_on=NIGHT, message_type=MessageType.DETECTION
    )
    messenger = FileMessenger(path)

    response = messenger.send_message(sent)
    messenger.send_message(data.Message(content="no\njson"))

    assert response.status is ResponseStatus.SUCCESS
    assert response.message == sent
    assert lines(path)[0] == {
        "id": str(sent.id),
        "created_on": "2024-08-01T20:30:00+00:00",
        "message_type": "detection",
        "content": {"a": [1, "ü"]},
    }
    assert [line["content"] for line in lines(path)] == [{"a": [1, "ü"]}, "no\njson"]


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"

    FileMessenger(path).send_message(data.Message(content=b"\xff\x00"))

    assert lines(path)[0]["content_base64"] == "/wA="


def test_a_relative_path_is_below_the_home(home: Path) -> None:
    FileMessenger(Path("data/m.jsonl")).send_message(data.Message(content="1"))

    assert len(lines(home / "data" / "m.jsonl")) == 1


def test_the_default_file_is_below_the_home(home: Path) -> None:
    FileMessenger.from_config(FileConfig()).send_message(data.Message(content="1"))

    assert len(lines(home / "data" / "messages.jsonl")) == 1


def test_a_line_that_a_power_cut_left_open_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "ha')

    FileMessenger(path).send_message(data.Message(content="1"))

    torn, whole = path.read_text().splitlines()
    assert torn == '{"id": "ha'
    assert json.loads(whole)["content"] == 1


def test_many_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    threads = [
        threading.Thread(
            target=lambda: [
                FileMessenger(path).send_message(data.Message(content="x" * 10_000))
                for _ in range(10)
            ]
        )
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert [line["content"] for line in lines(path)] == ["x" * 10_000] * 40


def test_a_disk_that_fills_up_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.jsonl"
    messenger = FileMessenger(path)
    messenger.send_message(data.Message(content="1"))
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 50:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:50])

    monkeypatch.setattr(os, "write", full)

    with pytest.raises(MessageSendError) as raised:
        messenger.send_message(data.Message(content="2"))

    assert raised.value.why == "No space left on device"
    assert [line["content"] for line in lines(path)] == [1]


def test_a_path_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    messenger = FileMessenger(tmp_path / "file" / "m.jsonl")

    with pytest.raises(MessageSendError):
        messenger.send_message(data.Message(content="1"))
    with pytest.raises(HealthCheckError) as raised:
        messenger.check()

    assert "is not a folder" in str(raised.value.why)


def test_a_path_that_can_be_written_is_well(tmp_path: Path) -> None:
    FileMessenger(tmp_path / "new" / "m.jsonl").check()


def test_making_a_messenger_touches_nothing(home: Path) -> None:
    assert FileMessenger(Path("m.jsonl")).name == "file:m.jsonl"
    assert not home.exists()
