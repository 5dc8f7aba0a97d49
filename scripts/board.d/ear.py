"""Waits in the board for a new recording of a tone: `ear.py HOME HERTZ DBFS SECONDS`.

Prints what it heard. A recording is of the tone if that is its strongest frequency, has the level
within 0.5 dB, and all but 5 % of the energy: a gap, a repeated block or another sound takes more.
"""

import json
import math
import sys
import time
import wave
from pathlib import Path

import numpy as np

OFF_BY, REST = 0.5, 0.05


def recordings(home: Path) -> dict[str, Path]:
    found = (*home.glob("data/spool/*.wav"), *home.glob("data/recordings/**/*.wav"))
    return {one.stem.rpartition("_")[2]: one for one in found}


def heard(path: Path) -> dict[str, float]:
    with wave.open(str(path)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[::channels] / 32768
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    strongest = int(np.argmax(power))
    near = power[max(0, strongest - 3) : strongest + 4].sum() / max(power.sum(), 1e-30)
    rms = math.sqrt(max(float(np.mean(samples**2)), 1e-20))
    return {
        "seconds": round(len(samples) / rate, 3),
        "hertz": round(strongest * rate / len(samples), 1),
        "dbfs": round(20 * math.log10(rms * math.sqrt(2)), 2),
        "share": round(float(near), 4),
    }


def is_tone(said: dict[str, float], hertz: float, dbfs: float) -> bool:
    right = abs(said["hertz"] - hertz) <= 1 and abs(said["dbfs"] - dbfs) <= OFF_BY
    return right and said["share"] >= 1 - REST


def listen(
    home: Path, hertz: float, dbfs: float, patience: float
) -> tuple[bool, dict[str, object]]:
    before, deadline = set(recordings(home)), time.monotonic() + patience
    last: dict[str, float] = {}
    tried = 0
    while time.monotonic() < deadline:
        for name, path in recordings(home).items():
            if name in before:
                continue
            try:
                last = heard(path)
            except FileNotFoundError:  # it is being moved
                continue
            before.add(name)
            tried += 1
            if is_tone(last, hertz, dbfs):
                return True, {**last, "tried": tried}
        time.sleep(0.5)
    return False, {"heard": last, "tried": tried}


if __name__ == "__main__":
    is_heard, said = listen(Path(sys.argv[1]), *map(float, sys.argv[2:]))
    print(json.dumps(said))
    sys.exit(not is_heard)
