"""Where messages wait until every messenger has delivered them."""

from acoupi.components.message_stores.deliveries import DeadLetter, DeliveryState
from acoupi.components.message_stores.sqlite import SqliteMessageStore

__all__ = ["DeadLetter", "DeliveryState", "SqliteMessageStore"]
