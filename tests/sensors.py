"""A sensor with real processes, for tests; nothing of it is left behind."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from acoupi.stack.pulse import Pulse, is_locked, read_pulse
from acoupi.system import Settings, get_celery_app, setup_program, target_for
from acoupi.targets import Target
from tests.services import eventually, json_lines

PROGRAMS = Path(__file__).parent / "integration" / "programs"
SERVICES = ("recording", "detection", "default", "beat")


class Sensor:
    """A home with the program `metronome`, and what its processes wrote.

    Parameters
    ----------
    home
        Where it is.
    diary
        Where the program writes what it does.
    """

    def __init__(self, home: Path, diary: Path) -> None:
        self.home = home
        self.diary = diary
        self.settings = Settings(home=home)

    def set_up(self, *args: str, **options: Any) -> None:
        """Set it up, or set it up again."""
        setup_program(self.settings, "metronome", ["--diary", str(self.diary), *args], **options)

    @property
    def target(self) -> Target:
        return target_for(self.settings)

    def events(self, what: str) -> list[dict[str, Any]]:
        """What the program wrote of one kind, oldest first."""
        return [event for event in json_lines(self.diary) if event["what"] == what]

    def pulse(self, service: str) -> Pulse:
        pulse = read_pulse(self.settings.run_dir, service)
        assert pulse is not None, f"{service} wrote no pulse"
        return pulse

    def message(self, service: str) -> str:
        """What a service says of its state; "" if nothing, or before its first pulse."""
        pulse = read_pulse(self.settings.run_dir, service)
        return (pulse and pulse.message) or ""

    def is_ready(self, service: str) -> bool:
        return is_ready(self.settings.run_dir, service)

    def send(self, task: str, queue: str = "celery") -> None:
        """Order a task."""
        get_celery_app(self.settings).send_task(task, queue=queue)

    def let_go(self) -> None:
        """Let the task `hold` end."""
        self.diary.with_name("let-go").touch()

    def log(self, service: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.settings.log_dir / f"{service}.log").read_text()
        return ""

    def processes(self) -> list[psutil.Process]:
        """Every process of this sensor: its scripts, its services and their children."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and self._is_ours(process):
                    found.append(process)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        home = process.environ().get("ACOUPI_HOME", "")
        return bool(home) and Path(home) == self.home and "acoupi" in " ".join(process.cmdline())

    def end(self) -> None:
        """End whatever is left of it at once."""
        for _ in range(20):
            processes = self.processes()
            if not processes:
                return
            # Supervisors first, lest they start again what is ended.
            for process in sorted(processes, key=lambda one: not _supervises(one)):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(processes, timeout=1)


def _supervises(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
        return "--supervise" in process.cmdline()
    return False


def is_ready(run: Path, service: str) -> bool:
    """Whether a service works, by its own word: not by that of one that was killed before it."""
    pulse = read_pulse(run, service)
    holder = ""
    with contextlib.suppress(FileNotFoundError):
        holder = (run / f"{service}.pid").read_text().strip()
    return (
        pulse is not None
        and pulse.state == "ready"
        and is_locked(run, service)
        and holder == str(pulse.pid)
    )


def kill(pid: int) -> None:
    """End a process as a power cut would."""
    os.kill(pid, signal.SIGKILL)


def wait_for(claim: Any, what: str, sensor: Sensor, deadline: float = 90.0) -> None:
    """Wait until the claim holds; if it never does, show what the services logged."""

    def logs() -> str:
        return "\n".join(f"--- {name}\n{sensor.log(name)[-2000:]}" for name in SERVICES)

    eventually(claim, what, deadline, logs)


@contextlib.contextmanager
def sensor_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    """Give a sensor that is not set up yet; end its processes afterwards."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setenv("PYTHONPATH", str(PROGRAMS))
    monkeypatch.setenv("ACOUPI_HOME", str(home))
    diary = home.parent / "diary.jsonl"
    sensor = Sensor(home, diary)
    try:
        yield sensor
    finally:
        sensor.let_go()
        sensor.end()
