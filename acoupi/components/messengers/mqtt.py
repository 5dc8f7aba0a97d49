"""A messenger that publishes to an MQTT broker."""

import hashlib
import logging
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from pydantic import SecretStr

from acoupi import data, devices
from acoupi.components import types
from acoupi.components.messengers.client_ids import ClientId
from acoupi.components.messengers.config import DEVICE_ID, MQTTConfig, check_topic
from acoupi.components.messengers.home_assistant import Announcement
from acoupi.components.messengers.mqtt_connection import (
    NOT_AUTHORISED,
    SESSION_TAKEN_OVER,
    SMALLEST_LIMIT,
    Broker,
    Connection,
    ConnectionLostError,
    HungUpError,
    OldProtocolError,
)
from acoupi.components.messengers.tls import Certificates
from acoupi.errors import AccessRefusedError, HealthCheckError, MessageSendError
from acoupi.home import home_dir

__all__ = ["MQTTMessenger"]

TRANSIENT = frozenset({0x91, 0x97})
"""Reason codes that mean "not now": identifier in use, quota exceeded (MQTT 5, 3.4.2.1)."""

FIRST_WAIT = 1.0
"""Seconds after which a lost connection is tried again; doubled each time, also
where the new one does not last: so two clients with one id do not fight for it."""
LONGEST_WAIT = 60.0
"""Most of these seconds; a connection that lasted as long was a good one."""
MANY_BRIEF = 3
"""After so many shorter ones in a row, two clients probably have one id."""

TWIN_SHOWN = 3600.0
"""Seconds for which status shows that another client had the same id."""


