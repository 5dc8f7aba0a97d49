"""The broker of a hub: a queue for each program, and a user for each worker.

A worker reaches the queue of its program and nothing else: in redis, where kombu keeps more
than the queue itself, all keys of a program have a prefix of their own.
"""

import base64
import json
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from celery import Celery
from kombu.entity import Exchange, Queue

from acoupi.errors import ConfigurationError, HubUnavailableError
from acoupi.hub.workers import BrokerUser, broker_address, broker_user
from acoupi.services.external_broker import ExternalBroker

__all__ = ["TASK", "HubBroker", "make_hub_app", "management_of", "queue_of"]

TASK = "acoupi.hub.analyse"
LONGEST_TASK = 3600.0
"""Seconds after which redis delivers an unacknowledged message again."""
PATIENCE = 10.0
"""Seconds for an answer of RabbitMQ's management."""

# Only the redis commands that kombu needs to consume a queue: no channels, no administration.
_REDIS_RULES = (
    *("resetkeys", "resetchannels", "resetpass", "-@all"),
    *("+@read", "+@write", "+@transaction", "+@connection", "+@blocking", "+@scripting"),
    *("-@dangerous", "+time"),
)


def queue_of(program: str) -> str:
    """Return the queue of a program."""
    return f"acoupi.hub.{program}"


def make_hub_app(url: str, program: str) -> Celery:
    """Return a Celery app that knows the queue of a program at a broker, and no other."""
    broker = ExternalBroker.parse(url, time_limit=LONGEST_TASK)
    options = dict(broker.transport_options)
    if not broker.is_amqp:
        options["global_keyprefix"] = _prefix(program)
    name = queue_of(program)
    app = Celery("acoupi-hub", set_as_current=False, broker=broker.url)
    app.conf.update(
        broker_use_ssl=broker.tls,
        broker_transport_options=options,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # this is how RabbitMQ refuses a user
        broker_pool_limit=1,
        task_queues=[Queue(name, Exchange(""), routing_key=name)],
        task_default_queue=name,
        task_default_exchange="",
        task_default_routing_key=name,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
    )
    return app


def _prefix(program: str) -> str:
    return f"acoupi:{program.replace(':', '/')}:"  # no prefix is the start of another


