"""How soon the command line answers, beside a Python that does nothing."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

WARM_UPS = 2


def run(runs: int) -> dict[str, object]:
    """Return the medians of ``python -c pass`` and of ``acoupi --help``, and their ratio.

    The two take turns, so that whatever else the machine does slows both.
    """
    nothing = [sys.executable, "-c", "pass"]
    help_ = [console_script(), "--help"]
    for _ in range(WARM_UPS):
        seconds(nothing)
        seconds(help_)
    pairs = [(seconds(nothing), seconds(help_)) for _ in range(max(runs, 3) * 3)]
    base, answer = median(one for one, _ in pairs), median(other for _, other in pairs)
    return {
        "python_ms": round(base * 1000, 1),
        "help_ms": round(answer * 1000, 1),
        "help_ratio": round(median(other / one for one, other in pairs), 2),
    }


def console_script() -> str:
    """Return the ``acoupi`` of this Python's environment."""
    beside = Path(sys.executable).parent / "acoupi"
    return str(beside) if beside.exists() else shutil.which("acoupi") or "acoupi"


def seconds(command: list[str]) -> float:
    """Return how long a command takes."""
    environment = {**os.environ, "COLUMNS": "80"}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start
