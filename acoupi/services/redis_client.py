"""The little of redis that a sensor needs: its library takes 10 MB in each service."""

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["AnswerError", "RedisClient", "silent"]

CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 30.0
CLOSE_PATIENCE = 3.0
"""Seconds; a loop that lets go of a redis which hangs must turn again."""
PORT = 6379

Argument = str | bytes | int


class AnswerError(OSError):
    """Redis answered with an error: it refuses, or has no memory left."""


def silent() -> OSError:
    """Return the error of a redis that does not answer.

    Never a TimeoutError: a worker takes that for a moment without messages, goes on
    and says that all is well.
    """
    return ConnectionAbortedError(errno.ECONNABORTED, "redis does not answer")


@dataclass
class RedisClient:
    """One connection, opened when it is first needed, and again when it was lost.

    Any thread may call it. Use another one for commands that block.
    """

    url: str = field(repr=False)
    _socket: Any = field(default=None, init=False, repr=False)
    _file: Any = field(default=None, init=False, repr=False)
    _opener: int = field(default=0, init=False, repr=False)
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False)

    def __call__(self, *command: Argument) -> Any:
        """Return the answer to one command: an int, bytes, None or a list of these.

        Raises
        ------
        OSError
            If redis cannot be reached, or its answer does not come.
        AnswerError
            If the answer is an error.
        """
        return self.together(command)[0]

    def together(self, *commands: Sequence[Argument]) -> list[Any]:
        """Return the answers to several commands, which go there and back in one piece.

        Raises
        ------
        OSError, AnswerError
            As for one; the others may have been done.
        """
        with self._lock:
            if self._socket is not None and self.has_answer():
                self.close()  # nothing was asked, so this is its end
            self.send(*commands)
            answers = [self.read(raises=False) for _ in commands]
        for answer in answers:
            if isinstance(answer, AnswerError):
                raise answer
        return answers

    def send(self, *commands: Sequence[Argument]) -> None:
        """Send commands and do not wait."""
        if self._socket is None:
            self.connect()
        with self._closed_if_it_fails():
            self._socket.sendall(b"".join(map(_encoded, commands)))

    def read(self, *, raises: bool = True) -> Any:
        """Return the next answer; wait for it."""
        with self._closed_if_it_fails():
            answer = self._read()
        if raises and isinstance(answer, AnswerError):
            raise answer
        return answer

    def has_answer(self) -> bool:
        """Return whether there is something to read, be it the end."""
        if self._socket is None:
            return False
        pending = getattr(self._socket, "pending", None)
        if pending is not None and pending():
            return True
        return bool(select.select([self._socket], [], [], 0)[0])

    def connect(self) -> None:
        """Connect and log in."""
        self.close()
        parts = urlsplit(self.url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        login = [unquote(text) for text in (parts.username, parts.password) if text]
        number = options.get("virtual_host") or ""
        if parts.scheme != "redis+socket":
            number = parts.path.strip("/") or options.get("db") or ""
        hello: list[Sequence[Argument]] = [("AUTH", *login)] if parts.password else []
        if number not in ("", "0"):
            hello.append(("SELECT", number))
        self._opener = os.getpid()
        with self._closed_if_it_fails():
            self._socket = _opened(parts, options)
            self._file = self._socket.makefile("rb")
            for command in hello:
                self.send(command)
                self.read()

    @contextlib.contextmanager
    def _closed_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self.close()
            raise silent() from error
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close; a next command connects again.

        An answer that another thread waits for is let come, for `CLOSE_PATIENCE`.
        """
        if self._opener != os.getpid():
            # Our parent's: it goes on with it, and one of its threads may hold the lock.
            self._file = self._socket = None
            return
        is_ours = self._lock.acquire(timeout=CLOSE_PATIENCE)
        try:
            file, connection = self._file, self._socket
            self._file = self._socket = None
            if connection is None:
                return
            with contextlib.suppress(OSError):
                # A child that was forked meanwhile would keep it open.
                connection.shutdown(socket.SHUT_RDWR)
            for one in (file, connection):
                if one is not None:
                    one.close()
        finally:
            if is_ours:
                self._lock.release()

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the number to wait on; -1 if it is closed."""
        return -1 if self._socket is None else int(self._socket.fileno())

    def _read(self) -> Any:
        line = self._file.readline() if self._file else b""
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError(104, "redis has hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return AnswerError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self._bulk(int(rest))
        if kind == b"*":
            return None if int(rest) < 0 else [self._read() for _ in range(int(rest))]
        raise ConnectionResetError(104, "what answers is no redis")

    def _bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        content: bytes = self._file.read(size + 2)
        if len(content) != size + 2:
            raise ConnectionResetError(104, "redis has hung up")
        return content[:-2]


def _encoded(command: Sequence[Argument]) -> bytes:
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def _opened(parts: Any, options: dict[str, str]) -> Any:
    """Return a connected socket."""
    if parts.scheme == "redis+socket":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_TIMEOUT)
        try:
            connection.connect(unquote(parts.path))
        except OSError:
            connection.close()
            raise
    else:
        host = parts.hostname or "localhost"
        connection = socket.create_connection((host, parts.port or PORT), CONNECT_TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if parts.scheme == "rediss":
            connection = _encrypted(connection, host, options)
    connection.settimeout(ANSWER_TIMEOUT)
    return connection


def _encrypted(connection: Any, host: str, options: dict[str, str]) -> Any:
    import ssl  # noqa: PLC0415 - a broker in a bundle needs none

    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_cert_reqs", "").lower() in ("none", "cert_none"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=host)
