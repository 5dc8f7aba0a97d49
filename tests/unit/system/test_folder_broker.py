"""The embedded broker."""

import contextlib
import json
import os
import shutil
import threading
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from kombu.exceptions import ChannelError

from acoupi.services import transport
from acoupi.services.aside import Aside, aside_file
from acoupi.services.broker import make_app
from acoupi.services.folder import MAX_CRASHES, broker_folder, reclaim
from acoupi.system import Settings
from tests.services import DEADLINE, json_lines


@pytest.fixture
def root(settings: Settings) -> Path:
    return broker_folder(settings.run_dir)


def connect(settings: Settings, worker: str | None = None) -> Connection:
    return make_app(settings, worker=worker).connection_for_read()


def put(settings: Settings, *bodies: Any, queue: str = "detection") -> None:
    with connect(settings) as connection, connection.SimpleQueue(queue) as simple:
        for body in bodies:
            simple.put(body, serializer="json")


def files(root: Path, kind: str) -> list[Path]:
    return sorted((root / kind).rglob("*.msg"))


def test_messages_arrive_once_in_the_order_they_were_put(settings: Settings) -> None:
    put(settings, 1, 2, 3)

    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        found = []
        for _ in range(3):
            message = simple.get(timeout=DEADLINE)
            message.ack()
            found.append(message.payload)
        with pytest.raises(simple.Empty):
            simple.get(timeout=0.05)

    assert found == [1, 2, 3]


def test_a_message_in_hand_is_kept_until_it_is_acknowledged(settings: Settings, root: Path) -> None:
    put(settings, "hello")

    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        message = simple.get(timeout=DEADLINE)
        in_hand = files(root, "taken/w")
        message.ack()
        done = files(root, "taken/w")

    assert len(in_hand) == 1
    assert done == []
    assert files(root, "queues") == []


def test_a_message_that_is_not_acknowledged_goes_back(settings: Settings, root: Path) -> None:
    put(settings, "hello")

    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        simple.get(timeout=DEADLINE)

    assert files(root, "taken") == []
    assert len(files(root, "queues/detection")) == 1


def take_and_die(settings: Settings, root: Path) -> None:
    """Leave a message as a worker leaves it that is killed."""
    (message,) = files(root, "queues")
    hand = root / "taken" / "w" / message.parent.name
    hand.mkdir(parents=True, exist_ok=True)
    message.rename(hand / message.name)


def test_a_killed_worker_finds_its_messages_again(settings: Settings, root: Path) -> None:
    put(settings, "hello")
    take_and_die(settings, root)

    assert reclaim(settings.run_dir, "another", Aside(None)) == (0, 0)
    assert reclaim(settings.run_dir, "w", Aside(aside_file(settings.run_dir, "w"))) == (1, 0)

    (message,) = files(root, "queues/detection")
    assert json.loads(message.read_text())["headers"]["x-crashes"] == 1
    assert reclaim(settings.run_dir, "w", Aside(aside_file(settings.run_dir, "w"))) == (0, 0)


def test_a_message_that_kills_its_worker_is_put_aside(settings: Settings, root: Path) -> None:
    put(settings, "poison")

    for _ in range(MAX_CRASHES - 1):
        take_and_die(settings, root)
        assert reclaim(settings.run_dir, "w", Aside(aside_file(settings.run_dir, "w"))) == (1, 0)
    take_and_die(settings, root)

    assert reclaim(settings.run_dir, "w", Aside(aside_file(settings.run_dir, "w"))) == (0, 1)
    assert files(root, "queues") == []
    (kept,) = json_lines(aside_file(settings.run_dir, "w"))
    assert (kept["queue"], kept["why"]) == (
        "detection",
        "its worker died while handling it, 3 times",
    )
    assert "poison" in b64decode(json.loads(kept["message"])["body"]).decode()


@pytest.mark.parametrize(
    ("rubbish", "why"),
    [
        ("[" * 200_000, "nested too deeply"),
        ("{", "Expecting"),
        ("[1]", "not a message"),
        ('{"properties": {"delivery_tag": {}}}', "not a message"),
        ('{"properties": {"delivery_tag": "a"}, "headers": [1]}', "not a message"),
        ('{"properties": {"delivery_tag": "a"}, "headers": {"compression": "gzip"}}', "compressed"),
        ('{"properties": {"delivery_tag": "a"}, "body": {"a": 1}}', "Error"),
        ('"' + "x" * 1_000_001 + '"', "the most is 1000000"),
    ],
)
def test_what_is_no_message_is_put_aside_and_the_next_one_comes(
    settings: Settings, root: Path, rubbish: str, why: str
) -> None:
    put(settings, "good")
    (root / "queues" / "detection" / "0-first.msg").write_text(rubbish)

    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        assert simple.get(timeout=DEADLINE).payload == "good"

    (kept,) = json_lines(aside_file(settings.run_dir, "w"))
    assert why in kept["why"]
    assert kept["message"][:5] == rubbish[:5]


