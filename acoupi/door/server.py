"""The side of a door that answers: a thread that makes the calls of one service.

A connection carries one request and its answer. An error only ends that connection. Each door
has its own thread and limits, so a service that floods its door does not affect others.
"""

import logging
import math
import os
import selectors
import socket
import stat
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from acoupi import clock
from acoupi.door.caller import caller, owner_key
from acoupi.door.client import at_socket, find_store
from acoupi.door.folders import SOCKET
from acoupi.door.waiting import WaitingCalls
from acoupi.door.wire import (
    LENGTH,
    MOST_ANSWER_BYTES,
    MOST_BYTES,
    Answer,
    Request,
    Trouble,
    arguments_of,
    pack,
    parse,
)
from acoupi.errors import AcoupiError, StoreError, UnknownRecordingError

__all__ = ["DoorServer", "Limits", "Role", "listen"]

logger = logging.getLogger(__name__)

Role = Mapping[str, Collection[str]]
"""The methods that a service may call, by the kind of store."""

LEAST_BYTES = 1024

_CREDENTIALS = struct.Struct("3i")
_RETRY = 5.0
"""Seconds until a door that could not be opened is tried again."""
_REST = 0.02
"""Seconds without a new connection after one that was malformed or too slow."""
_AT_ONCE = 50
"""Calls from files that are made before connections have their turn again."""


class _OutsideRoleError(StoreError):
    """A call that the service may never make."""


@dataclass(frozen=True)
class Limits:
    """The limits of a door."""

    connections: int = 8
    """Most connections at once; others wait."""
    seconds: float = 10.0
    """Seconds for a request to arrive, and for its answer to be read."""
    bytes_an_hour: int = 64 * 1024 * 1024
    """Bytes of calls an hour; a small one counts as `LEAST_BYTES`."""
    rows: int = 200
    """Rows of a stream in one answer; each must be read within `seconds`."""
    stream_seconds: float = 600.0
    """Seconds for a whole stream: the store keeps its old state meanwhile."""
    listed: int = 8
    """Most entries in a list that is an argument."""
    look_every: float = 5.0
    """Seconds between two looks for calls that wait in files."""


@dataclass
class _Connection:
    socket: socket.socket
    end: float
    received: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None
    rows: Iterator[Any] | None = None
    """The rest of a stream's rows."""
    last: float = math.inf
    """When the stream ends, even if not all was read."""

    def length(self) -> int | None:
        """Return the length of the whole request; None: unknown yet."""
        if len(self.received) < LENGTH.size:
            return None
        return LENGTH.size + int(LENGTH.unpack_from(self.received)[0])


