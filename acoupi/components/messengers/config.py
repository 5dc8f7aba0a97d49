"""What users set of each messenger. No network library is needed for it."""

import re
from contextlib import suppress
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from acoupi.data import MessageType
from acoupi.deferred import DeferredModel
from acoupi.home import home_dir
from acoupi.rights import NoUserPrompt, ReadOnly, Sending, Server, WrittenFile

__all__ = [
    "DEVICE_ID",
    "AppriseConfig",
    "FileConfig",
    "HTTPConfig",
    "MQTTConfig",
    "MQTTTransport",
    "check_host",
    "check_topic",
    "split_url",
]

DEVICE_ID = "{device_id}"

_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
"""With underscores: they are wrong, but containers have them."""


class MQTTTransport(Enum):
    """How the broker is reached."""

    TCP = "tcp"
    WEBSOCKETS = "websockets"
    UNIX = "unix"


def split_url(url: str) -> tuple[str, str | None, str | None]:
    """Return the address without its credentials, the user name and the password.

    Raises
    ------
    ValueError
        If it is not an http:// or https:// address. The text never holds a
        password.

    Examples
    --------
    >>> split_url("https://bat:s%40fe@example.org/in")
    ('https://example.org/in', 'bat', 's@fe')
    """
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("base_url is not an address such as https://example.org/in") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("base_url must begin with http:// or https:// and name a host")
    try:
        check_host(host)
    except ValueError as error:
        raise ValueError(f"base_url: {error}") from None
    place = parts.netloc.rpartition("@")[2]
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    return parts._replace(netloc=place).geturl(), user, password


def check_host(host: str) -> str:
    """Return the name or address of a machine if it can be one, or raise ValueError.

    Examples
    --------
    >>> check_host("broker.example.org"), check_host("::1")
    ('broker.example.org', '::1')
    """
    scheme, separator, rest = host.rpartition("://")
    if separator:
        raise ValueError(f'host is a name only: write "{rest.split("/")[0]}" without "{scheme}://"')
    with suppress(ValueError):
        ip_address(host.partition("%")[0])
        return host
    if ":" in host:
        raise ValueError("host must not have a port: set port instead")
    try:
        is_name = bool(_HOST.fullmatch(host.encode("idna").decode()))
    except UnicodeError:  # a label is empty or longer than 63
        is_name = False
    if not is_name:
        raise ValueError(
            "host cannot be the name of a machine: letters, digits and hyphens, "
            "at most 63 between two dots"
        )
    return host


def check_topic(topic: str) -> str:
    """Return the topic if messages can be published on it, or raise ValueError."""
    if not topic or len(topic.encode()) > 65_000 or any(sign in topic for sign in "+#\0"):
        raise ValueError('topic must not be empty and must not hold "+" or "#"')
    return topic


class HTTPConfig(DeferredModel):
    """An HTTP server that receives messages by POST.

    A user name and password inside `base_url` are moved to `username` and
    `password`, where they are kept as secrets.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: Annotated[str, Server]
    """Where messages are posted, ``https://…``."""
    content_type: str = "application/json"
    """Content type of what is posted."""
    timeout: int = Field(default=5, gt=0)
    """Longest wait for the connection, and again for the answer, seconds; after twice that
    an exchange is over."""
    token: SecretStr | None = None
    """Sent as ``Authorization: Bearer …``."""
    username: str | None = None
    """For basic authentication, with `password`."""
    password: SecretStr | None = None
    """Of `username`."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Further headers; their values are kept as secrets."""
    base_params: dict[str, str] = Field(default_factory=dict)
    """Query parameters of every request. Not for secrets: servers log them."""
    ca_certificate: Annotated[Path | None, ReadOnly, Sending] = None
    """PEM file that the server's certificate must be signed by; None: the usual authorities. Of
    this and the next two, a relative path is one below ACOUPI_HOME."""
    client_certificate: Annotated[Path | None, ReadOnly, Sending] = None
    """PEM file with the client certificate of this sensor."""
    client_key: Annotated[Path | None, ReadOnly, Sending] = None
    """Its private key, not encrypted; None if it is in the same file."""
    verify: bool = True
    """False accepts any certificate: anyone in between can read and answer."""

    @field_validator("token")
    @classmethod
    def strip_token(cls, value: SecretStr | None) -> SecretStr | None:
        """Forgive the line end that a token copied from a file has."""
        return value and (SecretStr(value.get_secret_value().strip()) or None)

    @model_validator(mode="after")
    def validate_together(self) -> Self:
        """Refuse contradictory settings, and move credentials out of the address."""
        self.base_url, username, password = split_url(self.base_url)
        self.username = self.username or username
        self.password = self.password or (SecretStr(password) if password else None)
        if self.token and self.username:
            raise ValueError("give token, or username and password, but not both")
        if self.password and not self.username:
            raise ValueError("password needs username")
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key needs client_certificate")
        if (self.ca_certificate or self.client_certificate) and self.base_url.startswith("http:"):
            raise ValueError("certificates need a base_url that begins with https://")
        return self


