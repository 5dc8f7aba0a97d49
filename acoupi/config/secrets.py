"""Secrets: beside the configuration, in a separate file that only the owner can read.

In a configuration file a secret is ``{"$secret": NAME}``. Its value is that of the
environment variable NAME or, without one, of the line ``NAME=...`` in ``secrets.env``
in the same folder.
"""

import re
from collections.abc import Mapping
from typing import Any

from acoupi.config.names import PROGRAM, Names, Place

__all__ = [
    "OTHER_PREFIX",
    "REFERENCE",
    "SECRETS_FILE",
    "WITHHELD",
    "WITHHOLD",
    "MissingSecret",
    "referenced_secrets",
    "resolve_secrets",
    "secret_name",
]

SECRETS_FILE = "secrets.env"
REFERENCE = "$secret"
WITHHOLD = "ACOUPI_SECRETS"
WITHHELD = "withheld"
"""Value of the variable that marks a secret as withheld from this process."""
OTHER_PREFIX = "ACOUPI_SECRET__"
"""Prefix for secrets whose place cannot be a variable's name."""


class MissingSecret:
    """Placeholder for a secret whose value is missing on this machine."""

    def __init__(self, name: str) -> None:
        self.name = name


def secret_name(place: Place, names: Names = PROGRAM) -> str:
    """Return the name of the secret at a place.

    Examples
    --------
    >>> secret_name(("messaging", "mqtt", "password"))
    'ACOUPI_CONFIG__MESSAGING__MQTT__PASSWORD'
    >>> secret_name(("headers", "X-Key"))
    'ACOUPI_SECRET__HEADERS__582D4B6579'
    """
    parts = [str(key) for key in place]
    if all(re.fullmatch(r"[a-z0-9_]+", part) and "__" not in part for part in parts):
        return names.variable(place)
    return OTHER_PREFIX + "__".join(
        part.upper() if re.fullmatch(r"[a-z0-9_]+", part) else part.encode().hex().upper()
        for part in (*filter(None, [names.section]), *parts)
    )


def referenced_secrets(data: Any) -> set[str]:
    """Return the names of all secrets that a document refers to."""
    if isinstance(data, dict):
        if set(data) == {REFERENCE}:
            return {str(data[REFERENCE])}
        return set().union(*(referenced_secrets(item) for item in data.values()))
    if isinstance(data, list):
        return set().union(*(referenced_secrets(item) for item in data))
    return set()


def resolve_secrets(data: Any, secrets: Mapping[str, str], environ: Mapping[str, str]) -> Any:
    """Return a document with its references replaced by values.

    An empty variable counts as unset, an empty line of ``secrets.env`` as an empty secret.
    A secret without a value becomes a `MissingSecret`, or the placeholder of a withheld one.
    """
    if isinstance(data, dict):
        if set(data) == {REFERENCE}:
            name = str(data[REFERENCE])
            absent = WITHHELD if environ.get(WITHHOLD) == WITHHELD else MissingSecret(name)
            return environ.get(name) or secrets.get(name, absent)
        return {key: resolve_secrets(item, secrets, environ) for key, item in data.items()}
    if isinstance(data, list):
        return [resolve_secrets(item, secrets, environ) for item in data]
    return data
