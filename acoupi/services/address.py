"""Where the broker is. Imports no Celery, because beat uses it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from acoupi.commit import read_whole
from acoupi.errors import ConfigurationError
from acoupi.stack.settings import Settings

__all__ = [
    "SecretURL",
    "broker_from_environment",
    "check_broker_url",
    "masked_url",
    "read_address",
]

BROKER_VARIABLE = "ACOUPI_BROKER"
REDIS_SCHEMES = ("redis", "rediss", "redis+socket")


def read_address(settings: Settings) -> tuple[str | None, float] | None:
    """Return the URL of the broker (None: the embedded one), and beat's longest sleep in seconds.

    None if ``celery.json`` holds more than plain values: then `broker.load_celery_settings`
    tells, which needs pydantic.

    Raises
    ------
    ConfigurationError
        If the URL is not one that a sensor can use.
    """
    try:
        content = json.loads(read_whole(settings.celery_config_file))
        url, sleep = content.get("broker_url"), content.get("beat_max_loop_interval", 1)
    except FileNotFoundError:
        url, sleep = None, 1
    except (OSError, ValueError, AttributeError):
        return None
    if not (url is None or isinstance(url, str)) or not isinstance(sleep, int) or sleep <= 0:
        return None
    check_broker_url(url)
    return broker_from_environment(os.environ) or url, float(sleep)


def broker_from_environment(environ: Mapping[str, str]) -> str | None:
    """Return the URL of the broker that the environment names, with its login; None for none.

    Raises
    ------
    ConfigurationError
        If it is no URL of a broker, or the file of the password cannot be read.
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


def check_broker_url(url: str | None) -> None:
    """Raise if a broker is not one that a sensor can use.

    Raises
    ------
    ConfigurationError
        Naming what is valid; never the password.
    """
    if url is None:
        return
    scheme, separator, rest = url.partition("://")
    if separator and rest and scheme in REDIS_SCHEMES and _has_valid_port(url):
        return
    raise ConfigurationError(
        f'cannot use the broker "{masked_url(url)}".',
        "--broker redis://localhost:6379/0   (or leave it out for the embedded broker)",
        why="a broker is redis://HOST:PORT/NUMBER, rediss://… or redis+socket:///PATH; in a "
        "password / is written %2F, # is %23 and ? is %3F.",
    )


def _has_valid_port(url: str) -> bool:
    """Return whether what stands for a port is one; a password that is not quoted ends up there."""
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
    """A URL that does not show its password where Celery prints its settings."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(masked_url(str(self)))
