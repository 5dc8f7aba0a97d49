"""Who holds a sound card, as the kernel says."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROC", "Holder", "find_holder"]

PROC = Path("/proc")

_HARDWARE = re.compile(r"\(hw:(\d+),(\d+)\)")
_OWNER = re.compile(r"^owner_pid\s*:\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that records."""

    pid: int
    name: str
    """What it was started as; empty where it cannot be seen."""

    def __str__(self) -> str:
        return f'process {self.pid} ("{self.name}")' if self.name else f"process {self.pid}"


def find_holder(full_name: str, proc: Path | None = None) -> Holder | None:
    """Return which process records from a device.

    Parameters
    ----------
    full_name
        PortAudio's name of it, which ends in ``(hw:CARD,DEVICE)``.
    proc
        Where the kernel's file system of processes is; None: ``/proc``.

    Returns
    -------
    Holder or None
        None if nobody does, or the kernel does not say (a container does not
        see ``/proc/asound``).
    """
    found = _HARDWARE.search(full_name)
    if found is None:
        return None
    proc = proc or PROC
    for status in sorted((proc / "asound" / f"card{found[1]}").glob(f"pcm{found[2]}c/sub*/status")):
        if owner := _OWNER.search(_read(status)):
            return _describe(int(owner[1]), proc)
    return None


def _describe(thread: int, proc: Path) -> Holder:
    """Return the process of a thread: the kernel names the thread that opened the device."""
    group = re.search(r"^Tgid:\s*(\d+)", _read(proc / str(thread) / "status"), re.MULTILINE)
    pid = int(group[1]) if group else thread
    words = _read(proc / str(pid) / "cmdline").replace("\0", " ").split()
    name = " ".join(words[:4]) or _read(proc / str(pid) / "comm").strip()
    return Holder(pid, name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
