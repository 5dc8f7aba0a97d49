"""A home that sets itself up: its folders and its variables. Small, because beat imports it."""

import json
import logging
import os
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

from acoupi.commit import read_whole
from acoupi.services.logs import LEVELS
from acoupi.stack.settings import Settings

__all__ = [
    "SECRET_PREFIXES",
    "can_provision",
    "config_dir",
    "drop_invalid_variables",
    "drop_secrets",
    "wrong_variables",
]

logger = logging.getLogger(__name__)

SECRET_PREFIXES = ("ACOUPI_CONFIG__", "ACOUPI_SENSOR__", "ACOUPI_CELERY__", "ACOUPI_SECRET__")
"""Prefixes of variables whose values are never shown, because one may be a password."""


def config_dir(settings: Settings) -> Path:
    """Return the folder with the configuration."""
    return settings.program_config_file.parent


def can_provision(settings: Settings) -> bool:
    """Return whether this process may write to that folder, which need not exist."""
    folder = config_dir(settings)
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _is_seconds(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


_RUNNING: dict[str, tuple[Callable[[str], bool], str]] = {
    "ACOUPI_CONFIG_EVERY": (_is_seconds, "a number of seconds, greater than 0"),
    "ACOUPI_LOG_LEVEL": (lambda text: text.upper() in LEVELS, f"one of {', '.join(LEVELS)}"),
    "ACOUPI_MICROPHONE_PATIENCE": (_is_seconds, "a number of seconds, greater than 0"),
    "ACOUPI_SETUP_PATIENCE": (_is_seconds, "a number of seconds, greater than 0"),
}
"""Variables that could prevent a start of a service, and what their values must be."""


def wrong_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of services that have invalid values, with what these must be."""
    return {
        name: words
        for name, (is_valid, words) in _RUNNING.items()
        if environ.get(name) and not is_valid(environ[name])
    }


def drop_secrets(settings: Settings, name: str, environ: MutableMapping[str, str]) -> None:
    """Remove secrets from the variables of a service that must not have them, and log it.

    On balena, a variable of the fleet reaches every container.
    """
    given = [one for one in environ if one.startswith(SECRET_PREFIXES)]
    if not given:
        return
    from acoupi.config import secrets  # noqa: PLC0415 - beat does without, nearly always

    if environ.get(secrets.WITHHOLD) != secrets.WITHHELD:
        return
    try:
        known = secrets.referenced_secrets(json.loads(read_whole(settings.program_config_file)))
    except (OSError, ValueError):
        known = set()
    for one in given:
        if one in known or one.startswith(secrets.OTHER_PREFIX):
            del environ[one]
            logger.warning(
                "%s is a secret in the environment of %s, which must not have it: it is not used. "
                "Set it only for the service that sets the home up (on balena, as a variable of "
                "that service, not of the fleet).",
                one,
                name,
            )


def drop_invalid_variables(environ: MutableMapping[str, str]) -> None:
    """Remove variables with invalid values, in a home that sets itself up.

    Nobody would read the error of a service that does not start: it uses the default instead, and
    the service that sets the home up reports the variable.
    """
    if environ.get("ACOUPI_PROGRAM"):
        for name in wrong_variables(environ):
            del environ[name]
