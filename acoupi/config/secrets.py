"""Secrets: beside the configuration, in a file of their own that only the owner reads.

In a configuration file a secret is ``{"$secret": NAME}``. Its value is that of the
environment variable NAME or, without one, of the line ``NAME=...`` in ``secrets.env``
in the same folder. The file can be read by a shell, by systemd and by Docker Compose.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acoupi.commit import read_whole
from acoupi.config.tree import VARIABLE_PREFIX, Place
from acoupi.errors import AcoupiError

__all__ = [
    "REFERENCE",
    "SECRETS_FILE",
    "WITHHELD",
    "WITHHOLD",
    "MissingSecret",
    "merge_secrets",
    "parse_secrets",
    "read_secrets",
    "referenced_secrets",
    "resolve_secrets",
    "secret_name",
]

SECRETS_FILE = "secrets.env"
REFERENCE = "$secret"
WITHHOLD = "ACOUPI_SECRETS"
WITHHELD = "withheld"
"""With the variable set to this, secrets are not to be had here, and it stands for them."""
OTHER_PREFIX = "ACOUPI_SECRET__"
"""For secrets whose place cannot be told from a variable's name."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "`": "\\`", "\n": "\\n", "\r": "\\r"}
_UNESCAPES = {escaped: char for char, escaped in _ESCAPES.items()}


class MissingSecret:
    """Stands for a secret whose value is not on this machine."""

    def __init__(self, name: str) -> None:
        self.name = name


def secret_name(place: Place) -> str:
    """Return the name of the secret at a place.

    Examples
    --------
    >>> secret_name(("messaging", "mqtt", "password"))
    'ACOUPI_CONFIG__MESSAGING__MQTT__PASSWORD'
    >>> secret_name(("headers", "X-Key"))
    'ACOUPI_SECRET__HEADERS__582D4B6579'
    """
    parts = [str(key) for key in place]
    plain = all(re.fullmatch(r"[a-z0-9_]+", part) and "__" not in part for part in parts)
    if plain:
        return VARIABLE_PREFIX + "__".join(parts).upper()
    return OTHER_PREFIX + "__".join(
        part.upper() if re.fullmatch(r"[a-z0-9_]+", part) else part.encode().hex().upper()
        for part in parts
    )


def _line(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    if not any(char in value for char in "'\\\n\r"):
        return f"{name}='{value}'"
    return f'{name}="' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def _value(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\.", lambda m: _UNESCAPES.get(m[0], m[0]), text[1:-1])
    return text


def parse_secrets(text: str) -> dict[str, str]:
    """Return the names and values that a ``secrets.env`` holds.

    Examples
    --------
    >>> parse_secrets("# mine" + chr(10) + "A=b" + chr(10) + "C='d e'")
    {'A': 'b', 'C': 'd e'}
    """
    matches = [_LINE.fullmatch(line) for line in text.split("\n")]
    return {match[1]: _value(match[2]) for match in matches if match}


def read_secrets(path: Path) -> dict[str, str]:
    """Return the names and values in a ``secrets.env``; nothing if there is no such file.

    Raises
    ------
    AcoupiError
        If it may not be read.
    """
    return parse_secrets(read_text(path))


def read_text(path: Path) -> str:
    """Return what a file holds; nothing if it is not there."""
    try:
        return read_whole(path)
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise AcoupiError(
            f'cannot read "{path}".',
            f"ls -l {path}",
            why=f"{getattr(error, 'strerror', None) or error}.",
        ) from error


def merge_secrets(text: str, new: Mapping[str, str], stale: set[str]) -> str:
    """Return the text of a ``secrets.env`` with some secrets put in and others taken out.

    Lines of others, and comments, stay as they are.
    """
    lines = []
    left = dict(new)
    for line in text.removesuffix("\n").split("\n") if text else []:
        match = _LINE.fullmatch(line)
        name = match[1] if match else None
        if name in left:
            lines.append(_line(name, left.pop(name)))
        elif name is None or (name not in stale and name not in new):
            lines.append(line)
    lines += [_line(name, left[name]) for name in sorted(left)]
    return "".join(f"{line}\n" for line in lines)


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

    An empty variable counts as none, an empty line of ``secrets.env`` as an empty secret.
    One without a value becomes a `MissingSecret`, or what stands for one that is withheld.
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
