"""Reading messages and their deliveries from the SQLite store of a sensor, running or not."""

import datetime
import sqlite3
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.message_stores.sql import SCHEMA
from acoupi.components.stores.database import Database, stores_that_only_read
from acoupi.components.stores.values import as_id, from_microseconds, to_microseconds
from acoupi.heard import Delivery, MessageRow

__all__ = ["SqliteMessageReader"]

_WITHIN = datetime.timedelta(days=1)
"""A message about an output is made when it is stored; after a failure, a little later."""

MESSAGES = """
    SELECT m.row, m.id, m.message_type, m.created_on_us, CAST(m.content AS TEXT)
    FROM (
        SELECT * FROM message INDEXED BY message_unsent
        WHERE is_acknowledged = 0 AND created_on_us BETWEEN :since AND :until
        UNION ALL
        SELECT * FROM message INDEXED BY message_acknowledged
        WHERE is_acknowledged = 1 AND created_on_us BETWEEN :since AND :until
    ) m
    WHERE instr(CAST(m.content AS TEXT), :text)
    ORDER BY m.created_on_us, m.row
"""

SENT = """
    SELECT COUNT(*) FROM message INDEXED BY message_acknowledged
    WHERE is_acknowledged = 1 AND created_on_us >= :since
"""

DELIVERIES = """
    SELECT s.name, d.state, d.attempts, d.last_error, d.updated_on_us
    FROM delivery d JOIN messenger s ON s.row = d.messenger_row
    WHERE d.message_row = :message_row
    ORDER BY s.name
"""


class SqliteMessageReader:
    """Reads a message store, and changes nothing, nor leaves anything beside it.

    Parameters
    ----------
    path
        The file; where there is none, there are no messages.

    Raises
    ------
    MessageStoreError
        From every method: the file is damaged, or of another program or a newer acoupi.
    """

    def __init__(self, path: Path) -> None:
        with stores_that_only_read():
            self._database = Database(path, SCHEMA)

    def messages_about(self, output_id: UUID, since: datetime.datetime) -> list[MessageRow]:
        """Return the messages made from an output of a model, with their deliveries.

        See `acoupi.exports.MessageReader`.
        """
        values = {
            "since": to_microseconds(since),
            "until": to_microseconds(since + _WITHIN),
            "text": str(output_id),
        }
        with self._database.reading() as connection:
            rows = connection.execute(MESSAGES, values).fetchall()
            return [_message(connection, row) for row in rows]

    def count_sent(self, since: datetime.datetime) -> int:
        """Return how many of the messages made since a time every receiver has."""
        with self._database.reading() as connection:
            values = {"since": to_microseconds(since)}
            return int(connection.execute(SENT, values).fetchone()[0])


def _message(connection: sqlite3.Connection, row: tuple[Any, ...]) -> MessageRow:
    number, id_, message_type, created_on, content = row
    deliveries = connection.execute(DELIVERIES, {"message_row": number})
    return MessageRow(
        id=as_id(id_),
        message_type=None if message_type is None else data.MessageType(message_type),
        created_on=from_microseconds(created_on),
        content=content,
        deliveries=tuple(
            Delivery(
                messenger=name,
                state=state,
                attempts=attempts,
                last_error=error,
                updated_on=None if updated is None else from_microseconds(updated),
            )
            for name, state, attempts, error, updated in deliveries
        ),
    )