class MQTTConfig(DeferredModel):
    """An MQTT broker, version 5 or 3.1.1."""

    model_config = ConfigDict(hide_input_in_errors=True)

    host: Annotated[str, Server] = Field(min_length=1)
    """Name or address of the broker; with the transport "unix" the path of its socket."""
    username: str | None = None
    """User name; None: the broker needs none."""
    password: SecretStr | None = None
    """Of `username`."""
    topic: str = "acoupi"
    """Where messages are published; neither "+" nor "#" may be in it. ``{device_id}`` in it
    becomes the id of the device: a fleet has one setting."""
    port: int = Field(default=1884, ge=1, le=65_535)
    """Port of the broker: usually 1883, or 8883 with TLS."""
    timeout: int = Field(default=5, gt=0)
    """Longest wait for the connection, and again for each acknowledgement, seconds."""
    use_tls: bool = False
    """Encrypt the connection, and know the broker by its certificate."""
    transport: MQTTTransport = MQTTTransport.TCP
    """How the broker is reached."""
    use_message_type: bool = False
    """Publish on ``topic/detection``, ``topic/summary``, … instead of ``topic``."""
    ca_certificate: Annotated[Path | None, ReadOnly, Sending] = None
    """PEM file that the broker's certificate must be signed by; None: the system's authorities. Of
    this and the next two, a relative path is one below ACOUPI_HOME."""
    client_certificate: Annotated[Path | None, ReadOnly, Sending] = None
    """PEM file with the client certificate of this sensor."""
    client_key: Annotated[Path | None, ReadOnly, Sending] = None
    """Its private key, not encrypted; None if it is in the same file."""
    verify: bool = True
    """False accepts any certificate: anyone in between can read and answer."""
    keepalive: int = Field(default=60, ge=5, le=65_535)
    """Longest silence on the connection, seconds; after 1.5 times that the broker
    takes the sensor for offline."""
    last_will: bool = True
    """Keep "online" or "offline" on ``topic/DEVICE/status`` (retained); the broker writes
    "offline" by itself when the connection breaks."""
    client_id: str | None = None
    """None: device id and service, so that no process pushes another off. One that
    is set here is used as it is, by every process, but for a ``{device_id}`` in it."""
    websocket_path: str = "/mqtt"
    """With the transport "websockets"."""

    home_assistant: Annotated[bool, NoUserPrompt] = False
    """Announce the sensor to Home Assistant, and keep the states of its entities there."""
    discovery_prefix: Annotated[str, NoUserPrompt] = "homeassistant"
    """Where Home Assistant looks for devices."""

    @field_validator("host")
    @classmethod
    def validate_host(cls, value: str) -> str:
        """Refuse anything but a host name or the path of a socket."""
        return value if "/" in value and "://" not in value else check_host(value)

    @field_validator("topic", "discovery_prefix")
    @classmethod
    def validate_topic(cls, value: str) -> str:
        """Refuse a topic that nothing can be published on."""
        return check_topic(value)

    @model_validator(mode="after")
    def validate_together(self) -> Self:
        """Refuse what contradicts itself."""
        if self.transport is not MQTTTransport.UNIX:
            check_host(self.host)
        if self.password and not self.username:
            raise ValueError("password needs username")
        if self.client_key and not self.client_certificate:
            raise ValueError("client_key needs client_certificate")
        if (self.ca_certificate or self.client_certificate) and not self.use_tls:
            raise ValueError("certificates need use_tls")
        if self.use_tls and self.transport is MQTTTransport.UNIX:
            raise ValueError('use_tls cannot be used with the transport "unix"')
        if self.home_assistant and not self.last_will:
            raise ValueError("home_assistant needs last_will")
        return self


class AppriseConfig(DeferredModel):
    """People's phones, chats and mail, by the library Apprise."""

    url: Annotated[SecretStr, Server, NoUserPrompt] = Field(min_length=5)
    """Address of one service in the notation of Apprise, such as ntfys://my-topic."""
    message_types: Annotated[list[MessageType], NoUserPrompt] = Field(
        default_factory=lambda: [MessageType.ALARM], min_length=1
    )
    """Types of messages that are sent."""
    timeout: Annotated[float, NoUserPrompt] = Field(default=20, gt=0, le=60)
    """Seconds for one message."""


class FileConfig(DeferredModel):
    """A file that receives messages, one line of JSON each."""

    path: Annotated[Path, WrittenFile, Sending] = Field(
        default_factory=lambda: home_dir() / "data" / "messages.jsonl"
    )
    """A relative path is one below ACOUPI_HOME."""
