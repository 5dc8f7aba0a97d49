"""How fast the metadata store is once it holds a season."""

import datetime
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.components.stores import SqliteStore

RECORDINGS = 10_000
DETECTIONS = 5
TAGS = 2
READ_AT_ONCE = 20
START = datetime.datetime(2024, 6, 1, tzinfo=datetime.UTC)
SITE = data.Deployment(name="bench", started_on=START)


def run(runs: int) -> dict[str, Any]:
    """Return the median milliseconds of each hot path over `runs`, at 10,000 recordings."""
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "metadata.db")
        recordings = [_recording(n) for n in range(RECORDINGS)]
        _fill(store, recordings)
        fresh = [_recording(RECORDINGS + n) for n in range(runs)]
        outputs = [_output(recording, RECORDINGS + n) for n, recording in enumerate(fresh)]
        groups = [
            [recordings[(group * 499 + n * 97) % RECORDINGS] for n in range(READ_AT_ONCE)]
            for group in range(runs)
        ]
        result = {
            "recordings_count": RECORDINGS,
            "detections_each_count": DETECTIONS,
            "tags_each_count": TAGS,
            "runs_count": runs,
            "store_recording_ms": _median(store.store_recording, fresh),
            "store_model_output_ms": _median(store.store_model_output, outputs),
            "get_recordings_info_by_path_20_ms": _median(
                store.get_recordings_info_by_path,
                [[recording.path for recording in group] for group in groups],
            ),
            "get_recordings_model_outputs_20_ms": _median(
                store.get_recordings_model_outputs, groups
            ),
        }
        store.close()
        result["database_mb"] = round(store.db_path.stat().st_size / 1e6, 1)
    return result


def _recording(n: int) -> data.Recording:
    return data.Recording(
        path=Path(f"/spool/{n:08}.wav"),
        duration=3,
        samplerate=256_000,
        deployment=SITE,
        created_on=START + datetime.timedelta(seconds=10 * n),
    )


def _output(recording: data.Recording, n: int) -> data.ModelOutput:
    detections = [
        data.Detection(
            location=data.BoundingBox.from_coordinates(0.1 * m, 20_000, 0.1 * m + 0.02, 60_000),
            detection_score=0.5 + m / 20,
            tags=[
                data.PredictedTag(data.Tag(f"key {tag}", f"species {(n + m) % 20}"), 0.8)
                for tag in range(TAGS)
            ],
        )
        for m in range(DETECTIONS)
    ]
    return data.ModelOutput(name_model="bench", recording=recording, detections=detections)


def _fill(store: SqliteStore, recordings: list[data.Recording]) -> None:
    for recording in recordings:
        store.store_recording(recording)
    store.store_model_outputs([_output(recording, n) for n, recording in enumerate(recordings)])


def _median(work: Callable[[Any], object], arguments: list[Any]) -> float:
    taken = []
    for argument in arguments:
        start = time.perf_counter()
        work(argument)
        taken.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(taken), 3)
