"""What the page costs while nobody looks at it: a bundle with it, on a real Docker engine."""

import importlib.util
import os
import sys
import time
from pathlib import Path
from statistics import median
from types import ModuleType

import psutil

from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.bundles.variables import choose
from acoupi.stack.pulse import read_pulse

HERE = Path(__file__).parent
PORT = 20000 + os.getpid() % 10000
PAGE = ("--sensor.web.enabled", "true")
WATCH = 30.0
"""Seconds over which wake-ups are counted."""
UP = 60.0
"""Seconds that are allowed for the start of the bundle."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return memory, wake-ups and starting time of the page, and memory of the whole bundle."""
    if why_build(image_name()):
        build_image()
    bench = _bundle_bench()
    bench.SERVICES = (*bench.SERVICES, "web")
    bench.wait_out_full_hour(UP + (WATCH + 10) * runs)
    with bench.bundle("--recording.duration", "1", "--recording.interval", "3600", *PAGE) as home:
        choose(home, {"ACOUPI_PORT_WEB": str(PORT)})
        bench.docker("compose", "up", "-d", cwd=home)
        bench.wait_for(lambda: bench.are_ready(home), "every service")
        time.sleep(bench.SETTLE)
        ids = bench.containers(home)
        wakes = [_wakes_a_second(bench.processes(ids["web"])) for _ in range(max(1, min(runs, 3)))]
        memory = {name: bench.pss(one) / bench.MEBIBYTE for name, one in ids.items()}
        ready = [_restarted(bench, home) for _ in range(max(1, min(runs, 5)))]
    figure = bench.figure
    return {
        "page": {
            "memory (PSS)": figure(memory["web"], "MiB", 40),
            "wake-ups": figure(median(wakes), "/s", 3, digits=2),
            "to ready": figure(median(ready), "s", 1.5, digits=2),
        },
        "bundle with it": {"memory (PSS)": figure(sum(memory.values()), "MiB", 210)},
        **{f"{name} memory (PSS)": figure(one, "MiB") for name, one in memory.items()},
    }


def _wakes_a_second(processes: list[psutil.Process]) -> float:
    """Return how often threads of some processes were woken; a health probe is none of them."""
    (ours,) = filter(_is_page, processes)
    before, begun = _switches(ours), time.monotonic()
    time.sleep(WATCH)
    return (_switches(ours) - before) / (time.monotonic() - begun)


def _is_page(process: psutil.Process) -> bool:
    """Return whether a process is the page itself: not the one that starts it, nor a probe."""
    return process.cmdline()[1:3] == ["-m", "acoupi.web"]


def _switches(process: psutil.Process) -> int:
    """Return the voluntary context switches of all threads so far: each ends with a wake-up."""
    total = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        total += int(fields["voluntary_ctxt_switches"])
    return total


def _restarted(bench: ModuleType, home: Path) -> float:
    """Return the seconds from the start of its process until the page answers itself."""
    run = home / "run" / "web"
    bench.docker("compose", "restart", "web", cwd=home)

    def is_ready() -> bool:
        pulse = read_pulse(run, "web")
        return pulse is not None and pulse.state == "ready"

    bench.wait_for(is_ready, "the page")
    (process,) = filter(_is_page, bench.processes(bench.containers(home)["web"]))
    pulse = read_pulse(run, "web")
    assert pulse is not None
    return pulse.pulse_on.timestamp() - process.create_time()


def _bundle_bench() -> ModuleType:
    """Return the measurement of the bundle, with the ways to look at one."""
    spec = importlib.util.spec_from_file_location("bench_bundle", HERE / "bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
