"""A disk that is full, or fails, when a test says so."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Every new file has so much room after its first write, which is its header."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        """Bytes; None: enough. Less than 0: no file can be made."""
        self.error: BaseException = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        """What happens where there is no more room."""
        disk, real = self, Path.open

        class File(io.FileIO):
            end: int | None = None

            def write(self, content: Any) -> int:
                content, left = memoryview(content).cast("B"), disk.left(self)
                if left is not None and len(content) > left:
                    if left <= 0:
                        if not isinstance(disk.error, OSError):
                            disk.room = None  # an interrupt comes once
                        raise disk.error
                    content = content[:left]
                written = super().write(content)
                self.end = self.end or self.tell()
                return written

        def open_(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if "x" not in mode or options.get("buffering") != 0:
                return real(path, mode, *args, **options)
            if disk.room is not None and disk.room < 0:
                raise disk.error
            return File(path, mode.replace("b", ""))

        patch.setattr(Path, "open", open_)

    def left(self, file: Any) -> int | None:
        if self.room is None or file.end is None:
            return None
        return max(0, file.end + self.room - file.tell())
