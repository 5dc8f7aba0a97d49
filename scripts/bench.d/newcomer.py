"""The first minutes of a newcomer: from a clone to the first detection on the page.

What is typed is that of the README: a clone, then ``scripts/run --web``. The clone is of the last
commit of this checkout. Where the image of the sensor is not there yet, building it is part of it:
run it twice on a fresh machine for both figures.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

from acoupi.bundles.images import image_name, why_build

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 600.0
GOALS = {"image there": 60.0, "image to build": 180.0}
"""Seconds."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return the seconds of one walk, whatever `runs` says: the second would find it all there."""
    del runs
    case = "image to build" if why_build(image_name()) else "image there"
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        return {case: walk(Path(folder) / "acoupi", GOALS[case])}


def walk(clone: Path, goal: float) -> Figures:
    """Clone and run; return when what was there, seconds since the beginning."""
    begun = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    cloned = time.monotonic() - begun
    port = free_port()
    command = ["scripts/run", "--web", "--port", str(port), "--seconds", str(DEADLINE)]
    process = subprocess.Popen(
        command,
        cwd=clone,
        env={name: text for name, text in os.environ.items() if not name.startswith("ACOUPI_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/api/v1/detections?limit=1"
        shown = wait_for(process, url, begun, least=0)
        heard = wait_for(process, url, begun, least=1)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE)
        shutil.rmtree(clone / ".demo", ignore_errors=True)
    return {
        "cloned": {"value": round(cloned, 1), "unit": "s"},
        "page": {"value": round(shown, 1), "unit": "s"},
        "first detection on it": {"value": round(heard, 1), "unit": "s", "goal": goal},
    }


def wait_for(process: subprocess.Popen[bytes], url: str, begun: float, least: int) -> float:
    """Wait until the page has so many detections; return the seconds since the beginning."""
    while time.monotonic() - begun < DEADLINE and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = len(json.load(answer)["detections"])
        except (URLError, OSError, ValueError):
            found = -1
        if found >= least:
            return time.monotonic() - begun
        time.sleep(0.2)
    raise SystemExit(f"{url} answered nothing, or the sensor ended with {process.returncode}")


def free_port() -> int:
    """Return a port of the loopback that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