class _Link:
    """State of a messenger in one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None
        self.client_id: ClientId | None = None
        self.closing = threading.Event()
        self.opened_at = 0.0
        """When, on the monotonic clock."""
        self.keeping = threading.Lock()
        self.has_keeper = False
        self.wait = FIRST_WAIT
        self.brief = 0
        """Connections in a row that did not last."""


class MQTTMessenger(types.Messenger):
    """Publish each message; only the broker's acknowledgement counts as delivery.

    The first message opens a connection, which stays open and comes back by
    itself after a loss. Messages are published with quality of service 1 and
    not retained. ``SUCCESS`` means that the broker acknowledged (PUBACK), and
    ``ERROR`` that it refused the message; where the topic is forbidden, with
    ``is_access_refused``.

    MQTT 5 is used if the broker supports it, else 3.1.1. Under 3.1.1 a broker
    *cannot* say that the topic is forbidden: it acknowledges and discards the
    message.

    Of the processes of a board, the services (which have the variable
    ``ACOUPI_SERVICE``) keep ``topic/DEVICE/status`` at "online" or, when they end,
    vanish or close, "offline". It is retained. Others, such as a command that
    sends something, leave it alone. What an older acoupi left on ``topic/status``,
    which all sensors of a fleet shared, is cleared once. A broker that forbids the
    status topic still gets the messages.

    Threads may share a messenger. In a forked process it makes a connection
    of its own, under another client id.

    Parameters
    ----------
    host
        Name or address of the broker; the path of its socket if `transport`
        is "unix".
    timeout
        Longest wait for the connection, and again for each acknowledgement,
        seconds.
    use_message_type
        Publish on ``topic/detection``, ``topic/summary``, … A message without
        a type goes to `topic`.
    ca_certificate, client_certificate, client_key, verify, keepalive, last_will, client_id
        See `MQTTConfig`.
    home_assistant, discovery_prefix
        Announce the sensor to Home Assistant: see `MQTTConfig` and `home_assistant`.

    Raises
    ------
    ValueError
        If `timeout` is not above 0 or the topic cannot be published on.
    """

    key = "mqtt"
    Config = MQTTConfig

    def __init__(  # noqa: PLR0917 - published
        self,
        host: str,
        topic: str,
        port: int = 1884,
        username: str | None = None,
        password: SecretStr | str | None = None,
        timeout: float = 5,
        use_tls: bool = False,
        logger: logging.Logger | None = None,
        transport: Literal["tcp", "websockets", "unix"] = "tcp",
        use_message_type: bool = False,
        *,
        ca_certificate: Path | None = None,
        client_certificate: Path | None = None,
        client_key: Path | None = None,
        verify: bool = True,
        keepalive: int = 60,
        last_will: bool = True,
        client_id: str | None = None,
        websocket_path: str = "/mqtt",
        home_assistant: bool = False,
        discovery_prefix: str = "homeassistant",
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
        self._twin = (-math.inf, "")
        self.host = host
        self.port = port
        self.topic = check_topic(topic)
        self.timeout = timeout
        self.use_tls = use_tls
        self.logger = logger or logging.getLogger(__name__)
        self.transport = transport
        self.use_message_type = use_message_type
        self.last_will = last_will
        self._given_client_id = client_id
        certificates = Certificates.in_home(ca_certificate, client_certificate, client_key, verify)
        self._broker = Broker(
            host=host,
            port=port,
            transport=transport,
            username=username,
            password=SecretStr(password) if isinstance(password, str) else password,
            certificates=certificates if use_tls else None,
            keepalive=keepalive,
            websocket_path=websocket_path,
        )
        self.home_assistant = home_assistant
        self._discovery_prefix = discovery_prefix
        self._states: dict[str, str] = {}
        """By topic, as the broker has them."""
        self._protocol: MQTTProtocolVersion | None = None
        """What the broker is known to speak; None: not known."""
        self._links: dict[int, _Link] = {}
        # Kept, because taking them down could wait for a lock that a thread of
        # the parent held at the fork.
        self._inherited: list[_Link] = []

    @classmethod
    def from_config(cls, config: MQTTConfig, logger: logging.Logger | None = None) -> Self:
        """Make the messenger that the configuration describes."""
        own = {
            "topic": _of_this_device(config.topic),
            "client_id": config.client_id and _of_this_device(config.client_id),
            "transport": config.transport.value,
        }
        return super().from_config(config.model_copy(update=own), logger)

    @property
    def name(self) -> str:
        """``mqtt:`` and host, port and topic."""
        return f"mqtt:{self._broker.place}/{self.topic}"

    @property
    def status_topic(self) -> str:
        """Where "online" and "offline" are kept: below the id of the device."""
        device = re.sub(r"[+#/\0]", "_", devices.get_device_id())
        has_device = device in self.topic.split("/")
        return f"{self.topic}/status" if has_device else f"{self.topic}/{device}/status"

    @property
    def announcement(self) -> Announcement:
        """What Home Assistant is told about this sensor."""
        return Announcement(self._discovery_prefix, devices.get_device_id(), self.status_topic)

    @property
    def client_id(self) -> str:
        """Client id of this process at the broker."""
        claimed = self._link().client_id
        return claimed.text if claimed else self._wanted_client_id()

    @property
    def client(self) -> paho.Client | None:
        """The client of the open connection; None if there is none."""
        connection = self._link().connection
        return connection.client if connection and connection.is_open else None

    def send_message(self, message: data.Message) -> data.Response:
        """Publish the message and wait for the broker's acknowledgement.

        Raises
        ------
        MessageSendError
            If there is no connection: unknown host, silent or closed port,
            wrong credentials, no TLS.
        """
        content = message.content
        payload = content.encode() if isinstance(content, str) else content
        labels = {"message_id": str(message.id), "device_id": devices.get_device_id()}
        connection = self._connected()
        try:
            number = connection.publish(self._topic(message), payload, labels, False)
        except ValueError as err:
            return _response(data.ResponseStatus.ERROR, message, f"it can never be sent: {err}")
        except ConnectionLostError as err:
            raise MessageSendError(
                f'lost the broker "{self._broker.place}" before the message was sent.',
                "nothing: it will be sent when the connection is back",
                why=str(err),
            ) from err
        return self._outcome(connection, number, message)

    def publish_states(self, states: Mapping[str, str]) -> None:
        """Keep the states of entities, by topic, at the broker; what it has is not sent again.

        Raises
        ------
        MessageSendError
            If there is no connection, or the broker does not take one of them.
        """
        connection = self._connected()
        try:
            for topic, state in states.items():
                if self._states.get(topic) == state:
                    continue
                code = connection.wait_for(
                    connection.publish(topic, state.encode(), {}, True), self.timeout
                )
                if code.is_failure:
                    raise MessageSendError(
                        f'the broker "{self._broker.place}" refuses "{topic}".',
                        "let the sensor write there, or switch messaging.mqtt.home_assistant off",
                        why=f"it answered {code}.",
                    )
                self._states[topic] = state
        except (ConnectionLostError, TimeoutError) as err:
            raise MessageSendError(
                f'lost the broker "{self._broker.place}" before the states were published.',
                "nothing: they will be published when the connection is back",
                why=str(err) or "no acknowledgement",
            ) from err

    def _announce(self, connection: Connection) -> None:
        """Tell Home Assistant of the sensor, and listen for when it has started."""
        self._states = {}  # another broker, or one that forgot, has none
        connection.subscribe(self.announcement.birth_topic)
        self._publish_announcement(connection)

    def _publish_announcement(self, connection: Connection) -> None:
        announcement = self.announcement
        connection.publish(announcement.topic, announcement.payload(), {}, True)

    def _received(self, connection: Connection, topic: str, content: bytes) -> None:
        """Announce again when Home Assistant has started; called in the network thread."""
        if topic != self.announcement.birth_topic or content != b"online":
            return
        with suppress(ConnectionLostError):
            self._publish_announcement(connection)
            for place, state in list(self._states.items()):
                connection.publish(place, state.encode(), {}, True)

    def check(self) -> None:
        """Connect once, without touching an open connection, and disconnect.

        Whether the topic may be published on is not known before a message is.

        Raises
        ------
        HealthCheckError
            If the broker cannot be reached or refuses access.
        """
        if self._given_client_id and self.client:
            return  # a second connection under this id would end the one that works
        claimed = None
        if not self._given_client_id:
            claimed = ClientId(f"{self._wanted_client_id()}-check", self._broker.place)
        client_id = claimed.text if claimed else self._wanted_client_id()
        try:
            # With the will that the services have: a broker may refuse us for it.
            self._open(client_id, self.status_topic if self.last_will else None).close()
        except MessageSendError as err:
            raise HealthCheckError(err.message, err.help, why=err.why) from err
        finally:
            if claimed:
                claimed.release()

    def check_connection(self) -> MQTTErrorCode:
        """Connect if there is no connection; return whether there is one now."""
        try:
            self._connected()
        except MessageSendError as err:
            self.logger.warning("%s %s", err, err.why)
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Publish "offline" and disconnect; the next message connects again."""
        link = self._links.pop(os.getpid(), None)
        if link is None:
            return
        link.closing.set()
        with link.lock:
            connection, link.connection = link.connection, None
            if connection:
                with suppress(ConnectionLostError, TimeoutError):
                    self._say("offline", connection, timeout=self.timeout)
                connection.close()
            if link.client_id:
                link.client_id.release()

    def _outcome(self, connection: Connection, number: int, message: data.Message) -> data.Response:
        try:
            code = connection.wait_for(number, self.timeout)
        except TimeoutError:
            # It is unknown whether this connection still works.
            connection.cut()
            return _response(
                data.ResponseStatus.TIMEOUT,
                message,
                f"no acknowledgement within {self.timeout} s; it may have arrived",
            )
        except ConnectionLostError as err:
            if connection.is_garbled and len(message.content) >= SMALLEST_LIMIT:
                # mosquitto refuses what is too large with a code that MQTT does not have.
                return _response(
                    data.ResponseStatus.ERROR,
                    message,
                    f"no readable answer; {len(message.content)} bytes may be too many",
                )
            return _response(
                data.ResponseStatus.FAILED,
                message,
                f"the connection ended before the acknowledgement: {err}; it may have arrived",
            )
        if not code.is_failure:
            return _response(data.ResponseStatus.SUCCESS, message, str(code))
        status = (
            data.ResponseStatus.FAILED if code.value in TRANSIENT else data.ResponseStatus.ERROR
        )
        return data.Response(
            status=status,
            message=message,
            content=f"the broker refused it: {code}",
            is_access_refused=code.value == NOT_AUTHORISED,
        )

    def _topic(self, message: data.Message) -> str:
        if self.use_message_type and message.message_type is not None:
            return f"{self.topic}/{message.message_type.value}"
        return self.topic

    def _wanted_client_id(self) -> str:
        if self._given_client_id:
            return self._given_client_id
        return f"{devices.get_device_id()}-{os.environ.get('ACOUPI_SERVICE') or 'command'}"

    def _link(self) -> _Link:
        """Return the state of this process; a forked process gets its own."""
        pid = os.getpid()
        link = self._links.get(pid)
        if link is None:
            others = [self._links.pop(key, None) for key in list(self._links) if key != pid]
            for inherited in filter(None, others):
                if inherited.connection:
                    inherited.connection.abandon()
                if inherited.client_id:
                    inherited.client_id.release()
                self._inherited.append(inherited)
            link = self._links.setdefault(pid, _Link())
        return link

    @contextmanager
    def _locked(self, link: _Link) -> Iterator[None]:
        """Hold the link, or give up if another thread holds it for too long."""
        if not link.lock.acquire(timeout=self.timeout):
            raise MessageSendError(
                f'the broker "{self._broker.place}" does not answer.',
                why=f"another thread has waited for it for {self.timeout} s",
            )
        try:
            yield
        finally:
            link.lock.release()

    def _connected(self) -> Connection:
        link = self._link()
        with self._locked(link):
            if link.closing.is_set():  # closed while we waited for the lock
                raise MessageSendError("the messenger was closed.", why="the service ends")
            if link.connection is None or not link.connection.is_open:
                self._connect(link)
            assert link.connection is not None
            return link.connection

    def _connect(self, link: _Link) -> None:
        """Replace a lost connection. The link must be locked."""
        if link.connection:
            link.connection.cut()
            link.connection = None
        if link.client_id is None and not self._given_client_id:
            link.client_id = ClientId(self._wanted_client_id(), self._broker.place)
        connection = self._open_as_service(link)
        link.connection = connection
        link.opened_at = data.monotonic()
        if connection.will_topic:
            with suppress(ConnectionLostError, TimeoutError):
                self._say("online", connection)
                self._clear_old_status(connection)
                if self.home_assistant:
                    self._announce(connection)

    def _open_as_service(self, link: _Link) -> Connection:
        """Open a connection with the last will, or without where the broker forbids it."""
        will_topic = self.status_topic if self._is_announced(link) else None
        try:
            return self._open(self.client_id, will_topic, link)
        except AccessRefusedError:
            if will_topic is None:
                raise
            with suppress(MessageSendError):
                connection = self._open(self.client_id, None, link)
                self.logger.warning(
                    'no "online" and "offline": the broker "%s" forbids the topic "%s"',
                    self._broker.place,
                    will_topic,
                )
                return connection
            raise

    def _clear_old_status(self, connection: Connection) -> None:
        """Clear, once in a home, the retained status that the sensors of a fleet shared."""
        old = f"{self.topic}/status"
        if old == connection.will_topic:
            return
        key = hashlib.sha256(f"{self._broker.place} {old}".encode()).hexdigest()[:12]
        done = home_dir() / "run" / f"mqtt-{key}-old-status-cleared"
        if done.exists():
            return
        connection.wait_for(connection.publish(old, b"", {}, True), self.timeout)
        with suppress(OSError):
            done.touch()

    def _is_announced(self, link: _Link) -> bool:
        """Whether this process speaks for the sensor on the status topic."""
        is_first = link.client_id is None or link.client_id.is_first
        return self.last_will and is_first and bool(os.environ.get("ACOUPI_SERVICE"))

    def _say(self, status: str, connection: Connection, timeout: float | None = None) -> None:
        if connection.will_topic:
            number = connection.publish(connection.will_topic, status.encode(), {}, True)
            if timeout is not None:
                connection.wait_for(number, timeout)

    def _open(
        self, client_id: str, will_topic: str | None, link: _Link | None = None
    ) -> Connection:
        """Open a connection, with an older MQTT if the broker needs it.

        A broker that hangs up may be an old one, or the link is bad. So it is
        asked twice, and not taken for old if it has spoken MQTT 5 before:
        under 3.1.1 messages lose their ids, and a server cannot tell what
        comes twice.
        """
        deadline = data.monotonic() + self.timeout
        new, old = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
        waiting = [old] if self._protocol is old else [new, new, old]
        first: MessageSendError | None = None
        is_certain = True
        while waiting:
            protocol = waiting.pop(0)
            connection = Connection(
                self._broker,
                client_id,
                protocol,
                will_topic,
                on_lost=(lambda lost: self._lost(link, lost)) if link else None,
                on_message=self._received,
            )
            try:
                connection.open(max(deadline - data.monotonic(), 0.1))
            except OldProtocolError as err:
                first = first or err
                is_certain = not isinstance(err, HungUpError)
                if is_certain:
                    waiting = [other for other in waiting if other is not protocol]
                elif self._protocol is new:
                    waiting = [other for other in waiting if other is new]
                continue
            self._protocol = protocol if protocol is new or is_certain else None
            return connection
        if self._protocol is old:
            self._protocol = None
        assert first is not None
        raise first

    def _lost(self, link: _Link, connection: Connection) -> None:
        """Start reconnecting; called in the network thread of the lost connection."""
        self.logger.warning('lost the broker "%s": %s', self._broker.place, connection.end)
        with link.keeping:
            is_brief = data.monotonic() - link.opened_at <= LONGEST_WAIT
            link.brief = link.brief + 1 if is_brief else 0
            if not is_brief:
                link.wait = FIRST_WAIT
            is_taken_over = connection.end_code == SESSION_TAKEN_OVER
            if is_taken_over or link.brief == MANY_BRIEF:
                self._name_twin(connection, is_certain=is_taken_over)
            if link.closing.is_set() or link.has_keeper:
                return
            link.has_keeper = True
        threading.Thread(
            target=self._keep, args=(link,), name="acoupi-mqtt-keeper", daemon=True
        ).start()

    def _name_twin(self, connection: Connection, *, is_certain: bool) -> None:
        """Warn that another sensor has, or may have, the same id: few brokers report it."""
        words = (
            f"two sensors {'have' if is_certain else 'may have'} one id, "
            f'"{devices.get_device_id()}": another client of the broker "{self._broker.place}" '
            f'is called "{connection.client_id}". Messages still arrive, but cannot be told apart. '
            "Give one sensor another id, in config/device.json of its home"
        )
        self.logger.error(words)
        self._twin = (data.monotonic(), words)

    def trouble(self) -> str | None:
        """Return that another sensor has the same id, for an hour after it was noticed."""
        noticed, words = self._twin
        return words if data.monotonic() - noticed < TWIN_SHOWN else None

    def _keep(self, link: _Link) -> None:
        """Retry until a connection is open or the messenger is closed."""
        while True:
            is_closing = link.closing.wait(link.wait)
            with link.keeping:
                if is_closing or (link.connection is not None and link.connection.is_open):
                    link.has_keeper = False
                    return
                link.wait = min(link.wait * 2, LONGEST_WAIT)
            with suppress(MessageSendError):
                self._reconnect(link)

    def _reconnect(self, link: _Link) -> None:
        with self._locked(link):
            is_open = link.connection is not None and link.connection.is_open
            if not is_open and not link.closing.is_set():
                self._connect(link)


def _response(status: data.ResponseStatus, message: data.Message, content: str) -> data.Response:
    return data.Response(status=status, message=message, content=content)


def _of_this_device(text: str) -> str:
    """Fill in the device id in a topic or a client id."""
    if DEVICE_ID not in text:
        return text
    return text.replace(DEVICE_ID, devices.get_device_id())
