"""An external broker (``--broker URL``): any for which kombu has a transport.

Imported only where one is used, because it imports kombu.
"""

from importlib.util import find_spec
from ssl import CERT_NONE
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import parse_ssl_cert_reqs

from acoupi.errors import ConfigurationError

__all__ = ["ANSWER_TIMEOUT", "CONNECT_TIMEOUT", "ExternalBroker", "refuse_unusable"]

CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 30.0
VISIBILITY_TIMEOUT = 3600.0
"""Seconds after which redis or SQS redelivers the messages of a dead worker; longer if tasks may
take longer. The sensor's store queues its recordings again long before that."""

_NEEDS = {
    "azureservicebus": ("azure.servicebus", "kombu[azureservicebus]"),
    "azurestoragequeues": ("azure.storage.queue", "kombu[azurestoragequeues]"),
    "confluentkafka": ("confluent_kafka", "kombu[confluentkafka]"),
    "consul": ("consul", "celery[consul]"),
    "etcd": ("etcd", "python-etcd"),
    "gcpubsub": ("google.cloud.pubsub_v1", "celery[gcpubsub]"),
    "kafka": ("confluent_kafka", "kombu[confluentkafka]"),
    "librabbitmq": ("librabbitmq", "celery[librabbitmq]"),
    "mongodb": ("pymongo", "celery[mongodb]"),
    "pgmq": ("pgmq", "kombu[pgmq]"),
    "pyro": ("Pyro4", "celery[pyro]"),
    "qpid": ("qpid", "kombu[qpid]"),
    "slmq": ("softlayer_messaging", "celery[slmq]"),
    "sqla": ("sqlalchemy", "celery[sqlalchemy]"),
    "sqlalchemy": ("sqlalchemy", "celery[sqlalchemy]"),
    "sqs": ("boto3", "celery[sqs]"),
    "zookeeper": ("kazoo", "celery[zookeeper]"),
}
"""By scheme: the module that its transport imports, and the package that has it."""
_REDIS = ("redis", "rediss", "redis+socket", "sentinel")
_AMQP = ("amqp", "amqps", "pyamqp")
_WITHIN_ONE_PROCESS = {"memory", "filesystem"}
"""Transports that do not reach other processes; the embedded broker replaces the second."""


class ExternalBroker(NamedTuple):
    """What kombu and Celery need to know about a broker."""

    url: str
    tls: dict[str, Any] | None
    """TLS options, from ``ssl_…`` in the query of the URL; None: no TLS. Certificates are checked
    unless the query says otherwise."""
    transport_options: dict[str, Any]

    @classmethod
    def parse(cls, url: str, *, time_limit: float = 0.0) -> "ExternalBroker":
        """Describe a broker.

        Parameters
        ----------
        url
            With the login.
        time_limit
            Longest time that a task may take, seconds.
        """
        scheme = urlsplit(url).scheme.lower()
        url, tls = _without_tls(url)
        if scheme in _REDIS:
            url, options = _without_options(url)
            return cls(url, _redis_tls(tls, scheme), _redis_options(time_limit) | options)
        if scheme == "sqs":
            url, options = _without_options(url)
            return cls(url, tls or None, {"visibility_timeout": _visibility(time_limit)} | options)
        if scheme in _AMQP:
            return cls(url, _amqp_tls(tls, scheme), {})
        return cls(url, tls or None, {})

    @property
    def is_amqp(self) -> bool:
        """Whether its protocol is AMQP, through the library of kombu."""
        return urlsplit(self.url).scheme.lower() in _AMQP

    def connection(self, **options: Any) -> Connection:
        """Return a connection of kombu, which is not open yet.

        Parameters
        ----------
        **options
            Of the transport.
        """
        return Connection(
            self.url,
            ssl=self.tls or False,
            connect_timeout=CONNECT_TIMEOUT,
            transport_options={**self.transport_options, **options},
        )


