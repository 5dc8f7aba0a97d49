"""Sends tasks to an external broker: through kombu, without Celery."""

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.messaging import Producer

from acoupi.services.external_broker import ANSWER_TIMEOUT, ExternalBroker
from acoupi.services.task_messages import Publisher, TaskMessage

__all__ = ["KombuPublisher"]


class KombuPublisher(Publisher):
    """Declares queues and sends messages as Celery does.

    Parameters
    ----------
    url
        URL of the broker, with the login.
    """

    def __init__(self, url: str) -> None:
        self._broker = ExternalBroker.parse(url)
        self._connection: Connection | None = None
        self._producer: Producer | None = None

    def send(self, queue: str, message: TaskMessage) -> None:
        """Put a message into a queue; wait for the confirmation of an AMQP broker.

        Raises
        ------
        OSError
            If the broker cannot be reached or refuses it.
        """
        was_open = self._producer is not None
        try:
            self._publish(queue, message)
        except OSError:
            if not was_open:
                raise
            self._publish(
                queue, message
            )  # the broker may have been restarted since the last message

    def _publish(self, queue: str, message: TaskMessage) -> None:
        # Only AMQP confirms; other transports have no such option.
        confirm = {"confirm_publish": True} if self._broker.is_amqp else {}
        connection = self._connection = self._connection or self._broker.connection(**confirm)
        failures = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
        try:
            if self._producer is None:
                connection.connect()
                self._producer = connection.Producer()
            self._producer.publish(
                message.body,
                serializer="json",
                exchange="",
                routing_key=queue,
                declare=[Queue(queue, Exchange(queue), queue)],
                headers=message.headers,
                correlation_id=message.headers["id"],
                reply_to=message.reply_to,
                expiration=message.expires,
                timeout=ANSWER_TIMEOUT,
                confirm_timeout=ANSWER_TIMEOUT,
            )
        except failures as error:
            # Not `close`, which would wait for an answer of a broker that hangs.
            self._connection = self._producer = None
            connection.collect()
            raise ConnectionError(f"{error}" or type(error).__name__) from error

    def close(self) -> None:
        """Close the connection; the next message opens it again."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.release()
