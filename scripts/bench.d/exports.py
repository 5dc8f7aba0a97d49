"""How fast what was heard is read and exported, with 1,000,000 detections in the store.

A recorder at 384 kHz, which hears a counter, stores its recordings there meanwhile: it must lose
no sample. ACOUPI_BENCH_EXPORTS_SECONDS (60) says how long it records while everything is read.
"""

import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.heard import Filters
from acoupi.provenance import Provenance

DETECTIONS = 1_000_000
EACH = 5
SPECIES = 40
BATCH = 5_000
START = datetime.datetime(2024, 4, 1, 18, tzinfo=datetime.UTC)
SITE = data.Deployment(name="bench", started_on=START)
MADE_BY = Provenance(model="bench", model_version="bench 1.0", configuration="0")


def run(runs: int) -> dict[str, Any]:
    """Return the median seconds of each look over `runs`, the first of a reader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metadata.db"
        fill(path, DETECTIONS)
        rare = Filters(species=frozenset({"Rarissima avis"}))
        common = Filters(species=frozenset({"species 3"}))
        looks: dict[str, tuple[Callable[[SqliteReader], object], float | None]] = {
            "list_first_page": (lambda one: _page(one, Filters()), 0.5),
            "list_rare_species": (lambda one: _page(one, rare), 0.5),
            "list_common_species": (lambda one: _page(one, common), 0.5),
            "list_high_score": (lambda one: _page(one, Filters(min_score=0.999)), None),
            "recordings_first_page": (
                lambda one: list(one.recordings(Filters(), newest_first=True, limit=20)), 0.5
            ),
            "count_by_quarter": (lambda one: one.count_detections("quarter", Filters()), 3),
            "count_by_species": (lambda one: one.count_detections("species", Filters()), None),
            "read_100000": (lambda one: _read(one.detections(Filters(), limit=100_000)), None),
        }  # fmt: skip
        return {
            "detections_count": DETECTIONS,
            **{
                name: {"value": _median(path, look, runs), "unit": "s", "goal": goal}
                for name, (look, goal) in looks.items()
            },
            **_exported(path, Path(folder) / "out"),
            **_recorded_beside(path, Path(folder) / "spool"),
            "database_mb": round(path.stat().st_size / 1e6, 1),
        }


_EXPORT = """
import sys, time
from pathlib import Path
from acoupi.components.stores import SqliteReader
from acoupi.exports.formats import FORMATS
from acoupi.exports.packages import export
from acoupi.heard import Filters

