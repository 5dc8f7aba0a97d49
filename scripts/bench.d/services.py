"""What a running sensor costs, and how soon a recording is analysed.

The demo program under the process target: the real commands, scripts,
services and brokers. Nothing is simulated but the microphone.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from acoupi.components import SqliteStore
from acoupi.programs.demo import Program
from acoupi.stack.pulse import read_pulse

SERVICES = [*(worker.name for worker in Program.worker_config.workers), "beat"]
SETTLE = 5.0
"""Seconds after the start before anything is measured."""
WATCH = 10.0
"""Seconds over which processor time is counted, for each run."""
DEADLINE = 90.0
RECORDINGS = 24
"""Fewest recordings that a latency is the median of."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return memory and processor time of every service, and latencies."""
    figures: Figures = {}
    with sensor("--recording.interval", "3600") as home:
        figures["idle"] = idle(home, runs)
    with sensor(*FREQUENT) as home:
        figures["embedded broker"] = latency(home, runs)
    server = shutil.which("redis-server")
    if server is None:
        figures["redis"] = "not measured: redis-server is not installed"
        return figures
    with redis(server) as url, sensor(*FREQUENT, "--broker", url) as home:
        figures["external redis"] = latency(home, runs)
    with redis(server) as url:
        os.environ["ACOUPI_BROKER"] = url  # as a target says where its own is
        try:
            with sensor(*FREQUENT) as home:
                figures["redis"] = latency(home, runs)
        finally:
            del os.environ["ACOUPI_BROKER"]
    return figures


# The simulated microphone delivers blocks of 20 ms. An interval
# that is a multiple of it would end every recording of a run at one place in a
# block, and the latency would be that of the place: 2 ms in one run, 20 in another.
FREQUENT = ("--recording.duration", "1", "--recording.interval", "2.013")


@contextmanager
def sensor(*options: str) -> Iterator[Path]:
    """Set up and start the demo program in a home of its own; stop and remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        home = Path(folder) / "home"
        setup = ("setup", "--program", Program.__module__, "--target", "process", "--no-prompt")
        acoupi(home, *setup, *options)
        try:
            acoupi(home, "deployment", "start", "--name", "bench",
                   "--latitude", "51.5", "--longitude", "0")  # fmt: skip
            wait_for(lambda: all(is_ready(home, name) for name in SERVICES), "every service")
            yield home
        finally:
            acoupi(home, "deployment", "stop")


def acoupi(home: Path, *arguments: str) -> None:
    """Run a command of acoupi; what it said is in the error if it failed."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("acoupi")), *arguments],
        env={**os.environ, "ACOUPI_HOME": str(home), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split()).replace(str(home), "HOME")
        raise SystemExit(f"acoupi {arguments[0]} failed: {said[-400:]}")


@contextmanager
def redis(server: str) -> Iterator[str]:
    """Run a redis server on a socket of its own, and give its URL."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        socket = Path(folder) / "redis.sock"
        process = subprocess.Popen(
            [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(socket.exists, "the redis server")
            yield f"redis+socket://{socket}"
        finally:
            process.terminate()
            process.wait()


def wait_for(claim: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Wait until something holds, or end."""
    end = time.monotonic() + deadline
    while not claim():
        if time.monotonic() > end:
            raise SystemExit(f"{what} was not ready after {deadline:.0f} s")
        time.sleep(0.1)


def is_ready(home: Path, name: str) -> bool:
    """Return whether a service waits for work."""
    pulse = read_pulse(home / "run", name)
    return pulse is not None and pulse.state == "ready"


def processes_of(home: Path, name: str) -> list[psutil.Process]:
    """Return the process of a service and those it started."""
    pulse = read_pulse(home / "run", name)
    if pulse is None:
        raise SystemExit(f"{name} has no pulse")
    process = psutil.Process(pulse.pid)
    return [process, *process.children(recursive=True)]


def idle(home: Path, runs: int) -> Figures:
    """Return what each service takes while there is next to nothing to do."""
    time.sleep(SETTLE)
    cpu: dict[str, list[float]] = {name: [] for name in SERVICES}
    for _ in range(runs):
        before = {name: cpu_seconds(home, name) for name in SERVICES}
        begun = time.monotonic()
        time.sleep(WATCH)
        passed = time.monotonic() - begun
        for name in SERVICES:
            cpu[name].append(100 * (cpu_seconds(home, name) - before[name]) / passed)
    figures: Figures = {name: memory(home, name) for name in SERVICES}
    for name in SERVICES:
        figures[name]["cpu_percent"] = round(median(cpu[name]), 2)
    figures["all"] = {
        key: round(sum(figures[name][key] for name in SERVICES), 2)
        for key in ("rss_mb", "pss_mb", "cpu_percent")
    }
    return figures


def memory(home: Path, name: str) -> dict[str, float]:
    """Return the resident and the proportional memory of a service, MB (1e6 bytes)."""
    infos = [process.memory_full_info() for process in processes_of(home, name)]
    return {
        "processes_count": len(infos),
        "rss_mb": round(sum(info.rss for info in infos) / 1e6, 1),
        "pss_mb": round(sum(info.pss for info in infos) / 1e6, 1),
    }


def cpu_seconds(home: Path, name: str) -> float:
    """Return the processor time a service has used so far, seconds."""
    times = [process.cpu_times() for process in processes_of(home, name)]
    return sum(one.user + one.system for one in times)


def latency(home: Path, runs: int) -> Figures:
    """Return the time from the end of a recording to the start of its detection.

    From its last frame: the wait for the block that holds it (0 to 20 ms) is
    part of it, as are writing, syncing and storing the file.
    """
    store = SqliteStore(home / "data" / "metadata.db")
    wanted = max(RECORDINGS, 4 * runs)
    wait_for(lambda: len(store.get_model_outputs()) > wanted, f"{wanted} recordings", 10 * wanted)
    outputs = sorted(store.get_model_outputs(), key=lambda one: one.created_on)[1:]
    delays = [
        1000 * (one.created_on - one.recording.created_on).total_seconds()
        - 1000 * one.recording.duration
        for one in outputs
    ]
    return {
        "end of recording to detection": {"value": round(median(delays), 1), "unit": "ms"},
        "slowest": {"value": round(max(delays), 1), "unit": "ms"},
        "recordings": len(delays),
    }
