"""A redis as the broker: each queue is a list, as kombu's own redis transport has it.

What differs is what a sensor needs: no library of 10 MB in every service, no
polling, and messages in hand that are kept under the worker's own name, so
that it has them again as soon as it starts after a crash.

Keys::

    QUEUE             list; messages are put in on the left and taken on the right
    unacked:WORKER    hash of what the worker has in hand, by delivery tag
    dead:WORKER       list of what it died of too often
"""

import contextlib
import json
import logging
from collections.abc import Iterable
from queue import Empty
from typing import Any

from acoupi import clock
from acoupi.services.folder_files import CRASHES_HEADER, MAX_CRASHES
from acoupi.services.redis_client import ANSWER_TIMEOUT, RedisClient, silent
from acoupi.services.transport import SensorChannel, SensorTransport

__all__ = ["RedisChannel", "RedisTransport", "reclaim"]

logger = logging.getLogger(__name__)

BLOCK = 1
"""Seconds for which redis is asked for a message, and then again. Its answer is waited for when
a worker stops: what redis hands to somebody who has just hung up is lost."""


class RedisChannel(SensorChannel):
    """One consumer or producer of a redis."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        options = connection.client.transport_options
        self.client = RedisClient(options["url"])
        self.unacked = _unacked(options.get("worker") or "client")
        self.listener = RedisClient(options["url"])
        self._asked_at: float | None = None
        self._taken: dict[str, tuple[bytes, str]] = {}

    # What kombu asks of a channel.

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        self.client("LPUSH", queue, json.dumps(message))

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        del timeout
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
        """Stop listening; what was handed out meanwhile goes back."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._stop_listening()
            transport = self.connection
            if self._qos is not None and transport and not transport.is_stopping:
                # The link was lost, the tasks go on: they acknowledge when they end.
                self._qos.restore_at_shutdown = False
        super().close()
        for client in (self.listener, self.client):
            client.close()

    def settle(self, delivery_tag: str, *, requeue: bool = False) -> None:
        """Remove or put back a message that was taken."""
        raw, queue = self._taken.pop(delivery_tag, (None, ""))
        if raw is None:
            return
        done = ("HDEL", self.unacked, delivery_tag)
        self.client.together(*((("RPUSH", queue, raw), done) if requeue else (done,)))
        if self.closed:  # a task that went on after the link was lost
            self.client.close()

    # Listening.

    def deliver_one(self) -> bool:
        """Hand out a message if one has come; ask for one if that is wanted."""
        while self._asked_at is not None or self._ask():
            if not self.listener.has_answer():
                if clock.monotonic() - (self._asked_at or 0.0) > BLOCK + ANSWER_TIMEOUT:
                    self._asked_at = None
                    self.listener.close()
                    raise silent()
                return False
            self._asked_at = None
            found = self.listener.read()
            if found is not None:
                queue = found[0].decode()
                message = self._take(queue, found[1])
                if message is not None:
                    self.connection.deliver(message, queue)
                    return True
        return False

    def _ask(self) -> bool:
        """Ask for a message; return whether one may be had."""
        if not self._active_queues or not self.qos.can_consume():
            return False
        self.listener.send(("BRPOP", *self._active_queues, BLOCK))
        self._asked_at = clock.monotonic()
        return True

    def _stop_listening(self) -> None:
        if self._asked_at is None:
            return
        self._asked_at = None
        found = self.listener.read()
        if found is not None:
            self.client("RPUSH", found[0].decode(), found[1])

    def _take(self, queue: str, raw: bytes) -> dict[str, Any] | None:
        """Note that a message is in hand; None if it cannot be read."""
        try:
            message: dict[str, Any] = json.loads(raw)
            tag: str = message["properties"]["delivery_tag"]
        except (ValueError, KeyError, TypeError):
            # What it was about is in the store.
            logger.warning("A message in the queue %s cannot be read; dropped.", queue)
            return None
        in_hand = json.dumps([message, "", queue])
        self.client("HSET", self.unacked, tag, in_hand)
        self._taken[tag] = (raw, queue)
        return message


class RedisTransport(SensorTransport):
    """Redis, as kombu knows a broker.

    Transport options: ``url``, with the login, and ``worker``, the name under
    which messages in hand are kept (one process per name).
    """

    Channel = RedisChannel
    driver_type = "redis"
    driver_name = "redis"

    def establish_connection(self) -> Any:
        """Make sure that redis answers."""
        client = RedisClient(self.options["url"])
        try:
            client("PING")
        finally:
            client.close()
        return super().establish_connection()

    def handles(self) -> Iterable[int]:
        """Return the connections that listen."""
        numbers = (channel.listener.fileno() for channel in self.channels)
        return [number for number in numbers if number >= 0]


def reclaim(client: RedisClient, worker: str, limit: int = MAX_CRASHES) -> tuple[int, int]:
    """Put back what the worker of that name had taken when it was killed.

    Returns
    -------
    tuple
        How many messages were put back, and how many were put aside (in the
        list ``dead:WORKER``) because the worker died `limit` times with them.
    """
    back = aside = 0
    unacked = _unacked(worker)
    answer = client("HGETALL", unacked)
    for tag, raw in zip(answer[::2], answer[1::2], strict=True):
        message, exchange, routing_key = json.loads(raw)
        headers = message.setdefault("headers", {})
        crashes = int(headers.get(CRASHES_HEADER, 0)) + 1
        headers[CRASHES_HEADER] = crashes
        message["redelivered"] = True
        place = routing_key or exchange  # what is taken from the right is next
        if crashes >= limit:
            aside += 1
            place = f"dead:{worker}"
            logger.error(
                "The task %s was in hand when this worker died, %d times: put aside.",
                headers.get("task"),
                crashes,
            )
        else:
            back += 1
        client.together(
            ("MULTI",), ("RPUSH", place, json.dumps(message)), ("HDEL", unacked, tag), ("EXEC",)
        )
    return back, aside


def _unacked(worker: str) -> str:
    return f"unacked:{worker}"
