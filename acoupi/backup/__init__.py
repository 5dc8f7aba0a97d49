"""A sensor in one file: its settings and what it stored, without the sound.

The file is a gzipped tar. ``backup.json`` comes first and names every other member with its
size and SHA-256, so that a file that was cut short or changed is known before anything of it
is used.
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
"""Member with the database that no setting names; there is none unless alarms are on."""
SECRETS = "secrets.encrypted"
"""Member with the files that may hold secrets: texts by name, encrypted."""


def private_files(settings: Settings) -> tuple[Path, ...]:
    """Return the files of a home that may hold secrets and are answers of its owner."""
    return settings.secrets_file, settings.home / OVERRIDE_FILE


class Member(DeferredModel):
    """What must be true of one file of a backup."""

    bytes: int
    sha256: str


class Contents(DeferredModel):
    """What a backup says of itself."""

    format: int
    acoupi: str
    """The version that made it."""
    made_on: datetime.datetime
    device: str
    program: str
    target: str
    home: str
    """Where the sensor was, so that its settings can be changed to another place."""
    schemas: Mapping[str, int]
    """Versions of the databases, by member."""
    members: Mapping[str, Member]


class Made(NamedTuple):
    """A backup that was made, or read and found whole."""

    path: str
    bytes: int
    contents: Contents
