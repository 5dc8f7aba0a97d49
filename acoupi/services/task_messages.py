"""The message that orders a task, made without Celery but identical to Celery's."""

import base64
import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from acoupi import clock

__all__ = ["Publisher", "TaskMessage", "task_message"]


@dataclass(frozen=True)
class TaskMessage:
    """An order to run a task: Celery's protocol 2."""

    body: tuple[list[Any], dict[str, Any], dict[str, Any]]
    """Positional arguments, named arguments, and callbacks."""
    headers: dict[str, Any]
    reply_to: str
    expires: float
    """Seconds after which it must not run any more."""

    def in_list(self, queue: str) -> dict[str, Any]:
        """Return it as kombu keeps messages in lists and files."""
        return {
            "body": base64.b64encode(json.dumps(self.body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": self.headers,
            "properties": {
                "correlation_id": self.headers["id"],
                "reply_to": self.reply_to,
                "delivery_mode": 2,
                "expiration": str(int(self.expires * 1000)),
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }


def task_message(
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    expires: float,
) -> TaskMessage:
    """Return the message that orders a task.

    Parameters
    ----------
    task
        Its name.
    args, kwargs
        For the task.
    expires
        Seconds after which it must not run any more.
    """
    number = str(uuid4())
    kwargs = dict(kwargs or {})
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    headers: dict[str, Any] = {
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
    }
    return TaskMessage((list(args), kwargs, nothing), headers, str(uuid4()), expires)


class Publisher(ABC):
    """Puts messages into the queues of a broker."""

    @abstractmethod
    def send(self, queue: str, message: TaskMessage) -> None:
        """Put a message into a queue.

        Raises
        ------
        OSError
            If the broker cannot be reached or refuses it.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""
