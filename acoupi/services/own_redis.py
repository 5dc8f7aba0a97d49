"""Access to the redis that a target runs for its sensor, through the redis library.

The library's package imports its asyncio client, its cluster client and every
command of redis: 6.9 MB in a worker and 9.5 MB in beat. Its connections alone cost
2.6 and 5.3 MB, so only these are imported here; see `_library`.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from acoupi import clock

if TYPE_CHECKING:
    from redis.connection import Connection, ConnectionPool

__all__ = ["ANSWER_TIMEOUT", "OwnRedis", "PendingAnswer", "RedisFailedError"]

CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 30.0
MOST_BYTES = 32_000_000
"""Most bytes of one answer: as much as the redis of a target holds."""

Argument = str | bytes | int
Command = Sequence[Argument]


class RedisFailedError(ConnectionError):
    """Redis cannot be reached, does not answer, or refuses a command.

    Never a TimeoutError, which a worker would take for a moment without messages.
    """


class OwnRedis:
    """Sends commands to one redis; connects when first needed and after the link was lost.

    Any thread may use it.

    Parameters
    ----------
    url
        ``redis+socket:///PATH``, ``redis://…`` or ``rediss://…``, with the login.
    answer_timeout
        Longest wait for an answer, seconds.
    """

    def __init__(self, url: str, answer_timeout: float = ANSWER_TIMEOUT) -> None:
        self._pool: ConnectionPool = _connections.ConnectionPool.from_url(
            _library_url(url),
            protocol=2,
            driver_info=None,  # no CLIENT SETINFO: services may send few commands
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=answer_timeout,
        )
        kind: type[Connection] = self._pool.connection_class
        limits = {"seconds": answer_timeout}
        self._pool.connection_class = type("Metered", (_MeteredConnection, kind), limits)

    def __call__(self, *command: Argument) -> Any:
        """Return the answer to one command: an int, bytes, None or a list of these.

        Raises
        ------
        RedisFailedError
            If redis cannot be reached, does not answer, or answers with an error.
        """
        return self.together(command)[0]

    def together(self, *commands: Command) -> list[Any]:
        """Return the answers to several commands that are sent in one piece.

        Raises
        ------
        RedisFailedError
            As for `call`; the other commands may have been executed.
        """
        with _failures(), self._connection() as connection:
            connection.send_packed_command(connection.pack_commands(commands))
            connection.meter.begin()
            answers = [_answer(connection) for _ in commands]
        for answer in answers:
            if isinstance(answer, _RedisError):
                raise RedisFailedError(str(answer)) from answer
        return answers

    def ask(self, *command: Argument) -> "PendingAnswer":
        """Send a command on a connection of its own and do not wait for the answer.

        Raises
        ------
        RedisFailedError
            If redis cannot be reached.
        """
        with _failures():
            connection = self._pool.get_connection()
            try:
                connection.send_command(*command)
            except BaseException:
                self._pool.release(connection)
                raise
        return PendingAnswer(self._pool, connection)

    def close(self) -> None:
        """Close idle connections; the next command connects again.

        A connection on which another thread awaits an answer stays open.
        """
        self._pool.disconnect(inuse_connections=False)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self._pool.get_connection()
        try:
            yield connection
        finally:
            self._pool.release(connection)


class PendingAnswer:
    """The answer to a command that was sent; to be used by one thread."""

    def __init__(self, pool: "ConnectionPool", connection: "Connection") -> None:
        self._pool = pool
        self._connection: Connection | None = connection

    def has_come(self) -> bool:
        """Return whether the answer has arrived.

        Raises
        ------
        RedisFailedError
            If redis has hung up.
        """
        try:
            with _failures():
                return self._connection is not None and bool(self._connection.can_read(0))
        except RedisFailedError:
            self.give_up()
            raise

    def read(self) -> Any:
        """Return the answer; wait for it.

        Raises
        ------
        RedisFailedError
            If it does not come, or is an error.
        """
        connection: Any = self._connection
        self._connection = None
        if connection is None:
            return None
        try:
            with _failures():
                connection.meter.begin()
                return connection.read_response()
        finally:
            self._pool.release(connection)

    def give_up(self) -> None:
        """Close the connection and drop the answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)

    def fileno(self) -> int:
        """Return the file descriptor to wait on; -1 if it is closed."""
        used = self._connection and self._connection._sock  # noqa: SLF001 - as kombu does
        return used.fileno() if used else -1


class _Meter:
    """A socket with limits on the time and size of a complete answer."""

    def __init__(self, channel: Any, seconds: float) -> None:
        self._channel, self._seconds = channel, seconds
        self.begin()

    def begin(self) -> None:
        """Start the time limit of an answer."""
        self._end, self._left = clock.monotonic() + self._seconds, MOST_BYTES

    def recv(self, size: int) -> bytes:
        """Return received bytes; wait no longer than the answer may take."""
        patience = self._channel.gettimeout()
        if patience != 0:  # 0 only checks
            seconds = self._end - clock.monotonic()
            if seconds <= 0:
                raise TimeoutError
            self._channel.settimeout(min(seconds, patience or seconds))
        try:
            content: bytes = self._channel.recv(size)
        finally:
            self._channel.settimeout(patience)
        self._left -= len(content)
        if self._left < 0:
            raise ConnectionError(f"its answer is longer than {MOST_BYTES} bytes")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class _MeteredConnection:
    """A connection of the library, on such a socket."""

    seconds: float
    meter: _Meter

    def _connect(self) -> _Meter:
        self.meter = _Meter(super()._connect(), self.seconds)  # type: ignore[misc]
        return self.meter


class _ClassesOnly(ModuleType):
    """A module that has any class that is asked of it, for libraries that only name them."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


def _library() -> ModuleType:
    """Import the connections of the redis library, without the rest of its package.

    They are then removed from `sys.modules`, so that a later ``import redis`` (by a
    program, or by kombu) loads the complete package, and ``import asyncio`` the real
    one. A version of the library whose connections need more is imported as usual.
    """
    if "redis" in sys.modules:
        return import_module("redis.connection")
    bare = ModuleType("redis")
    spec = find_spec("redis")
    bare.__path__ = list(spec.submodule_search_locations or ()) if spec else []
    stand_in = {} if "asyncio" in sys.modules else {"asyncio": _ClassesOnly("asyncio")}
    sys.modules.update(redis=bare, **stand_in)
    try:
        return import_module("redis.connection")
    except (ImportError, AttributeError, TypeError):
        pass
    finally:
        for name in [one for one in sys.modules if one.partition(".")[0] in {"redis", *stand_in}]:
            del sys.modules[name]
    return import_module("redis.connection")


_connections = _library()
_RedisError: type[Exception] = _connections.RedisError
_Timeout: type[Exception] = _connections.TimeoutError


def _answer(connection: "Connection") -> Any:
    """Return the next answer; an error that redis answered is returned, too."""
    try:
        return connection.read_response()
    except _connections.ResponseError as error:
        return error


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Convert errors of the library to RedisFailedError."""
    try:
        yield
    except _Timeout as error:
        raise RedisFailedError("redis does not answer") from error
    except _RedisError as error:
        raise RedisFailedError(str(error)) from error


def _library_url(url: str) -> str:
    """Return a URL in the form that the library expects.

    Examples
    --------
    >>> _library_url("redis+socket://beat:secret@/run/redis.sock?virtual_host=2")
    'unix://beat:secret@/run/redis.sock?db=2'
    """
    scheme, _, rest = url.partition("://")
    if scheme != "redis+socket":
        return url
    return f"unix://{rest.replace('virtual_host=', 'db=')}"
