"""The clocks of the machine, as a test sets them."""

import datetime
import time
from uuid import uuid4

import pytest

from acoupi import clock, data
from acoupi.audio import system_clock
from acoupi.audio.system_clock import ClockState

START = datetime.datetime(2024, 6, 1, 20, tzinfo=datetime.UTC)


class Clock:
    """The clocks of a machine; they stand still until they are advanced."""

    seconds = 5000.0
    """What the monotonic clock shows."""
    state = ClockState(is_synchronised=True, error=0.01)
    """What the kernel says about the system clock."""

    def __init__(self, now: datetime.datetime = START) -> None:
        self.now = now
        self.boot_id = uuid4()

    @property
    def now(self) -> datetime.datetime:
        """What the system clock shows."""
        return self._booted + datetime.timedelta(seconds=self.seconds)

    @now.setter
    def now(self, time: datetime.datetime) -> None:
        self._booted = time - datetime.timedelta(seconds=self.seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds

    def step(self, seconds: float) -> None:
        """Set the system clock forward, or back."""
        self._booted += datetime.timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.seconds

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Be the clock of the whole package from now on."""
        for module, name, ask in (
            (clock, "utc_now", lambda: self.now),
            (clock, "monotonic", self.monotonic),
            (data, "utc_now", lambda: self.now),
            (data, "monotonic", self.monotonic),
            (system_clock, "read_clock_state", lambda: self.state),
            (system_clock, "read_boot_id", lambda: self.boot_id),
        ):
            patch.setattr(module, name, ask)


class RunningClock(Clock):
    """The clocks of this machine, except that the system clock may be stepped."""

    def __init__(self) -> None:
        self._began = 0.0
        super().__init__(datetime.datetime.now(tz=datetime.UTC))

    @property
    def seconds(self) -> float:  # type: ignore[override]
        return time.monotonic() - self._began

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._began = time.monotonic() - seconds

    def boot(self) -> None:
        """Begin a boot, with the system clock where it is."""
        now, self.seconds = self.now, 30
        self.boot_id, self.now = uuid4(), now
