"""HTTP with one deadline for a whole exchange: the name, the connection, every byte of the answer.

The time-outs of requests are for each read: a server that sends a byte now and then, or
"100 Continue" without end, keeps its client for ever.
"""

import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

__all__ = ["DeadlineError", "DeadlineSession"]

TIDY_UP = 1.0
"""Seconds for an exchange to end after its connection was cut."""

_OVER = "the deadline has passed"

T = TypeVar("T")


class DeadlineError(TimeoutError):
    """An exchange was not over at its deadline."""

    def __init__(self, seconds: float, *, was_connected: bool) -> None:
        super().__init__(f"no complete answer within {seconds:g} s")
        self.was_connected = was_connected
        """Whether there was a connection, so that something may have arrived."""


class DeadlineSession(requests.Session):
    """A session whose exchanges end at a deadline; to be used by one thread.

    Parameters
    ----------
    context
        With the authorities to trust, and no others; None: those that requests trusts.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._line = _Line()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self._line, context))

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request; return the final answer, complete with its headers."""
        answer = super().send(request, **kwargs)
        if answer.status_code < 200:  # what follows would be taken for the next answer
            self._line.cut()
        if self.is_cut:
            answer.close()
            raise requests.ConnectionError("the server has not answered to the end")
        return answer

    def close(self) -> None:
        """Close the connections; the next exchange opens another."""
        super().close()
        self._line.close()

    @property
    def is_cut(self) -> bool:
        """Whether this session is of no use any more."""
        return self._line.is_cut

    def within(self, seconds: float, exchange: Callable[[], T]) -> T:
        """Return the result of `exchange`, which uses this session.

        At the deadline its connection is cut. If it can return something all the same, that
        counts. The session is of no use after a `DeadlineError`.

        Raises
        ------
        DeadlineError
            If it was not over after so many seconds.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def attempt() -> None:
            try:
                results.append(exchange())
            except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
                errors.append(error)

        # A separate thread: a name lookup cannot be interrupted.
        thread = threading.Thread(target=attempt, name="acoupi-http", daemon=True)
        thread.start()
        thread.join(seconds)
        is_late = thread.is_alive()
        was_connected = self._line.is_connected
        if is_late:
            self._line.cut()
            thread.join(TIDY_UP)
        if results:
            return results[0]
        if is_late or not errors:
            raise DeadlineError(seconds, was_connected=was_connected)
        raise errors[0]


class _Line:
    """The last connection of a session, which another thread may close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Of the same connection: TLS takes the socket itself away, and an answer that ends with
        # its connection goes on reading after that was closed.
        self._twin: socket.socket | None = None
        self.is_cut = False

    @property
    def is_connected(self) -> bool:
        return self._twin is not None

    def add(self, channel: socket.socket) -> None:
        self.close()
        with self._lock:
            if self.is_cut:
                channel.close()
                raise ConnectionAbortedError(_OVER)
            self._twin = socket.socket(fileno=os.dup(channel.fileno()))

    def close(self) -> None:
        with self._lock:
            twin, self._twin = self._twin, None
        if twin is not None:
            twin.close()

    def cut(self) -> None:
        with self._lock:
            self.is_cut = True
            if self._twin is not None:
                with suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)

    def __del__(self) -> None:
        self.close()


class _Cuttable(HTTPConnection):
    line: _Line

    def _new_conn(self) -> socket.socket:
        channel = super()._new_conn()
        self.line.add(channel)
        return channel


class _CuttableTLS(_Cuttable, HTTPSConnection):
    context: ssl.SSLContext | None

    def connect(self) -> None:
        if self.context:
            self.ssl_context, self.ca_certs, self.ca_cert_dir = self.context, None, None
        super().connect()


class _Adapter(HTTPAdapter):
    def __init__(self, line: _Line, context: ssl.SSLContext | None) -> None:
        plain = type("Plain", (_Cuttable,), {"line": line})
        secure = type("Secure", (_CuttableTLS,), {"line": line, "context": context})
        self._pools = {
            "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
        }
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager
