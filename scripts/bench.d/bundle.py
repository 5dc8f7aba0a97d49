"""What the bundle costs on a real Docker engine, and how soon it works.

The demo program under the compose target, started by ``docker compose up -d``
alone. Nothing is simulated but the microphone. Memory is what the kernel
counts for every process of every container, shared pages in proportion.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import psutil

from acoupi.components import SqliteStore
from acoupi.system import Settings, setup_program
from acoupi.system.pulse import is_locked, read_pulse
from acoupi.system.targets.images import BASE, build_image, image_name, why_build

SERVICES = ("redis", "recording", "detection", "default", "beat")
SETTLE = 8.0
"""Seconds after the start before anything is measured."""
WATCH = 20.0
"""Seconds over which processor time is counted, for each run."""
DEADLINE = 120.0
RECORDINGS = 20
FREQUENT = ("--recording.duration", "1", "--recording.interval", "2.013")
"""Not a multiple of the 50 ms in which simulated audio comes."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return size, memory, processor time, starting time and latency."""
    if why_build(image_name()):
        build_image()
    figures: Figures = {"image": sizes()}
    with bundle("--recording.duration", "1", "--recording.interval", "3600") as home:
        figures["up"] = starts(home, runs)
        figures["idle"] = idle(home, runs)
    with bundle(*FREQUENT) as home:
        begun = time.monotonic()
        docker("compose", "up", "-d", cwd=home)
        wait_for(lambda: any_recording(home), "the first recording")
        figures["first recording"] = {"value": round(time.monotonic() - begun, 1), "unit": "s"}
        figures["latency"] = latency(home, runs)
    return figures


@contextmanager
def bundle(*options: str) -> Iterator[Path]:
    """Set up a bundle in a home of its own; remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        home = Path(folder) / "home"
        setup_program(
            Settings(home=home), "acoupi.programs.demo", [*options], target="compose", environ={}
        )
        try:
            yield home
        finally:
            docker("compose", "down", "--volumes", "--timeout", "5", cwd=home)


def docker(*arguments: str, cwd: Path | None = None) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(
        ["docker", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"docker {arguments[0]} failed: {done.stderr[-400:]}")
    return done.stdout


def wait_for(claim: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Wait until something holds, or end."""
    end = time.monotonic() + deadline
    while not claim():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come within {deadline:.0f} s")
        time.sleep(0.05)


# --- the image ---


def sizes() -> Figures:
    """Return what the image takes, and what of it changes with our own code, MB."""
    total = int(docker("image", "inspect", "--format", "{{.Size}}", image_name()))
    base = int(docker("image", "inspect", "--format", "{{.Size}}", BASE))
    layers = docker("history", "--human=false", "--format", "{{.Size}}", image_name()).split()
    code = next(int(layer) for layer in layers if int(layer))
    return {"all_mb": total / 1e6, "over its base_mb": (total - base) / 1e6, "code_mb": code / 1e6}


# --- starting ---


def starts(home: Path, runs: int) -> Figures:
    """Return how long ``up`` takes, and until every service says that it works; leaves it up."""
    ready, healthy = [], []
    for _ in range(max(1, min(runs, 3))):
        docker("compose", "down", cwd=home)
        begun = time.monotonic()
        docker("compose", "up", "-d", cwd=home)
        wait_for(lambda: are_ready(home), "every service")
        ready.append(time.monotonic() - begun)
        wait_for(lambda: are_healthy(home), "every health check")
        healthy.append(time.monotonic() - begun)
    return {"to ready_s": round(median(ready), 2), "to healthy_s": round(median(healthy), 2)}


def are_ready(home: Path) -> bool:
    """Return whether every service of ours waits for work."""
    run = home / "run"
    pulses = [read_pulse(run, name) for name in SERVICES[1:]]
    alive = all(is_locked(run, name) for name in SERVICES[1:])
    return alive and all(pulse is not None and pulse.state == "ready" for pulse in pulses)


def are_healthy(home: Path) -> bool:
    """Return whether the engine finds every container healthy."""
    states = docker("inspect", "--format", "{{.State.Health.Status}}", *containers(home).values())
    return set(states.split()) == {"healthy"}


