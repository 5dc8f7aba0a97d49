"""Where the broker is. Imports neither Celery nor kombu, because beat uses it."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from acoupi.commit import read_whole
from acoupi.config.names import BY_OPTIONS
from acoupi.errors import ConfigurationError
from acoupi.stack.settings import Settings

__all__ = [
    "SecretURL",
    "broker_from_environment",
    "check_broker_url",
    "is_own_redis",
    "masked_url",
    "read_address",
]

BROKER_VARIABLE = "ACOUPI_BROKER"
REDIS_SCHEMES = ("redis", "rediss", "redis+socket")


def read_address(settings: Settings, otherwise: Callable[[Settings], str | None]) -> str | None:
    """Return the URL of the broker; None: the embedded one.

    Parameters
    ----------
    settings
        Of the home.
    otherwise
        Parses ``celery.json`` if it holds more than plain values, which takes pydantic.

    Raises
    ------
    ConfigurationError
        If a sensor cannot use that broker.
    """
    try:
        url = json.loads(read_whole(settings.celery_config_file)).get("broker_url")
    except FileNotFoundError:
        url = None
    except (OSError, ValueError, AttributeError, RecursionError):
        return otherwise(settings)
    if not (url is None or isinstance(url, str)):
        return otherwise(settings)
    check_broker_url(url)
    return broker_from_environment(os.environ) or url


def broker_from_environment(environ: Mapping[str, str]) -> str | None:
    """Return the URL of the broker in the environment, with the login; None if there is none.

    Raises
    ------
    ConfigurationError
        If it is not a URL of a broker, or the password file cannot be read.
    """
    url = environ.get(BROKER_VARIABLE)
    if not url:
        return None
    check_broker_url(url)
    user = environ.get(f"{BROKER_VARIABLE}_USER", "")
    name = environ.get(f"{BROKER_VARIABLE}_PASSWORD_FILE")
    if not name:
        return url
    try:
        password = Path(name).read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f'cannot read the password of the broker from "{name}".',
            f"ls -l {name}   (acoupi setup writes it, for the user that runs the services)",
            why=f"{error.strerror or error}.",
        ) from error
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def is_own_redis(url: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a broker is the redis that the target runs only for this sensor.

    That one uses `acoupi.services.redis_transport`; others use kombu's own transports, so that
    workers of any kind can share the broker.
    """
    return bool(environ.get(BROKER_VARIABLE)) and _is_redis(url or "")


def check_broker_url(url: str | None, *, choose: str = BY_OPTIONS.broker) -> None:
    """Raise if a sensor cannot use a broker.

    Parameters
    ----------
    choose
        The option or variable that chooses a broker, for the error; ``{}`` stands for the URL.

    Raises
    ------
    ConfigurationError
        Naming what is valid, or what to install; never the password.
    """
    if url is None:
        return
    scheme, separator, rest = url.partition("://")
    if not separator or (not rest and scheme in REDIS_SCHEMES) or not _has_valid_port(url):
        raise ConfigurationError(
            f'cannot use the broker "{masked_url(url)}".',
            f"{choose.format('redis://localhost:6379/0')}   "
            "(or leave it out for the embedded broker)",
            why="a broker is redis://HOST:PORT/NUMBER, rediss://…, redis+socket:///PATH, "
            "amqp://USER:PASSWORD@HOST:PORT/VHOST or another that Celery supports; in a "
            "password / is written %2F, # is %23 and ? is %3F.",
        )
    if not _is_redis(url):
        from acoupi.services.external_broker import (  # noqa: PLC0415 - imports kombu
            refuse_unusable,
        )

        refuse_unusable(url, masked_url(url), choose)


def _is_redis(url: str) -> bool:
    return url.partition("://")[0] in REDIS_SCHEMES


def _has_valid_port(url: str) -> bool:
    """Return whether the port is a number; an unquoted password would end up there."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def masked_url(url: str | None) -> str:
    """Return a broker's URL without its password.

    Examples
    --------
    >>> masked_url("redis://user:secret@hub:6379/0")
    'redis://user:**@hub:6379/0'
    >>> masked_url(None)
    'embedded'
    """
    if url is None:
        return "embedded"
    scheme, separator, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        login = user + (":**" if colon else "")
    return f"{scheme}{separator}{login}{at}{place}"


class SecretURL(str):
    """A URL whose password stays hidden where Celery prints its settings."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked_url(str(self)))
