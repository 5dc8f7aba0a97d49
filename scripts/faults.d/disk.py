"""A disk for one home: a file on a loop device, with ext4 on it, that fails when told to.

What the sensor has not synced is lost by a cut: nothing but fsync makes it
write (``noauto_da_alloc``, and a commit of the journal every five minutes).
"""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Disk", "why_no_disk"]

_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
_OPTIONS = "loop,noauto_da_alloc,commit=300,errors=remount-ro"
_UNMOUNTED_WITHIN = 60.0
MEGABYTES = 256


class Disk:
    """A file system of its own.

    Parameters
    ----------
    folder
        Where its image and its mount point are.
    """

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.path = folder / "disk"
        self._ballast = self.path / "ballast"
        self._shown: dict[Path, Path] = {}

    def make(self) -> None:
        """Make the file system, and mount it."""
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(MEGABYTES * 2**20)
        _run("mkfs.ext4", "-q", "-m", "0", self.image)
        self.mount()

    def mount(self) -> None:
        """Mount it, as at boot: the journal is replayed."""
        _run("mount", "-o", _OPTIONS, self.image, self.path)
        for place, folder in self._shown.items():
            self.show(folder, place)

    def show(self, folder: Path, place: Path) -> None:
        """Show a folder of this machine in a place on it, to be read only, while it is mounted."""
        self._shown[place] = folder
        place.mkdir(exist_ok=True)
        _run("mount", "--bind", "-o", "ro", folder, place)

    def cut(self) -> None:
        """Cut its power: nothing that is not on it by now ever will be."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def unmount(self) -> None:
        """Take it away, once nobody has a file open on it, nor any container the place."""
        end = time.monotonic() + _UNMOUNTED_WITHIN
        while self._is_held():
            _said("umount", "--recursive", self.path)
            if time.monotonic() > end:
                _said("umount", "--recursive", "--lazy", self.path)
                raise SystemExit(f"Error: {self.path} is still in use after its sensor was killed")
            time.sleep(0.1)

    def _is_held(self) -> bool:
        return os.path.ismount(self.path) or bool(_said("losetup", "--associated", self.image))

    def mend(self) -> None:
        """Do what the system does at boot with a file system that is marked as faulty."""
        subprocess.run(["e2fsck", "-p", self.image], check=False, capture_output=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave not one block, for a while."""
        with self._ballast.open("wb", buffering=0) as file:
            size = 2**20
            while size >= 512:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
        try:
            yield
        finally:
            with suppress(OSError):
                self._ballast.unlink()
            self.force()  # else a power cut brings it back

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every write wait, for a while."""
        _run("fsfreeze", "--freeze", self.path)
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", self.path)

    def fail(self) -> None:
        """Have the kernel find an error: it makes the file system read-only."""
        (Path("/sys/fs/ext4") / self._device / "trigger_fs_error").write_text("1")

    def force(self) -> None:
        """Write what waits to be written."""
        _run("sync", "--file-system", self.path)

    def commits(self) -> int:
        """Return how often its journal was written since it was mounted."""
        (folder,) = Path("/proc/fs/jbd2").glob(f"{self._device}-*")
        return int((folder / "info").read_text().split()[0])

    @property
    def _device(self) -> str:
        return Path(_said("findmnt", "-no", "SOURCE", self.path)).name


def why_no_disk() -> str:
    """Return why there can be no disk here; "" if there can."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    if not _fails("losetup", "--find"):
        return ""
    return "there is no loop device: modprobe loop"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"Error: {command[0]} failed: {done.stderr.strip()}")


def _said(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip()


def _fails(*command: str | Path) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode != 0