@pytest.mark.parametrize("rubbish", ["[" * 200_000, "{", '{"headers": 1}'])
def test_what_cannot_be_read_in_hand_keeps_no_worker_from_starting(
    settings: Settings, root: Path, rubbish: str
) -> None:
    put(settings, "hello")
    take_and_die(settings, root)
    (root / "taken" / "w" / "detection" / "9-last.msg").write_text(rubbish)

    assert reclaim(settings.run_dir, "w", Aside(aside_file(settings.run_dir, "w"))) == (1, 1)

    assert len(json_lines(aside_file(settings.run_dir, "w"))) == 1


def test_a_message_that_is_too_large_is_refused_to_its_sender(settings: Settings) -> None:
    with pytest.raises(ChannelError, match="too large"):
        put(settings, "x" * 1_000_000)


def test_rubbish_without_end_fills_neither_disk_nor_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aside = Aside(tmp_path / "w.aside.jsonl")

    for _ in range(200):
        aside.put("x" * 100_000, "celery", "it is rubbish")

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_100_000
    assert len(caplog.records) == 1


def test_a_message_that_a_power_cut_left_empty_is_passed_over(
    settings: Settings, root: Path
) -> None:
    put(settings, "good")
    (root / "queues" / "detection" / "0-first.msg").touch()

    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        assert simple.get(timeout=DEADLINE).payload == "good"


def test_a_message_that_the_disk_does_not_let_be_taken_is_said_to_be_once(
    settings: Settings, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(settings, "hello")
    (root / "taken").write_text("a file")

    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        for _ in range(2):
            with pytest.raises(simple.Empty):
                simple.get(timeout=0.01)
        (root / "taken").unlink()
        assert simple.get(timeout=DEADLINE).payload == "hello"

    assert caplog.text.count("Cannot take a message from the queue detection") == 1


def test_a_wiped_folder_comes_back(settings: Settings, root: Path) -> None:
    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        simple.put(1)
        shutil.rmtree(root)
        simple.put(2)

        assert simple.get(timeout=DEADLINE).payload == 2


def test_a_consumer_that_waits_is_woken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "LONGEST_WAIT", 1000)  # it does not look by itself
    with connect(settings, "w") as connection, connection.SimpleQueue("detection") as simple:
        simple.put("first")
        simple.get(timeout=DEADLINE).ack()
        timer = threading.Timer(0.1, put, [settings, "second"])
        timer.start()
        message = simple.get(timeout=DEADLINE)
        message.ack()
        timer.join()

    assert message.payload == "second"


def test_who_wakes_a_consumer_writes_into_no_file_that_took_the_place_of_its_pipe(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect(settings, "w")
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.01)
    closing = threading.Thread(target=connection.release)
    written = []

    def write(handle: int, data: bytes) -> None:
        closing.start()
        closing.join(timeout=0.1)
        written.append(os.fstat(handle).st_ino)

    with monkeypatch.context() as patch:
        patch.setattr(transport.os, "write", write)
        connection.transport.wake()
    closing.join()

    assert len(written) == 1


def test_two_consumers_never_get_the_same_message(settings: Settings) -> None:
    put(settings, *range(40))
    found: list[int] = []

    def consume(worker: str) -> None:
        with (
            connect(settings, worker) as connection,
            connection.SimpleQueue("detection") as simple,
        ):
            while True:
                try:
                    message = simple.get(timeout=0.2)
                except simple.Empty:
                    return
                found.append(message.payload)
                message.ack()

    threads = [threading.Thread(target=consume, args=[name]) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == list(range(40))


def test_any_name_of_a_queue_stays_in_its_folder(settings: Settings, root: Path) -> None:
    for queue in ("../../up", "a.b", "a b", "ü", ".hidden"):
        put(settings, queue, queue=queue)
        with connect(settings, "w") as connection, connection.SimpleQueue(queue) as simple:
            assert simple.get(timeout=DEADLINE).payload == queue

    assert {path.parent for path in (root / "queues").iterdir()} == {root / "queues"}
    assert not (root.parent / "up").exists()


def test_waiting_messages_are_counted_and_purged(settings: Settings) -> None:
    put(settings, 1, 2, 3)

    with connect(settings) as connection:
        channel = connection.default_channel
        assert channel.queue_declare("detection", passive=True).message_count == 3
        assert channel.queue_purge("detection") == 3
        assert channel.queue_declare("detection", passive=True).message_count == 0


def test_the_app_speaks_json_only_and_listens_to_no_orders(settings: Settings) -> None:
    app: Celery = make_app(settings)

    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == app.conf.result_serializer == "json"
    assert app.conf.worker_enable_remote_control is False
    assert app.conf.task_ignore_result is True
    assert app.conf.broker_connection_max_retries is None
