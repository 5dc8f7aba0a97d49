"""How much sooner a hub is done with more workers: two are measured, ten and a hundred simulated.

A real PostgreSQL, redis, ``acoupi hub serve`` and ``dispatch``, and workers as processes, each
with a model that computes for ACOUPI_BENCH_ANALYSIS_SECONDS (5) on one thread. ACOUPI_BENCH_JOBS
(8) recordings are done by one worker, then as many by two.

Then what a recording costs beside its analysis is measured, with a model that costs nothing: the
processor time of the hub's process, of its database and of the rest, and the time that a worker
spends between two analyses. From these, workers are simulated that share one hub: each of a job's
three questions waits for the one before it, as the hub's one process answers them.
"""

import heapq
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]
heavy = importlib.import_module("_heavy")

from acoupi.hub.audio_store import open_store  # noqa: E402
from acoupi.hub.database import HubDatabase  # noqa: E402
from acoupi.hub.parts import Hub  # noqa: E402
from acoupi.hub.workers import add_worker  # noqa: E402
from acoupi.services.program_report import program_report  # noqa: E402
from tests.hub.recorded import leave, new_recording  # noqa: E402
from tests.hub.running import RunningHub  # noqa: E402
from tests.postgres import running_postgres  # noqa: E402
from tests.services import Redis, eventually  # noqa: E402

SECONDS = float(os.environ.get("ACOUPI_BENCH_ANALYSIS_SECONDS", "5"))
JOBS = int(os.environ.get("ACOUPI_BENCH_JOBS", "8"))
CHEAP_JOBS = 60
LONGEST = 900.0
SIMULATED = 3600.0
"""Seconds of the simulation."""
QUESTIONS = 3
"""Of a job: to have it, for its sound, and with what came."""
WORKERS = (1, 10, 100)
MOST = 2000
PROGRAM = "_heavy"
READY = "takes jobs for"
"""What a worker says when it begins."""

Figures = dict[str, Any]


def run(runs: int) -> Figures:
    """Return what was measured, and what follows from it."""
    rounds = _rounds_of(SECONDS)
    with _hub() as hub:
        ratios, walls = [], []
        for _ in range(max(1, min(runs, 3))):
            one, two = (hub.time_of(JOBS, number, rounds)[0] for number in (1, 2))
            ratios.append(one / two)
            walls.append((one, two))
            print(f"one {one:.1f} s, two {two:.1f} s", file=sys.stderr, flush=True)
        wall, costs = hub.time_of(CHEAP_JOBS, 1, 0)
    best = max(ratios)
    figures: Figures = {
        "recordings_count": JOBS,
        "one worker_s": round(min(one for one, _ in walls), 1),
        "two workers_s": round(min(two for _, two in walls), 1),
        "two workers": {
            "value": round(best, 2), "unit": "times one", "goal": "≥ 1.6", "is_met": best >= 1.6
        },
        "cost of a job": {
            **{f"{name}_ms": round(1000 * each / CHEAP_JOBS, 1) for name, each in costs.items()},
            "between two analyses_ms": round(1000 * wall / CHEAP_JOBS, 1),
        },
    }  # fmt: skip
    answer = costs["serve"] / CHEAP_JOBS / QUESTIONS
    away = max(0.0, wall / CHEAP_JOBS - QUESTIONS * answer)
    return {**figures, "simulated": _simulated(answer, away)}


def _rounds_of(seconds: float) -> int:
    """Return how many rounds cost so many seconds of the processor."""
    rounds = 2000
    begun = time.process_time()
    heavy.compute(rounds)
    return round(rounds * seconds / (time.process_time() - begun))


