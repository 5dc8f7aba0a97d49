"""Collects what sensors publish to an MQTT broker, for a while."""

import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from paho.mqtt.enums import MQTTProtocolVersion
from pydantic import SecretStr

from acoupi.certificates import authority_text, holds_certificates
from acoupi.components.messengers.config import check_host, check_topic
from acoupi.components.messengers.mqtt_connection import Broker, Connection, OldProtocolError
from acoupi.components.messengers.tls import Certificates
from acoupi.errors import ConfigurationError, MessageSendError, ParameterError

__all__ = ["collect", "read_address"]

TOPIC = "acoupi"
PORTS = {"mqtt": 1883, "mqtts": 8883}
ADVICE = (
    "check --mqtt mqtts://USER:PASSWORD@HOST:PORT/TOPIC   (mqtt:// without TLS; ?ca=FILE after "
    "it for an authority of your own)"
)
PATIENCE = 10.0
"""Seconds to wait for the broker."""


def read_address(url: str, option: str = "--mqtt") -> tuple[Broker, str]:
    """Return the broker and the topic of an address from an option.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> broker, topic = read_address("mqtts://wood:secret@broker.example.org/acoupi/pond")
    >>> broker.place, broker.username, topic
    ('broker.example.org:8883', 'wood', 'acoupi/pond')
    """
    try:
        parts = urlsplit(url)
        default_port = _port_of(parts.scheme)
        authority = parse_qs(parts.query).get("ca")
        broker = Broker(
            check_host(parts.hostname or ""),
            parts.port or default_port,
            username=unquote(parts.username) if parts.username else None,
            password=SecretStr(unquote(parts.password)) if parts.password else None,
            certificates=Certificates(_authority(authority[0]) if authority else None)
            if parts.scheme == "mqtts"
            else None,
        )
        return broker, check_topic(unquote(parts.path).strip("/") or TOPIC)
    except ValueError as error:
        raise ParameterError(
            option,
            "this is not the address of an MQTT broker.",
            f"{option} mqtts://USER:PASSWORD@broker.example.org/acoupi",
            why=str(error),
        ) from error


def _authority(text: str) -> Path | str:
    return authority_text(text) if holds_certificates(text) else Path(text)


def _port_of(scheme: str) -> int:
    if scheme not in PORTS:
        raise ValueError("it begins with mqtt:// or mqtts://")
    return PORTS[scheme]


def collect(url: str, seconds: float, take: Callable[[str, bytes], None]) -> None:
    """Pass on publications below a topic: retained ones first, then new ones.

    Parameters
    ----------
    url
        ``mqtt://USER:PASSWORD@HOST:PORT/TOPIC``, or ``mqtts://…`` for TLS; ``?ca=FILE``: trust
        the certificates of this authority only; it may also be the certificate itself.
    take
        Called with topic and content, from one other thread.

    Raises
    ------
    ParameterError
        If it is no such address.
    MessageSendError
        If the broker cannot be reached, or the connection ends before its time.
    """
    broker, topic = read_address(url)
    is_lost = threading.Event()
    with closing(_opened(broker, is_lost, take)) as connection:
        connection.subscribe(f"{topic}/#")
        if is_lost.wait(seconds):
            raise MessageSendError(
                f"the connection to the broker {broker.place} has ended.",
                "check that this user may read the topic, and the link",
                why=connection.end or "",
            )


def _opened(
    broker: Broker, is_lost: threading.Event, take: Callable[[str, bytes], None]
) -> Connection:
    def connect(protocol: MQTTProtocolVersion) -> Connection:
        connection = Connection(
            broker,
            f"acoupi-fleet-{uuid.uuid4().hex[:8]}",
            protocol,
            on_lost=lambda _: is_lost.set(),
            on_message=lambda _, topic, content: take(topic, content),
        )
        connection.open(PATIENCE)
        return connection

    try:
        try:
            return connect(MQTTProtocolVersion.MQTTv5)
        except OldProtocolError:
            return connect(MQTTProtocolVersion.MQTTv311)
    except (ConfigurationError, MessageSendError) as error:
        error.help = ADVICE  # it names settings of a sensor
        raise
