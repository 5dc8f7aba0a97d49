"""Messages, and messengers that take them to an HTTP server of a test."""

from typing import Any

from acoupi import data
from acoupi.components.messengers import HTTPMessenger


def message(content: str | bytes = '{"species": "Myotis"}') -> data.Message:
    return data.Message(content=content)


def messenger(url: str, **settings: Any) -> HTTPMessenger:
    """A messenger that a busy machine does not put out of patience."""
    return HTTPMessenger(url, **{"timeout": 20, **settings})
