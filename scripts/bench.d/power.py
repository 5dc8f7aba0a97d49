"""How often an idle sensor wakes the processor: in containers, and as plain processes.

A wake-up is a voluntary context switch of any thread of any process: each ends a sleep. The
demo program waits for its next full hour, off schedule, with the microphone closed and no page.
They are counted, not timed, so that the load of the machine hardly changes them.
"""

import os
import runpy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import psutil

from acoupi.bundles.images import build_image, image_name, why_build

HERE = Path(__file__).parent
WATCH = 60.0
"""Seconds over which wake-ups are counted, for each run."""
UP = 90.0
"""Seconds that are allowed for the start of a sensor."""
SETTLE = 8.0
"""Seconds after the start before anything is counted."""
LEAST = 0.05
"""Wake-ups a second that are worth a line."""
GOAL = 20.0
"""Wake-ups a second of the whole sensor."""

Figures = dict[str, object]
Threads = dict[tuple[str, str, int], int]
"""Voluntary switches so far of each thread, with its service and what it is."""
Rates = Mapping[tuple[str, str], float]


def run(runs: int) -> Figures:
    """Return the wake-ups of a bundle and of a sensor without containers, by process."""
    looks = max(1, min(runs, 3))
    return {"containers": of_bundle(looks), "processes": of_processes(looks)}


def of_bundle(looks: int) -> Figures:
    """Return the wake-ups of every process of every container, health probes included."""
    bench = SimpleNamespace(**runpy.run_path(str(HERE / "bundle.py")))
    image = os.environ.get("ACOUPI_IMAGE") or image_name()
    if why_build(image):
        build_image(image=image)
    bench.wait_out_full_hour(UP + looks * WATCH)
    with bench.bundle("--recording.duration", "1", "--recording.interval", "3600") as home:
        bench.docker("compose", "up", "-d", cwd=home)
        bench.wait_for(lambda: bench.are_ready(home), "every service")
        ids = bench.containers(home)

        def running() -> Iterable[tuple[str, psutil.Process]]:
            return [(name, one) for name, id_ in ids.items() for one in bench.processes(id_)]

        return described([counted(running) for _ in range(looks)])


def of_processes(looks: int) -> Figures:
    """Return the wake-ups of a sensor of the process target, its scripts included."""
    bench = SimpleNamespace(**runpy.run_path(str(HERE / "services.py")))
    with bench.sensor("--recording.interval", "3600") as home:
        return described([counted(lambda: of_home(home)) for _ in range(looks)])


def of_home(home: Path) -> list[tuple[str, psutil.Process]]:
    """Return every process that works for a home, and the service that it belongs to."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get("ACOUPI_HOME") == str(home):
                found.append((service_of(one.cmdline()) or one.name(), one))
        except psutil.Error:
            continue
    return found


def service_of(command: list[str]) -> str:
    """Return the service that a command runs: the worker that it names, else its module."""
    words = [one for one in command if not one.startswith("-")]
    return words[-1].rpartition(".")[2] if "-m" in command else ""


def counted(running: Callable[[], Iterable[tuple[str, psutil.Process]]]) -> Rates:
    """Return the wake-ups a second of each kind of thread, from now on."""
    time.sleep(SETTLE)
    before, begun = switches(running()), time.monotonic()
    time.sleep(WATCH)
    after, passed = switches(running()), time.monotonic() - begun
    rates: Counter[tuple[str, str]] = Counter()
    for key, count in after.items():
        rates[key[:2]] += (count - before.get(key, 0)) / passed
    return rates


def switches(processes: Iterable[tuple[str, psutil.Process]]) -> Threads:
    """Return the voluntary switches of each thread so far."""
    found: Threads = {}
    for service, process in processes:
        for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
            try:
                lines = status.read_text().splitlines()
            except OSError:  # it has ended
                continue
            fields = dict(line.split(":", 1) for line in lines)
            thread = int(status.parent.name)
            kind = "" if thread == process.pid else ", other threads"
            what = f"{fields['Name'].strip()}{kind}"
            found[service, what, thread] = int(fields["voluntary_ctxt_switches"])
    return found


def described(looks: list[Rates]) -> Figures:
    """Return the medians by service and kind, those above 0.05 a second, and their sum."""
    kinds = sorted({kind for rates in looks for kind in rates})
    rates = {kind: median(one.get(kind, 0.0) for one in looks) for kind in kinds}
    figures: dict[str, Figures] = {}
    for (service, what), rate in rates.items():
        if rate >= LEAST:
            figures.setdefault(service, {})[what] = figure(rate)
    whole = median(sum(one.values()) for one in looks)
    return {**figures, "all": {**figure(whole), "goal": GOAL}}


def figure(rate: float) -> Figures:
    """Return a number of wake-ups a second."""
    return {"value": round(rate, 2), "unit": "/s"}
