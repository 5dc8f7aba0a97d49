"""A connection to an MQTT broker that keeps its messages while it is offline."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from acoupi.components.messengers.mqtt_connection import Broker, Connection, ConnectionLostError
from acoupi.errors import AccessRefusedError, MessageSendError

__all__ = ["Publication", "SessionConnection"]

NEW_ONLY = 2
"""Subscription option: no retained messages, only new ones."""


class Publication(NamedTuple):
    """A message that was published."""

    topic: str
    content: bytes
    labels: Mapping[str, str]
    """Its user properties."""
    is_retained: bool
    """Whether it is a retained state, not a message."""
    number: int
    """Id of the packet, for `SessionConnection.acknowledge`; 0: it needs none."""


class SessionConnection(Connection):
    """A connection (MQTT 5) that continues the last session of its client id.

    What arrives counts as taken when it is acknowledged; until then the broker keeps it, and
    sends it again on the next connection.

    Parameters
    ----------
    broker, client_id
        As of `Connection`; the broker knows the session by the client id.
    take
        Called with what arrives, from the network thread: it must not wait.
    on_lost
        As of `Connection`.
    """

    keeps_session = True

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        take: Callable[[Publication], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        super().__init__(broker, client_id, on_lost=on_lost)
        self._take = take
        self._codes: list[ReasonCode] | None = None
        """What the broker answered to `follow`."""

    def follow(self, topic: str, timeout: float) -> None:
        """Subscribe to a topic, and wait until the broker has agreed.

        Raises
        ------
        ConnectionLostError
            If there is no connection, or it ends first.
        MessageSendError
            If it does not answer within `timeout` seconds, or refuses.
        """
        client = self.client
        if client is None or not self.is_open:
            raise ConnectionLostError(self.end or "closed")
        client.on_subscribe = self._subscribed
        options = SubscribeOptions(qos=1, retainAsPublished=True, retainHandling=NEW_ONLY)
        client.subscribe(topic, options=options)
        with self._news:
            self._news.wait_for(lambda: self._codes is not None or self.end is not None, timeout)
        if self._codes is None and self.end is not None:
            raise ConnectionLostError(self.end)
        if self._codes is None:
            raise MessageSendError(
                f'the broker "{self.broker.place}" does not answer.',
                "it may be busy; acoupi tries again",
                why=f"it has not agreed to {topic} within {timeout:g} s",
            )
        refusal = next((one for one in self._codes if one.is_failure), None)
        if refusal is not None:
            raise AccessRefusedError(
                f'the broker "{self.broker.place}" does not let this user read "{topic}".',
                f'let it read there: in mosquitto\'s list of rights, "topic read {topic}"',
                why=f'it answered "{refusal}"',
            )

    def acknowledge(self, publication: Publication) -> None:
        """Tell the broker that a message is stored."""
        client = self.client
        if client is not None and publication.number:
            client.ack(publication.number, 1)

    def _subscribed(
        self, _client: mqtt.Client, _data: Any, _number: int, codes: list[ReasonCode], _more: Any
    ) -> None:
        with self._news:
            self._codes = codes
            self._news.notify_all()

    def _received(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        labels = dict(getattr(message.properties, "UserProperty", ()))
        number = message.mid if message.qos else 0
        self._take(
            Publication(message.topic, bytes(message.payload), labels, bool(message.retain), number)
        )
