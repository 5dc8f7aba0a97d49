"""Sending a task without Celery: the very message that Celery would send."""

import base64
import json
import os
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from acoupi import clock
from acoupi.services import folder_files
from acoupi.services.redis_client import RedisClient
from acoupi.stack.settings import Settings

__all__ = ["Outbox", "task_message"]


def task_message(
    task: str,
    queue: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    expires: float,
) -> dict[str, Any]:
    """Return the message that orders a task: Celery's protocol 2, as kombu's lists hold it.

    Parameters
    ----------
    task
        Its name.
    queue
        Where it is to be put.
    args, kwargs
        For the task.
    expires
        Seconds after which it is not to be run any more.
    """
    number = str(uuid4())
    kwargs = dict(kwargs or {})
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([list(args), kwargs, embed]).encode()
    return {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": number,
            "shadow": None,
            "eta": None,
            "expires": (clock.utc_now() + timedelta(seconds=expires)).isoformat(),
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": number,
            "parent_id": None,
            "argsrepr": repr(tuple(args)),
            "kwargsrepr": repr(kwargs),
            "origin": f"gen{os.getpid()}@{socket.gethostname()}",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": number,
            "reply_to": str(uuid4()),
            "delivery_mode": 2,
            "expiration": str(int(expires * 1000)),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }


class Outbox:
    """Puts messages into the queues of a broker.

    Parameters
    ----------
    settings
        Where the embedded broker is.
    url
        Of a redis; None: the embedded broker.
    """

    def __init__(self, settings: Settings, url: str | None) -> None:
        self._folder = folder_files.broker_folder(settings.run_dir)
        self._redis = RedisClient(url) if url else None

    def send(self, queue: str, message: dict[str, Any]) -> None:
        """Put a message into a queue.

        Raises
        ------
        OSError
            If the broker cannot be reached.
        """
        if self._redis is None:
            folder_files.put(self._folder, queue, message)
        else:
            self._redis("LPUSH", queue, json.dumps(message))

    def close(self) -> None:
        """Close the connection."""
        if self._redis is not None:
            self._redis.close()
