"""What the bundle costs on a real Docker engine, and how soon it works.

The demo program under the compose target, started by ``docker compose up -d``
alone. Nothing is simulated but the microphone. Memory is what the kernel
counts for every process of every container, shared pages in proportion.
"""

import contextlib
import gzip
import json
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import psutil

from acoupi.bundles.images import BASE, build_image, image_name, why_build
from acoupi.components import SqliteStore
from acoupi.stack.pulse import is_locked, read_pulse
from acoupi.system import Settings, setup_program

SERVICES = ("redis", "recording", "detection", "default", "beat")
SETTLE = 8.0
"""Seconds after the start before anything is measured."""
WATCH = 30.0
"""Seconds over which processor time is counted, for each run."""
UP = 40.0
"""Seconds that are allowed for one start of the bundle, and the end of the one before."""
HOUR = 3600.0
"""Seconds between two recordings of the idle bundle; they begin at full hours."""
DEADLINE = 120.0
LOOKS, LOOK_EVERY = 20, 15.0
"""Looks of one probe, and the seconds between: see images/sensor/health."""
MEBIBYTE = 2**20
RECORDINGS = 20
DURATION = 1
FREQUENT = ("--recording.duration", str(DURATION), "--recording.interval", "2.013")
"""Not a multiple of the 20 ms in which simulated audio comes."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return size, memory, processor time, starting time and latency."""
    if why_build(image_name()):
        build_image()
    figures: Figures = {"image": sizes()}
    looks = max(1, min(runs, 3))
    wait_out_full_hour(looks * (UP + WATCH) + SETTLE)
    with bundle("--recording.duration", "1", "--recording.interval", str(HOUR)) as home:
        figures["up"] = starts(home, runs)
        figures["idle"] = idle(home, runs)
    with bundle(*FREQUENT) as home:
        begun = time.monotonic()
        docker("compose", "up", "-d", cwd=home)
        wait_for(lambda: are_ready(home), "every service")
        goal = time.monotonic() - begun + DURATION + 2
        wait_for(lambda: any_recording(home), "the first recording")
        figures["first recording"] = figure(time.monotonic() - begun, "s", goal)
        figures["latency"] = latency(home, runs)
        figures["working"] = memory_of(containers(home))
    return figures


def figure(value: float, unit: str, goal: float | None = None, digits: int = 1) -> Figures:
    """Return a figure and what it must not exceed."""
    goals = {} if goal is None else {"goal": round(goal, digits)}
    return {"value": round(value, digits), "unit": unit, **goals}


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
    code = next(index for index, layer in enumerate(layers) if int(layer))
    return {
        "all": figure(total / 1e6, "MB"),
        "over its base": figure((total - base) / 1e6, "MB", 280),
        "our code, to fetch": figure(fetched(code) / 1e6, "MB", 3),
    }


def fetched(place: int) -> int:
    """Return how much is fetched for a layer, compressed as registries do, bytes.

    Parameters
    ----------
    place
        Among those of the image, newest first, the empty ones counted.
    """
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        whole = Path(folder) / "image.tar"
        docker("save", "--output", str(whole), image_name())
        with tarfile.open(whole) as tar:
            manifest = json.loads(_member(tar, "manifest.json"))[0]
            history = json.loads(_member(tar, manifest["Config"]))["history"]
            newer = [one for one in history[::-1][:place] if not one.get("empty_layer")]
            return len(gzip.compress(_member(tar, manifest["Layers"][-1 - len(newer)])))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return file.read() if file else b""


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
    return {
        "to ready": figure(median(ready), "s", 15),
        "to healthy, as the engine sees it": figure(median(healthy), "s", 15),
    }


def are_ready(home: Path) -> bool:
    """Return whether every service of ours waits for work."""
    run = home / "run"
    pulses = [read_pulse(run / name, name) for name in SERVICES[1:]]
    alive = all(is_locked(run / name, name) for name in SERVICES[1:])
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
    """Return memory and processor time while nothing has been recorded yet."""
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
    memory = {name: pss(one) / MEBIBYTE for name, one in ids.items()}
    figures: Figures = {
        name: {
            "memory (PSS)": figure(memory[name], "MiB"),
            "processor": figure(median(cpu[name]), "%", digits=2),
        }
        for name in SERVICES
    }
    figures["all"] = {
        "memory (PSS)": figure(sum(memory.values()), "MiB", 165),
        "processor": figure(sum(median(cpu[name]) for name in SERVICES), "%", 1, digits=2),
    }
    figures["health probes"] = probes(home, ids)
    return figures


def wait_out_full_hour(seconds: float) -> None:
    """Wait until no full hour, and so no recording, falls into the next so many seconds."""
    left = HOUR - time.time() % HOUR
    if left < seconds:
        time.sleep(left + 1)


def memory_of(ids: dict[str, str]) -> Figures:
    """Return what each service takes once it has recorded, run the model and sent messages."""
    memory = {name: pss(one) / MEBIBYTE for name, one in ids.items()}
    named = {**memory, "all": sum(memory.values())}
    return {f"{name} memory (PSS)": figure(value, "MiB") for name, value in named.items()}


def processes(container: str) -> list[psutil.Process]:
    """Return every process of a container, those of its health probe too."""
    lines = docker("top", container, "-o", "pid").split()[1:]
    found = []
    for line in lines:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(line)))
    return found


def pss(container: str) -> int:
    """Return the proportional memory of a container's processes, bytes."""
    total = 0
    for process in processes(container):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


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


def probes(home: Path, ids: dict[str, str]) -> Figures:
    """Return what the health probes take, in the containers and in the engine that starts them.

    A look starts a process (`true` stands for it) and looks some times, which
    is measured without the sleep between. What runs in the container for that is
    the engine's child, and its time is the engine's when it has ended.
    """
    container, pulse = ids["default"], home / "run" / "default" / "default.json"
    names = ("dockerd", "containerd", "containerd-shim-runc-v2")
    engine = [one for one in psutil.process_iter() if one.name()[:15] in [n[:15] for n in names]]

    def cost(*command: str, times: int = 1) -> float:
        before = _used(engine)
        for _ in range(times):
            docker("exec", container, *command)
        return (_used(engine) - before) / times

    start = median(cost("true", times=5) for _ in range(5))
    turn = f": >/tmp/.bench; sleep 0; [ {pulse} -nt /tmp/.bench ]; read -r said <{pulse}"
    many = f"n=0; while [ $n -lt 500 ]; do {turn}; n=$((n + 1)); done"
    turn_cost = max(0.0, cost("sh", "-c", many) - start) / 500
    each = start + LOOKS * turn_cost
    share = 100 * each * len(ids) / (LOOKS * LOOK_EVERY)
    return {
        "start of a look": figure(1000 * start, "ms"),
        "look": figure(1000 * turn_cost, "ms", digits=2),
        "all": figure(share, "%", 0.2, digits=3),
    }


def _used(engine: list[psutil.Process]) -> float:
    """Return what the engine has used, its ended children included, seconds."""
    total = 0.0
    for process in engine:
        with contextlib.suppress(psutil.NoSuchProcess):  # of a container that has ended
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
        "median": figure(median(delays), "ms"),
        "95th percentile": figure(quantiles(delays, n=20)[-1], "ms", 50),
        "slowest": figure(max(delays), "ms"),
        "recordings": len(delays),
    }
