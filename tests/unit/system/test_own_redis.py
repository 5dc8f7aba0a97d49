"""A redis that hangs is a broker that does not answer, not one without messages."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from acoupi.services import own_redis, publisher, redis_transport
from acoupi.services.broker import make_app
from acoupi.services.own_redis import OwnRedis, RedisFailedError
from acoupi.services.redis_transport import RedisChannel
from acoupi.services.task_messages import task_message
from acoupi.system import Settings
from tests.services import DEADLINE

SOON = 0.05


class HungRedis:
    """Takes connections, answers their first PING and says nothing after it."""

    def __init__(self, path: Path) -> None:
        self.url = f"redis+socket://{path}"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(5)
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                if b"PING" in connection.recv(100):
                    connection.sendall(b"+PONG\r\n")

    def close(self) -> None:
        for one in (self._server, *self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that soon says nothing."""
    server = HungRedis(tmp_path / "redis.sock")
    yield server.url
    server.close()


def test_an_answer_that_does_not_come_is_a_lost_connection(hung: str) -> None:
    client = OwnRedis(hung, SOON)

    # Celery would take a TimeoutError for a moment without messages.
    with pytest.raises(ConnectionError, match="does not answer"):
        client("LLEN", "detection")


def test_a_login_that_is_not_answered_is_a_lost_connection(hung: str) -> None:
    client = OwnRedis(hung.replace("://", "://beat:geheim@"), SOON)

    with pytest.raises(ConnectionError, match="does not answer"):
        client("PING")


def test_nothing_is_sent_but_the_login_and_what_was_asked_for(tmp_path: Path) -> None:
    # A service may send few commands: the library's own (HELLO, CLIENT SETINFO) would be refused.
    path, said = tmp_path / "redis.sock", []

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            for text in (b"+OK\r\n", b":3\r\n"):
                said.append(connection.recv(200).split(b"\r\n")[2])
                connection.sendall(text)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        redis = threading.Thread(target=answer)
        redis.start()
        client = OwnRedis(f"redis+socket://acoupi-beat:geheim@{path}")
        assert client("LLEN", "detection") == 3
        redis.join()
        client.close()

    assert said == [b"AUTH", b"LLEN"]


@pytest.mark.parametrize("url", ["redis://hub:6379/0", "redis+socket:///run/redis.sock"])
def test_nothing_is_waited_for_without_an_end(url: str) -> None:
    connection = OwnRedis(url)._pool.make_connection()

    assert connection.socket_connect_timeout == 3
    assert connection.socket_timeout == 30


def test_closing_leaves_the_connection_on_which_another_thread_waits(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    client = OwnRedis(f"redis+socket://{path}")

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            client.close()
            connection.sendall(b":1\r\n")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        redis = threading.Thread(target=answer)
        redis.start()
        # An acknowledgement, say, while the worker's loop lets go of a link that was lost.
        assert client("HDEL", "unacked:detection", "tag") == 1
        redis.join()
    client.close()


def test_a_child_that_closes_what_it_inherited_leaves_it_to_its_parent(hung: str) -> None:
    client = OwnRedis(hung)
    pending = client.ask("BRPOP", "detection", 1)
    child = os.fork()
    if child == 0:
        client.close()
        pending.give_up()
        os._exit(0)

    os.waitpid(child, 0)

    assert not pending.has_come()  # nor its end
    pending.give_up()


def test_a_worker_that_waits_for_messages_notices_that_redis_hangs(
    hung: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_transport, "BLOCK", 0)
    monkeypatch.setenv("ACOUPI_BROKER", hung)
    app = make_app(Settings(home=home))
    app.conf.broker_transport_options["answer_timeout"] = SOON
    with app.connection_for_read() as connection:
        channel = connection.channel()
        assert isinstance(channel, RedisChannel)
        channel._active_queues.append("detection")

        with pytest.raises(RedisFailedError, match="does not answer"):
            connection.drain_events(timeout=DEADLINE)


def test_who_imports_the_library_later_has_all_of_it() -> None:
    code = (
        "import sys\n"
        "import acoupi.services.own_redis\n"
        "assert not [name for name in sys.modules if name.startswith('redis')]\n"
        "import redis\n"
        "print(redis.exceptions.ConnectionError, redis.connection.parse_url, redis.asyncio.Redis)\n"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)


class EndlessRedis(HungRedis):
    """Answers with something that never ends."""

    def __init__(self, path: Path, first: bytes, again: bytes) -> None:
        self.answer = first, again
        super().__init__(path)

    def _run(self) -> None:
        first, again = self.answer
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                connection.recv(1000)
                connection.sendall(first)
                while not self.ended.wait(0.01):
                    connection.sendall(again)

    ended = threading.Event()
    """Never set: the connection ends first."""


@pytest.mark.parametrize(
    ("first", "again"),
    [(b"+", b"x"), (b"$1000000\r\n", b"x"), (b"*1000\r\n", b":1\r\n")],
)
def test_an_answer_that_trickles_is_a_lost_connection(
    tmp_path: Path, first: bytes, again: bytes
) -> None:
    server = EndlessRedis(tmp_path / "redis.sock", first, again)
    client = OwnRedis(server.url, 0.3)
    try:
        with pytest.raises(RedisFailedError, match="does not answer"):
            client("HGETALL", "unacked:default")
    finally:
        server.close()
        client.close()


@pytest.mark.parametrize("first", [b"+", b"$1000000000\r\n"])
def test_an_answer_of_any_size_is_not_read(
    tmp_path: Path, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_redis, "MOST_BYTES", 1_000_000)
    server = EndlessRedis(tmp_path / "redis.sock", first + b"x" * 2_000_000, b"x")
    client = OwnRedis(server.url, 20)
    try:
        with pytest.raises(RedisFailedError, match="longer than 1000000 bytes"):
            client("PING")
    finally:
        server.close()
        client.close()


@pytest.mark.parametrize(
    ("flood", "why"), [(10_000, "more than one line"), (0, "to the end|timed out")]
)
def test_beat_does_not_read_an_answer_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flood: int, why: str
) -> None:
    monkeypatch.setattr(publisher, "ANSWER_TIMEOUT", 0.3 if not flood else 20)
    server = EndlessRedis(tmp_path / "redis.sock", b"+" + b"x" * flood, b"x")
    monkeypatch.setenv("ACOUPI_BROKER", server.url)
    sender = publisher.open_publisher(Settings(home=tmp_path), server.url)
    try:
        with pytest.raises(OSError, match=why):
            sender.send("recording", task_message("recording_task", expires=1))
    finally:
        server.close()
        sender.close()
