"""Putting a backup into an empty home."""

import contextlib
import gzip
import hashlib
import json
import os
import shlex
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from acoupi.backup import (
    ALARMS,
    CONTENTS,
    FORMAT,
    SECRETS,
    STORES,
    Contents,
    Made,
    private_files,
)
from acoupi.backup.encryption import decrypt
from acoupi.bundles.home_folder import check_home
from acoupi.bundles.ownership import LOST_AND_FOUND
from acoupi.components.stores import alarms
from acoupi.config.env_files import read_env
from acoupi.config.secrets import referenced_secrets
from acoupi.errors import ConfigurationError
from acoupi.home import expanded
from acoupi.services.alarm_file import alarms_file
from acoupi.stack.configured import is_configured
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings
from acoupi.system.config_history import history_file
from acoupi.system.home_files import DATABASES
from acoupi.system.lifecycle import set_up
from acoupi.system.planning import SetupRequest
from acoupi.writing import PRIVATE, disk_error, sync_folder

__all__ = ["needs_secrets", "read_backup", "restore"]

MOST_CONTENTS = 10_000_000
CHUNK = 1 << 20
BROKEN = (
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    ValidationError,
    ValueError,
    KeyError,
)


def restore(
    settings: Settings,
    path: Path,
    ask: Callable[[], str] | None = None,
    target: str | None = None,
) -> Made:
    """Restore the sensor of a backup into an empty home.

    Everything is read and compared with its digest before anything is written.

    Parameters
    ----------
    ask
        Returns the password of the secrets, if the backup has any; None: they are not restored.
    target
        Its target; None: as before.

    Raises
    ------
    AcoupiError
        If the backup is truncated, changed, or from a newer acoupi; if the home is not empty; if
        the program is not installed here. Then the home is unchanged.
    """
    check_home(settings)
    _require_empty(settings)
    home = settings.home
    existed = home.exists()
    home.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as name:
            folder = Path(name)
            made = _extracted(path, folder)
            _require_usable(made.contents)
            secrets = _secrets(folder, made.contents, ask)
            with _undone_if_it_fails(home, folder) as placed:
                _place_settings(settings, folder, made.contents, secrets)
                _place_stores(settings, folder, made.contents, placed)
                if secrets or not needs_secrets(settings):
                    _set_up(settings, made.contents, target)  # gives all of it to its services
    except OSError as error:
        raise disk_error("write", Path(error.filename or home), error) from error
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                home.rmdir()
    return made


