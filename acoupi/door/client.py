"""The side of a door that calls."""

import functools
import inspect
import logging
import os
import socket
import weakref
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from acoupi import clock
from acoupi.door.folders import SOCKET
from acoupi.door.waiting import WaitingCalls
from acoupi.door.wire import (
    LENGTH,
    MOST_ANSWER_BYTES,
    Answer,
    Request,
    TooLargeError,
    pack,
    parse,
    result_of,
)
from acoupi.errors import StoreError

__all__ = ["Door", "at_socket", "exchanged", "find_store", "through_door", "use_door"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds that a call may take."""


@dataclass(frozen=True)
class Door:
    """The door of one service.

    Parameters
    ----------
    folder
        Folder of its socket.
    waiting
        Keeps calls that need no answer while nothing answers.
    deadline
        Seconds that a call may take.
    """

    folder: Path
    waiting: WaitingCalls
    deadline: float = DEADLINE

    def exchange(self, request: bytes) -> bytes:
        """Send a request and return the answer.

        Raises
        ------
        OSError
            If nothing answers in time.
        """
        with closing(exchanged(self.folder, request, self.deadline)) as answers:
            return next(answers)


def exchanged(
    folder: Path, request: bytes, deadline: float = DEADLINE
) -> Generator[bytes, None, None]:
    """Send a request and yield its answers: as many as are asked for, each in time.

    Raises
    ------
    OSError
        If nothing answers in time.
    """
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(deadline)
        end = clock.monotonic() + deadline
        with at_socket(folder) as address:
            connection.connect(address)
        connection.sendall(LENGTH.pack(len(request)) + request)
        while True:
            (length,) = LENGTH.unpack(_receive(connection, LENGTH.size, end))
            if length > MOST_ANSWER_BYTES:
                raise ConnectionAbortedError("the answer is too long")
            yield _receive(connection, length, end)
            end = clock.monotonic() + deadline


@contextmanager
def at_socket(folder: Path) -> Iterator[str]:
    """Yield an address for the socket in any folder: addresses are limited to 107 bytes."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def _receive(connection: socket.socket, length: int, end: float) -> bytes:
    content = bytearray()
    while len(content) < length:
        rest = end - clock.monotonic()
        if rest <= 0:
            raise TimeoutError("no answer in time")
        connection.settimeout(rest)
        part = connection.recv(min(length - len(content), 1 << 20))
        if not part:
            raise ConnectionAbortedError("the connection was closed without an answer")
        content += part
    return bytes(content)


# --- stores ----------------------------------------------------------------------------------


@dataclass
class _Process:
    door: Door | None = None
    stores: "weakref.WeakSet[Any]" = field(default_factory=weakref.WeakSet)


_process = _Process()


def use_door(door: Door | None) -> None:
    """Make every store of this process and its children call through a door."""
    _process.door = door


def find_store(kind: str, path: str) -> Any:
    """Return the store of that kind and file that this process has; or None."""
    for store in list(_process.stores):
        if store.door_kind == kind and str(store.db_path) == path:
            return store
    return None


def through_door(
    kind: str,
    error: type[StoreError],
    *,
    deferred: Collection[str] = (),
    offline: Mapping[str, Callable[..., Any]] | None = None,
    caller: Callable[[], str | None] = lambda: None,
    check: Callable[[Any, str, Mapping[str, Any]], None] = lambda *_: None,
) -> Callable[[type[T]], type[T]]:
    """Make the public methods of a store go through the door if this process has one.

    Parameters
    ----------
    kind
        Names such stores.
    error
        What its methods raise.
    deferred
        Methods that return nothing and can safely be repeated: while nothing answers, their calls
        wait in files.
    offline
        Results of other methods in that case, from their arguments; the rest raises.
    caller
        Names the parent of this process.
    check
        Raises for a call that a store may refuse through a door: gets the store, the method and
        its arguments.
    """
    rules = _Rules(kind, error, frozenset(deferred), offline or {}, caller)

    def decorate(store_class: Any) -> Any:
        """Turn the public methods of a store class into calls at the door, if there is one."""
        for name, function in inspect.getmembers(store_class, inspect.isfunction):
            if not name.startswith("_") and name != "close":
                setattr(store_class, name, rules.wrap(name, function))
        store_class.__init__ = _registering(store_class.__init__)
        store_class.door_kind = kind
        store_class.door_check = check
        return store_class

    return decorate


def _registering(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        function(self, *args, **kwargs)
        _process.stores.add(self)

    return init


@dataclass(frozen=True)
class _Rules:
    kind: str
    error: type[StoreError]
    deferred: frozenset[str]
    offline: Mapping[str, Callable[..., Any]]
    caller: Callable[[], str | None]

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def method(store: Any, *args: Any, **kwargs: Any) -> Any:
            door: Door | None = store.__dict__.get("_door") or _process.door
            if door is None:
                return function(store, *args, **kwargs)
            arguments = dict(signature.bind(store, *args, **kwargs).arguments)
            arguments.pop(next(iter(arguments)))  # self
            return self._call(door, str(store.db_path), name, function, arguments)

        return method

    def _call(
        self, door: Door, path: str, name: str, function: Callable[..., Any], given: dict[str, Any]
    ) -> Any:
        request = self._packed(path, name, given)
        # Waiting calls are made first: an analysis is not closed before its output is stored.
        if name in self.deferred and door.waiting.names():
            return self._defer(door, name, request, "earlier calls are waiting already")
        try:
            content = door.exchange(request)
        except OSError as problem:
            return self._without_answer(door, name, request, given, problem)
        answer: Answer = parse(content, Answer, MOST_ANSWER_BYTES)
        if answer.error is None:
            return result_of(function, answer.result)
        if answer.error.is_value:
            raise ValueError(answer.error.message)
        raise self.error(answer.error.message, answer.error.help, why=answer.error.why)

    def _packed(self, path: str, name: str, given: dict[str, Any]) -> bytes:
        request = Request(
            store=self.kind, path=path, method=name, arguments=given, caller=self.caller()
        )
        try:
            return pack(request)
        except TooLargeError as problem:
            raise self.error(
                f"cannot send {name} to the store: it is too large.",
                "make the model report less: acoupi config set detections.threshold 0.5",
                why=f"{problem}.",
            ) from problem

    def _without_answer(
        self, door: Door, name: str, request: bytes, given: dict[str, Any], problem: OSError
    ) -> Any:
        if name in self.deferred:
            return self._defer(door, name, request, str(problem))
        if name in self.offline:
            logger.warning("The store does not answer %s: %s", name, problem)
            return self.offline[name](**given)
        raise self.error(
            f"cannot call the store ({name}): the worker that keeps it does not answer.",
            "acoupi workers status",
            why=f"{problem} ({door.folder}).",
        ) from problem

    def _defer(self, door: Door, name: str, request: bytes, reason: str) -> None:
        try:
            door.waiting.put(request)
        except OSError as problem:
            raise self.error(
                f"cannot keep {name} until the worker that keeps the store answers.",
                "acoupi workers status",
                why=f"{problem}.",
            ) from problem
        logger.warning("%s is waiting in a file for the store: %s", name, reason)
