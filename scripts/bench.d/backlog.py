"""What a model that is slower than the microphone costs: nothing that is not said.

First nights of ten hours with a model at 0.3 times real time, simulated with the real store and
the real tasks (`_nights`): is the share that was left out in the ledger, and does the sample tell
how many calls there were? The worst of as many nights as runs, each with a seed of its own.

Then a backlog of 10,000 recordings that is analysed and cleared away while a recorder at 384 kHz
records beside it, and how long the passes of recovery and of the
backlog policy take over 100,000 recordings of history.

ACOUPI_BENCH_BACKLOG_SECONDS (600): for how long the recorder records, at most. Whatever of the
backlog is left then was not measured. ACOUPI_BENCH_BACKLOG_WAITING (10000): how many wait.
"""

import importlib.util
import json
import logging
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from acoupi import data
from acoupi.backlog import Backlog
from acoupi.components import SavingThreshold, SqliteStore
from acoupi.tasks import (
    generate_detection_task,
    generate_file_management_task,
    generate_recovery_task,
)
from acoupi.tasks.backlog import generate_backlog_task
from acoupi.testing import FakeModel, InMemoryMessageStore, make_wav

HERE = Path(__file__).parent
FIRST_SEED = 1
WAITING = int(os.environ.get("ACOUPI_BENCH_BACKLOG_WAITING", "10000"))
SECONDS = float(os.environ.get("ACOUPI_BENCH_BACKLOG_SECONDS", "600"))
HISTORY = (10_000, 100_000)
MODEL = "fake"
SITE = data.Deployment(name="bench", started_on=datetime(2024, 6, 1, tzinfo=UTC))

Figures = dict[str, Any]


def run(runs: int) -> Figures:
    """Return the figures of all three."""
    logging.disable(logging.WARNING)  # every recording that is left out is told
    figures: Figures = {}
    for part in (lambda: nights(runs), recovery, draining):
        found = part()
        print(json.dumps(found), file=sys.stderr, flush=True)
        figures |= found
    return figures


def _goal(value: float, unit: str, *, most: float | None = None, least: float | None = None) -> Any:
    is_met = value <= most if most is not None else value >= (least or 0)
    goal = f"≤ {most:g}" if most is not None else f"≥ {least:g}"
    return {"value": value, "unit": unit, "goal": goal, "is_met": is_met}


