"""The log and the part of ``run/`` that each container has for itself.

People know ``log/NAME.log``: it is a link to ``log/NAME/NAME.log``.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from acoupi.opening import opened_folder
from acoupi.stack.pulse import is_locked
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = ["part_own_folders"]


def part_own_folders(settings: Settings, services: Iterable[str]) -> None:
    """Give each service its folders, and move what is beside them there: logs of before.

    Containers of before may be running: what they swap in the meantime leads nowhere.

    Raises
    ------
    DeviceError
        If the disk refuses.
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


def _make(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with opened_folder(folder) as handle, contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=handle)
    with opened_folder(folder / name):
        pass  # a folder, and no link that somebody else made


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
