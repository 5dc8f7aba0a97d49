"""Sensors in homes of their own: set up by variables, run as processes, looked at from outside."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from accounting import Created
from servers import TOPIC, digest

from acoupi.programs.demo import Program
from acoupi.stack.pulse import is_locked, read_pulse

__all__ = ["Sensor", "SensorError", "Usage", "end_processes", "measure", "variables"]

SERVICES = [*(worker.name for worker in Program.worker_config.workers), "beat"]
COMMAND_TIMEOUT = 300.0
"""Longest time for a command of acoupi, seconds: many start at once on a small machine."""


class SensorError(Exception):
    """A sensor cannot be set up, started or stopped."""


@dataclass
class Usage:
    """What the processes of a sensor take."""

    processes: int = 0
    pss: float = 0.0
    """Proportional memory, bytes."""
    cpu: float = 0.0
    """Processor time since they began, seconds."""


@dataclass
class Sensor:
    """A sensor with the demo program, whose microphone is simulated."""

    name: str
    home: Path
    variables: Mapping[str, str]
    """Its settings, as a fleet operator would give them."""
    pids: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    failed_tasks: int = 0
    last_error: str | None = None

    def set_up(self, *options: str) -> None:
        """Make the home of another device than this machine, so that no two have one id.

        Parameters
        ----------
        options
            More, for ``acoupi setup``.
        """
        device = self.home / "config" / "device.json"
        device.parent.mkdir(parents=True)
        device.write_text(json.dumps({"id": f"fleet-{self.name}"}) + "\n")
        own = ("--program", Program.__module__, "--target", "process", "--no-prompt")
        self.acoupi("setup", *own, *options)

    def start(self) -> None:
        """Check it and start its services."""
        place = ("--latitude", "51.5", "--longitude", "0")
        self.acoupi("deployment", "start", "--name", self.name, *place)

    def stop(self, *options: str) -> None:
        """Finish what is in hand, send what is due and end; options of ``deployment stop``."""
        if any(is_locked(self.home / "run", name) for name in SERVICES):
            self.acoupi("deployment", "stop", *options)

    def acoupi(self, *arguments: str) -> None:
        """Run a command of acoupi.

        Raises
        ------
        SensorError
            With what it said, if it failed.
        """
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("ACOUPI_")
        }
        environment |= {"ACOUPI_HOME": str(self.home), "NO_COLOR": "1", **self.variables}
        command = [str(Path(sys.executable).with_name("acoupi")), *arguments]
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_TIMEOUT,
                check=False,
                start_new_session=True,  # Ctrl-C is for us; sensors are stopped in order
            )
        except subprocess.TimeoutExpired as error:
            raise SensorError(f"{self.name}: acoupi {arguments[0]} did not end") from error
        if done.returncode:
            raise SensorError(f"{self.name}: acoupi {' '.join(arguments[:2])}: {done.stdout}")

    def is_ready(self) -> bool:
        """Return whether every service waits for work."""
        pulses = [read_pulse(self.home / "run", name) for name in SERVICES]
        return all(pulse is not None and pulse.state == "ready" for pulse in pulses)

    def watch(self) -> None:
        """Count services that were started again, or that are gone."""
        failed = 0
        for name in SERVICES:
            pulse = read_pulse(self.home / "run", name)
            if pulse is None:
                continue
            if self.pids.setdefault(name, pulse.pid) != pulse.pid:
                self.restarts += 1
                self.pids[name] = pulse.pid
            failed += pulse.failed
            self.last_error = pulse.last_error or self.last_error
        self.failed_tasks = max(self.failed_tasks, failed)

    def is_whole(self) -> bool:
        """Return whether every service runs."""
        return all(is_locked(self.home / "run", name) for name in SERVICES)

    def created(self, transport: str) -> list[Created]:
        """Return the messages in its store, with what it believes of one transport."""
        rows = self._ask(
            "messages.db",
            """
            SELECT hex(m.id), m.content, m.created_on_us,
                coalesce((
                    SELECT d.state FROM delivery d JOIN messenger s ON s.row = d.messenger_row
                    WHERE d.message_row = m.row AND s.name LIKE :name
                ), 'pending')
            FROM message m
            """,
            {"name": f"{transport}:%"},
        )
        return [
            Created(_id(hex_), microseconds / 1e6, digest(_bytes(content)), state)
            for hex_, content, microseconds, state in rows
        ]

    def count_undelivered(self, before: float, transports: int) -> int:
        """Return how many deliveries of messages made before a time are not acknowledged."""
        rows = self._ask(
            "messages.db",
            """
            SELECT :transports * (SELECT count(*) FROM message WHERE created_on_us < :before)
                - (SELECT count(*) FROM delivery
                   WHERE created_on_us < :before AND state = 'acknowledged')
            """,
            {"before": int(before * 1e6), "transports": transports},
        )
        return int(rows[0][0]) if rows else 0

    def count_unreported(self) -> int:
        """Return how much of its store the hub has not acknowledged."""
        rows = self._ask("metadata.db", "SELECT count(*) FROM unreported", {})
        return int(rows[0][0]) if rows else 1

    def is_unreported(self, before: float) -> bool:
        """Return whether the hub has not got what was recorded, or noted, before a time."""
        rows = self._ask(
            "metadata.db",
            """
            SELECT count(*) FROM unreported u
            LEFT JOIN recording r ON u.kind = 'recording' AND r.row = u.of_row
            WHERE coalesce(r.created_on_us, 0) < :before
            """,
            {"before": int(before * 1e6)},
        )
        return not rows or rows[0][0] > 0

    def _ask(self, name: str, query: str, values: Mapping[str, object]) -> list[tuple]:
        path = self.home / "data" / name
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()


def variables(
    number: int, name: str, ports: Mapping[str, int], options: Mapping[str, float]
) -> dict[str, str]:
    """Return the settings of one sensor of a fleet, as variables."""
    # Else all would record in the same second, which sensors far apart do not.
    interval = options["interval"] * (1 + number / 100)
    settings = {
        "MICROPHONE__SAMPLERATE": options["samplerate"],
        "MICROPHONE__SIMULATED__SEED": 1_000 * options["seed"] + number,
        "RECORDING__DURATION": options["duration"],
        "RECORDING__INTERVAL": round(interval, 2),
        "MESSAGING__MESSAGE_SEND_INTERVAL": options["send_interval"],
        "MESSAGING__HEARTBEAT_INTERVAL": 60,
        "MESSAGING__FILE": "none",
    }
    if "http" in ports:
        settings["MESSAGING__HTTP__BASE_URL"] = f"http://127.0.0.1:{ports['http']}/{name}"
    if "mqtt" in ports:
        settings |= {
            "MESSAGING__MQTT__HOST": "127.0.0.1",
            "MESSAGING__MQTT__PORT": ports["mqtt"],
            "MESSAGING__MQTT__TOPIC": f"{TOPIC}/{name}",
        }
    return {f"ACOUPI_CONFIG__{key}": str(value) for key, value in settings.items()}


def measure(homes: Iterable[Path]) -> dict[Path, Usage]:
    """Return what the processes of each home take now."""
    wanted = set(homes)
    found: dict[Path, Usage] = defaultdict(Usage)
    for process, home in _processes(wanted):
        with contextlib.suppress(psutil.Error):
            usage, times = found[home], process.cpu_times()
            usage.pss += process.memory_full_info().pss
            usage.cpu += sum(times[:4])  # its own, and that of children that have ended
            usage.processes += 1
    return found


def end_processes(homes: Iterable[Path]) -> int:
    """End at once what is left of sensors; return how many processes it was."""
    wanted, ended = set(homes), 0
    for _ in range(20):
        left = [process for process, _ in _processes(wanted)]
        if not left:
            break
        ended += len(left)
        # Supervisors first, lest they start again what is ended.
        for process in sorted(left, key=lambda one: "--supervise" not in _words(one)):
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    return ended


def _processes(homes: set[Path]) -> list[tuple[psutil.Process, Path]]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            home = Path(process.environ().get("ACOUPI_HOME") or "/")
            if home in homes and process.pid != os.getpid():
                found.append((process, home))
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _id(hex_: str) -> str:
    text = hex_.lower()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
