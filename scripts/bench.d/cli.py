"""How soon the command line answers, beside a Python that does nothing."""

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

WARM_UPS = 2
GOAL = 6
"""Times a Python that does nothing."""


def run(runs: int) -> dict[str, object]:
    """Return the medians of ``python -c pass`` and of ``acoupi --help``, and their ratio.

    The two take turns, so that whatever else the machine does slows both; processor time is
    slowed least.
    """
    nothing = [sys.executable, "-c", "pass"]
    help_ = [console_script(), "--help"]
    for _ in range(WARM_UPS):
        cost(nothing)
        cost(help_)
    pairs = [(cost(nothing), cost(help_)) for _ in range(max(runs, 3) * 3)]
    (base, base_used), (answer, answer_used) = (
        [median(kind) for kind in zip(*costs, strict=True)] for costs in zip(*pairs, strict=True)
    )
    ratios = ([help_[kind] / base[kind] for base, help_ in pairs] for kind in (0, 1))
    ratio, ratio_used = (round(median(kind), 2) for kind in ratios)
    return {
        "python_ms": round(base * 1000, 1),
        "help_ms": round(answer * 1000, 1),
        "help": {"value": ratio, "unit": "times", "goal": GOAL},
        "of the processor": {
            "python_ms": round(base_used * 1000, 1),
            "help_ms": round(answer_used * 1000, 1),
            "help": {"value": ratio_used, "unit": "times", "goal": GOAL},
        },
    }


def console_script() -> str:
    """Return the ``acoupi`` of this Python's environment."""
    beside = Path(sys.executable).parent / "acoupi"
    return str(beside) if beside.exists() else shutil.which("acoupi") or "acoupi"


def cost(command: list[str], **variables: str) -> tuple[float, float]:
    """Return how long a command takes, and how much of the processor, seconds; it must succeed.

    Compiled modules are kept, as they are beside an installed acoupi: where Python is told to
    write none, each command of a checkout would compile it anew, which takes a third of the time
    of ``acoupi status``.
    """
    environment = {**os.environ, "COLUMNS": "80", **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, begun = processor(), time.monotonic()
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} failed: {done.stderr[-400:]}")
    return time.monotonic() - begun, processor() - before


def processor() -> float:
    """Return what the commands that have ended have used so far, not containers, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
