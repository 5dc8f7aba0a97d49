"""Whether a disk of 512 MB is ever full: a real sensor at 384 kHz on a file system of its own.

The default program under the process target, without pauses, and every recording kept: 46 MB a
minute. The reserve is set to 64 MB. As root only: the disk is a file, mounted through a loop
device (ext4); a memory disk, where there is no loop device.

In the environment: ACOUPI_BENCH_DISK_MINUTES (30) of real time, ACOUPI_BENCH_DISK_FILLED_MB (0),
which another program has taken from the beginning, so that a short run meets the full disk, too.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acoupi.effort import NO_REASON
from acoupi.space import disk_sizes

Figures = dict[str, object]

MEGABYTE = 1_000_000
DISK_BYTES = 512 * MEGABYTE
RESERVE_BYTES = 64 * MEGABYTE
MINUTES = float(os.environ.get("ACOUPI_BENCH_DISK_MINUTES", "30"))
FILLED_BYTES = round(float(os.environ.get("ACOUPI_BENCH_DISK_FILLED_MB", "0")) * MEGABYTE)
LOOK_EVERY_S = 0.2
DATABASE_ERROR = re.compile(r"sqlite|database or disk is full|the disk is full", re.IGNORECASE)
SETTINGS = (
    ("--microphone.samplerate", "384000"),
    ("--recording.duration", "3"),
    ("--recording.interval", "3"),
    ("--recording.schedule_start", "00:00"),
    ("--recording.schedule_end", "00:00"),
    ("--sensor.disk.enabled", "true"),
    ("--sensor.disk.reserve_megabytes", str(RESERVE_BYTES // MEGABYTE)),
)


def run(_: int) -> Figures:
    """Return the least that was free, errors of databases, and what the time was used for."""
    with disk() as folder:
        if FILLED_BYTES:
            with (folder / "of another program").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, FILLED_BYTES)
        home = folder / "home"
        acoupi(home, "setup", "--program", "default", "--target", "process", "--no-prompt",
               *(text for setting in SETTINGS for text in setting))  # fmt: skip
        acoupi(home, "deployment", "start", "--name", "bench", "--no-check")
        try:
            least = watch(folder, MINUTES * 60)
        finally:
            acoupi(home, "deployment", "stop")
        return figures(home, least)


def figures(home: Path, least: int) -> Figures:
    """Return what the sensor says of itself afterwards."""
    effort = json.loads(acoupi(home, "effort", "--json"))
    room = json.loads(acoupi(home, "disk", "--json"))
    unexplained = sum(one["lost_s"] for one in effort["holes"] if NO_REASON in one["detail"])
    given_up = room["given_up"].values()
    lines = [
        line for path in (home / "log").rglob("*.log*") for line in path.read_text().split("\n")
    ]
    goal = f"≥ {RESERVE_BYTES // MEGABYTE}"
    return {
        "least free": {"value": round(least / MEGABYTE, 1), "unit": "MB", "goal": goal,
                       "is_met": least >= RESERVE_BYTES},
        "errors of databases": {"value": sum(bool(DATABASE_ERROR.search(one)) for one in lines),
                                "unit": "", "goal": 0},
        "unexplained": {"value": round(unexplained, 3), "unit": "s", "goal": 0},
        "planned": {"value": round(effort["planned_s"], 1), "unit": "s"},
        "states": {state: {"value": round(seconds, 3), "unit": "s"}
                   for state, seconds in effort["states_s"].items() if seconds},
        "given up": {"value": sum(one["recordings"] for one in given_up), "unit": "recordings"},
        "given up size": {"value": round(sum(one["bytes"] for one in given_up) / MEGABYTE, 1),
                          "unit": "MB"},
    }  # fmt: skip


def watch(folder: Path, seconds: float) -> int:
    """Return the fewest bytes that were free for so long."""
    least, end, told = DISK_BYTES, time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < end:
        least = min(least, disk_sizes(folder)[0])
        if time.monotonic() - told > 60:
            told = time.monotonic()
            left = (end - told) / 60
            print(f"{left:.0f} min left, least free {least / MEGABYTE:.0f} MB", file=sys.stderr)
        time.sleep(LOOK_EVERY_S)
    return least


@contextmanager
def disk() -> Iterator[Path]:
    """Mount a disk of its own for a while."""
    if os.geteuid() != 0:
        raise SystemExit("mounting a disk needs root")
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as parent:
        image, folder = Path(parent) / "image", Path(parent) / "disk"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        done = system("mkfs.ext4", "-q", "-m", "0", str(image))
        done = done and system("mount", "-o", "loop", str(image), str(folder))
        size = f"size={DISK_BYTES}"
        if not done and not system("mount", "-t", "tmpfs", "-o", size, "acoupi", str(folder)):
            raise SystemExit("cannot mount a disk here")
        try:
            yield folder
        finally:
            system("umount", "--lazy", str(folder))


def system(*command: str) -> bool:
    """Run a command; return whether it was done, and say what it said if not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip(), file=sys.stderr)
    return done.returncode == 0


def acoupi(home: Path, *arguments: str) -> str:
    """Run a command of acoupi and return what it printed."""
    done: Any = subprocess.run(
        [str(Path(sys.executable).with_name("acoupi")), *arguments],
        env={
            **os.environ,
            "ACOUPI_HOME": str(home),
            "ACOUPI_SIMULATED_AUDIO": "counter",
            "NO_COLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split()).replace(str(home), "HOME")
        raise SystemExit(f"acoupi {arguments[0]} failed: {said[-400:]}")
    return str(done.stdout)
