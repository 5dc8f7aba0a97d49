"""The redis of a target as the broker: each queue is a list, as in kombu's own redis transport.

It differs in what a sensor needs: no event loop, no polling, and unacknowledged
messages kept under the worker's own name, so that it gets them again as
soon as it starts after a crash.

Keys::

    QUEUE             list; messages are pushed on the left and popped on the right
    unacked:WORKER    hash of the worker's unacknowledged messages, by delivery tag
"""

import contextlib
import json
from collections.abc import Iterable, Sequence
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError

from acoupi import clock
from acoupi.services.aside import Aside
from acoupi.services.envelopes import count_crash, read_message, written_message
from acoupi.services.folder_files import MAX_CRASHES
from acoupi.services.own_redis import ANSWER_TIMEOUT, OwnRedis, PendingAnswer, RedisFailedError
from acoupi.services.transport import SensorChannel, SensorTransport

__all__ = ["RedisChannel", "RedisTransport", "reclaim"]

BLOCK = 15
"""Seconds for which one request waits for a message."""
NOTHING = b""
"""A message for nobody. A worker that stops sends it to itself and waits for its arrival: a message
that redis delivers to a client that has just disconnected is lost."""
MOST_WAITING = 4096
"""Most messages in one queue. At 2 kB each, three full queues leave a fifth of redis's 32 MB.
Refused recordings stay in the store, and recovery orders them again."""


class RedisChannel(SensorChannel):
    """One consumer or producer of a redis."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        options = connection.client.transport_options
        self.client = OwnRedis(options["url"], options.get("answer_timeout", ANSWER_TIMEOUT))
        self.unacked = _unacked(options.get("worker") or "client")
        self._patience: float = BLOCK + options.get("answer_timeout", ANSWER_TIMEOUT)
        self._awaited: PendingAnswer | None = None
        self._asked, self._asked_at = "", 0.0

    # The interface of a kombu channel.

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        try:
            text = written_message(message)
        except ValueError as error:
            raise ChannelError(str(error)) from error
        if int(self.client("LLEN", queue)) >= MOST_WAITING:
            raise ChannelError(f"the queue {queue} is full: {MOST_WAITING} messages are waiting")
        self.client("LPUSH", queue, text)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        while (raw := self.client("RPOP", queue)) is not None:
            message = self._take(queue, raw)
            if message is not None:
                return message
        raise Empty

    def _size(self, queue: str) -> int:
        return int(self.client("LLEN", queue))

    def _purge(self, queue: str) -> int:
        count, _ = self.client.together(("LLEN", queue), ("DEL", queue))
        return int(count)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return bool(self.client("EXISTS", queue))

    def close(self) -> None:
        """Stop listening; return a message that redis delivered meanwhile."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._stop_listening()
            transport = self.connection
            if self._qos is not None and transport and not transport.is_stopping:
                # The link was lost; the tasks continue and acknowledge when they end.
                self._qos.restore_at_shutdown = False
        super().close()
        self.client.close()

    def settle(self, delivery_tag: str, *, requeue: bool = False) -> None:
        """Remove or put back a message that was taken."""
        raw, queue = self.taken.pop(delivery_tag, (None, ""))
        if raw is None:
            return
        done = ("HDEL", self.unacked, delivery_tag)
        self.client.together(*((("RPUSH", queue, raw), done) if requeue else (done,)))
        if self.closed:  # the task ended after the link was lost
            self.client.close()

    # Listening.

    def fileno(self) -> int:
        """Return the connection on which a message is awaited; -1 if there is none."""
        return self._awaited.fileno() if self._awaited else -1

    def deliver_one(self) -> bool:
        """Deliver a message if one has arrived; request one if the prefetch limit allows it."""
        while answer := self._awaited or self._ask():
            if not answer.has_come():
                if clock.monotonic() - self._asked_at > self._patience:
                    self._awaited = None
                    answer.give_up()
                    raise RedisFailedError("redis does not answer")
                return False
            self._awaited = None
            queue, raw = answer.read() or (b"", NOTHING)
            message = self._take(queue.decode(), raw)
            if message is not None:
                self.connection.deliver(message, queue.decode())
                return True
        return False

    def _ask(self) -> PendingAnswer | None:
        """Request a message; None if the prefetch limit does not allow one."""
        if not self._active_queues or not self.qos.can_consume():
            return None
        self._awaited = self.client.ask("BRPOP", *self._active_queues, BLOCK)
        self._asked, self._asked_at = self._active_queues[0], clock.monotonic()
        return self._awaited

    def _stop_listening(self) -> None:
        answer, self._awaited = self._awaited, None
        if answer is None:
            return
        self.client("RPUSH", self._asked, NOTHING)
        found = answer.read() or ("", None)
        if found[1] == NOTHING:
            return
        own = self.client("RPOP", self._asked)  # the answer had been sent before
        for queue, raw in ((self._asked, own), found):
            if raw:
                self.client("RPUSH", queue, raw)

    def _take(self, queue: str, raw: bytes) -> dict[str, Any] | None:
        """Record an unacknowledged message; None if there is none, or it cannot be read."""
        if raw == NOTHING:
            return None
        try:
            message, tag = read_message(raw)
        except ValueError as error:
            # The store still knows the pending work.
            self.aside.put(raw, queue, str(error))
            return None
        in_hand = json.dumps([message, "", queue])
        self.client("HSET", self.unacked, tag, in_hand)
        self.taken[tag] = (raw, queue)
        return message