def management_of(url: str) -> str:
    """Return the usual address of RabbitMQ's management.

    It uses TLS if the broker does, because the login is sent with each request.

    Examples
    --------
    >>> management_of("amqps://admin:secret@hub.example.org:5671//")
    'https://hub.example.org:15671'
    >>> management_of("amqp://[::1]")
    'http://[::1]:15672'
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].removesuffix(f":{parts.port}")
    scheme, port = ("https", 15671) if parts.scheme == "amqps" else ("http", 15672)
    return f"{scheme}://{host}:{port}"


class HubBroker:
    """Sends jobs to the workers, and manages their users at the broker.

    Parameters
    ----------
    url
        With a login that may administer it.
    management
        Address of RabbitMQ's management, for RabbitMQ only. None: `management_of`.

    Raises
    ------
    ConfigurationError
        If the address is not that of a broker, or of a kind that is not supported.
    HubUnavailableError
        From every method: it does not answer, or refuses.
    """

    def __init__(self, url: str, management: str | None = None) -> None:
        self._url = url
        self._is_amqp = _usable(url).is_amqp
        self._users: _Users = _RabbitUsers(url, management) if self._is_amqp else _RedisUsers()
        self._app = cache(lambda program: make_hub_app(url, program))
        self._put: dict[str, BrokerUser] = {}

    def send(self, program: str, jobs: Sequence[int]) -> None:
        """Put jobs into the queue of a program."""
        with self._connected(program) as connection:
            for job in jobs:
                self._app(program).send_task(TASK, (job,), connection=connection, retry=False)

    def count_waiting(self, program: str) -> int:
        """Return how many messages no worker has taken yet."""
        name = queue_of(program)
        with self._connected(program) as connection:
            # Not passive: kombu would ask redis without the prefix.
            found = connection.default_channel.queue_declare(
                queue=name, durable=True, auto_delete=False
            )
        return int(found.message_count)

    def settle_users(self, users: Sequence[BrokerUser]) -> None:
        """Allow these workers, and no others."""
        with self._connected("") as connection:
            wanted = {one.name: one for one in users}
            present = self._users.names(connection)
            for name in present - wanted.keys():
                self._users.remove(connection, name)
            for name, user in wanted.items():
                if name not in present or self._put.get(name) != user:
                    self._users.put(connection, user)
            self._put = wanted

    @contextmanager
    def _connected(self, program: str) -> Iterator[Any]:
        try:
            with self._app(program).connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=PATIENCE)
                yield connection
        except Exception as error:  # transports raise errors of many kinds
            raise HubUnavailableError(
                f"the broker of the hub does not answer ({broker_address(self._url)}).",
                "start it, or correct the address in --broker",
                why=f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}",
            ) from error


def _usable(url: str) -> ExternalBroker:
    place = broker_address(url)
    try:
        broker = ExternalBroker.parse(url)
        _ = broker.connection().transport
    except Exception as error:  # noqa: BLE001 - of many kinds, some with the password
        raise ConfigurationError(
            f"the hub cannot use the broker {place}.",
            "--broker redis://localhost:6379/0   or   --broker amqp://USER:PASSWORD@HOST",
            why=f"its address cannot be used ({type(error).__name__}).",
        ) from None
    return broker


class _Users(Protocol):
    """Users of workers at a broker; other users are not touched."""

    def names(self, connection: Any) -> set[str]: ...

    def put(self, connection: Any, user: BrokerUser) -> None: ...

    def remove(self, connection: Any, name: str) -> None: ...


class _RedisUsers:
    def names(self, connection: Any) -> set[str]:
        found = self._run(connection, "USERS")
        names = {one.decode() if isinstance(one, bytes) else str(one) for one in found}
        return {name for name in names if name.startswith(broker_user(""))}

    def put(self, connection: Any, user: BrokerUser) -> None:
        password = f"#{user.sha256.hex()}"
        keys = f"~{_prefix(user.program)}*"
        self._run(connection, "SETUSER", user.name, "on", *_REDIS_RULES, password, keys)

    def remove(self, connection: Any, name: str) -> None:
        self._run(connection, "DELUSER", name)

    @staticmethod
    def _run(connection: Any, *command: str) -> Any:
        return connection.default_channel.client.execute_command("ACL", *command)


class _RabbitUsers:
    def __init__(self, url: str, management: str | None) -> None:
        parts = urlsplit(url)
        self._place = (management or management_of(url)).rstrip("/")
        self._tls = ssl.create_default_context(
            cafile=(ExternalBroker.parse(url).tls or {}).get("ca_certs")
        )
        self._host = quote(unquote(parts.path[1:]) or "/", safe="")
        login = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        self._login = base64.b64encode(login.encode()).decode()

    def names(self, connection: Any) -> set[str]:
        found = json.loads(self._ask("GET", "users?columns=name"))
        return {one["name"] for one in found if one["name"].startswith(broker_user(""))}

    def put(self, connection: Any, user: BrokerUser) -> None:
        self._ask("PUT", f"users/{user.name}", {
            "password_hash": base64.b64encode(user.salted).decode(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        })  # fmt: skip
        own = f"^{re.escape(queue_of(user.program))}$"
        self._ask("PUT", f"permissions/{self._host}/{user.name}", {
            "configure": own, "write": "^$", "read": own,
        })  # fmt: skip

    def remove(self, connection: Any, name: str) -> None:
        self._ask("DELETE", f"users/{name}")

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> bytes:
        request = Request(  # noqa: S310 - the operator's own address
            f"{self._place}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {self._login}", "Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=PATIENCE, context=self._tls) as answer:  # noqa: S310
                return bytes(answer.read())
        except HTTPError as error:
            raise ConnectionError(f"its management answers {error.code}") from error
