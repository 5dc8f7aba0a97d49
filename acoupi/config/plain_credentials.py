"""Credentials that a configuration would send over unencrypted connections."""

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from acoupi.config.documents import load_answers

__all__ = ["plain_credential_warnings", "plain_credentials", "warnings_of"]

PLAIN_SCHEMES = frozenset({"http", "ws", "ftp", "mqtt", "redis", "amqp", "pyamqp"})
SECRETS = ("token", "password", "headers")


def plain_credential_warnings(*files: Path) -> list[str]:
    """Return a warning for each password or token in files that is sent unencrypted."""
    return [warning for file in files for warning in warnings_of(load_answers(file))]


def warnings_of(data: Any) -> list[str]:
    """Return the same warnings for a configuration."""
    return [
        f"{setting} goes to {host} without encryption: anyone in between can read it. "
        "Use https:// or TLS if the server has it."
        for setting, host in plain_credentials(data)
    ]


def plain_credentials(data: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the setting and the server of all credentials that are sent unencrypted.

    Connections within this machine do not count.

    Parameters
    ----------
    data
        A configuration as plain data.
    place
        Prefix of its settings.

    Examples
    --------
    >>> http = {"base_url": "http://example.org/in", "token": "x"}
    >>> list(plain_credentials({"http": http, "broker_url": "redis://:secret@hub/0"}))
    [('http.token', 'example.org'), ('broker_url', 'hub')]
    >>> list(plain_credentials({"host": "localhost", "password": "x"}))
    []
    """
    if isinstance(data, dict):
        yield from _of_section(data, place)
    members = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in members:
        there = f"{place}.{name}" if place else str(name)
        if isinstance(value, dict | list):
            yield from plain_credentials(value, there)
        elif isinstance(value, str) and (host := _plain_host(value)) and _has_login(value):
            yield there, host


def _of_section(section: dict[Any, Any], place: str) -> Iterator[tuple[str, str]]:
    """Yield the credentials beside the address of a server."""
    named = next((name for name in SECRETS if section.get(name)), None)
    host: str | None = None
    if isinstance(section.get("base_url"), str):
        host = _plain_host(section["base_url"])
    elif isinstance(section.get("host"), str) and section.get("transport") != "unix":
        host = None if section.get("use_tls") or _is_here(section["host"]) else section["host"]
    if named and host:
        yield f"{place}.{named}" if place else named, host


def _plain_host(url: str) -> str | None:
    """Return the host of a URL, if it is another machine and the connection is not encrypted."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    return host if host and parts.scheme in PLAIN_SCHEMES and not _is_here(host) else None


def _has_login(url: str) -> bool:
    return urlsplit(url).password is not None


def _is_here(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