class DoorServer(threading.Thread):
    """Makes the calls of one service.

    Parameters
    ----------
    service
        Its name, for the log.
    folder
        Folder of the socket; it is made if needed.
    waiting
        The calls that wait in files.
    role
        What it may call.
    find
        Returns the store of a kind and a path, None if there is none.
    limits
        Its limits.
    listener
        A socket that listens already; None: one in `folder`.
    user
        The service's, if it is neither this process's nor that of its folder of calls.
    """

    def __init__(
        self,
        service: str,
        folder: Path,
        waiting: WaitingCalls,
        role: Role,
        *,
        find: Callable[[str, str], Any] = find_store,
        limits: Limits | None = None,
        listener: socket.socket | None = None,
        user: int | None = None,
    ) -> None:
        super().__init__(name=f"door {service}", daemon=True)
        self.service, self.folder, self.waiting = service, folder, waiting
        self.listens = threading.Event()
        self._role, self._find = role, find
        self._own_users = {os.geteuid(), *([] if user is None else [user])}
        self._limits, self._listener = limits or Limits(), listener
        self.asked_on = clock.monotonic()
        """When it last received or answered a request."""
        self._open: dict[int, _Connection] = {}
        self._reported: set[str] = set()
        self._rests_until = -math.inf
        self._hour, self._taken = clock.monotonic(), 0
        self._ends, self._ended = socket.socketpair()

    def close(self) -> None:
        """Stop the thread, and wait for it."""
        self._ends.send(b".")
        self.join()
        self._ends.close()
        self._ended.close()

    def run(self) -> None:
        """Serve until `close` is called, whatever happens."""
        while True:
            try:
                self._serve()
            except Exception as error:  # noqa: BLE001 - the worker goes on
                self._report("the door could not be opened", error)
                self._make_waiting()
            else:
                return
            self._ended.settimeout(_RETRY)
            with suppress(TimeoutError):
                if self._ended.recv(1):
                    return

    # --- connections -------------------------------------------------------------------------

    def _serve(self) -> None:
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            listener = stack.enter_context(self._listener or listen(self.folder))
            stack.callback(self._close_all)
            selector.register(self._ended, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            self.listens.set()
            look_at = 0.0
            while True:
                ends = (one.end for one in self._open.values())
                patience = min([look_at, *ends]) - clock.monotonic()
                if 0 < self._rests_until - clock.monotonic() < patience:
                    patience = _REST
                for key, _ in selector.select(max(patience, 0)):
                    if key.fileobj is self._ended:
                        return
                    if key.fileobj is listener:
                        self._accept(selector, listener)
                    else:
                        self._turn(selector, key.data)
                self._settle(selector, listener)
                if clock.monotonic() >= look_at and not self._make_waiting():
                    look_at = clock.monotonic() + self._limits.look_every

    def _accept(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another thread has it
            return
        except OSError as error:
            self._report("a connection could not be accepted", error)
            return
        connection.setblocking(False)
        uid = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )[1]
        if uid not in self._users():
            self._report("a connection was refused", PermissionError(f"of user {uid}"))
            connection.close()
            return
        one = _Connection(connection, clock.monotonic() + self._limits.seconds)
        self._open[connection.fileno()] = one
        selector.register(connection, selectors.EVENT_READ, one)

    def _users(self) -> set[int]:
        users = set(self._own_users)
        with suppress(OSError):
            users.add(self.waiting.folder.lstat().st_uid)
        return users

    def _turn(self, selector: selectors.BaseSelector, one: _Connection) -> None:
        try:
            if one.answer is None and self._receive(one):
                self._begin(one)
                one.received.clear()
                selector.modify(one.socket, selectors.EVENT_WRITE, one)
            if one.answer is not None:
                one.answer = one.answer[one.socket.send(one.answer) :]
                if not one.answer and one.rows is not None:
                    self._next_rows(one)
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001 - it ends this connection only
            self._report("a connection was ended", error)
            self._end(selector, one)
            self._rests_until = clock.monotonic() + _REST
            self._taken += LEAST_BYTES
        else:
            if one.answer is not None and not one.answer:
                self._end(selector, one)

    def _begin(self, one: _Connection) -> None:
        """Make the call, and send its answer, or its first rows."""
        self.asked_on = clock.monotonic()
        found = self._answer(bytes(one.received[LENGTH.size :]))
        one.end = clock.monotonic() + self._limits.seconds
        if isinstance(found, bytes):
            one.answer = memoryview(found)
        else:
            one.rows, one.last = found, clock.monotonic() + self._limits.stream_seconds
            self._next_rows(one)

    def _next_rows(self, one: _Connection) -> None:
        assert one.rows is not None
        self.asked_on = clock.monotonic()
        one.end = min(one.last, clock.monotonic() + self._limits.seconds)
        try:
            rows = list(islice(one.rows, self._limits.rows))
            has_more = len(rows) == self._limits.rows
            content = pack(Answer(result=rows, more=has_more), MOST_ANSWER_BYTES)
        except (AcoupiError, ValueError) as error:
            has_more, content = False, pack(Answer(error=_trouble(error)))
        one.answer = memoryview(LENGTH.pack(len(content)) + content)
        if not has_more:
            one.rows = None

    def _receive(self, one: _Connection) -> bool:
        """Receive what is there; return whether the request is complete."""
        length = one.length() or LENGTH.size
        if length > LENGTH.size + MOST_BYTES:
            raise ValueError(f"a request of {length} bytes")
        part = one.socket.recv(min(length - len(one.received), 1 << 18))
        if not part:
            raise ConnectionAbortedError("it was closed within a request")
        one.received += part
        return len(one.received) == one.length()

    def _end(self, selector: selectors.BaseSelector, one: _Connection) -> None:
        selector.unregister(one.socket)
        del self._open[one.socket.fileno()]
        one.socket.close()

    def _settle(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        """Close slow connections, and listen only while another connection is allowed."""
        now = clock.monotonic()
        for one in [one for one in self._open.values() if one.end < now]:
            self._report("a connection was ended", TimeoutError("it was too slow"))
            self._end(selector, one)
        is_open = len(self._open) < self._limits.connections and self._rests_until <= now
        if is_open != (listener in selector.get_map()):
            if is_open:
                selector.register(listener, selectors.EVENT_READ)
            else:
                selector.unregister(listener)

    def _close_all(self) -> None:
        self.listens.clear()
        for one in self._open.values():
            one.socket.close()
        self._open.clear()

    # --- calls -------------------------------------------------------------------------------

    def _answer(self, content: bytes) -> bytes | Iterator[Any]:
        """Return the answer to a request, or its rows if it is a stream."""
        request: Request | None = None
        try:
            self._take(len(content))
            request = parse(content, Request)
            result = self._make(request)
            if isinstance(result, Iterator):
                return result
            packed = pack(Answer(result=result), MOST_ANSWER_BYTES)
        except (AcoupiError, ValueError) as error:
            if request is None and not isinstance(error, AcoupiError):
                raise  # it is malformed
            packed = pack(Answer(error=_trouble(error)))
        except Exception as error:
            if request is None:
                raise
            packed = pack(Answer(error=Trouble(message=f"{request.method} failed: {error!r}")))
        return LENGTH.pack(len(packed)) + packed

    def _make(self, request: Request) -> Any:
        """Make a call and return what it returns.

        Raises
        ------
        StoreError
            The store's own error; or if the service may not make this call, or not now.
        ValueError
            If an argument is wrong.
        """
        if request.method not in self._role.get(request.store, ()):
            raise self._refused(request, "its role has no such method")
        store = self._find(request.store, request.path)
        if store is None:
            raise self._refused(request, f'there is no such store at "{request.path}"')
        method = getattr(store, request.method)
        arguments = arguments_of(getattr(type(store), request.method), request.arguments)
        lists = [each for each in arguments.values() if isinstance(each, list)]
        longest = max(map(len, lists), default=0)
        if longest > self._limits.listed:
            raise ValueError(f"a list of {longest} entries; at most {self._limits.listed}")
        check = getattr(store, "door_check", lambda *_: None)
        tokens = caller.set(request.caller), owner_key.set(request.key)
        try:
            try:
                check(request.method, arguments)
            except StoreError as error:
                raise _OutsideRoleError(error.message, error.help, why=error.why) from error
            return method(**arguments)
        finally:
            caller.reset(tokens[0])
            owner_key.reset(tokens[1])

    def _refused(self, request: Request, why: str) -> "_OutsideRoleError":
        error = _OutsideRoleError(
            f'the door refuses "{request.method}" to the worker {self.service}.',
            "do this in a task of the default queue",
            why=f"{why}.",
        )
        self._report("a call was refused", error)
        return error

    def _take(self, size: int) -> None:
        """Count a service's bytes, up to the limit an hour."""
        now = clock.monotonic()
        if now - self._hour >= 3600:
            self._hour, self._taken = now, 0
        size = max(size, LEAST_BYTES)
        if self._taken + size > self._limits.bytes_an_hour:
            error = StoreError(
                f"the door accepts no more from the worker {self.service} now.",
                "make the model report less: acoupi config set detections.threshold 0.5",
                why=f"{self._taken} bytes were accepted from it within the hour.",
            )
            self._report("a call was refused", error)
            raise error
        self._taken += size

    # --- calls that wait ---------------------------------------------------------------------

    def _make_waiting(self) -> bool:
        """Make the first calls that wait, in their order; return whether more can be made now."""
        names = self.waiting.names()
        for name in names[:_AT_ONCE]:
            try:
                self._make_one(name)
            except FileNotFoundError:
                continue
            except (OSError, StoreError) as error:
                self._report("a call from a file could not be made yet", error)
                return False
        return len(names) > _AT_ONCE

    def _make_one(self, name: str) -> None:
        try:
            self._take(0)
            content = self.waiting.read(name)
            self._take(len(content))
            self._make(parse(content, Request))
        except (UnknownRecordingError, _OutsideRoleError) as error:
            self._set_aside(name, error)
        except (OSError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - it was written by somebody else
            self._set_aside(name, error)
        else:
            self.waiting.remove(name)

    def _set_aside(self, name: str, error: Exception) -> None:
        self._report("a call from a file was set aside", error)
        self.waiting.set_aside(name)

    def _report(self, what: str, error: Exception) -> None:
        """Log only the first of each kind, so that flooding the door does not flood the log."""
        kind = f"{what} {type(error).__name__}"
        if kind not in self._reported:
            self._reported.add(kind)
            text = " ".join(str(error).split())[:300]
            logger.warning(
                "The door of %s: %s: %r (the first of this kind; later ones are not logged).",
                self.service, what, text,
            )  # fmt: skip


def _trouble(error: AcoupiError | ValueError) -> Trouble:
    """Return an error in the form of an answer."""
    if isinstance(error, AcoupiError):
        return Trouble(
            kind=type(error).__name__,
            status=getattr(error, "status", None),
            message=error.message,
            help=error.help,
            why=error.why,
        )
    return Trouble(is_value=True, message=str(error))


def listen(folder: Path) -> socket.socket:
    """Return a socket that listens in a folder, replacing one left by an earlier process."""
    folder.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR((folder / SOCKET).lstat().st_mode):
                (folder / SOCKET).unlink()
        with at_socket(folder) as address:
            listener.bind(address)
            handle = os.open(address, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:  # through the handle, never through a link
                Path(f"/proc/self/fd/{handle}").chmod(0o660)
            finally:
                os.close(handle)
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
