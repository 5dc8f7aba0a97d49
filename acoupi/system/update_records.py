"""What an update keeps of the sensor as it was, and how far it came: ``updates/`` of the home.

Each update has a folder there, named after the time, with ``update.json`` and copies of the
generated files and settings. The image that ran has a name of its own meanwhile, so that
nothing removes it as unused.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from acoupi import clock
from acoupi.bundles.rendering import Manifest
from acoupi.bundles.variables import ENV_FILE, chosen_variables
from acoupi.commit import changing, commit_files, read_whole
from acoupi.data import AwareDatetime
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
"""So many updates can be gone back."""
KEPT_REPOSITORY = "acoupi/kept"
LOCK = ".lock"
RECORD = "update.json"
FILES = "files"
OF_HUB = (FROM_HUB, CACHE, CONFIRMED)
Stage = Literal["switching", "judging", "good", "undone", "stuck"]


class KeptImage(BaseModel):
    """An image that services run from."""

    name: str
    """As ``.env`` names it."""
    id: str
    """Digest of its content, as the engine names it."""
    schemas: Mapping[str, int] = Field(default_factory=dict)
    """Newest version of each store that it can open; empty where it does not say."""


class UpdateRecord(BaseModel):
    """One update, from when it changes the first thing."""

    folder: str
    began_on: AwareDatetime
    before: KeptImage
    after: KeptImage
    kept_as: str
    """Name under which the engine keeps the image of before."""
    modes: Mapping[str, int]
    """Permissions of each file that is kept, by its path below the home."""
    digests: Mapping[str, str] = Field(default_factory=dict)
    """SHA-256 of the same files as the switch left them, and of those that it added."""
    backup: str | None = None
    """Copy of settings and stores, where the new image converts them."""
    stage: Stage = "switching"
    """stuck: it failed, and the older image cannot open the stores any more."""
    why: str | None = None
    """Why it was undone, or is stuck."""

    def write(self, settings: Settings) -> None:
        """Write it down, whole."""
        path = updates_folder(settings) / self.folder / RECORD
        write_atomic(path, self.model_dump_json(indent=2) + "\n", PRIVATE)

    def advance(self, settings: Settings, stage: Stage, why: str | None = None) -> None:
        """Note how far it came."""
        self.stage, self.why = stage, why
        self.write(settings)

    @classmethod
    def begin(
        cls, settings: Settings, before: KeptImage, after: KeptImage, backup: str | None
    ) -> "UpdateRecord":
        """Copy the generated files and settings, and note what is about to change.

        Raises
        ------
        DeviceError
            If the disk refuses.
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
        """Note what the switch made of the files, to know later whether others changed them."""
        self.digests = _digests(settings)
        self.write(settings)


def updates_folder(settings: Settings) -> Path:
    """Return where updates are kept."""
    return settings.home / "updates"


def all_records(settings: Settings) -> list[UpdateRecord]:
    """Return the updates that are kept, the newest first; one that was not written down is none."""
    folder = updates_folder(settings)
    if not folder.is_dir():
        return []
    found = sorted(folder.glob(f"*/{RECORD}"), reverse=True)
    try:
        return [UpdateRecord.model_validate_json(path.read_text()) for path in found]
    except ValueError as error:
        raise TargetError(
            "cannot read what an earlier update kept.",
            f"ls -la {folder}   (and put the damaged folder aside)",
            why=f"a file {RECORD} there is damaged: {str(error).splitlines()[0]}",
        ) from error
    except OSError as error:
        raise disk_error("read", folder, error) from error


def forget_oldest(settings: Settings) -> list[str]:
    """Remove all that is no way back any more; return names of images that are not needed now.

    That is all but the newest updates, those that were undone, and what a kill left half written.
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
    """Let one update or rollback at a time work on a home.

    Raises
    ------
    TargetError
        If another is at it.
    """
    make_folder(updates_folder(settings), [])
    handle = os.open(updates_folder(settings) / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if not lock_within(handle, 0):
            raise TargetError(
                "another update of this sensor is at work.",
                "wait until it ends",
                why="one at a time may change what runs.",
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
        return True  # of another user: nothing can be said
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def update_trouble(settings: Settings) -> str | None:
    """Return what is wrong with the last update, in words; None: nothing, or it is at work."""
    if _is_at_work(settings):
        return None
    last = next(iter(all_records(settings)), None)
    if last is None or last.stage in ("good", "undone"):
        return None
    if last.stage == "stuck":
        return f"the update to {last.after.name} failed and cannot be undone: {last.why}"
    return (
        f"the update to {last.after.name} was interrupted at {last.began_on:%Y-%m-%d %H:%M} UTC "
        "or later, and nobody judged it: acoupi rollback"
    )


# --- the files ------------------------------------------------------------------------


def _switched_files(settings: Settings) -> list[Path]:
    """Return what a setup writes: generated files, their manifest, and the settings.

    ``.env`` is not among them: only the image in it changes. Nor is what a hub said.
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
    """Put back the files as they were before an update; return whether that was done.

    It is not where somebody changed one since: what they chose is theirs, and stays.

    Raises
    ------
    DeviceError
        If the disk refuses; then nothing is changed.
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
