"""Checks that the files of a home are as acoupi wrote them.

``docs/damaged-files.md`` lists each file and each kind of damage.
"""

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from acoupi.bundles.rendering import Manifest
from acoupi.commit import is_there
from acoupi.components.message_stores import sql as message_sql
from acoupi.components.stores import sql as metadata_sql
from acoupi.components.stores.database import Database, Schema, stores_that_only_read
from acoupi.components.stores.healings import Healing, healings_of
from acoupi.config import Document
from acoupi.config.env_files import read_env
from acoupi.deployed import read_deployed
from acoupi.devices import read_device_file
from acoupi.errors import AcoupiError
from acoupi.provisioned import read_cache, read_from_hub, read_provisioned
from acoupi.services.alarm_file import alarms_file
from acoupi.services.broker import load_celery_settings
from acoupi.services.declared_deployments import CALLED, read_called
from acoupi.services.entries import read_schedule
from acoupi.stack.configured import answered, read_program_name
from acoupi.stack.settings import Settings
from acoupi.system.config_history import read_history

__all__ = ["DATABASES", "check_files", "configured_path", "faults_of_files", "healings_here"]

logger = logging.getLogger(__name__)

DATABASES: dict[str, Schema] = {
    "paths.db_metadata": metadata_sql.SCHEMA,
    "messaging.messages_db": message_sql.SCHEMA,
}
"""Contents of the databases of a home, by the setting of their path."""
PATIENCE = 5.0
"""Longest check of a database, seconds; an intact one of many gigabytes takes longer."""


def check_files(settings: Settings, *, owns_data: bool = True) -> None:
    """Read every file of the home, and check its databases; those set aside are logged.

    Parameters
    ----------
    owns_data
        Whether the services run as this user, who must then be able to open the databases.

    Raises
    ------
    AcoupiError
        For the first file that is damaged or was written by another version.
    """
    for read in _readers(settings, PATIENCE, owns_data):
        read()
    for healing in healings_here(settings):
        logger.warning("%s.", healing.told)


def faults_of_files(settings: Settings, *, owns_data: bool = True) -> list[str]:
    """Return what is wrong with the files of a home, one sentence for each; without raising.

    The databases are opened, but not checked page by page.
    """
    found = []
    for read in _readers(settings, 0.0, owns_data):
        try:
            read()
        except AcoupiError as error:
            found.append(f"{error.message} {error.why or ''}".strip())
    return found + [healing.told for healing in healings_here(settings)]


def healings_here(settings: Settings) -> list[Healing]:
    """Return what was saved of damaged databases, until their files are moved away."""
    paths = [
        *(_named_path(settings, setting) for setting in DATABASES),
        alarms_file(settings),
    ]
    return [healing for path in paths if path is not None for healing in healings_of(path)]


def _readers(
    settings: Settings, patience: float, owns_data: bool
) -> Iterator[Callable[[], object]]:
    yield lambda: read_program_name(settings)
    yield lambda: Document.read(settings.program_config_file).parsed()
    if is_there(settings.sensor_config_file):
        yield lambda: Document.read(settings.sensor_config_file).parsed()
    yield lambda: read_env(settings.secrets_file)
    yield lambda: load_celery_settings(settings)
    yield lambda: read_deployed(settings.deployment_file)
    yield lambda: read_device_file(settings.device_file)
    yield lambda: Manifest.read(settings.manifest_file)
    yield lambda: read_schedule(settings.schedule_file)
    yield lambda: read_history(settings)
    config = settings.program_config_file.parent
    yield lambda: read_provisioned(config)
    yield lambda: read_from_hub(config)
    yield lambda: read_cache(config)
    yield lambda: read_called(settings.home / CALLED)
    for path, schema in _databases(settings):
        if owns_data or os.access(path, os.R_OK | os.W_OK):
            yield partial(_examine, path, schema, patience)


def _databases(settings: Settings) -> Iterator[tuple[Path, Schema]]:
    """Yield the databases that exist."""
    for setting, schema in DATABASES.items():
        if (path := configured_path(settings, setting)) is not None:
            yield path, schema
    if is_there(alarms := alarms_file(settings)):
        # Only a sensor that raises alarms pays for their rules.
        from acoupi.components.stores.alarms import SCHEMA  # noqa: PLC0415

        yield alarms, SCHEMA


def configured_path(settings: Settings, setting: str) -> Path | None:
    """Return the file or folder that a setting names; None if there is none (yet)."""
    path = _named_path(settings, setting)
    return path if path is not None and os.path.lexists(path) else None


def _named_path(settings: Settings, setting: str) -> Path | None:
    found = answered(settings, *setting.split("."))
    return Path(found) if isinstance(found, str) else None


def _examine(path: Path, schema: Schema, patience: float) -> None:
    with stores_that_only_read():
        database = Database(path, schema)
    try:
        database.examine(patience)
    finally:
        database.close()
