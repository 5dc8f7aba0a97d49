"""A program of one's own: from ``acoupi program new`` to a container that analyses with it.

What is typed after that is ``acoupi setup --package``, which builds the image, and ``acoupi
start``. The image of the sensor, with the libraries, is built before the clock runs.
"""

import contextlib
import runpy
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.components import SqliteStore

HERE = Path(__file__).parent
GOAL = 60.0
"""Seconds."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return the seconds of one walk, whatever `runs` says: a second build would find layers."""
    del runs
    if why_build(image_name()):
        build_image()
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder, contextlib.chdir(folder):
        return walk(Path.cwd())


def walk(folder: Path) -> Figures:
    """Write a program, set it up and start it; return what was there after how many seconds."""
    bench = SimpleNamespace(**runpy.run_path(str(HERE / "bundle.py")))
    command_line = SimpleNamespace(**runpy.run_path(str(HERE / "cli.py")))
    home, package = folder / "home", folder / "acoupi-owls"
    acoupi = partial(command_line.cost, ACOUPI_HOME=str(home), ACOUPI_SIMULATED_AUDIO="synthetic")
    script, figures = command_line.console_script(), {}
    begun = time.monotonic()
    try:
        for what, words in {
            "written": ["program", "new", "owls"],
            "set up": ["setup", "--package", f"./{package.name}", "--program", "owls"],
            "started": ["start", "bench", "--at", "51.5,0"],
        }.items():
            acoupi([script, *words])
            figures[what] = bench.figure(time.monotonic() - begun, "s")
        store = SqliteStore(home / "data" / "metadata.db")
        bench.wait_for(store.get_model_outputs, "an analysis")
        figures["analysed"] = bench.figure(time.monotonic() - begun, "s", GOAL)
    finally:
        if (home / "docker-compose.yml").exists():
            bench.docker("compose", "down", "--volumes", "--timeout", "5", cwd=home)
        bench.docker("rmi", "--force", image_name([str(package)]))
    return figures
