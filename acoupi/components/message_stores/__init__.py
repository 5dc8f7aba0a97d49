"""Stores of messages that wait until every messenger has delivered them."""

from acoupi.components.message_stores.deliveries import (
    KEEP_DAYS,
    DeadLetter,
    DeliveryState,
    Refusal,
)
from acoupi.components.message_stores.reader import SqliteMessageReader
from acoupi.components.message_stores.sqlite import SqliteMessageStore

__all__ = [
    "KEEP_DAYS",
    "DeadLetter",
    "DeliveryState",
    "Refusal",
    "SqliteMessageReader",
    "SqliteMessageStore",
]
