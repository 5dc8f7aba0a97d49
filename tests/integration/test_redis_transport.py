"""The redis of a target as the broker: what is taken is not lost."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from acoupi import data
from acoupi.services import redis_transport
from acoupi.services.aside import Aside, aside_file
from acoupi.services.broker import make_app
from acoupi.services.own_redis import OwnRedis, RedisFailedError
from acoupi.services.publisher import open_publisher
from acoupi.services.redis_transport import reclaim
from acoupi.services.status import count_waiting
from acoupi.services.task_messages import task_message
from acoupi.system import Settings
from tests.services import DEADLINE, Redis, json_lines

pytestmark = pytest.mark.integration


@pytest.fixture(params=[True, False], ids=["socket", "port"])
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "redis", unix=request.param) as redis:
        yield redis


@pytest.fixture
def client(redis: Redis) -> Iterator[OwnRedis]:
    client = OwnRedis(redis.url)
    yield client
    client.close()


@pytest.fixture
def app(redis: Redis, home: Path, monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setenv("ACOUPI_BROKER", redis.url)
    return make_app(Settings(home=home), worker="detection")


class Consumer:
    """A worker's loop, as far as the broker sees it."""

    def __init__(self, app: Celery, prefetch: int = 1) -> None:
        self.connection = app.connection_for_read()
        self.channel = self.connection.default_channel
        self.channel.basic_qos(0, prefetch, False)
        self.taken: list[Any] = []
        self.channel.basic_consume("detection", False, self.taken.append, "tag")

    def wait(self, count: int) -> None:
        deadline = data.monotonic() + 10
        while len(self.taken) < count and data.monotonic() < deadline:
            self.look()
        assert len(self.taken) == count

    def look(self, seconds: float = 0.2) -> None:
        with contextlib.suppress(TimeoutError):
            self.connection.drain_events(timeout=seconds)

    def close(self, stopping: bool = True) -> None:
        if stopping:
            self.connection.transport.stop()
        self.connection.close()


def send(app: Celery, *names: str) -> None:
    for name in names:
        app.send_task(name, queue="detection", retry=False)


def names(messages: list[Any]) -> list[str]:
    return [message.headers["task"] for message in messages]


def test_messages_come_in_order_one_at_a_time(app: Celery, client: OwnRedis) -> None:
    send(app, "a", "b", "c")
    consumer = Consumer(app)

    consumer.wait(1)
    consumer.look()
    assert names(consumer.taken) == ["a"]
    assert client("LLEN", "detection") == 2
    for _ in range(2):
        consumer.taken[-1].ack()
        consumer.wait(len(consumer.taken) + 1)

    assert names(consumer.taken) == ["a", "b", "c"]
    consumer.taken[-1].ack()
    assert client("EXISTS", "unacked:detection") == 0
    consumer.close()


def test_a_message_that_is_sent_while_waiting_comes_at_once(app: Celery) -> None:
    consumer = Consumer(app)
    consumer.look()
    threading.Timer(0.1, send, [app, "late"]).start()

    consumer.wait(1)

    assert names(consumer.taken) == ["late"]
    consumer.close()


def test_what_was_not_acknowledged_goes_back_at_the_end(app: Celery, client: OwnRedis) -> None:
    send(app, "a", "b")
    consumer = Consumer(app, prefetch=2)
    consumer.wait(2)
    consumer.taken[0].ack()

    consumer.close()

    assert client("LLEN", "detection") == 1
    assert client("EXISTS", "unacked:detection") == 0


def test_a_consumer_that_stops_while_it_waits_takes_nothing_with_it(
    app: Celery, client: OwnRedis
) -> None:
    for _ in range(20):
        consumer = Consumer(app)
        consumer.look(0)
        sender = threading.Thread(target=send, args=[app, "a"])
        sender.start()
        consumer.close()
        sender.join()
        kept = client("LLEN", "detection") + client("HLEN", "unacked:detection")
        assert kept == 1 - len(consumer.taken)
        client.together(("DEL", "detection"), ("DEL", "unacked:detection"))


def test_a_consumer_that_stops_does_not_wait_for_a_message(
    app: Celery, client: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_transport, "BLOCK", 3600)
    consumer = Consumer(app)
    consumer.look(0)

    stopping = threading.Thread(target=consumer.close, daemon=True)
    stopping.start()
    stopping.join(DEADLINE)

    assert not stopping.is_alive()
    assert client("EXISTS", "detection") == 0


def test_what_a_stopping_consumer_sent_to_itself_is_no_message(
    app: Celery, client: OwnRedis, home: Path
) -> None:
    client("LPUSH", "detection", redis_transport.NOTHING)
    send(app, "a")
    consumer = Consumer(app)

    consumer.wait(1)

    assert names(consumer.taken) == ["a"]
    assert not aside_file(Settings(home=home).run_dir, "detection").exists()
    consumer.close()


