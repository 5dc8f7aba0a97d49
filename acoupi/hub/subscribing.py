"""Stores messages that sensors publish at an MQTT broker in the database of a hub.

A message is acknowledged once it is stored. Until then the broker keeps it, even while nothing
subscribes, and whatever fails: this process, the link, the broker (if it keeps its sessions on
disk) or the database.
"""

import logging
import queue
import threading
from contextlib import suppress

from acoupi.components.messengers.mqtt_collecting import read_address
from acoupi.components.messengers.mqtt_connection import (
    SESSION_TAKEN_OVER,
    Connection,
    ConnectionLostError,
    HungUpError,
    OldProtocolError,
)
from acoupi.components.messengers.mqtt_session import Publication, SessionConnection
from acoupi.errors import AccessRefusedError, HubError, MessageSendError
from acoupi.hub.database import HubDatabase
from acoupi.hub.publications import put_publications
from acoupi.hub.pulse import beat
from acoupi.printing import printable

__all__ = ["Subscriber"]

logger = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds to wait for the broker."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before a retry; doubled each time."""
LOOK_EVERY = 0.5
"""Seconds between two checks whether to stop."""
AT_ONCE = 100
"""Most messages that are stored together."""


class Subscriber:
    """Stores messages published below a topic, until told to stop.

    Parameters
    ----------
    database
        Of the hub.
    url
        Address of the broker, with the topic: see `read_address`.
    client_id
        Tells the broker which messages this hub has not had yet.

    Raises
    ------
    ParameterError
        If the address is not valid.
    """

    def __init__(self, database: HubDatabase, url: str, client_id: str) -> None:
        self._database, self._client_id = database, client_id
        self._broker, self._topic = read_address(url, "--broker")
        self._ended = threading.Event()
        self._wait = FIRST_WAIT
        self._was_let_in = False

    def end(self) -> None:
        """Stop `run` soon; may be called from any thread or signal handler."""
        self._ended.set()

    def run(self) -> None:
        """Store messages until `end` is called.

        A broker that let it in once, and then refuses it, is tried again: while its files of users
        are written anew, it may not know this one.

        Raises
        ------
        AccessRefusedError
            If the broker refuses this user, or reading of the topic, from the beginning.
        OldProtocolError
            If it does not speak MQTT 5.
        """
        while not self._ended.is_set():
            try:
                self._serve()
            except (MessageSendError, ConnectionLostError) as error:
                self._end_if_refused(error)
                why = getattr(error, "why", None)
                logger.warning("%s %s acoupi tries again.", error, f"{why}." if why else "")
                self._rest()

    def _end_if_refused(self, error: Exception) -> None:
        """Raise an error that a retry would not solve, in words for a hub."""
        if isinstance(error, AccessRefusedError) and not self._was_let_in:
            help_ = "--broker mqtts://USER:PASSWORD@HOST/TOPIC, of a user who may read the topic"
            raise AccessRefusedError(error.message, help_, why=error.why) from error
        if isinstance(error, OldProtocolError) and not isinstance(error, HungUpError):
            help_ = "a broker that speaks MQTT 5, such as mosquitto 2"
            raise OldProtocolError(error.message, help_, why=error.why) from error

    def _rest(self) -> None:
        self._ended.wait(self._wait)
        self._wait = min(2 * self._wait, LONGEST_WAIT)

    def _serve(self) -> None:
        """Store what arrives on one connection, until that ends."""
        arrived: queue.Queue[Publication | None] = queue.Queue()
        connection = SessionConnection(
            self._broker, self._client_id, arrived.put, lambda _: arrived.put(None)
        )
        try:
            connection.open(PATIENCE)
            connection.follow(f"{self._topic}/#", PATIENCE)
            self._was_let_in = True
            logger.info("Subscribed to %s/# at %s.", self._topic, self._broker.place)
            while not self._ended.is_set():
                some = _some(arrived)
                if some and not self._stored(some, connection):
                    return
                if not connection.is_open:
                    raise ConnectionLostError(self._lost(connection))
                beat()
        finally:
            connection.close()

    def _lost(self, connection: Connection) -> str:
        if connection.end_code == SESSION_TAKEN_OVER:
            return (
                f"another client has the id {self._client_id} at {self._broker.place}: "
                "give one of them another --client-id."
            )
        return f"the connection to {self._broker.place} has ended: {connection.end}."

    def _stored(self, some: list[Publication], connection: SessionConnection) -> bool:
        """Store messages, with retries; return whether they were stored (False if stopping)."""
        while not self._ended.is_set():
            try:
                strangers = put_publications(self._database, some)
            except HubError as error:
                logger.warning("%s %s acoupi tries again.", error, error.why or "")
                self._rest()
                continue
            for name in strangers:
                logger.warning(
                    'Messages from "%s" are not stored: this hub has no such sensor. '
                    "Try: acoupi hub add-sensor NAME",
                    printable(name),
                )
            for one in some:
                connection.acknowledge(one)
            self._wait = FIRST_WAIT
            return True
        return False


def _some(arrived: "queue.Queue[Publication | None]") -> list[Publication]:
    """Return messages as soon as some have arrived; none after a while."""
    some = []
    with suppress(queue.Empty):
        one = arrived.get(timeout=LOOK_EVERY)
        while one is not None:
            some.append(one)
            if len(some) == AT_ONCE:
                break
            one = arrived.get_nowait()
    return some
