"""The clock of a sensor, set without touching that of the machine (see `clock.c`)."""

import mmap
import shutil
import struct
import subprocess
import time
from pathlib import Path
from uuid import uuid4

__all__ = ["Clock", "why_no_clock"]

_SOURCE = Path(__file__).with_name("clock.c")
_HEAD, _SETTING, _SETTINGS = struct.Struct("@ll"), struct.Struct("@ll"), 1000


class Clock:
    """The time that all processes of a sensor see.

    Parameters
    ----------
    folder
        For its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clock"
        self.library = folder / "clock.so"
        self.folder.mkdir()
        self._boot, shared = self.folder / "boot_id", self.folder / "set"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", self.library, _SOURCE], check=True)
        shared.write_bytes(bytes(_HEAD.size + _SETTINGS * _SETTING.size))
        self._count = 0
        self.right_since: float | None = None
        """On the monotonic clock; None: it is wrong."""
        with shared.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)
        self.variables = {"LD_PRELOAD": str(self.library), "FAULTS_CLOCK": str(self.folder)}
        self.boot()
        self.put_right()

    def boot(self) -> None:
        """Begin another boot, as its id tells."""
        self._boot.write_text(f"{uuid4()}\n")

    def put_right(self) -> None:
        """Set it to the true time, as a time server does."""
        if self.right_since is None:
            self._set(0, is_synchronised=True)
            self.right_since = time.monotonic()

    def step(self, seconds: float) -> None:
        """Set it this far from the true time, as a person does."""
        self._set(seconds, is_synchronised=False)
        self.right_since = None

    def _set(self, seconds: float, *, is_synchronised: bool) -> None:
        place = _HEAD.size + self._count * _SETTING.size
        _SETTING.pack_into(self._shared, place, time.time_ns(), round(seconds * 1e9))
        self._count += 1
        _HEAD.pack_into(self._shared, 0, self._count, is_synchronised)


def why_no_clock() -> str:
    """Return why no clock of its own can be made here; "" if one can."""
    return "" if shutil.which("cc") else "there is no C compiler: apt install gcc"