class RedisTransport(SensorTransport):
    """The redis of a target.

    Transport options: ``url``, with the login; ``worker``, the name under which
    unacknowledged messages are kept (one process per name); ``answer_timeout``, seconds.
    """

    Channel = RedisChannel
    driver_type = "redis"
    driver_name = "redis"

    def establish_connection(self) -> Any:
        """Check that redis answers."""
        client = OwnRedis(self.options["url"])
        try:
            client("PING")
        finally:
            client.close()
        return super().establish_connection()

    def handles(self) -> Iterable[int]:
        """Return the connections on which messages are awaited."""
        return [number for channel in self.channels if (number := channel.fileno()) >= 0]


def reclaim(
    client: OwnRedis,
    worker: str,
    queues: Sequence[str],
    aside: Aside,
    limit: int = MAX_CRASHES,
) -> tuple[int, int]:
    """Put back the messages that a worker was handling when it was killed.

    Returns
    -------
    tuple
        How many messages were put back, and how many were put aside because they cannot be
        read, are of a queue of another worker, or the worker died `limit` times handling them.
    """
    back = gone = 0
    unacked = _unacked(worker)
    answer = client("HGETALL", unacked)
    for tag, raw in zip(answer[::2], answer[1::2], strict=True):
        try:
            message, queue = _in_hand(raw, queues)
            crashes = count_crash(message)
            if crashes >= limit:
                raise ValueError(f"its worker died while handling it, {crashes} times")  # noqa: TRY301
        except ValueError as error:
            aside.put(raw, unacked, str(error))
            client("HDEL", unacked, tag)
            gone += 1
            continue
        # Pushed on the right, to be next.
        client.together(
            ("MULTI",), ("RPUSH", queue, json.dumps(message)), ("HDEL", unacked, tag), ("EXEC",)
        )
        back += 1
    return back, gone


def _in_hand(raw: bytes, queues: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return a message and its queue, from the record of `RedisChannel`."""
    try:
        message, exchange, routing_key = json.loads(raw)
        message, _ = read_message(json.dumps(message).encode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except TypeError:
        raise ValueError("it is JSON, but not an unacknowledged message") from None
    queue = routing_key or exchange
    if queue not in queues:
        raise ValueError("its queue belongs to another worker")
    return message, queue


def _unacked(worker: str) -> str:
    return f"unacked:{worker}"
