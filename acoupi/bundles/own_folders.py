"""The log and the part of ``run/`` that each container has for itself.

People know ``log/NAME.log``: it is a link to ``log/NAME/NAME.log``.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from acoupi.opening import open_in, opened_folder
from acoupi.stack.pulse import is_locked
from acoupi.stack.settings import Settings
from acoupi.writing import RUNNABLE, disk_error, inherit_owner

__all__ = ["make_own_files", "part_own_folders"]


_SHARED = 0o660
"""The owner of the home reads what a service with a user of its own writes, as its group."""


def part_own_folders(settings: Settings, services: Iterable[str]) -> None:
    """Make each service's folders, and move earlier logs beside them there.

    Earlier containers may be running: swapping files meanwhile does not help an attacker.

    Raises
    ------
    DeviceError
        After a disk error.
    """
    for name in services:
        for folder in (settings.log_dir, settings.run_dir):
            try:
                _make(folder, name)
            except OSError as error:
                raise disk_error("write", folder / name, error) from error
        try:
            _move_logs(settings.log_dir, name)
        except OSError as error:
            raise disk_error("move", settings.log_dir / f"{name}.log", error) from error
        if not is_locked(settings.run_dir, name):
            _remove(settings.run_dir, (f"{name}.{kind}" for kind in ("json", "pid", "lock")))


def make_own_files(files: Iterable[Path]) -> None:
    """Make the files that a container is given one by one, where they are missing.

    They have the owner of their folder.

    Raises
    ------
    DeviceError
        After a disk error, or if something else is there.
    """
    for file in files:
        try:
            with opened_folder(file.parent) as folder:
                _make_file(folder, file)
        except OSError as error:
            raise disk_error("write", file, error) from error


def _make_file(folder: int, file: Path) -> None:
    try:
        handle = open_in(folder, file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SHARED)
    except FileExistsError:
        os.close(open_in(folder, file))  # a file, not a link that another user made
        return
    try:
        os.fchmod(handle, _SHARED)
        inherit_owner(handle, file.parent)
    finally:
        os.close(handle)


def _make(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    is_new = False
    with opened_folder(folder) as handle, contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=handle)
        is_new = True
    with opened_folder(folder / name) as handle:  # a folder, not a link that another user made
        if is_new:
            Path(f"/proc/self/fd/{handle}").chmod(RUNNABLE)


def _move_logs(before: Path, name: str) -> None:
    """Move a log and its old parts; a log that is there already is kept under another name."""
    own, log = before / name, f"{name}.log"
    files = [one for one in before.glob(f"{log}*") if not one.is_symlink()]
    with opened_folder(before) as old, opened_folder(own) as new:
        for file in files:
            taken = os.path.lexists(own / file.name)
            kept = f"{file.name}.before" if taken else file.name
            os.rename(file.name, kept, src_dir_fd=old, dst_dir_fd=new)
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{name}/{log}", log, dir_fd=old)


def _remove(folder: Path, names: Iterable[str]) -> None:
    with opened_folder(folder) as handle:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=handle)
