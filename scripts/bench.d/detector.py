"""How much faster than real time the reference model is, on one core, and what it finds.

Found are the calls of `_soundscapes` in each disturbance, beside the share that the same
detections would reach if they were shifted at random, and the annotated calls of real bats
(in ``../shared/audio`` beside the project, or where ACOUPI_TEST_AUDIO says).
"""

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from types import ModuleType

import numpy as np

from acoupi import data
from acoupi.audio.formats import read_audio
from acoupi.audio.synthetic import synthesize_second
from acoupi.audio.wav import WavWriter
from acoupi.components.models import BandEnergyModel, detect

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
SECONDS = 30
HERE = Path(__file__).parent
AUDIO = Path(os.environ.get("ACOUPI_TEST_AUDIO") or HERE.parents[1] / ".." / "shared" / "audio")
RATES = (48_000, 192_000, 384_000)
SEEDS = range(3)
LEAST_SPEED = 20
MOST_A_MINUTE, LEAST_FOUND, LEAST_BOXED, OVERLAP = 10, 0.9, 28, 0.3


def run(runs: int) -> dict[str, object]:
    """Return the speeds, and how much memory a minute at 384 kHz takes."""
    done = subprocess.run(
        [sys.executable, __file__, str(runs)],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout), **_found_among_disturbances(), **_found_in_recordings()}


def soundscapes() -> ModuleType:
    """Return `_soundscapes`, which stands beside this file."""
    spec = importlib.util.spec_from_file_location("bench_soundscapes", HERE / "_soundscapes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _found_among_disturbances() -> dict[str, object]:
    """Return, for a minute of each, detections without calls, calls found, and found by chance."""
    sounds = soundscapes()
    found: dict[str, object] = {}
    for rate in RATES:
        for kind in sounds.MAKERS:
            results = [sounds.trial(detect, kind, rate, seed, 60) for seed in SEEDS]
            false = max(result.false for result in results)
            recall = min(result.recall for result in results)
            found[f"{rate // 1000} kHz, {kind}"] = {
                "detections without calls": {
                    "value": false,
                    "unit": "a minute",
                    "goal": MOST_A_MINUTE,
                },
                "calls found": _least(round(recall, 3), LEAST_FOUND),
                "found by chance": round(mean(result.chance for result in results), 3),
            }
    return found


def _least(value: float, least: float, unit: str = "") -> dict[str, object]:
    """Return a figure that must not be below `least`."""
    return {"value": value, "unit": unit, "goal": f"≥ {least}", "is_met": value >= least}


def _found_in_recordings() -> dict[str, object]:
    """Return how many annotated calls of real bats are found, and how many boxes are tight."""
    sounds = soundscapes()
    calls = found = boxed = detections = 0
    for path in sorted(AUDIO.glob("*.wav")):
        samples, rate = read_audio(path)
        boxes = sounds.boxes(detect(samples[:, 0], rate))
        truth = [
            sounds.Call(call["start_time"], call["end_time"], call["low_freq"], call["high_freq"])
            for call in json.loads(Path(f"{path}.json").read_text())["annotation"]
            if call["det_prob"] >= 0.5
        ]
        best = [max((sounds.overlap(box, call) for box in boxes), default=0) for call in truth]
        calls, detections = calls + len(truth), detections + len(boxes)
        found += sum(share > 0 for share in best)
        boxed += sum(share >= OVERLAP for share in best)
    return {
        "real calls": {
            "annotated": calls,
            "found": found,
            f"overlap of at least {OVERLAP}": _least(boxed, LEAST_BOXED),
            "detections": detections,
        }
    }


def _measure(runs: int) -> dict[str, object]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        speeds = {
            f"{rate // 1000} kHz, {what}": _least(
                _speed(Path(folder), rate, what == "sounds", runs), LEAST_SPEED, "times real time"
            )
            for rate in (384_000, 48_000)
            for what in ("sounds", "noise only")
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**speeds, "memory_mb": round(peak / 1024), "of_it_before_mb": round(before / 1024)}


def _speed(folder: Path, rate: int, with_sounds: bool, runs: int) -> float:
    """Return how many seconds of sound one second of a core analyses, reading the file included."""
    path = folder / f"{rate}-{with_sounds}.wav"
    rng = np.random.default_rng(0)
    with WavWriter(path, rate, 1) as writer:
        for second in range(SECONDS):
            block = (
                synthesize_second(0, second, rate, 1)
                if with_sounds
                else (16 * rng.standard_normal(rate)).astype(np.int16)
            )
            writer.write(np.ascontiguousarray(block).data.cast("B"))
        writer.finish()
    recording = data.Recording(
        path=path, duration=SECONDS, samplerate=rate, deployment=data.Deployment(name="bench")
    )
    model = BandEnergyModel()
    found = model.run(recording).detections
    if bool(found) != with_sounds:
        raise SystemExit(f"found {len(found)} sounds in {path.name}")
    times = []
    for _ in range(runs):
        begun = time.process_time()
        model.run(recording)
        times.append(time.process_time() - begun)
    return round(SECONDS / median(times), 1)


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
