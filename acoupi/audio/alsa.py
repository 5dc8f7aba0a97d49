"""Sound cards by the kernel: which process uses one, and its rates and channels."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "HARDWARE",
    "PROC",
    "Holder",
    "capture_channels",
    "capture_rates",
    "card_names",
    "find_holder",
]

PROC = Path("/proc")

HARDWARE = re.compile(r"\(hw:(\d+),(\d+)\)")
"""Card and device, in the name that PortAudio gives to a device of a card."""
_RATES = re.compile(r"^\s*Rates: *(.+)$", re.MULTILINE)
_CHANNELS = re.compile(r"^\s*Channels: *(\d+)", re.MULTILINE)
_CARD = re.compile(r"^ *(\d+) \[.*\]: .+? - (.+)$", re.MULTILINE)
_OWNER = re.compile(r"^owner_pid\s*:\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that records."""

    pid: int
    name: str
    """Name of its command; empty where it cannot be seen."""
    home: str = ""
    """Its ACOUPI_HOME, if it is an acoupi sensor; empty where that cannot be seen."""

    def __str__(self) -> str:
        shown = f'process {self.pid} ("{self.name}")' if self.name else f"process {self.pid}"
        return f"{shown} of the sensor in {self.home}" if self.home else shown

    @property
    def remedy(self) -> str:
        """How to stop it."""
        if self.home:
            return f"ACOUPI_HOME={shlex.quote(self.home)} acoupi stop"
        return f"stop it: kill {self.pid}"


def find_holder(full_name: str, proc: Path | None = None) -> Holder | None:
    """Return which process records from a device.

    Parameters
    ----------
    full_name
        Its name in PortAudio, which ends in ``(hw:CARD,DEVICE)``.
    proc
        Root of the process file system; None: ``/proc``.

    Returns
    -------
    Holder or None
        None if no process does, or the kernel does not show it (a container
        does not see ``/proc/asound``).
    """
    found = HARDWARE.search(full_name)
    if found is None:
        return None
    proc = proc or PROC
    for status in sorted((proc / "asound" / f"card{found[1]}").glob(f"pcm{found[2]}c/sub*/status")):
        if owner := _OWNER.search(_read(status)):
            return _describe(int(owner[1]), proc)
    return None


def capture_rates(proc: Path | None = None) -> list[tuple[int, int]]:
    """Return the sample rates at which the USB microphones here record.

    Parameters
    ----------
    proc
        Root of the process file system; None: ``/proc``.

    Returns
    -------
    list of (int, int)
        Lowest and highest rate of each range, Hz, ascending; equal where it is a single rate.
        Empty if there is none, or the kernel does not show it (as in a container).
    """
    found: set[tuple[int, int]] = set()
    for stream in ((proc or PROC) / "asound").glob("card*/stream*"):
        _, _, capture = _read(stream).partition("Capture:")
        for rates in _RATES.findall(capture.partition("Playback:")[0]):
            numbers = [int(number) for number in re.findall(r"\d+", rates)]
            if "continuous" in rates:
                found.add((min(numbers), max(numbers)))
            else:
                found.update((number, number) for number in numbers)
    return sorted(found)


def capture_channels(card: int, proc: Path | None = None) -> int | None:
    """Return the most channels that a USB microphone records; None if unknown.

    Parameters
    ----------
    card
        Number of its card.
    proc
        Root of the process file system; None: ``/proc``.
    """
    found: list[int] = []
    for stream in ((proc or PROC) / "asound" / f"card{card}").glob("stream*"):
        _, _, capture = _read(stream).partition("Capture:")
        found += map(int, _CHANNELS.findall(capture.partition("Playback:")[0]))
    return max(found, default=None)


def card_names(proc: Path | None = None) -> dict[int, str]:
    """Return the names of the sound cards as PortAudio has them, by number."""
    listed = _CARD.findall(_read((proc or PROC) / "asound" / "cards"))
    return {int(number): name.strip() for number, name in listed}


def _describe(thread: int, proc: Path) -> Holder:
    """Return the process of a thread: the kernel names the thread that opened the device."""
    group = re.search(r"^Tgid:\s*(\d+)", _read(proc / str(thread) / "status"), re.MULTILINE)
    pid = int(group[1]) if group else thread
    words = _read(proc / str(pid) / "cmdline").replace("\0", " ").split()
    name = " ".join(words[:4]) or _read(proc / str(pid) / "comm").strip()
    return Holder(pid, name, _home_of(_read(proc / str(pid) / "environ"), name))


def _home_of(environment: str, name: str) -> str:
    """Return the home of a process that is a sensor; another user's environment is not shown."""
    variables = dict(line.partition("=")[::2] for line in environment.split("\0"))
    if "ACOUPI_HOME" in variables:
        return variables["ACOUPI_HOME"]
    return f"{variables['HOME']}/.acoupi" if "acoupi" in name and "HOME" in variables else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
