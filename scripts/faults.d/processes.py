"""A sensor with the rig's program as plain processes."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from arrivals import Sensor, end_processes
from books import waiting
from plan import SERVICES

from acoupi.services.folder import broker_folder
from acoupi.stack.pulse import is_locked, read_pulse

__all__ = ["ProcessSensor"]

PROGRAM = Path(__file__).parent / "program"
START_TIMEOUT = 300.0


class ProcessSensor(Sensor):
    """A sensor on the process target."""

    weights: ClassVar[dict[str, float]] = {
        "kill": 30, "freeze": 5, "kill all": 3, "wipe broker": 4, "servers": 6, "microphone": 6,
    }  # fmt: skip
    """How often what goes wrong."""
    disk_weights: ClassVar[dict[str, float]] = {
        "disk full": 2, "disk slow": 2, "read-only": 1, "power cut": 2,
    }  # fmt: skip
    """And that, where it has a disk of its own."""
    services: tuple[str, ...] = SERVICES
    transports: tuple[str, ...] = ("http", "mqtt")
    target = "process"
    clock_place: ClassVar[str | None] = None
    """Where in its home its clock is shown; None: its variables name it."""

    def set_up(self, *options: str) -> None:
        """Make the home, as an owner would."""
        self.acoupi(
            "setup", "--program", "faulted", "--target", self.target, "--no-prompt", *options
        )

    def left(self, before: float) -> int:
        """Return how much that was made before a time is neither kept nor deleted, or not sent."""
        return waiting(self.home, before) + self.count_undelivered(before, len(self.transports))

    def finish(self) -> None:
        """End the deployment once all is analysed and sent."""
        self.acoupi("deployment", "stop", "--drain", "--drain-limit", "4")

    def up(self) -> None:
        """Start it, as at boot."""
        script = str(self.home / "bin" / "acoupi-workers-start.sh")
        environment = {**os.environ, **self.variables, "ACOUPI_HOME": str(self.home)}
        for names in ((), ("beat",)):
            subprocess.run(
                ["bash", script, *names], env=environment, timeout=START_TIMEOUT, check=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def run_dir(self, service: str) -> Path:
        """Return where a service has its pulse."""
        return self.home / "run"

    def life(self, service: str) -> object:
        """Return what tells one process of a service from the next; None while there is none."""
        pulse = read_pulse(self.run_dir(service), service)
        if pulse is None or not is_locked(self.run_dir(service), service):
            return None
        with contextlib.suppress(OSError):
            holder = (self.run_dir(service) / f"{service}.pid").read_text().strip()
            return (pulse.pid, pulse.started_on) if holder == str(pulse.pid) else None
        return None

    def works(self, service: str) -> bool:
        """Return whether a service waits for work, or is at it."""
        pulse = read_pulse(self.run_dir(service), service)
        return pulse is not None and pulse.state == "ready" and self.life(service) is not None

    def signal(self, service: str, number: signal.Signals) -> bool:
        """Send its process a signal; return whether there is one."""
        if self.life(service) is None:
            return False
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.run_dir(service) / f"{service}.pid").read_text()), number)
            return True
        return False

    def kill_all(self) -> None:
        """Kill every process, supervisors too."""
        end_processes([self.home])

    def wipe_broker(self) -> None:
        """Remove what waits in the broker."""
        shutil.rmtree(broker_folder(self.home / "run"), ignore_errors=True)
