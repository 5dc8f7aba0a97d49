"""Passwords of a hub, made once, and the variables that give each service its own."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from acoupi.certificates import authority_text, holds_certificates
from acoupi.commit import read_whole
from acoupi.components.messengers.mqtt_collecting import read_address
from acoupi.config.env_files import quoted, read_env
from acoupi.errors import ConfigurationError
from acoupi.home import expanded
from acoupi.hub.bundle.choices import HubChoices, HubHome
from acoupi.hub.bundle.services import (
    BROKER,
    DATABASE,
    DISPATCH,
    INGEST,
    SUBSCRIBE,
    WEB,
    worker_name,
)
from acoupi.stack.broker_users import known_password
from acoupi.writing import PRIVATE, RenderedFile, disk_error

__all__ = [
    "BROKER_AUTHORITY",
    "BROKER_USER",
    "INNER_BROKER",
    "MANAGEMENT",
    "SERVERS",
    "USERS_FILE",
    "env_file",
    "hub_secrets",
    "hub_variables",
    "inner_broker",
    "known_url",
    "trusted_file",
]

BROKER_USER = "acoupi-hub"
"""Rights of dispatch, which manages users of workers: all but what could harm redis itself."""
BROKER_RIGHTS = (
    "~* &* -@all +@read +@write +@keyspace +@transaction +@connection +@pubsub +@blocking "
    "+@scripting -@dangerous +time +info +acl"
)
USERS_FILE = PurePath("broker/users.acl")
"""Users of workers come and go while redis runs, and are made again after it starts."""
INNER_BROKER = f"redis://{BROKER}:6379/0"
"""Address of the hub's own broker inside the hub."""
BUCKET_VARIABLES = "AWS_"
FILES_OF_THE_HOST = {"AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
"""Host names that mean the container itself inside a container."""
MANAGEMENT = "management"
SERVERS = (DATABASE, BROKER, MANAGEMENT, SUBSCRIBE)
"""Kinds of external servers; management: that of a RabbitMQ."""
SCHEMES = {
    DATABASE: ("postgresql", "postgres"),
    BROKER: ("redis", "rediss", "amqp", "amqps"),
    MANAGEMENT: ("https", "http"),
}
"""What the address of an external server starts with."""
OPTIONS = {
    DATABASE: "--database-url",
    BROKER: "--broker-url",
    MANAGEMENT: "--management-url",
    SUBSCRIBE: "--subscribe",
}
BROKER_AUTHORITY = PurePath("ca/broker.pem")
"""The authority's file of an external broker, below the hub."""
_TRUSTED = "ssl_ca_certs"


def env_file(service: str) -> PurePath:
    """Return the file with the secret variables of a service, below the hub."""
    return PurePath("secrets") / f"{service}.env"


def known_url(home: HubHome, kind: str, given: str | None) -> str | None:
    """Return the address of an external server: as given, else as stored; None if there is none.

    Raises
    ------
    ConfigurationError
        If it is not an address of such a server.
    """
    kept = home.secrets / f"{kind}.url"
    if given is None:
        return read_whole(kept).strip() if kept.exists() else None
    if given and kind == SUBSCRIBE:
        read_address(given, OPTIONS[kind])
        given = _with_authority(given)
    elif given and urlsplit(given).scheme not in SCHEMES[kind]:
        schemes = SCHEMES[kind]
        raise ConfigurationError(
            f"this is not the address of a {kind}.",
            f"{OPTIONS[kind]} {schemes[0]}://USER:PASSWORD@HOST/NAME",
            why=f"it starts with none of {', '.join(f'{one}://' for one in schemes)}.",
        )
    if _is_of_this_machine(urlsplit(given).hostname or ""):
        raise ConfigurationError(
            f"{OPTIONS[kind]} cannot be localhost.",
            f"{OPTIONS[kind]} with the name or address by which other machines reach it",
            why="in a container, localhost is the container.",
        )
    return given or None


def trusted_file(url: str) -> Path | None:
    """Return the authority's file that the address of a broker names, if any.

    Examples
    --------
    >>> trusted_file("amqps://me:word@mq.example.org//?ssl_ca_certs=/etc/ca.pem")
    PosixPath('/etc/ca.pem')
    """
    found = parse_qs(urlsplit(url).query).get(_TRUSTED)
    return Path(found[0]) if found else None


def inner_broker(url: str) -> str:
    """Return the address of an external broker as services of the hub use it.

    Examples
    --------
    >>> inner_broker("amqps://mq.example.org//?ssl_ca_certs=/etc/ca.pem&heartbeat=9")
    'amqps://mq.example.org//?ssl_ca_certs=/run/ca/broker.pem&heartbeat=9'
    """
    parts = urlsplit(url)
    inside = f"{_TRUSTED}=/run/{BROKER_AUTHORITY}"
    query = [inside if one.startswith(f"{_TRUSTED}=") else one for one in parts.query.split("&")]
    return parts._replace(query="&".join(query)).geturl()


def _is_of_this_machine(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _with_authority(url: str) -> str:
    """Return the address of an MQTT broker, with the authority from a file put into it."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if "ca" not in query or holds_certificates(query["ca"]):
        return url
    file = expanded(query["ca"])
    try:
        query["ca"] = authority_text(file.read_text(errors="replace"))
    except OSError as error:
        raise disk_error("read", file, error) from error
    except ValueError as error:
        raise ConfigurationError(
            f'"{file}" cannot be the authority of the broker.',
            f"{OPTIONS[SUBSCRIBE]} mqtts://…?ca=FILE.pem",
            why=f"it {error}.",
        ) from error
    return parts._replace(query=urlencode(query, quote_via=quote)).geturl()


def hub_secrets(
    home: HubHome, choices: HubChoices, urls: Mapping[str, str]
) -> dict[PurePath, RenderedFile]:
    """Return the files that hold secrets, by path below the hub.

    Existing ones are kept, except tokens of workers that the database does not have, or has with
    another broker.

    Parameters
    ----------
    urls
        The addresses of external servers, by kind.
    """
    names = [DATABASE] * choices.has_own_database + [BROKER] * choices.has_own_broker
    passwords = {name: known_password(home.secrets / name) for name in names}
    files = {PurePath("secrets") / name: f"{text}\n" for name, text in passwords.items()}
    files |= {PurePath("secrets") / f"{kind}.url": f"{url}\n" for kind, url in urls.items()}
    if choices.has_own_database:
        files[PurePath("secrets/pgpass")] = f"*:*:*:acoupi:{passwords[DATABASE]}\n"
    if choices.has_own_broker:
        files[USERS_FILE] = _users(passwords[BROKER])
    kept = read_env(home.path / env_file(INGEST))
    for service, variables in hub_variables(choices, passwords, urls, kept).items():
        files[env_file(service)] = "".join(
            f"{name}={quoted(text)}\n" for name, text in sorted(variables.items())
        )
    is_known = all(known_url(home, one, None) == urls.get(one) for one in (DATABASE, BROKER))
    is_known &= home.has_database or not choices.has_own_database
    for service in map(worker_name, choices.workers):  # its token is made at the first start
        kept_file = home.path / env_file(service)
        files[env_file(service)] = read_whole(kept_file) if is_known and kept_file.exists() else ""
    return {path: RenderedFile(text, PRIVATE) for path, text in files.items()}


def hub_variables(
    choices: HubChoices,
    passwords: Mapping[str, str],
    urls: Mapping[str, str],
    kept: Mapping[str, str],
) -> dict[str, dict[str, str]]:
    """Return the variables with secrets, by service; `kept` are the existing ones."""
    database = urls.get(DATABASE) or f"postgresql://acoupi:{passwords[DATABASE]}@{DATABASE}/acoupi"
    broker = inner_broker(urls.get(BROKER, "")) or INNER_BROKER.replace(
        "//", f"//{BROKER_USER}:{passwords.get(BROKER)}@"
    )
    managed = {"ACOUPI_HUB_BROKER_MANAGEMENT": urls[MANAGEMENT]} if MANAGEMENT in urls else {}
    own = {"ACOUPI_HUB_DATABASE": database}
    bucket = {
        name: text
        for name, text in {**kept, **os.environ}.items()
        if name.startswith(BUCKET_VARIABLES) and name not in FILES_OF_THE_HOST
    }
    served = {INGEST: own | bucket, DISPATCH: own | managed | {"ACOUPI_HUB_BROKER": broker}}
    if choices.listen_web:
        served[WEB] = own | bucket
    if choices.subscribes:
        served[SUBSCRIBE] = own | {"ACOUPI_HUB_MQTT": urls[SUBSCRIBE]}
    if DATABASE in passwords:
        served[DATABASE] = {"ACOUPI_DATABASE_PASSWORD": passwords[DATABASE]}
    return served


def _users(password: str) -> str:
    digest = hashlib.sha256(password.encode()).hexdigest()
    return f"user default off\nuser {BROKER_USER} on #{digest} {BROKER_RIGHTS}\n"
