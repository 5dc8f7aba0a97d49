"""Making a backup of a sensor that may be running."""

import contextlib
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import acoupi
from acoupi import data
from acoupi.backup import (
    ALARMS,
    CONTENTS,
    FORMAT,
    SECRETS,
    STORES,
    Contents,
    Made,
    Member,
    private_files,
)
from acoupi.backup.encryption import encrypt
from acoupi.commit import changing
from acoupi.components.stores.copying import copy_database
from acoupi.devices import read_device_file
from acoupi.errors import ConfigurationError
from acoupi.home import expanded
from acoupi.opening import is_file, open_binary
from acoupi.provisioned import CACHE
from acoupi.services.alarm_file import alarms_file
from acoupi.stack.settings import Settings
from acoupi.stack.web import keys_file
from acoupi.system.home_files import configured_path
from acoupi.system.sensor import Sensor
from acoupi.writing import PRIVATE, disk_error, sync_folder

__all__ = ["make_backup"]

PATIENCE = 300.0
"""Seconds to wait for a setup that is being written."""


def make_backup(settings: Settings, target: Path, password: str | None = None) -> Made:
    """Write the settings and the databases of a sensor into one file; recording is not disturbed.

    Parameters
    ----------
    target
        The file; or an existing folder, where it is named after the device and the time.
    password
        Encrypts the secrets, which are left out without it.

    Raises
    ------
    AcoupiError
        If the home cannot be read, or after a disk error; then no file is left.
    """
    sensor = Sensor.read(settings)
    path = _named(target, settings)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".acoupi-backup-") as folder:
            return _made(sensor, path, Path(folder), password)
    except OSError as error:
        raise disk_error("write", path, error) from error


def _named(target: Path, settings: Settings) -> Path:
    target = expanded(target).absolute()
    if target.is_dir():
        name = f"acoupi-{_device_of(settings)}-{data.utc_now():%Y%m%dT%H%M%SZ}.tar.gz"
        return target / name
    if target.exists():
        raise ConfigurationError(
            f'"{target}" already exists.',
            f"acoupi backup {target.parent}",
            why="a backup does not overwrite files.",
        )
    return target


def _device_of(settings: Settings) -> str:
    return str(read_device_file(settings.device_file).get("id") or "unknown")


def _made(sensor: Sensor, path: Path, folder: Path, password: str | None) -> Made:
    settings = sensor.settings
    stores = {member: configured_path(settings, setting) for setting, member in STORES.items()}
    stores[ALARMS] = alarms_file(settings) if is_file(alarms_file(settings)) else None
    schemas = {
        member: copy_database(store, folder / member)
        for member, store in stores.items()
        if store is not None
    }
    with changing(settings.program_config_file.parent, "acoupi backup", PATIENCE):
        for name, file in _settings_files(sensor):
            _copy(file, folder / name)
        if password is not None:
            private = {one.name: _text(one) for one in private_files(settings) if is_file(one)}
            _write(folder / SECRETS, encrypt(json.dumps(private).encode(), password))
    contents = Contents(
        format=FORMAT,
        acoupi=acoupi.__version__,
        made_on=data.utc_now(),
        device=_device_of(settings),
        program=sensor.program_name,
        target=sensor.target_name,
        home=str(settings.home),
        schemas=schemas,
        members={name: _member(folder / name) for name in _names(folder)},
    )
    _write(folder / CONTENTS, contents.model_dump_json(indent=2).encode())
    return Made(str(path), _pack(folder, path, contents), contents)


def _settings_files(sensor: Sensor) -> Iterator[tuple[str, Path]]:
    """Yield the files with answers: none that may hold a secret."""
    settings = sensor.settings
    config = settings.program_config_file.parent
    # Setup makes its files again; a URL is fetched again; the page gets a new token.
    generated = {
        settings.home / name for name in (sensor.manifest.files if sensor.manifest else ())
    }
    left_out = {*generated, *private_files(settings), config / CACHE, keys_file(settings)}
    for file in sorted(config.iterdir()):
        if is_file(file) and not file.name.startswith(".") and file not in left_out:
            yield f"config/{file.name}", file


def _text(path: Path) -> str:
    with open_binary(path) as file:
        return file.read().decode()


def _copy(file: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with open_binary(file) as source, copy.open("wb") as into:
        shutil.copyfileobj(source, into)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _names(folder: Path) -> list[str]:
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())


def _member(path: Path) -> Member:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Member(bytes=path.stat().st_size, sha256=digest)


def _pack(folder: Path, path: Path, contents: Contents) -> int:
    """Write the archive under a temporary name, then rename it; return its size."""
    part = folder / "archive"
    with tarfile.open(part, "x:gz", compresslevel=6) as archive:
        for name in (CONTENTS, *contents.members):
            archive.add(folder / name, name, filter=_anonymous)
    with contextlib.suppress(OSError):  # a USB stick may not support modes
        part.chmod(PRIVATE)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(path)
    sync_folder(path.parent)
    return path.stat().st_size


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