def refuse_unusable(url: str, masked: str, choose: str) -> None:
    """Raise if kombu does not support a broker, or its package is not installed.

    Parameters
    ----------
    url
        With the login.
    masked
        The same without the password, for the error.
    choose
        The option or variable that chooses a broker; ``{}`` stands for the URL.

    Raises
    ------
    ConfigurationError
        Naming what is valid, or what to install; never the password.
    """
    scheme = urlsplit(url).scheme
    known = sorted(
        one for one in {*TRANSPORT_ALIASES, "redis+socket"} - _WITHIN_ONE_PROCESS if one.islower()
    )
    if scheme.lower() not in known or not url.partition("://")[1]:
        raise ConfigurationError(
            f'cannot use the broker "{masked}".',
            f"{choose.format('redis://localhost:6379/0')}   "
            "(or leave it out for the embedded broker)",
            why=f"its URL must start with one of {', '.join(f'{one}://' for one in known)}.",
        )
    module, package = _NEEDS.get(scheme.lower(), ("", ""))
    if module and not _is_installed(module):
        raise ConfigurationError(
            f'cannot use the broker "{masked}".',
            f'pip install "{package}"',
            why=f"a broker at {scheme}:// needs the module {module}, which is not installed.",
        )
    try:
        _ = ExternalBroker.parse(url).connection().transport
    except Exception as error:  # transports raise errors of many kinds
        raise ConfigurationError(
            f'cannot use the broker "{masked}".',
            "--broker redis://localhost:6379/0   (or leave it out for the embedded broker)",
            why=f"its transport refuses it ({type(error).__name__}).",
        ) from error


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing, too
        return False


def _without_tls(url: str) -> tuple[str, dict[str, Any]]:
    """Return a URL without ``ssl_…`` in its query, and the removed options."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    tls: dict[str, Any] = {name: value for name, value in query if name.startswith("ssl_")}
    if not tls:
        return url, {}
    if "ssl_cert_reqs" in tls:
        tls["ssl_cert_reqs"] = parse_ssl_cert_reqs(
            tls["ssl_cert_reqs"].upper()
            if tls["ssl_cert_reqs"].upper().startswith("CERT_")
            else tls["ssl_cert_reqs"].lower()
        )
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() != "false"
    return _with_query(url, {name: value for name, value in query if name not in tls}), tls


def _without_options(url: str) -> tuple[str, dict[str, Any]]:
    """Return a URL without transport options (``?region=…``, ``?master_name=…``), and these."""
    query = dict(parse_qsl(urlsplit(url).query))
    options = {name: value for name, value in query.items() if name != "virtual_host"}
    kept = {name: value for name, value in query.items() if name not in options}
    return _with_query(url, kept), {
        name: int(value) if value.isdecimal() else value for name, value in options.items()
    }


def _with_query(url: str, query: dict[str, str]) -> str:
    return url.partition("?")[0] + (f"?{urlencode(query)}" if query else "")


def _redis_tls(tls: dict[str, Any], scheme: str) -> dict[str, Any] | None:
    if scheme != "rediss" and not tls:
        return None
    return {"ssl_cert_reqs": "required", **tls}  # without it kombu checks nothing


def _amqp_tls(tls: dict[str, Any], scheme: str) -> dict[str, Any] | None:
    if scheme != "amqps" and not tls:
        return None
    options = {name.removeprefix("ssl_"): value for name, value in tls.items()}
    if options.pop("check_hostname", True) and options.get("cert_reqs") != CERT_NONE:
        options["server_hostname"] = None  # kombu takes it from the URL
    return options


def _redis_options(time_limit: float) -> dict[str, Any]:
    return {
        "visibility_timeout": _visibility(time_limit),
        "socket_timeout": ANSWER_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
    }


def _visibility(time_limit: float) -> float:
    return max(VISIBILITY_TIMEOUT, 2 * time_limit)
