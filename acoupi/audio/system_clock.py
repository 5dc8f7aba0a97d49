"""What the kernel knows about its clock, and the UTC that a stream uses.

A Raspberry Pi has no battery-backed clock: it starts in the past and is set once
it finds the network. So sample times are kept on the monotonic clock, and UTC is
that plus an offset that only changes deliberately.
"""

import ctypes
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import UUID

from acoupi import data

__all__ = [
    "ClockState",
    "Timeline",
    "read_boot_clock",
    "read_boot_id",
    "read_clock_state",
    "read_offset",
]

_STA_UNSYNC = 0x0040  # include/uapi/linux/timex.h
_TIMEX = struct.Struct("@Illlli")  # modes, offset, freq, maxerror, esterror, status
_TIMEX_BYTES = 512  # More than the structure has on any machine.

_SLEW = 500e-6
"""Fastest rate at which a kernel slews its clock."""
_NOISE_SECONDS = 0.02
_SETTLE_SECONDS = 600.0
_TRIES = 5
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ClockState:
    """Whether the system clock can be trusted."""

    is_synchronised: bool | None
    """None if unknown."""
    error: float | None
    """Largest error it may have, seconds; None if that is not known."""


def read_clock_state() -> ClockState:
    """Ask the kernel whether its clock is synchronised (adjtimex(2), changing nothing)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: only read
        answer = libc.adjtimex(buffer)
    except (OSError, AttributeError):
        return ClockState(None, None)
    if answer < 0:
        return ClockState(None, None)
    _, _, _, largest, estimated, status = _TIMEX.unpack_from(buffer)
    if status & _STA_UNSYNC:
        return ClockState(False, None)
    return ClockState(True, max(largest, estimated) / 1e6)


def read_offset() -> float:
    """Return UTC (seconds since 1970) minus monotonic time: the tightest of a few readings."""
    best = (float("inf"), 0.0)
    for _ in range(_TRIES):
        before = data.monotonic()
        utc = data.utc_now().timestamp()
        after = data.monotonic()
        best = min(best, (after - before, utc - (before + after) / 2))
        if best[0] < 50e-6:
            break
    return best[1]


@cache
def read_boot_id() -> UUID | None:
    """Return the id of the current boot, the same in all containers; None if unknown."""
    try:
        return UUID(_BOOT_ID.read_text().strip())
    except (OSError, ValueError):
        return None


def read_boot_clock() -> data.BootClock | None:
    """Return the boot and its current offset to UTC; None if the boot is not known."""
    boot_id = read_boot_id()
    if boot_id is None:
        return None
    return data.BootClock(boot_id=boot_id, offset_s=round(read_offset(), 6))


class Timeline:
    """Turns monotonic time into UTC so that a step of the system clock moves no sample.

    It follows slewing of the system clock. A step is followed only where `settle`
    is called, between recordings, and only once it can be trusted: the kernel
    now reports the clock as synchronised and did not before (a step always ends
    synchronisation), or ten minutes have passed since the step.
    """

    def __init__(self) -> None:
        self._state = read_clock_state()
        self._offset = read_offset()
        self._seen = (data.monotonic(), self._offset)
        self._step_at: float | None = None
        self._doubted = not self._state.is_synchronised

    @property
    def state(self) -> ClockState:
        """State of the system clock when it was last looked at.

        Not synchronised while a step is not yet followed: the two times differ then.
        """
        return self._state if self._step_at is None else ClockState(False, None)

    @property
    def offset(self) -> float:
        """UTC, seconds since 1970, minus the monotonic clock."""
        return self._offset

    @property
    def boot_clock(self) -> data.BootClock | None:
        """The offset and the boot it belongs to; None if that is not known."""
        boot_id = read_boot_id()
        if boot_id is None:
            return None
        return data.BootClock(boot_id=boot_id, offset_s=round(self._offset, 6))

    def look(self) -> None:
        """Look at the system clock; cheap, to be called about every second."""
        self._state = read_clock_state()
        now, offset = data.monotonic(), read_offset()
        then, before = self._seen
        self._seen = (now, offset)
        if not self._state.is_synchronised:
            self._doubted = True
        if abs(offset - before) > _NOISE_SECONDS + _SLEW * max(0.0, now - then):
            self._step_at = now
        elif self._step_at is None:
            self._offset = offset

    def settle(self) -> bool:
        """Follow a step that can be trusted by now; return whether there was one."""
        self.look()
        if self._step_at is None:
            return False
        has_been_set = self._doubted and bool(self._state.is_synchronised)
        if not has_been_set and data.monotonic() - self._step_at < _SETTLE_SECONDS:
            return False
        self._offset, self._step_at, self._doubted = self._seen[1], None, False
        return True