def test_a_lost_connection_leaves_what_is_in_hand_to_be_acknowledged(
    app: Celery, client: OwnRedis
) -> None:
    send(app, "a")
    consumer = Consumer(app)
    consumer.wait(1)

    consumer.close(stopping=False)
    assert client("HLEN", "unacked:detection") == 1
    consumer.taken[0].ack()

    assert client("EXISTS", "unacked:detection") == 0
    assert client("LLEN", "detection") == 0


def test_an_acknowledgement_that_fails_does_not_keep_the_worker_from_its_next_message(
    app: Celery, redis: Redis
) -> None:
    send(app, "a")
    consumer = Consumer(app)
    consumer.wait(1)
    redis.kill()
    with pytest.raises(OSError, match=r"\w"):
        consumer.taken[0].ack()

    with pytest.raises(OSError, match=r"refused|No such file|closed|reset|pipe"):
        consumer.look()
    consumer.close(stopping=False)


def put_back(client: OwnRedis, aside: Path) -> tuple[int, int]:
    return reclaim(client, "detection", ["detection"], Aside(aside))


@pytest.mark.parametrize(
    "rubbish",
    [
        "[" * 200_000,
        "no JSON",
        "{}",
        json.dumps([{"properties": {"delivery_tag": "a"}}, "", "recording"]),
        json.dumps([{"properties": {"delivery_tag": "a"}, "headers": {"x-crashes": "x"}}, "", "q"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_in_hand_keeps_no_worker_from_starting(
    app: Celery, client: OwnRedis, tmp_path: Path, rubbish: str
) -> None:
    send(app, "good")
    consumer = Consumer(app)
    consumer.wait(1)
    consumer.close(stopping=False)
    client("HSET", "unacked:detection", "0", rubbish)

    assert put_back(client, tmp_path / "aside") == (1, 1)

    assert len(json_lines(tmp_path / "aside")) == 1
    assert client("EXISTS", "unacked:detection") == 0
    assert client("LLEN", "detection") == 1


def test_a_queue_that_nobody_empties_leaves_room_for_the_others(
    app: Celery, client: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_transport, "MOST_WAITING", 3)
    send(app, "a", "b", "c")

    with pytest.raises(OperationalError, match="detection is full"):
        send(app, "d")

    assert client("LLEN", "detection") == 3


def test_what_a_killed_worker_had_is_next_and_is_put_aside_in_the_end(
    app: Celery, client: OwnRedis, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    send(app, "poison", "other")
    for lives in range(1, 4):
        consumer = Consumer(app)
        consumer.wait(1)
        assert names(consumer.taken) == ["poison"]
        consumer.close(stopping=False)  # as far as redis can tell, a kill

        assert put_back(client, aside) == ((1, 0) if lives < 3 else (0, 1))

    (kept,) = json_lines(aside)
    assert "poison" in kept["message"]
    assert client("LLEN", "detection") == 1


def test_a_redis_that_was_started_again_is_found_again(redis: Redis, client: OwnRedis) -> None:
    assert client("PING") == b"PONG"
    redis.kill()
    with pytest.raises(OSError, match=r"refused|No such file"):
        client("PING")

    redis.start()

    assert client("PING") == b"PONG"


def test_a_refusal_is_an_error_and_the_connection_is_as_good_as_before(
    client: OwnRedis,
) -> None:
    client("SET", "queue", "text")

    with pytest.raises(RedisFailedError, match="WRONGTYPE"):
        client("LPUSH", "queue", "x")

    assert client("GET", "queue") == b"text"
    assert client("GET", "nothing") is None


def test_a_message_that_cannot_be_read_is_put_aside(
    app: Celery, client: OwnRedis, caplog: pytest.LogCaptureFixture
) -> None:
    client("LPUSH", "detection", "{rubbish")
    send(app, "a")
    consumer = Consumer(app)

    consumer.wait(1)

    assert names(consumer.taken) == ["a"]
    assert "put aside" in caplog.text
    consumer.close()


def test_beat_sends_and_finds_a_redis_that_was_restarted(
    redis: Redis, client: OwnRedis, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_BROKER", redis.url)
    publisher = open_publisher(Settings(home=home), redis.url)
    publisher.send("detection", task_message("first", expires=60))
    assert client("LLEN", "detection") == 1
    redis.kill()
    with pytest.raises(OSError, match=r"refused|No such file"):
        publisher.send("detection", task_message("lost", expires=60))

    redis.start()
    publisher.send("detection", task_message("second", expires=60))

    assert json.loads(client("RPOP", "detection"))["headers"]["task"] == "second"
    client("SET", "detection", "text")
    with pytest.raises(OSError, match="WRONGTYPE"):
        publisher.send("detection", task_message("refused", expires=60))
    publisher.close()


def test_queues_that_this_user_may_not_see_are_not_counted(
    app: Celery, client: OwnRedis, home: Path
) -> None:
    send(app, "a", "b")
    client("ACL", "SETUSER", "default", "resetkeys", "~detection")

    assert count_waiting(Settings(home=home), ["detection", "recording"]) == {"detection": 2}
