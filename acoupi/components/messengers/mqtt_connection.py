"""A single connection to an MQTT broker."""

import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import SecretStr

from acoupi.components.messengers.tls import Certificates, explain_tls
from acoupi.errors import AccessRefusedError, ConfigurationError, MessageSendError

__all__ = [
    "SMALLEST_LIMIT",
    "Broker",
    "Connection",
    "ConnectionLostError",
    "HungUpError",
    "OldProtocolError",
]

TIDY_UP = 2.0
"""Longest wait for the network thread to end, seconds."""

MOST_BYTES = 262_144
"""Most bytes of a packet from the broker, which only sends acknowledgements and reasons."""
SMALLEST_LIMIT = 512
"""Bytes. A broker that refuses messages of this size refuses all: the message is not at fault."""

LONGEST_AWAY = 30 * 86_400
"""Seconds that a broker keeps a session whose client is away."""
MOST_IN_HAND = 200
"""Messages of a session that were received and not yet acknowledged."""

UNSUPPORTED_PROTOCOL = 0x84
NOT_AUTHORISED = 0x87
SESSION_TAKEN_OVER = 0x8E

_BROKEN = (MQTTErrorCode.MQTT_ERR_NO_CONN, MQTTErrorCode.MQTT_ERR_CONN_LOST)
_ACCESS_REFUSED = frozenset({0x86, NOT_AUTHORISED, 0x8A, 0x8C})
"""Bad user name or password, not authorised, banned, bad authentication method."""


class ConnectionLostError(Exception):
    """The connection ended before the broker acknowledged."""


class OldProtocolError(MessageSendError):
    """The broker does not speak this version of MQTT."""


class HungUpError(OldProtocolError):
    """The broker hung up without a reason: it may be too old, or the link is bad."""


@dataclass(frozen=True)
class Broker:
    """Address of a broker, and the credentials for it."""

    host: str
    port: int
    transport: Literal["tcp", "websockets", "unix"] = "tcp"
    username: str | None = None
    password: SecretStr | None = field(default=None, repr=False)
    certificates: Certificates | None = None
    """None: no TLS."""
    keepalive: int = 60
    """Seconds."""
    websocket_path: str = "/mqtt"

    @property
    def place(self) -> str:
        """Its address, as shown to users."""
        return self.host if self.transport == "unix" else f"{self.host}:{self.port}"


