"""Things to put in a message store."""

import datetime
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components import types
from tests.clocks import START

SUCCESS = data.ResponseStatus.SUCCESS
ERROR = data.ResponseStatus.ERROR
FAILED = data.ResponseStatus.FAILED
TIMEOUT = data.ResponseStatus.TIMEOUT


def text_of(message: data.Message) -> str:
    """The content as text: a store gives back bytes."""
    content = message.content
    return content if isinstance(content, str) else content.decode()


def message(n: int = 0, content: bytes | None = None) -> data.Message:
    """The message of the nth second."""
    return data.Message(
        id=UUID(int=n + 1),
        content=b"message %d" % n if content is None else content,
        created_on=START + datetime.timedelta(seconds=n),
    )


def answer(
    to: data.Message, status: data.ResponseStatus = SUCCESS, content: str | None = None
) -> data.Response:
    return data.Response(message=to, status=status, content=content, received_on=START)


def fill(store: types.MessageStore, number: int) -> list[data.Message]:
    made = [
        data.Message(content=str(n), created_on=START + datetime.timedelta(seconds=n))
        for n in range(1, number + 1)
    ]
    for message in made:
        store.store_message(message)
    return made


def contents(found: Sequence[data.Message]) -> list[Any]:
    return [text_of(message) for message in found]
