"""Taking back what a worker had in hand when it was killed."""

import json
import logging
from collections.abc import Callable
from typing import Any

from acoupi.system.celery import folder
from acoupi.system.constants import CelerySettings, Settings

__all__ = ["reclaim_redis", "reclaimer"]

logger = logging.getLogger("acoupi.system.celery.worker")


def reclaimer(name: str, settings: Settings, celery: CelerySettings) -> Callable[[Any], None]:
    """Return what puts back the messages that this worker had in hand when it was killed."""

    def reclaim(connection: Any) -> None:
        if celery.broker_url is None:
            back, aside = folder.reclaim(settings.run_dir, name)
        else:
            back, aside = reclaim_redis(connection, name)
        if back or aside:
            logger.warning(
                "%d tasks were in hand when this worker ended last: %d put back, %d put aside.",
                back + aside,
                back,
                aside,
            )

    return reclaim


def reclaim_redis(connection: Any, name: str, limit: int = folder.MAX_CRASHES) -> tuple[int, int]:
    """Put back what the worker of that name had taken from redis when it was killed.

    Returns
    -------
    tuple
        How many messages were put back, and how many were put aside (in the
        list ``dead:NAME``) because the worker died `limit` times with them.
    """
    channel = connection.default_channel
    client = channel.client
    back = aside = 0
    for tag, raw in client.hgetall(channel.unacked_key).items():
        message, exchange, routing_key = json.loads(raw)
        headers = message.setdefault("headers", {})
        crashes = int(headers.get(folder.CRASHES_HEADER, 0)) + 1
        headers[folder.CRASHES_HEADER] = crashes
        message["redelivered"] = True
        with client.pipeline() as pipe:
            if crashes >= limit:
                aside += 1
                pipe.rpush(f"dead:{name}", json.dumps(message))
                logger.error(
                    "The task %s was in hand when this worker died, %d times: put aside.",
                    headers.get("task"),
                    crashes,
                )
            else:
                back += 1
                # Messages are taken from the right: this one is next.
                pipe.rpush(routing_key or exchange, json.dumps(message))
            pipe.hdel(channel.unacked_key, tag)
            pipe.zrem(channel.unacked_index_key, tag)
            pipe.execute()
    return back, aside