class _Client(mqtt.Client):
    """A client that reads no packet of any size, and can be cut off while it connects."""

    twin: socket.socket | None = None
    """The same connection; TLS and websockets take the socket itself away."""
    _unwrapped: socket.socket | None = None
    """What paho forgets to close when a websocket cannot be opened on it."""

    def _create_socket_connection(self) -> socket.socket:
        return self._with_twin(super()._create_socket_connection())

    def _create_unix_socket_connection(self) -> socket.socket:
        return self._with_twin(super()._create_unix_socket_connection())

    def _with_twin(self, channel: socket.socket) -> socket.socket:
        channel.settimeout(self.connect_timeout)  # also for TLS and websockets
        self.twin = socket.socket(fileno=os.dup(channel.fileno()))
        self._unwrapped = channel
        return channel

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        self._unwrapped = channel = super()._ssl_wrap_socket(tcp_sock)
        return channel

    def _create_socket(self) -> Any:
        try:
            channel: Any = super()._create_socket()
        except (OSError, ValueError):
            if self._unwrapped is not None:
                self._unwrapped.close()
            raise
        finally:
            self._unwrapped = None
        read = getattr(channel, "_buffered_read", None)  # of a frame of a websocket
        if read is not None:
            channel._buffered_read = lambda length: read(_bounded(length))  # noqa: SLF001 - paho's
        return channel

    def _sock_recv(self, bufsize: int) -> bytes:
        return super()._sock_recv(_bounded(bufsize))

    def cut(self) -> None:
        """Wake readers and writers with the end of the stream."""
        if self.twin is not None:
            with suppress(OSError):
                self.twin.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Close our copy of the connection."""
        twin, self.twin = self.twin, None
        if twin is not None:
            twin.close()


def _bounded(length: int) -> int:
    if length > MOST_BYTES:
        raise ConnectionError(f"the broker sends {length} bytes at once; the most is {MOST_BYTES}")
    return length


class Connection:
    """A connection that is used once.

    The network runs in a thread of its own that ends with the connection.
    After its end a new one is made: messages of the old one are not resent
    automatically, because the message store does that.

    Parameters
    ----------
    broker
        Where to connect.
    client_id
        Client id at the broker.
    protocol
        Version of MQTT.
    will_topic
        Topic of the last will, "offline"; None: no last will.
    on_lost
        Called once, from another thread, when an open connection has ended
        in another way than by `close`.
    on_message
        Called with topic and content of what arrives (see `subscribe`), from the network
        thread: it must not wait.
    """

    keeps_session = False
    """Whether the broker keeps what comes while it is away (MQTT 5 only)."""

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        will_topic: str | None = None,
        *,
        on_lost: "Callable[[Connection], None] | None" = None,
        on_message: "Callable[[Connection, str, bytes], None] | None" = None,
    ) -> None:
        self.broker = broker
        self.client_id = client_id
        self.protocol = protocol
        self.will_topic = will_topic
        self.maximum_packet_size: int | None = None
        """Largest message the broker accepts, bytes; None: not stated."""
        self.client: _Client | None = None
        self.end: str | None = None
        """Why the connection is over; None while it is not."""
        self.end_code: int | None = None
        self.is_garbled = False
        """Whether it ended because the broker answered something that cannot be read."""
        self._on_lost = on_lost
        self._on_message = on_message
        self._news = threading.Condition()
        self._is_up = False
        self._is_closing = False
        self._error: Exception | None = None
        self._refusal: tuple[ReasonCode, str] | None = None
        self._complaint = ""
        self._acknowledged: dict[int, ReasonCode] = {}
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """Whether the broker accepted the connection and it has not ended."""
        return self._is_up and self.end is None

    def open(self, timeout: float) -> None:
        """Connect, and wait for the broker to accept the connection.

        Raises
        ------
        MessageSendError
            If it did not within `timeout` seconds, in the broker's own words.
        OldProtocolError
            If another version of MQTT will do, or may (`HungUpError`).
        """
        self.client = client = self._new_client(timeout)
        threading.Thread(
            target=self._connect, args=(client,), name="acoupi-mqtt-open", daemon=True
        ).start()
        with self._news:
            is_answered = self._news.wait_for(lambda: self._is_up or self._is_over, timeout)
            if self._is_up and self.end is None:
                return
        self.cut()
        raise self._failure(timeout if not is_answered else None) from self._error

    @property
    def _is_over(self) -> bool:
        return self.end is not None or self._error is not None

    def publish(self, topic: str, payload: bytes, labels: Mapping[str, str], retain: bool) -> int:
        """Publish a message and return its packet identifier, for `wait_for`.

        `labels` become its user properties, where the protocol has such.

        Raises
        ------
        ConnectionLostError
            If there is no connection.
        ValueError
            If no broker could take it.
        """
        client = self.client
        if client is None or not self.is_open:
            raise ConnectionLostError(self.end or "closed")
        properties = None
        if labels and self.protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = list(labels.items())
        size = len(payload) + len(topic.encode()) + 100
        if self.maximum_packet_size is not None and size > self.maximum_packet_size:
            if self.maximum_packet_size < SMALLEST_LIMIT:
                raise ConnectionLostError(
                    f"it accepts no message of more than {self.maximum_packet_size} bytes"
                )
            raise ValueError(
                f"it has {len(payload)} bytes; the broker accepts {self.maximum_packet_size}"
            )
        info = client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        # A connection that breaks now may have carried it: `wait_for` tells.
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, *_BROKEN):
            raise ConnectionLostError(mqtt.error_string(info.rc))
        return info.mid

    def subscribe(self, topic: str) -> None:
        """Subscribe to a topic.

        Raises
        ------
        ConnectionLostError
            If there is no connection.
        """
        client = self.client
        if client is None or not self.is_open:
            raise ConnectionLostError(self.end or "closed")
        client.subscribe(topic, qos=1)

    def wait_for(self, number: int, timeout: float) -> ReasonCode:
        """Return the broker's reason code for a message.

        Raises
        ------
        TimeoutError
            If it does not answer within `timeout` seconds.
        ConnectionLostError
            If the connection ended first.
        """
        with self._news:
            self._news.wait_for(
                lambda: number in self._acknowledged or self.end is not None, timeout
            )
            if number in self._acknowledged:
                return self._acknowledged.pop(number)
            if self.end is not None:
                raise ConnectionLostError(self.end)
        raise TimeoutError

    def close(self) -> None:
        """Disconnect properly, so that the broker does not publish the last will."""
        self._is_closing = True
        if self.client and self.is_open:
            self.client.disconnect()
            with self._news:
                self._news.wait_for(lambda: self.end is not None, TIDY_UP)
        self.cut()

    def cut(self, why: str = "it was given up") -> None:
        """Close the connection at once, without a DISCONNECT packet."""
        self._shut(self.client)
        thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join(TIDY_UP)
        self._finish(why)
        self._let_go()

    def abandon(self) -> None:
        """Release, in a forked process, the connection of its parent.

        Only our copy of the socket is closed: nothing is sent, and the
        parent's connection goes on.
        """
        channel = self.client.socket() if self.client else None
        if channel is not None:
            with suppress(OSError):
                channel.close()
        if self.client:
            self.client.let_go()

    def _new_client(self, timeout: float) -> _Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if self.protocol is MQTTProtocolVersion.MQTTv5 else True,
            protocol=self.protocol,
            transport=self.broker.transport,
            reconnect_on_failure=False,
            manual_ack=self.keeps_session,
        )
        client.connect_timeout = timeout
        if self.broker.username:
            password = self.broker.password
            client.username_pw_set(
                self.broker.username, password.get_secret_value() if password else None
            )
        if self.broker.certificates:
            client.tls_set_context(self._tls(self.broker.certificates))
        if self.broker.transport == "websockets":
            client.ws_set_options(path=self.broker.websocket_path)
        if self.will_topic:
            client.will_set(self.will_topic, b"offline", qos=1, retain=True)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        client.on_message = self._received
        client.on_log = self._logged
        return client

    @staticmethod
    def _tls(certificates: Certificates) -> ssl.SSLContext:
        try:
            return certificates.context()
        except ConfigurationError as err:
            raise MessageSendError(err.message, err.help, why=err.why) from err

    # --- what runs in other threads ---

    def _connect(self, client: _Client) -> None:
        properties = None
        if self.protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MOST_BYTES
            if self.keeps_session:
                properties.SessionExpiryInterval = LONGEST_AWAY
                properties.ReceiveMaximum = MOST_IN_HAND
        try:
            client.connect(
                self.broker.host,
                self.broker.port,
                keepalive=self.broker.keepalive,
                clean_start=False if self.keeps_session else mqtt.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )
        except (OSError, ValueError) as err:
            with self._news:
                # Its frames hold the socket, which should be closed now.
                self._error = err.with_traceback(None)
                self._news.notify_all()
            client.let_go()
            return
        client.loop_start()
        if self._is_over:  # nobody waits any more
            self._shut(client)

    def _connected(
        self,
        client: mqtt.Client,
        _data: Any,
        _flags: mqtt.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._news:
            self._thread = threading.current_thread()
            if code.is_failure:
                self._refusal = (code, getattr(properties, "ReasonString", ""))
            elif self.end is None:
                self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
                self._is_up = True
            self._news.notify_all()

    def _disconnected(
        self,
        client: mqtt.Client,
        _data: Any,
        flags: mqtt.DisconnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._thread = threading.current_thread()
        words = getattr(properties, "ReasonString", "") or str(code)
        if flags.is_disconnect_packet_from_server:
            self.end_code = code.value
        else:
            words = self._complaint or "the connection broke"
        was_up = self._is_up
        if self._finish(words) and was_up and not self._is_closing and self._on_lost:
            self._on_lost(self)

    def _published(
        self,
        client: mqtt.Client,
        _data: Any,
        number: int,
        code: ReasonCode,
        _properties: Properties,
    ) -> None:
        with self._news:
            self._acknowledged[number] = code
            self._news.notify_all()

    def _received(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if self._on_message:
            self._on_message(self, message.topic, bytes(message.payload))

    def _logged(self, client: mqtt.Client, _data: Any, level: int, text: str) -> None:
        """Keep paho's last warning: its callbacks get less detail."""
        if level in (LogLevel.MQTT_LOG_ERR, LogLevel.MQTT_LOG_WARNING):
            self._complaint = text
        elif "malformed packet" in text:
            self.is_garbled = True

    # --- endings ---

    def _finish(self, why: str) -> bool:
        """Note the end; return whether this is the first to note it."""
        with self._news:
            if self.end is not None:
                return False
            self.end = why
            self._news.notify_all()
            return True

    @staticmethod
    def _shut(client: "_Client | None") -> None:
        """Wake the network thread with the end of its stream, whatever it is waiting for."""
        if client:
            client.cut()

    def _let_go(self) -> None:
        """Break the circle of references, so that paho's sockets are closed now."""
        client, self.client = self.client, None
        if client:
            client.on_connect = client.on_disconnect = client.on_publish = client.on_log = None
            client.on_message = None
            client.let_go()

    def _failure(self, timeout: float | None) -> MessageSendError:
        """Return why the connection failed; `timeout` is set if nothing happened within it."""
        place = self.broker.place
        if self._refusal:
            return self._refused(*self._refusal)
        if timeout is not None or isinstance(self._error, TimeoutError):
            waited = f" within {timeout:.3g} s" if timeout else ""
            return MessageSendError(
                f'the broker "{place}" does not answer.',
                "check messaging.mqtt.host and port, and whether the port wants use_tls",
                why=f"no answer{waited}",
            )
        if self._error:
            why, help_ = _explain(self._error)
            return MessageSendError(f'cannot reach the broker "{place}".', help_, why=why)
        kind = MessageSendError if "SSL" in self._complaint else HungUpError
        return kind(
            f'the broker "{place}" hung up.',
            "check messaging.mqtt.port, use_tls and client_certificate",
            why=self.end,
        )

    def _refused(self, code: ReasonCode, words: str) -> MessageSendError:
        kind = AccessRefusedError if code.value in _ACCESS_REFUSED else MessageSendError
        if code.value == UNSUPPORTED_PROTOCOL:
            kind = OldProtocolError
        answer = f'it answered "{code}"' + (f": {words}" if words else "")
        return kind(
            f'the broker "{self.broker.place}" refused the connection.',
            _HELP.get(code.value),
            why=answer,
        )


def _explain(error: Exception) -> tuple[str, str]:
    """Return why the connection failed, and what to try."""
    if isinstance(error, ssl.SSLError):
        return explain_tls(error)
    if isinstance(error, socket.gaierror):
        return (
            f"its name is unknown: {error.strerror}",
            "check the network, and messaging.mqtt.host",
        )
    why = getattr(error, "strerror", None) or str(error)
    return why, "check the network, and messaging.mqtt.host and port"


_CREDENTIALS = (
    "correct messaging.mqtt.username and password; if they are right, let the sensor write "
    "on TOPIC/DEVICE/status, or switch messaging.mqtt.last_will off"
)

_HELP = {
    0x85: "set another messaging.mqtt.client_id",
    0x86: _CREDENTIALS,
    0x87: _CREDENTIALS,
    0x88: "try later",
    0x89: "try later",
    0x97: "try later",
    0x9F: "try later",
    0x9A: "switch messaging.mqtt.last_will off",
}
