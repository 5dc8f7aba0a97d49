"""Sends tasks to the broker of a home, without Celery."""

import errno
import json
import select
import socket
from urllib.parse import unquote, urlsplit

from acoupi import clock
from acoupi.services import folder_files
from acoupi.services.address import is_own_redis
from acoupi.services.task_messages import Publisher, TaskMessage
from acoupi.stack.settings import Settings

__all__ = ["open_publisher"]

ANSWER_TIMEOUT = 30.0
MOST_ANSWER = 4096
"""Most bytes of an answer, which is a number or the reason for a refusal."""


class _FolderPublisher(Publisher):
    """Sends tasks to the embedded broker."""

    def __init__(self, settings: Settings) -> None:
        self._folder = folder_files.broker_folder(settings.run_dir)

    def send(self, queue: str, message: TaskMessage) -> None:
        folder_files.put(self._folder, queue, json.dumps(message.in_list(queue)))

    def close(self) -> None:
        pass


class _SocketPublisher(Publisher):
    """Sends tasks to the redis of a target, over its unix socket.

    Beat needs one command and answers of one line. The connections of the redis
    library would take 6.4 MiB for that, nearly half as much as all of beat.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = unquote(parts.path)
        self._login = [unquote(text) for text in (parts.username, parts.password) if text]
        self._link: socket.socket | None = None

    def send(self, queue: str, message: TaskMessage) -> None:
        if self._link is not None and select.select([self._link], [], [], 0)[0]:
            self.close()  # nothing was requested, so the connection has ended
        try:
            if self._link is None:
                self._connect()
            self._command("LPUSH", queue, json.dumps(message.in_list(queue)))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _connect(self) -> None:
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._link.settimeout(ANSWER_TIMEOUT)
        self._link.connect(self._path)
        if self._login:
            self._command("AUTH", *self._login)

    def _command(self, *words: str) -> None:
        assert self._link is not None
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded)]
        self._link.sendall(b"".join(parts))
        answer, end = b"", clock.monotonic() + ANSWER_TIMEOUT
        while not answer.endswith(b"\r\n"):
            if len(answer) > MOST_ANSWER:
                raise ConnectionError("redis answers more than one line")
            if (left := end - clock.monotonic()) <= 0:
                raise TimeoutError("redis does not complete its answer")
            self._link.settimeout(left)
            if not (more := self._link.recv(1024)):
                raise ConnectionResetError(errno.ECONNRESET, "redis has closed the connection")
            answer += more
        if answer.startswith(b"-"):
            raise ConnectionError(answer[1:].decode(errors="replace").strip())


class _RedisPublisher(Publisher):
    """Sends tasks to the redis of a target, over the network."""

    def __init__(self, url: str) -> None:
        from acoupi.services.own_redis import OwnRedis  # noqa: PLC0415 - 6 MB

        self._redis = OwnRedis(url)

    def send(self, queue: str, message: TaskMessage) -> None:
        self._redis("LPUSH", queue, json.dumps(message.in_list(queue)))

    def close(self) -> None:
        self._redis.close()


def open_publisher(settings: Settings, url: str | None) -> Publisher:
    """Return a publisher to a broker; it connects when it is first used.

    Parameters
    ----------
    settings
        Where the embedded broker is.
    url
        With the login; None: the embedded broker.
    """
    if url is None:
        return _FolderPublisher(settings)
    if is_own_redis(url):
        is_plain_socket = url.startswith("redis+socket://") and "?" not in url
        return _SocketPublisher(url) if is_plain_socket else _RedisPublisher(url)
    from acoupi.services.kombu_publisher import KombuPublisher  # noqa: PLC0415 - 6 MB

    return KombuPublisher(url)
