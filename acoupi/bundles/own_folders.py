"""The log and the part of ``run/`` that each container has for itself.

People know ``log/NAME.log``: it is a link to ``log/NAME/NAME.log``.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from acoupi.stack.pulse import is_locked
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = ["part_own_folders"]


def part_own_folders(settings: Settings, services: Iterable[str]) -> None:
    """Give each service its folders, and move what is beside them there: logs of before.

    Raises
    ------
    DeviceError
        If the disk refuses.
    """
    for name in services:
        own = settings.of_service(name)
        try:
            for folder in (own.log_dir, own.run_dir):
                folder.mkdir(parents=True, exist_ok=True)
            _move_logs(settings.log_dir, own.log_dir, name)
        except OSError as error:
            raise disk_error("write", own.log_dir, error) from error
        if not is_locked(settings.run_dir, name):
            for kind in ("json", "pid", "lock"):
                with contextlib.suppress(OSError):
                    (settings.run_dir / f"{name}.{kind}").unlink()


def _move_logs(before: Path, own: Path, name: str) -> None:
    """Move a log and its old parts; a log that is there already is kept under another name."""
    link = before / f"{name}.log"
    for file in before.glob(f"{name}.log*"):
        if not file.is_symlink():
            taken = (own / file.name).exists()
            file.rename(own / (f"{file.name}.before" if taken else file.name))
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(own / link.name, before))