def read_backup(path: Path) -> Made:
    """Return what a backup holds, after comparing every byte with its digest.

    Raises
    ------
    ConfigurationError, DeviceError
        If it is not a backup, is truncated or was changed; if it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _extracted(path, Path(folder), keep=False)


def _require_empty(settings: Settings) -> None:
    home = settings.home
    found = [one.name for one in home.iterdir()] if home.is_dir() else []
    if set(found) - {LOST_AND_FOUND}:
        what = "there is a sensor in" if is_configured(settings) else "there are files in"
        raise ConfigurationError(
            f"{what} {home} already.",
            f"mv {shlex.quote(str(home))} {shlex.quote(f'{home}.before')}   (then try again)",
            why="a backup is only restored into an empty folder.",
        )


def _require_usable(contents: Contents) -> None:
    """Refuse a backup that this version could not run."""
    load_program_class(contents.program, choose="install that program, then again")
    schemas = {member: DATABASES[setting] for setting, member in STORES.items()}
    for member, schema in {**schemas, ALARMS: alarms.SCHEMA}.items():
        version = contents.schemas.get(member, 0)
        if version > schema.version:
            raise ConfigurationError(
                "the backup is from a newer acoupi.",
                f"install acoupi {contents.acoupi}, then again",
                why=f"its {schema.store} has version {version}; "
                f"acoupi here writes version {schema.version}.",
            )


# --- reading the archive --------------------------------------------------------------


def _extracted(path: Path, folder: Path, *, keep: bool = True) -> Made:
    """Read an archive from its beginning to its end; keep its members in a folder."""
    path = expanded(path)
    try:
        # Read to its last byte, gzip knows whether any of it is missing or changed.
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            members = iter(archive)
            contents = _contents(archive, next(members, None))
            seen = {CONTENTS}
            for member in members:
                _extract(archive, member, contents, folder if keep else None)
                seen.add(member.name)
            while stream.read(CHUNK):
                pass
            missing = sorted({CONTENTS, *contents.members} - seen)
            if missing:
                raise ValueError(f"{missing[0]} is missing")
        return Made(str(path), path.stat().st_size, contents)
    except BROKEN as error:
        raise ConfigurationError(
            f'"{path}" is not a complete backup.',
            "use another copy of it",
            why=f"it was truncated or changed ({error or type(error).__name__}).",
        ) from error
    except OSError as error:
        if error.filename not in (None, str(path)):
            raise  # of what is written
        raise disk_error("read", path, error) from error


def _contents(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> Contents:
    if member is None or member.name != CONTENTS or member.size > MOST_CONTENTS:
        raise ValueError(f"it does not begin with {CONTENTS}")
    content = json.loads(_stream(archive, member).read())
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{CONTENTS} says nothing of it")
    if content["format"] != FORMAT:
        raise ConfigurationError(
            "the backup is from another version of acoupi.",
            f"install acoupi {content.get('acoupi', 'of that version')}, then again",
            why=f"its format is {content.get('format')}, and this acoupi reads {FORMAT}.",
        )
    return Contents.model_validate(content)


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None:
        raise ValueError(f"{member.name} is not a file")
    return stream


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, contents: Contents, folder: Path | None
) -> None:
    """Copy one member that the contents name, and compare it with them."""
    expected = contents.members.get(member.name)
    if expected is None or ".." in Path(member.name).parts or member.name.startswith("/"):
        raise ValueError(f"{member.name} is not in its table of contents")
    digest, size = hashlib.sha256(), 0
    with _target(folder, member.name) as into:
        stream = _stream(archive, member)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if into is not None:
                _write(into, chunk)
    if (size, digest.hexdigest()) != (expected.bytes, expected.sha256):
        raise ValueError(f"{member.name} was changed")


def _write(into: IO[bytes], chunk: bytes) -> None:
    try:
        into.write(chunk)
        into.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            into.close()  # else closing is tried again, with an unclear error
        raise OSError(error.errno, error.strerror, str(into.name)) from error


@contextlib.contextmanager
def _target(folder: Path | None, name: str) -> Iterator[IO[bytes] | None]:
    if folder is None:
        yield None
        return
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as into:
        path.chmod(PRIVATE)
        yield into


# --- writing the home -----------------------------------------------------------------


def _secrets(folder: Path, contents: Contents, ask: Callable[[], str] | None) -> dict[str, str]:
    """Return the files that may hold secrets, by name."""
    if ask is None or SECRETS not in contents.members:
        return {}
    found: dict[str, str] = json.loads(decrypt((folder / SECRETS).read_bytes(), ask()))
    return found


@contextlib.contextmanager
def _undone_if_it_fails(home: Path, keep: Path) -> Iterator[list[Path]]:
    """If the block fails, empty the home, which was empty before, and remove listed files."""
    placed: list[Path] = []
    try:
        yield placed
    except BaseException:
        for one in home.iterdir():
            if one.is_dir() and one != keep and one.name != LOST_AND_FOUND:
                shutil.rmtree(one, ignore_errors=True)
            elif not one.is_dir():
                placed.append(one)
        for one in placed:
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)
        raise


def _place_settings(
    settings: Settings, folder: Path, contents: Contents, secrets: Mapping[str, str]
) -> None:
    """Write the settings, with paths of the old home changed to this one."""
    config = settings.program_config_file.parent
    config.mkdir()
    for file in sorted((folder / "config").iterdir()):
        text = file.read_text(errors="replace")  # a history may have damaged lines
        if file.suffix == ".json":
            moved = _moved(json.loads(text), contents.home, settings.home)
            text = f"{json.dumps(moved, indent=2, ensure_ascii=False)}\n"
        elif file.name == history_file(settings).name:
            # Undoing a change must not lead back to the stores of the old home.
            lines = (_line_moved(one, contents.home, settings.home) for one in text.splitlines())
            text = "".join(f"{one}\n" for one in lines)
        (config / file.name).write_text(text)
    settings.secrets_file.touch(PRIVATE)
    for path in private_files(settings):
        if path.name in secrets:
            path.touch(PRIVATE)
            path.write_text(secrets[path.name])


def _place_stores(settings: Settings, folder: Path, contents: Contents, placed: list[Path]) -> None:
    content = json.loads(settings.program_config_file.read_text())
    places = {ALARMS: alarms_file(settings)}
    for setting, member in STORES.items():
        section, _, name = setting.partition(".")
        if member in contents.members:
            places[member] = Path(content[section][name])
    for member, store in places.items():
        if member not in contents.members:
            continue
        if os.path.lexists(store):
            raise ConfigurationError(
                f'"{store}" already exists.',
                f"mv {shlex.quote(str(store))} {shlex.quote(f'{store}.before')}   (then again)",
                why="a restore does not overwrite files.",
            )
        store.parent.mkdir(parents=True, exist_ok=True)
        placed.append(store)
        shutil.copyfile(folder / member, store)
        sync_folder(store.parent)


def _line_moved(line: str, old: str, new: Path) -> str:
    try:
        return json.dumps(_moved(json.loads(line), old, new), ensure_ascii=False)
    except ValueError:
        return line  # damaged: it is skipped when read


def _moved(value: Any, old: str, new: Path) -> Any:
    if isinstance(value, dict):
        return {name: _moved(item, old, new) for name, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return f"{new}{value[len(old) :]}"
    return value


def needs_secrets(settings: Settings) -> bool:
    """Return whether settings refer to missing secrets."""
    known = read_env(settings.secrets_file)
    files = (settings.program_config_file, settings.sensor_config_file, settings.celery_config_file)
    found = [referenced_secrets(json.loads(one.read_text())) for one in files if one.exists()]
    return bool(set().union(*found) - known.keys())


def _set_up(settings: Settings, contents: Contents, target: str | None) -> None:
    set_up(
        settings,
        SetupRequest(contents.program, target=target or contents.target, origin="acoupi restore"),
    )