class _Measured:
    """A hub whose workers are counted and timed."""

    def __init__(self, folder: Path, database: str, broker: Redis) -> None:
        self._folder, self._broker = folder, broker
        self._running = RunningHub(folder, database, broker)
        self._database = HubDatabase(database)
        self._hub = Hub(self._database, open_store(str(folder / "sound")))
        self._dispatcher = self._running.dispatch()
        self._server = self._running.serve()
        self._last = 0

    def close(self) -> None:
        self._running.end()
        self._database.close()

    def time_of(self, jobs: int, workers: int, rounds: int) -> tuple[float, dict[str, float]]:
        """Return how long some workers take, and the processor seconds of each part."""
        at_work = self._start(workers, rounds)
        program = program_report(heavy.Program, heavy.ConfigSchema())
        before = self._costs()
        for _ in range(jobs):
            leave(self._hub, new_recording(self._folder), program)
        eventually(lambda: self._has_done(jobs), "all of it", LONGEST, self._running.logs)
        after = self._costs()
        for process in at_work:
            process.terminate()
            process.wait(120)
        with self._database.reading() as connection:
            took, self._last = connection.one(_TOOK, {"last": self._last})
        return float(took), {name: after[name] - before[name] for name in after}

    def _start(self, workers: int, rounds: int) -> list[subprocess.Popen[bytes]]:
        """Start workers, and wait until they wait."""
        log = self._folder / "work.log"
        log.touch()
        ready = log.read_text().count(READY) + workers
        variables = {
            heavy.ROUNDS: str(rounds), "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{HERE}",
        }  # fmt: skip
        started = []
        for number in range(workers):
            name = f"worker-{number}"
            token = add_worker(self._database, name, PROGRAM, self._broker.url)
            variables["ACOUPI_HUB_WORKER_TOKEN"] = token
            started.append(self._running.run("work", "--hub", self._running.url, **variables))
        eventually(lambda: log.read_text().count(READY) >= ready, "them", 120, self._running.logs)
        return started

    def _has_done(self, jobs: int) -> bool:
        time.sleep(0.1)
        with self._database.reading() as connection:
            done = connection.one(_DONE, {"last": self._last})
        return bool(done == (jobs,))

    def _costs(self) -> dict[str, float]:
        pids = {
            "serve": self._server.pid,
            "dispatch": self._dispatcher.pid,
            "redis": self._broker.pid,
        }
        return {name: _seconds(psutil.Process(pid)) for name, pid in pids.items()}


_DONE = "SELECT count(*) FROM job WHERE row > :last AND state = 'done'"
_TOOK = """
    SELECT (max(updated_on_us) - min(sent_on_us)) / 1e6, max(row) FROM job WHERE row > :last
"""


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _hub() -> Iterator[_Measured]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acoupi-bench-")))
        postgres = stack.enter_context(running_postgres())
        broker = stack.enter_context(Redis(folder / "redis"))
        (folder / "sound").mkdir()
        (folder / "home").mkdir()
        os.environ["ACOUPI_HOME"] = str(folder / "home")
        hub = _Measured(folder, postgres.new_database("bench"), broker)
        stack.callback(hub.close)
        yield hub


# ---- the simulation


def _simulated(answer: float, away: float) -> Figures:
    """Return how much some numbers of workers do, and up to how many it is in proportion."""
    alone = _jobs_an_hour(1, answer, away)
    figures: Figures = {}
    for workers in WORKERS:
        done = _jobs_an_hour(workers, answer, away)
        figures[f"{workers} workers"] = {
            "jobs an hour_count": done, "of linear_percent": round(100 * done / alone / workers, 1)
        }  # fmt: skip
    low, high = 1, MOST
    while low < high:
        middle = (low + high + 1) // 2
        if _jobs_an_hour(middle, answer, away) >= 0.9 * middle * alone:
            low = middle
        else:
            high = middle - 1
    figures["workers up to 90 % of linear_count"] = low
    figures["most jobs an hour_count"] = round(3600 / QUESTIONS / answer)
    return figures


def _jobs_an_hour(workers: int, answer: float, away: float) -> int:
    """Let workers ask one hub, which answers one question at a time, in the order they came.

    Parameters
    ----------
    answer
        Seconds of the hub for a question.
    away
        Seconds that a worker spends on a job beside the analysis and the questions.
    """
    free, done = 0.0, 0
    pause = {0: 0.0, 1: away + SECONDS, 2: 0.0}
    # When a worker asks, who, and how many questions of its job it has asked.
    asking = [(number * (SECONDS / workers), number, 0) for number in range(workers)]
    heapq.heapify(asking)
    while asking[0][0] < SIMULATED:
        at, worker, asked = heapq.heappop(asking)
        free = max(free, at) + answer
        done += asked == QUESTIONS - 1
        heapq.heappush(asking, (free + pause[asked], worker, (asked + 1) % QUESTIONS))
    return done


if __name__ == "__main__":
    print(json.dumps(run(1), indent=2))
