"""The recordings below a home, and how many seconds of sound each file holds, as JSON."""

import json
import sys
import wave
from pathlib import Path


def seconds(path: Path) -> float:
    try:
        with wave.open(str(path)) as file:
            return (
                len(file.readframes(file.getnframes()))
                / file.getsampwidth()
                / file.getnchannels()
                / file.getframerate()
            )
    except (EOFError, OSError, wave.Error):
        return 0.0


home = Path(sys.argv[1])
found = (*home.glob("data/spool/*.wav"), *home.glob("data/recordings/**/*.wav"))
print(json.dumps({path.stem.rpartition("_")[2]: seconds(path) for path in found}))
