"""Records of updates, to undo them: the folder ``updates/`` of the home.

Each update has a folder there, named after its time, with ``update.json`` and copies of the
generated files and settings. The previous image gets an extra name meanwhile, so that it is
not removed as unused.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from acoupi import clock
from acoupi.bundles.rendering import Manifest
from acoupi.bundles.variables import ENV_FILE, chosen_variables
from acoupi.commit import changing, commit_files, read_whole
from acoupi.data import AwareDatetime
from acoupi.deferred import DeferredModel
from acoupi.errors import TargetError
from acoupi.home import home_mark
from acoupi.locks import lock_within
from acoupi.opening import is_file
from acoupi.provisioned import CACHE, CONFIRMED, FROM_HUB
from acoupi.stack.settings import Settings
from acoupi.writing import PRIVATE, RenderedFile, disk_error, make_folder, write_atomic

__all__ = [
    "KEPT_REPOSITORY",
    "KeptImage",
    "UpdateRecord",
    "all_records",
    "only_update",
    "put_files_back",
    "update_trouble",
    "updates_folder",
]

KEPT = 2
"""Number of updates that can be undone."""
KEPT_REPOSITORY = "acoupi/kept"
LOCK = ".lock"
RECORD = "update.json"
FILES = "files"
OF_HUB = (FROM_HUB, CACHE, CONFIRMED)
Stage = Literal["switching", "judging", "good", "undone", "stuck"]


class KeptImage(DeferredModel):
    """An image that services run from."""

    name: str
    """Name of the image in ``.env``."""
    id: str
    """Digest of its content in the engine."""
    schemas: Mapping[str, int] = Field(default_factory=dict)
    """Newest version of each store that it can open; empty if unknown."""


class UpdateRecord(DeferredModel):
    """One update, from its first change."""

    folder: str
    began_on: AwareDatetime
    before: KeptImage
    after: KeptImage
    kept_as: str
    """Extra name of the previous image in the engine."""
    modes: Mapping[str, int]
    """Permissions of each saved file, by its path below the home."""
    digests: Mapping[str, str] = Field(default_factory=dict)
    """SHA-256 of the same files after the switch, and of new files."""
    backup: str | None = None
    """Backup of settings and stores, if the new image converts them."""
    stage: Stage = "switching"
    """stuck: it failed, and the older image can no longer open the stores."""
    why: str | None = None
    """Why it was undone, or is stuck."""

    def write(self, settings: Settings) -> None:
        """Write the record."""
        path = updates_folder(settings) / self.folder / RECORD
        write_atomic(path, self.model_dump_json(indent=2) + "\n", PRIVATE)

    def advance(self, settings: Settings, stage: Stage, why: str | None = None) -> None:
        """Store the new state."""
        self.stage, self.why = stage, why
        self.write(settings)

    @classmethod
    def begin(
        cls, settings: Settings, before: KeptImage, after: KeptImage, backup: str | None
    ) -> "UpdateRecord":
        """Copy the generated files and settings, and record the coming change.

        Raises
        ------
        DeviceError
            After a disk error.
        """
        now = clock.utc_now()
        name = f"{now:%Y%m%dT%H%M%S%fZ}"
        folder = updates_folder(settings) / name
        modes = {}
        for path in _switched_files(settings):
            below = str(path.relative_to(settings.home))
            modes[below] = path.stat().st_mode & 0o7777
            make_folder((folder / FILES / below).parent, [])
            write_atomic(folder / FILES / below, read_whole(path), PRIVATE)
        mark = before.id.removeprefix("sha256:")[:12]
        record = cls(
            folder=name, began_on=now, before=before, after=after, modes=modes, backup=backup,
            kept_as=f"{KEPT_REPOSITORY}:{home_mark(settings.home)}-{mark}",
        )  # fmt: skip
        record.write(settings)
        return record

    def note_files(self, settings: Settings) -> None:
        """Record the files after the switch, to detect later changes by others."""
        self.digests = _digests(settings)
        self.write(settings)


def updates_folder(settings: Settings) -> Path:
    """Return the folder of updates."""
    return settings.home / "updates"


def all_records(settings: Settings) -> list[UpdateRecord]:
    """Return the recorded updates, the newest first; incomplete ones are ignored."""
    folder = updates_folder(settings)
    if not folder.is_dir():
        return []
    found = sorted(folder.glob(f"*/{RECORD}"), reverse=True)
    try:
        return [UpdateRecord.model_validate_json(path.read_text()) for path in found]
    except ValueError as error:
        raise TargetError(
            "cannot read the record of an earlier update.",
            f"ls -la {folder}   (and move the damaged folder away)",
            why=f"a file {RECORD} there is damaged: {str(error).splitlines()[0]}",
        ) from error
    except OSError as error:
        raise disk_error("read", folder, error) from error


def forget_oldest(settings: Settings) -> list[str]:
    """Remove updates that can no longer be undone; return names of images no longer needed.

    These are old updates, undone ones, and incomplete ones after a kill.
    """
    records = all_records(settings)
    kept = [one for one in records if one.stage != "undone"][:KEPT]
    stay = {one.folder for one in kept} | {Path(one.backup).name for one in kept if one.backup}
    for entry in updates_folder(settings).iterdir():
        if entry.is_dir() and entry.name not in stay:
            shutil.rmtree(entry)
        elif entry.name.endswith(".tar.gz") and entry.name not in stay:
            entry.unlink()
    needed = {one.kept_as for one in kept} | {chosen_variables(settings.home).get("ACOUPI_IMAGE")}
    return sorted({one.kept_as for one in records} - needed)


@contextmanager
def only_update(settings: Settings) -> Iterator[None]:
    """Allow one update or rollback of a home at a time.

    Raises
    ------
    TargetError
        If another one is running.
    """
    make_folder(updates_folder(settings), [])
    handle = os.open(updates_folder(settings) / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if not lock_within(handle, 0):
            raise TargetError(
                "another update of this sensor is running.",
                "wait until it ends",
                why="only one at a time is possible.",
            )
        yield
    finally:
        os.close(handle)


def _is_at_work(settings: Settings) -> bool:
    try:
        handle = os.open(updates_folder(settings) / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # another user's: unknown
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def update_trouble(settings: Settings) -> str | None:
    """Return what is wrong with the last update, in words; None if nothing, or it is running."""
    if _is_at_work(settings):
        return None
    last = next(iter(all_records(settings)), None)
    if last is None or last.stage in ("good", "undone"):
        return None
    if last.stage == "stuck":
        return f"the update to {last.after.name} failed and cannot be undone: {last.why}"
    return (
        f"the update to {last.after.name} was interrupted at {last.began_on:%Y-%m-%d %H:%M} UTC "
        "or later, before it was judged: acoupi rollback"
    )


# --- the files ------------------------------------------------------------------------


def _switched_files(settings: Settings) -> list[Path]:
    """Return the files of a setup: generated files, their manifest, and the settings.

    Neither ``.env``, in which only the image changes, nor a hub's decisions are among them.
    """
    manifest = Manifest.read(settings.manifest_file)
    generated = [settings.home / name for name in (manifest.files if manifest else ())]
    config = settings.program_config_file.parent
    answers = [one for one in config.iterdir() if is_file(one) and not one.name.startswith(".")]
    kept = {settings.home / ENV_FILE, *(config / name for name in OF_HUB)}
    found = {*generated, *answers, settings.manifest_file} - kept
    return sorted(one for one in found if is_file(one) and one != settings.secrets_file)


def _digests(settings: Settings) -> dict[str, str]:
    return {
        str(path.relative_to(settings.home)): _digest(read_whole(path))
        for path in _switched_files(settings)
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def put_files_back(settings: Settings, record: UpdateRecord) -> bool:
    """Restore the files from before an update; return whether that was done.

    If someone has changed one since, all stay as they are.

    Raises
    ------
    DeviceError
        After a disk error; then nothing is changed.
    """
    config = settings.program_config_file.parent
    with changing(config, "acoupi rollback"):
        now = _digests(settings)
        place = updates_folder(settings) / record.folder / FILES
        texts = {name: (place / name).read_text() for name in record.modes}
        if now == {name: _digest(text) for name, text in texts.items()}:
            return True
        if record.digests and now != record.digests:
            return False
        files = {
            settings.home / name: RenderedFile(text, record.modes[name])
            for name, text in texts.items()
        }
        added = [settings.home / name for name in now if name not in texts]
        commit_files(config, files, remove=added)
    return True
