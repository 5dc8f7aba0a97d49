"""How much faster than real time the reference model is, on one core."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from acoupi import data
from acoupi.audio.synthetic import synthesize_second
from acoupi.audio.wav import WavWriter
from acoupi.components.models import BandEnergyModel

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
SECONDS = 30


def run(runs: int) -> dict[str, object]:
    """Return the speeds, and how much memory a minute at 384 kHz takes."""
    done = subprocess.run(
        [sys.executable, __file__, str(runs)],
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def _measure(runs: int) -> dict[str, object]:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        speeds = {
            f"{rate // 1000} kHz, {what}": {
                "value": _speed(Path(folder), rate, what == "sounds", runs),
                "unit": "times real time",
            }
            for rate in (384_000, 48_000)
            for what in ("sounds", "noise only")
        }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**speeds, "memory_mb": round(peak / 1024), "of_it_before_mb": round(before / 1024)}


def _speed(folder: Path, rate: int, with_sounds: bool, runs: int) -> float:
    """Return how many seconds of sound are analysed in one, reading the file included."""
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
        begun = time.perf_counter()
        model.run(recording)
        times.append(time.perf_counter() - begun)
    return round(SECONDS / median(times), 1)


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
