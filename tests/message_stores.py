"""Every message store, and things to put in it."""

import datetime
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.testing.stores import InMemoryMessageStore
from tests.stores import START

Store = SqliteMessageStore | InMemoryMessageStore
SUCCESS = data.ResponseStatus.SUCCESS
ERROR = data.ResponseStatus.ERROR
FAILED = data.ResponseStatus.FAILED
TIMEOUT = data.ResponseStatus.TIMEOUT
STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda folder: SqliteMessageStore(folder / "messages.db"),
    "memory": lambda _: InMemoryMessageStore(),
}


def message(n: int = 0, content: str | bytes | None = None) -> data.Message:
    """The message of the nth second."""
    return data.Message(
        id=UUID(int=n + 1),
        content=f"message {n}" if content is None else content,
        created_on=START + datetime.timedelta(seconds=n),
    )


def answer(
    to: data.Message, status: data.ResponseStatus = SUCCESS, content: str | None = None
) -> data.Response:
    return data.Response(message=to, status=status, content=content, received_on=START)
