"""Messages of sensors, over HTTP or MQTT."""

from collections.abc import Sequence
from typing import NamedTuple

from acoupi.hub.database import Connection

__all__ = ["MessageRow", "put_messages"]

_PUT = """
    INSERT INTO message (id, sensor_row, message_type, created_on_us, content)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING
"""


class MessageRow(NamedTuple):
    """A row of the table of messages."""

    id: bytes
    sensor_row: int
    message_type: str | None
    created_on_us: int
    """Microseconds since 1970."""
    content: str


def put_messages(connection: Connection, messages: Sequence[MessageRow]) -> None:
    """Store messages, each once."""
    connection.put_many(_PUT, messages)
