"""Short texts that are the same for the same settings."""

import hashlib
import json
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

__all__ = ["digest_of", "plain_settings", "section_digests", "settings_digest"]

SHORT = 6
"""Digits of the digest of a section: every heartbeat holds them."""


def settings_digest(config: BaseModel) -> str:
    """Return the digest of all settings, without secrets and the places of files.

    Boards that were set up alike have the same, also where their homes are in other folders.

    Examples
    --------
    >>> class Config(BaseModel):
    ...     threshold: float = 0.2
    ...     home: PurePath = PurePath("/home/pi")
    >>> settings_digest(Config()) == settings_digest(Config(home=PurePath("/data")))
    True
    >>> settings_digest(Config()) == settings_digest(Config(threshold=0.3))
    False
    """
    return digest_of(_without_places(plain_settings(config)))


def section_digests(config: BaseModel) -> list[str]:
    """Return the digest of each section of the settings, as ``NAME=DIGEST``.

    By these it can be said where the settings of two boards differ.
    """
    sections = _without_places(plain_settings(config))
    return [
        f"{name}={digest_of(value)[:SHORT]}"
        for name, value in sorted(sections.items())
        if value != {}  # nothing but places of files
    ]


def digest_of(settings: Any) -> str:
    """Return the digest of plain settings."""
    text = json.dumps(to_jsonable_python(settings, fallback=str), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_places(one)
            for name, one in value.items()
            if not isinstance(one, PurePath)
        }
    return [_without_places(one) for one in value] if isinstance(value, list) else value


def plain_settings(value: Any) -> Any:
    """Return a configuration as mappings and lists, without secrets."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {
            str(key): plain_settings(item)
            for key, item in value.items()
            if not isinstance(item, SecretStr | SecretBytes)
        }
    if isinstance(value, list | tuple):
        return [
            plain_settings(item) for item in value if not isinstance(item, SecretStr | SecretBytes)
        ]
    # Equal numbers are one setting: 3 and 3.0 read alike from JSON.
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