def _load(name: str) -> ModuleType:
    """Return a module that stands beside this file."""
    spec = importlib.util.spec_from_file_location(f"bench_{name.strip('_')}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# Nights


def nights(runs: int) -> Figures:
    """Compare what the sensor says of some nights with what they were."""
    simulated = _load("_nights")
    made = []
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        with tempfile.TemporaryDirectory() as folder:
            night = simulated.simulated_night(Path(folder), seed)
        print(f"night with seed {seed}: {night}", file=sys.stderr, flush=True)
        made.append(night)
    shares = [100 * abs(one.ledger_share - one.true_share) for one in made]
    by_detections = [100 * abs(one.by_detections / one.true_rate - 1) for one in made]
    by_spans = [100 * abs(one.by_spans / one.true_rate - 1) for one in made]
    return {
        "nights": {
            "count": len(made),
            "recordings_each_count": made[0].recordings,
            "left_out_percent": 100 * statistics.mean(one.true_share for one in made),
            "longest_backlog_hours": max(one.longest_hours for one in made),
            "share_in_the_ledger_off_by": _goal(max(shares), "%", most=1),
            "calls_an_hour_by_detections_off_by": _goal(max(by_detections), "%", most=5),
            "calls_an_hour_by_spans_off_by": _goal(max(by_spans), "%", most=5),
            "messages_missing_or_doubled_count": sum(
                abs(one.messages - one.analysed) for one in made
            ),
        }
    }


# History


def recovery() -> Figures:
    """Time the passes over a history, and over ten times as much of it."""
    found = {history: _passes(history) for history in HISTORY}
    (few, many) = (found[history] for history in HISTORY)
    return {
        "passes over 100,000 recordings of history": {
            "recovery": _goal(many["recovery"] / 1000, "s", most=1),
            "recovery_against_10,000_x": many["recovery"] / few["recovery"],
            "backlog_ms": many["backlog"],
            "backlog_against_10,000_x": many["backlog"] / few["backlog"],
        }
    }


def _passes(history: int) -> dict[str, float]:
    """Return the median milliseconds of each pass, with a few recordings that wait."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, spool = SqliteStore(folder / "metadata.db"), folder / "spool"
        store.backlog = Backlog("thin")
        store.store_deployment(SITE)
        _write_history(store.db_path, history)
        for number in range(20):
            _store_waiting(store, spool, number)
        recover = generate_recovery_task(
            store, lambda _: None, required_models=[MODEL], tmp_path=spool
        )
        look = generate_backlog_task(store, [MODEL])
        times = {"recovery": _median(recover), "backlog": _median(look)}
        store.close()
        return times


def _median(work: Callable[[], None], times: int = 9) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def _write_history(path: Path, count: int) -> None:
    """Write recordings that were kept, and their analyses, as the store does."""
    begin = data.to_microseconds(SITE.started_on)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"""
            {numbers}
            INSERT INTO recording (id, deployment_row, path, created_on_us, duration_s,
                samplerate_hz, audio_channels, time_expansion, state)
            SELECT randomblob(16), 1, '/kept/' || i || '.wav', :begin + i * 10000000, 3.0,
                256000, 1, 1.0, 'kept'
            FROM n
            """,
            {"count": count, "begin": begin},
        )
        connection.execute(
            "INSERT INTO analysis (recording_row, name_model, state, attempts, updated_on_us) "
            "SELECT row, :model, 'done', 1, created_on_us + 5000000 FROM recording",
            {"model": MODEL},
        )


def _store_waiting(store: SqliteStore, spool: Path, number: int) -> data.Recording:
    recording = data.Recording(
        path=make_wav(spool / f"{number:06}.wav", duration=0.05),
        duration=0.05,
        samplerate=8000,
        deployment=SITE,
        created_on=data.utc_now() - timedelta(hours=2) + timedelta(seconds=0.5 * number),
    )
    store.store_recording(recording)
    return recording


# Draining


def draining() -> Figures:
    """Clear away a backlog while a recorder records, and count the samples that it lost."""
    capture = _load("capture")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, spool = SqliteStore(folder / "metadata.db"), folder / "spool"
        store.store_deployment(SITE)
        waiting = [_store_waiting(store, spool, number) for number in range(WAITING)]
        print(f"{len(waiting)} recordings wait", file=sys.stderr, flush=True)
        ended = threading.Event()
        took: list[float] = []
        thread = threading.Thread(target=_drain, args=(store, spool, waiting, ended, took))
        thread.start()
        account, _ = capture.record(
            capture.SIMULATED_RATE, SECONDS, None, interval=capture.DURATION, delay=2.5
        )
        ended.set()
        thread.join()
        left = store.count_recordings()[data.RecordingState.CAPTURED]
        outputs = store.count_analyses()[data.AnalysisState.DONE]
        store.close()
    return {
        "a backlog beside a recorder at 384 kHz": {
            "recorded_s": account.frames / capture.SIMULATED_RATE,
            "lost_samples": _goal(account.missing + account.lost, "", most=0),
            "doubled_samples": _goal(account.doubled, "", most=0),
            "overruns_count": account.overruns,
            "analysed": _goal(outputs, "", least=WAITING),
            "left_count": left,
            "cleared_away_in_s": took[0] if took else "not while it recorded",
        }
    }


def _drain(
    store: SqliteStore,
    spool: Path,
    waiting: list[data.Recording],
    ended: threading.Event,
    took: list[float],
) -> None:
    """Do what the other workers do, until nothing is left."""
    detect = generate_detection_task(store, FakeModel(name=MODEL), InMemoryMessageStore())
    manage = generate_file_management_task(
        store, [], file_filters=[SavingThreshold(0.9)], required_models=[MODEL], tmp_path=spool
    )
    recover = generate_recovery_task(store, required_models=[MODEL], tmp_path=spool)
    start = time.monotonic()
    for number, recording in enumerate(waiting, 1):
        if ended.is_set():
            return
        detect(recording)
        if number % 500 == 0 or number == len(waiting):
            manage()
            recover()
    took.append(time.monotonic() - start)
