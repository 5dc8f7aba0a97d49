"""A redis that hangs is a broker that does not answer, not one without messages."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi.errors import ConfigurationError
from acoupi.services import redis_client, redis_transport
from acoupi.services.address import check_broker_url
from acoupi.services.broker import make_app
from acoupi.services.redis_client import RedisClient
from acoupi.services.redis_transport import RedisChannel
from acoupi.stack.celery_settings import CelerySettings
from acoupi.system import Settings


@pytest.fixture
def hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    for module in (redis_client, redis_transport):
        monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.05)
    path = tmp_path / "redis.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(5)
        yield f"redis+socket://{path}"


def test_an_answer_that_does_not_come_is_a_lost_connection(hung: str) -> None:
    client = RedisClient(hung)

    # Celery would take a TimeoutError for a moment without messages.
    with pytest.raises(ConnectionError, match="does not answer"):
        client("PING")

    assert client.fileno() == -1


def test_a_login_that_is_not_answered_is_a_lost_connection(hung: str) -> None:
    client = RedisClient(hung.replace("://", "://beat:geheim@"))

    with pytest.raises(ConnectionError, match="does not answer"):
        client("PING")


def test_a_host_that_cannot_be_reached_in_time_is_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_late(*_: Any) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", too_late)

    with pytest.raises(ConnectionError, match="does not answer"):
        RedisClient("redis://hub:6379/0")("PING")


def test_closing_waits_for_the_answer_that_another_thread_waits_for(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    client = RedisClient(f"redis+socket://{path}")
    closing = threading.Thread(target=client.close)

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            closing.start()
            closing.join(timeout=0.1)
            connection.sendall(b":1\r\n")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        redis = threading.Thread(target=answer)
        redis.start()
        # An acknowledgement, say, while the worker's loop lets go of a link that was lost.
        assert client("HDEL", "unacked:detection", "tag") == 1
        redis.join()
    closing.join()

    assert client.fileno() == -1


def test_a_child_that_closes_what_it_inherited_leaves_it_to_its_parent(hung: str) -> None:
    client = RedisClient(hung)
    client.connect()
    child = os.fork()
    if child == 0:
        client.close()
        os._exit(0)

    os.waitpid(child, 0)

    assert not client.has_answer()  # nor its end
    client.close()


def test_a_worker_that_waits_for_messages_notices_that_redis_hangs(
    hung: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_transport, "BLOCK", 0)
    monkeypatch.setattr(redis_transport.RedisTransport, "establish_connection", lambda self: self)
    app = make_app(Settings(home=home), CelerySettings(broker_url=hung))
    with app.connection_for_read() as connection:
        channel = connection.channel()
        assert isinstance(channel, RedisChannel)
        channel._active_queues.append("detection")

        with pytest.raises(ConnectionError, match="does not answer"):
            connection.drain_events(timeout=10)


@pytest.mark.parametrize(
    "url",
    [
        "redis://hub:port/0",
        "redis://:pa/ss@hub:6379/0",
        "redis://:pa#ss@hub/0",
        "redis://hub:99999",
    ],
)
def test_a_broker_whose_port_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot use the broker") as caught:
        check_broker_url(url)

    assert "ss@" not in "".join(caught.value.lines())
