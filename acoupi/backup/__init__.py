"""A sensor in one file: its settings and databases, without sound files.

The file is a gzipped tar. ``backup.json`` comes first and lists every other member with its size
and SHA-256, so that a truncated or changed file is detected before anything in it is used.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from acoupi.bundles.engine import OVERRIDE_FILE
from acoupi.deferred import DeferredModel
from acoupi.stack.settings import Settings

__all__ = [
    "ALARMS",
    "CONTENTS",
    "FORMAT",
    "SECRETS",
    "STORES",
    "Contents",
    "Made",
    "Member",
    "private_files",
]

FORMAT = 1
CONTENTS = "backup.json"
STORES = {"paths.db_metadata": "stores/metadata.db", "messaging.messages_db": "stores/messages.db"}
"""Members with the databases, by the setting that names the file in a home."""
ALARMS = "stores/alarms.db"
"""Member with the alarm database, which no setting names; only if alarms are on."""
SECRETS = "secrets.encrypted"
"""Member with the files that may hold secrets: texts by name, encrypted."""


def private_files(settings: Settings) -> tuple[Path, ...]:
    """Return the files of a home with answers of its owner that may hold secrets."""
    return settings.secrets_file, settings.home / OVERRIDE_FILE


class Member(DeferredModel):
    """Size and digest of one file of a backup."""

    bytes: int
    sha256: str


class Contents(DeferredModel):
    """The table of contents of a backup."""

    format: int
    acoupi: str
    """The version that made it."""
    made_on: datetime.datetime
    device: str
    program: str
    target: str
    home: str
    """The sensor's home, so that paths in its settings can be changed."""
    schemas: Mapping[str, int]
    """Versions of the databases, by member."""
    members: Mapping[str, Member]


class Made(NamedTuple):
    """A backup that was made, or read and found complete."""

    path: str
    bytes: int
    contents: Contents
