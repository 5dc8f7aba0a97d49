"""How long the daily commands take on a sensor in containers, when nothing is to be built.

Beside each stands the processor time of the command itself, without that of the containers, and
at the end a Python that does nothing: on a machine that is busy with other things, these tell
more than the seconds.
"""

import os
import runpy
import sys
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from acoupi.bundles.images import build_image, image_name, why_build

HERE = Path(__file__).parent
GOALS = {"start": 6.0, "status": 0.6, "check": 4.0, "stop": None}
"""Seconds."""

Figures = dict[str, object]
Cost = tuple[float, float]
"""Seconds, and seconds of the processor."""


def run(runs: int) -> Figures:
    """Return the medians of ``acoupi start``, ``status``, ``check`` and ``stop``."""
    bench = SimpleNamespace(**runpy.run_path(str(HERE / "bundle.py")))
    command_line = SimpleNamespace(**runpy.run_path(str(HERE / "cli.py")))
    image = os.environ.get("ACOUPI_IMAGE") or image_name()
    if why_build(image):
        build_image(image=image)
    acoupi, nothing = command_line.console_script(), [sys.executable, "-c", "pass"]
    words = {name: [acoupi, name] for name in GOALS}
    words["start"] += ["bench", "--at", "51.5,0"]
    costs: dict[str, list[Cost]] = {name: [] for name in (*GOALS, "nothing")}
    with bench.bundle("--recording.duration", "1", "--recording.interval", "3600") as home:
        cost = partial(command_line.cost, ACOUPI_HOME=str(home))
        cost(words["status"])  # compiles what is not compiled yet
        for _ in range(max(1, runs)):
            for name, command in words.items():
                costs[name].append(cost(command))
                costs["nothing"].append(cost(nothing))
    figures: Figures = {name: described(costs[name], goal) for name, goal in GOALS.items()}
    return figures | {"python -c pass": described(costs["nothing"], None)}


def described(costs: list[Cost], goal: float | None) -> Figures:
    """Return the medians, and what the first must not exceed."""
    taken, used = (round(median(kind), 2) for kind in zip(*costs, strict=True))
    goals = {} if goal is None else {"goal": goal}
    return {
        "": {"value": taken, "unit": "s", **goals},
        "of the processor": {"value": used, "unit": "s"},
    }
