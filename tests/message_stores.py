"""Things to put in a message store."""

import datetime
from uuid import UUID

from acoupi import data
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
