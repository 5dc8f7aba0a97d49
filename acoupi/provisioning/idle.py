"""The service ``setup`` between two attempts: a small process with a pulse."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from acoupi import data
from acoupi.errors import AcoupiError
from acoupi.services.logs import tell
from acoupi.services.stopping import stop_event
from acoupi.stack.pulse import PulseFile, ServiceLock, read_pulse
from acoupi.stack.settings import Settings
from acoupi.stack.stack import SETUP

__all__ = ["IDLE_MODULE", "become", "main", "wait_times"]

MODULE = "acoupi.provisioning"
IDLE_MODULE = f"{MODULE}.idle"
PULSE_EVERY = 5.0
FIRST_WAIT, LONGEST_WAIT = 5.0, 300.0
"""Seconds until the next attempt."""


def wait_times(failures: int) -> float:
    """Return the seconds until the next attempt, after a number of failures.

    Examples
    --------
    >>> [wait_times(failures) for failures in (1, 2, 3, 7, 100)]
    [5.0, 10.0, 20.0, 300.0, 300.0]
    """
    return min(FIRST_WAIT * 2.0 ** min(failures - 1, 30), LONGEST_WAIT)


def become(module: str, *arguments: str) -> NoReturn:
    """Replace this process by another module, which starts with fresh memory."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606


def main(arguments: Sequence[str]) -> int:
    """Write the pulse until the next attempt, or until stopped; return the exit code.

    Parameters
    ----------
    arguments
        Number of attempts that failed, and the seconds until the next one.
    """
    stop = stop_event()
    failures = int(arguments[0])
    settings = Settings()
    end = data.monotonic() + float(arguments[1])
    with ServiceLock(settings.run_dir, SETUP) as lock:
        file = PulseFile(settings.run_dir, SETUP)
        file.pulse = read_pulse(settings.run_dir, SETUP) or file.pulse
        while not stop.is_set() and data.monotonic() < end:
            lock.keep()
            file.write()
            stop.wait(min(PULSE_EVERY, max(0.0, end - data.monotonic())))
        if stop.is_set():
            file.pulse.state = "stopped"
            file.write()
            return 0
    # A new process: the imports of the last attempt are gone.
    return become(MODULE, "--failures", str(failures))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AcoupiError as error:
        tell(error)
        sys.exit(error.exit_code)