def containers(home: Path) -> dict[str, str]:
    """Return the id of each container by the name of its service."""
    return {name: docker("compose", "ps", "-q", name, cwd=home).strip() for name in SERVICES}


# --- idle ---


def idle(home: Path, runs: int) -> Figures:
    """Return memory and processor time while there is next to nothing to do."""
    time.sleep(SETTLE)
    ids = containers(home)
    cpu: dict[str, list[float]] = {name: [] for name in SERVICES}
    for _ in range(max(1, min(runs, 3))):
        before = {name: cpu_seconds(one) for name, one in ids.items()}
        begun = time.monotonic()
        time.sleep(WATCH)
        passed = time.monotonic() - begun
        for name, one in ids.items():
            cpu[name].append(100 * (cpu_seconds(one) - before[name]) / passed)
    figures: Figures = {
        name: {
            "pss_mb": round(pss(one) / 1e6, 1),
            "cpu_percent": round(median(cpu[name]), 2),
        }
        for name, one in ids.items()
    }
    figures["all"] = {
        key: round(sum(figures[name][key] for name in SERVICES), 2)  # type: ignore[index]
        for key in ("pss_mb", "cpu_percent")
    }
    figures["health probe"] = probe(ids)
    return figures


def processes(container: str) -> list[psutil.Process]:
    """Return every process of a container."""
    init = psutil.Process(int(docker("inspect", "--format", "{{.State.Pid}}", container)))
    return [init, *init.children(recursive=True)]


def pss(container: str) -> int:
    """Return the proportional memory of a container's processes, bytes."""
    return sum(process.memory_full_info().pss for process in processes(container))


def cpu_seconds(container: str) -> float:
    """Return the processor time that a container has used so far, its probes included, seconds."""
    for place in (Path("/sys/fs/cgroup/cpuacct/docker"), Path("/sys/fs/cgroup/cpu,cpuacct/docker")):
        usage = place / container / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
    for stat in Path("/sys/fs/cgroup").glob(f"**/*{container}*/cpu.stat"):
        return int(stat.read_text().split()[1]) / 1e6
    times = [process.cpu_times() for process in processes(container)]
    return sum(one.user + one.system for one in times)


def probe(ids: dict[str, str]) -> Figures:
    """Return what one health probe takes, and all of them as a part of one core.

    Inside the container and, which is more, in the engine that starts it.
    """
    check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck}}",
                              ids["default"]))  # fmt: skip
    kind, *words = check["Test"]
    command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
    names = ("dockerd", "containerd", "containerd-shim-runc-v2")
    engine = [one for one in psutil.process_iter() if one.name()[:15] in [n[:15] for n in names]]
    probes = 10
    before = cpu_seconds(ids["default"]) + _used(engine)
    for _ in range(probes):
        docker("exec", ids["default"], *command)
    each = (cpu_seconds(ids["default"]) + _used(engine) - before) / probes
    interval = check["Interval"] / 1e9
    return {
        "each_ms": round(1000 * each, 1),
        "interval_s": interval,
        "all_percent": round(100 * each * len(ids) / interval, 3),
    }


def _used(engine: list[psutil.Process]) -> float:
    """Return what the engine has used, its ended children included, seconds."""
    total = 0.0
    for process in engine:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


# --- at work ---


def any_recording(home: Path) -> bool:
    """Return whether a recording is stored."""
    return any((home / "data").rglob("[!.]*.wav"))


def latency(home: Path, runs: int) -> Figures:
    """Return the time from the end of a recording to the start of its detection."""
    store = SqliteStore(home / "data" / "metadata.db")
    wanted = max(RECORDINGS, 4 * runs)
    wait_for(lambda: len(store.get_model_outputs()) > wanted, "the recordings", 10 * wanted)
    outputs = sorted(store.get_model_outputs(), key=lambda one: one.created_on)[1:]
    delays = [
        1000 * (one.created_on - one.recording.created_on).total_seconds()
        - 1000 * one.recording.duration
        for one in outputs
    ]
    return {
        "median": {"value": round(median(delays), 1), "unit": "ms"},
        "95th percentile": {"value": round(quantiles(delays, n=20)[-1], 1), "unit": "ms"},
        "slowest": {"value": round(max(delays), 1), "unit": "ms"},
        "recordings": len(delays),
    }
