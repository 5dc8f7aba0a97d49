"""What the transports of both brokers of a sensor have in common: embedded, and own redis.

Neither has an event loop: a worker waits in `drain_events`, and other threads
wake it through a pipe when its loop has something to do.
"""

import contextlib
import os
import select
import threading
from collections.abc import Iterable
from typing import Any

from kombu.transport import virtual

from acoupi import clock
from acoupi.services.aside import Aside

__all__ = ["LONGEST_WAIT", "SensorChannel", "SensorTransport", "WakePipe"]

LONGEST_WAIT = 2.0
"""Seconds: a worker's loop turns at least this often."""


class WakePipe:
    """A pipe through which any thread, or a signal handler, wakes a loop that waits."""

    def __init__(self) -> None:
        self._read, self._write = -1, -1
        # As soon as the pipe is closed, its number may be that of a recording. Re-entrant,
        # because a signal handler may interrupt the thread that holds the lock.
        self._lock = threading.RLock()

    @property
    def read_end(self) -> int:
        """The file descriptor to wait on; the pipe is opened when this is first asked for."""
        if self._read < 0:
            self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return self._read

    def wake(self) -> None:
        """Wake the loop, if one waits."""
        with self._lock, contextlib.suppress(OSError):
            if self._write >= 0:
                os.write(self._write, b".")

    def empty(self) -> None:
        """Be ready to be woken again."""
        with contextlib.suppress(OSError):
            os.read(self._read, 4096)

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            handles, self._read, self._write = (self._read, self._write), -1, -1
            for handle in handles:
                if handle >= 0:
                    os.close(handle)


class SensorQoS(virtual.QoS):
    """Keeps track of messages in hand and settles them with the broker."""

    def ack(self, delivery_tag: str) -> None:
        """Remove a message for good. May be called by any thread."""
        try:
            self.channel.settle(delivery_tag)
        finally:  # a lost link is noticed when the next message is requested
            super().ack(delivery_tag)
            self.channel.connection_wake()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put a message back, or remove it for good."""
        try:
            self.channel.settle(delivery_tag, requeue=requeue)
        finally:
            self._quick_ack(delivery_tag)
            self.channel.connection_wake()

    def restore_unacked(self) -> list[Any]:
        """Put back every message that was not acknowledged."""
        self._flush()
        for delivery_tag in list(self._delivered):
            self.channel.settle(delivery_tag, requeue=True)
        self._delivered.clear()
        return []


class SensorChannel(virtual.Channel):
    """One consumer or producer."""

    QoS = SensorQoS

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.aside: Aside = connection.aside
        self.taken: dict[str, tuple[Any, str]] = {}
        """The messages in hand, by delivery tag, and the queue of each."""

    def settle(self, delivery_tag: str, *, requeue: bool = False) -> None:
        """Remove or put back a message that was taken."""
        raise NotImplementedError

    def deliver_one(self) -> bool:
        """Deliver a message if there is one and the prefetch limit allows it; return whether."""
        raise NotImplementedError

    def basic_qos(self, *args: Any, **kwargs: Any) -> None:
        """Set how many messages may be in hand, and look for new ones."""
        super().basic_qos(*args, **kwargs)
        self.connection_wake()

    def connection_wake(self) -> None:
        """Wake the loop that waits on this channel's connection, if any."""
        if self.connection is not None:
            self.connection.wake()

    def _lookup(self, exchange: str, routing_key: str, default: Any = None) -> list[str]:
        """Every exchange is direct, and every routing key is the name of a queue."""
        return [routing_key or default]


class SensorTransport(virtual.Transport):
    """A broker whose loop can be woken and stopped from other threads."""

    default_port: Any = 0
    can_parse_url = True
    connection_errors: Any = (*virtual.Transport.connection_errors, OSError)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.is_stopping = False
        self.aside = Aside(self.options.get("aside"))
        self._pipe = WakePipe()

    @property
    def options(self) -> dict[str, Any]:
        """The transport options of the app."""
        client: Any = self.client
        return dict(client.transport_options)

    def driver_version(self) -> str:
        """Return the version of this transport."""
        return "1"

    def close_connection(self, connection: Any) -> None:
        """Close the channels and the pipe."""
        super().close_connection(connection)
        self._pipe.close()

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Deliver one message, waiting for it up to `timeout` seconds.

        Raises
        ------
        TimeoutError
            If there was none, or `wake` was called because the caller's loop
            has something to do.
        """
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            if self.is_stopping:
                raise TimeoutError
            if self.deliver_one():
                return
            left = LONGEST_WAIT if deadline is None else deadline - clock.monotonic()
            if left <= 0 or self._wait(min(left, LONGEST_WAIT)):
                raise TimeoutError from None

    def deliver_one(self) -> bool:
        """Deliver a message if there is one; return whether there was."""
        return any(channel.deliver_one() for channel in list(self.channels))

    def deliver(self, message: dict[str, Any], queue: str) -> None:
        """Pass a message to the consumers of its queue; put it aside if they cannot read it."""
        try:
            self._deliver(message, queue)
        except (*self.connection_errors, *self.channel_errors):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a stranger's message makes of it
            self.aside.put(message, queue, f"{type(error).__name__}: {error}")
            tag = message["properties"]["delivery_tag"]
            for channel in self.channels:
                if tag in channel.taken:
                    channel.qos.reject(tag)

    def came(self, handle: int) -> None:
        """Handle that one of `handles` is readable."""

    def handles(self) -> Iterable[int]:
        """Return file descriptors that become readable when there may be a message."""
        raise NotImplementedError

    def stop(self) -> None:
        """Deliver nothing more, because the worker is stopping. May be called by any thread."""
        self.is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Make `drain_events` return soon. May be called by any thread."""
        self._pipe.wake()

    def _wait(self, seconds: float) -> bool:
        """Wait for a message, `wake` or the end of the time; return whether `wake` was called."""
        pipe = self._pipe.read_end
        ready, _, _ = select.select([*self.handles(), pipe], [], [], seconds)
        for handle in ready:
            if handle != pipe:
                self.came(handle)
        if pipe not in ready:
            return False
        self._pipe.empty()
        return True