start = time.perf_counter()
with SqliteReader(Path(sys.argv[1])) as reader:
    export(FORMATS["csv"](), reader, Filters(), Path(sys.argv[2]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - start, int(peak.split()[1]) / 1024)
"""


def _exported(path: Path, folder: Path) -> dict[str, Any]:
    """Return how long the export of everything takes a process of its own, and its memory."""
    done = subprocess.run(
        [sys.executable, "-c", _EXPORT, path, folder], check=True, capture_output=True, text=True
    )
    seconds, peak = map(float, done.stdout.split())
    return {
        "export_csv": {"value": round(seconds, 1), "unit": "s", "goal": 60},
        "export_csv_memory": {"value": round(peak, 1), "unit": "MiB", "goal": 80},
    }


_RECORDER = """
import sys
from pathlib import Path
import numpy as np
from acoupi.audio.counter import count_frames
from acoupi.audio.formats import read_audio
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import PARecorder, SqliteStore
from acoupi.tasks import generate_recording_task

store = SqliteStore(Path(sys.argv[1]))
recorder = PARecorder(3, 384_000, 1, "default", audio_dir=Path(sys.argv[2]), interval=3,
                      simulated=SimulatedAudio(signal="counter"))
record, recorded, lost, end = generate_recording_task(recorder, store), 0, 0, None
print("ready", flush=True)
while recorded < float(sys.argv[3]) * 384_000:
    recording = record()
    report = recording.capture
    lost += 0 if end is None else report.first_frame - end
    heard, _ = read_audio(recording.path)
    right = count_frames(report.first_frame, report.frames)[:, 0]
    lost += int((np.rint(heard[:, 0] * 32_768) != right).sum())
    recording.path.unlink()
    recorded, end = recorded + report.frames, report.first_frame + report.frames
print(recorded, lost, flush=True)
recorder.close()
"""


def _recorded_beside(path: Path, spool: Path) -> dict[str, Any]:
    """Return what a recorder lost while others read the whole store again and again."""
    seconds = os.environ.get("ACOUPI_BENCH_EXPORTS_SECONDS", "60")
    command = [sys.executable, "-c", _RECORDER, path, spool, seconds]
    reads = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        recorder.stdout.readline()
        while recorder.poll() is None:
            with SqliteReader(path) as reader:
                rows = reader.detections(Filters())
                reads += _read(takewhile(lambda _: recorder.poll() is None, rows))
        recorded, lost = map(int, recorder.stdout.read().split())
    return {
        "recorded_beside_samples": recorded,
        "recorded_beside_reads": reads,
        "recorded_beside_lost": {"value": lost, "unit": "samples", "goal": 0},
    }


def _page(reader: SqliteReader, filters: Filters) -> int:
    return _read(reader.detections(filters, newest_first=True, limit=20))


def _read(rows: Iterable[object]) -> int:
    return sum(1 for _ in rows)


def _median(path: Path, look: Callable[[SqliteReader], object], runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        with SqliteReader(path) as reader:
            look(reader)
        taken.append(time.perf_counter() - start)
    return round(statistics.median(taken), 3)


def fill(path: Path, detections: int) -> None:
    """Store so many detections: a season of recordings, each with `EACH`."""
    store = SqliteStore(path)
    store.store_deployment(SITE)
    numbers = iter(range(detections // EACH))
    database = store._database  # noqa: SLF001 - a season in one transaction takes a minute
    with database.writing() as connection:
        connection.execute("PRAGMA cache_size = -200000")
    while batch := list(islice(numbers, BATCH)):
        recordings = [recording(number) for number in batch]
        with database.writing() as connection:
            deployment = connection.execute("SELECT row FROM deployment").fetchone()[0]
            connection.executemany(
                "INSERT INTO recording (id, deployment_row, created_on_us, duration_s,"
                " samplerate_hz, audio_channels, time_expansion, state)"
                " VALUES (?, ?, ?, 3, 256000, 1, 1, 'deleted')",
                [
                    (one.id.bytes, deployment, data.to_microseconds(one.created_on))
                    for one in recordings
                ],
            )
        store.store_model_outputs(
            [output(one, number) for one, number in zip(recordings, batch, strict=True)]
        )
    store.close()


def recording(number: int) -> data.Recording:
    return data.Recording(
        id=data.derived_id("bench", number),
        duration=3,
        samplerate=256_000,
        deployment=SITE,
        created_on=START + datetime.timedelta(seconds=30 * number),
    )


def output(recording: data.Recording, number: int) -> data.ModelOutput:
    return data.ModelOutput.model_construct(
        id=data.derived_id(recording.id, "bench"),
        name_model="bench",
        recording=recording,
        created_on=recording.created_on + datetime.timedelta(seconds=5),
        detections=[_detection(number * EACH + place, place) for place in range(EACH)],
        provenance=MADE_BY,
    )


def _detection(number: int, place: int) -> data.Detection:
    species = "Rarissima avis" if number % 250_000 == 0 else f"species {number % SPECIES}"
    box = data.BoundingBox.from_coordinates(0.5 * place, 20_000, 0.5 * place + 0.02, 60_000)
    tags = [data.Tag("species", species), data.Tag("event", "call")]
    return data.Detection.model_construct(
        id=UUID(int=data.derived_id("detection", number).int),
        prediction_type=data.PredictionType.EVENT,
        location=box,
        detection_score=0.5 + (number * 7919 % 5000) / 10_000,
        tags=[data.PredictedTag(tag, 0.8) for tag in tags],
    )
