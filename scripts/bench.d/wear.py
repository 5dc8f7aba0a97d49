"""What a sensor writes to its disk beside the audio itself, and who writes it.

The demo program records in containers, in a home on an ext4 of its own (a loop device, which takes
root), whose databases are some days old. The bytes are those that the kernel
charges to each service, and those that reach the device: what is left of them is the journal and
the metadata of the file system. At both ends what is in the logs of the databases is written into
them, which they do by themselves only every quarter of an hour. Bytes are counted, so that the
load of the machine does not change them.
"""

import os
import runpy
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import psutil

from acoupi.bundles.images import build_image, image_name, why_build

HERE = Path(__file__).parent
WATCH = 240.0
"""Seconds over which bytes are counted, for each run."""


class Case(NamedTuple):
    """What is recorded."""

    rate: int
    """Hertz: bats, birds."""
    seconds: float
    """Of one recording."""
    interval: float
    """From the start of one to that of the next, seconds."""

    def __str__(self) -> str:
        return f"{self.rate / 1000:g} kHz, {self.seconds:g} s each {self.interval:g} s"


CASES = (
    Case(384_000, 10, 10), Case(48_000, 10, 10), Case(48_000, 60, 60), Case(48_000, 3, 10),
)  # fmt: skip
STORES = ("metadata.db", "messages.db")
DISK, SECTOR, SAMPLE = 2**30, 512, 2
"""Bytes."""
LOG_FRAMES = 5000
"""Commits after which the log of a database has its full length, and is written over."""
MEGABYTE = 1e6
GOAL = 5.0
"""Percent of the audio's bytes."""

Figures = dict[str, object]


def run(runs: int) -> Figures:
    """Return the bytes of a recorded hour, and what is written beside them."""
    if os.geteuid() != 0:
        raise SystemExit("it takes root: the home is on a loop device")
    return {str(case): of(case, WATCH * max(1, min(runs, 5))) for case in CASES}


def of(case: Case, seconds: float) -> Figures:
    """Return that of a sensor that records so."""
    bench = SimpleNamespace(**runpy.run_path(str(HERE / "bundle.py")))
    image = os.environ.get("ACOUPI_IMAGE") or image_name()
    if why_build(image):
        build_image(image=image)
    settings = {"recording.duration": f"{case.seconds:g}",
                "recording.interval": f"{case.interval:g}",
                "microphone.samplerate": str(case.rate)}  # fmt: skip
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with disk() as (folder, device):
        tempfile.tempdir = str(folder)
        try:
            with bench.bundle(*options) as home:
                bench.docker("compose", "up", "-d", cwd=home)
                bench.wait_for(lambda: bench.are_ready(home), "every service")
                bench.wait_for(lambda: bench.any_recording(home), "the first recording")
                for name in STORES:
                    fill_log(home / "data" / name)
                time.sleep(bench.SETTLE)
                return watched(bench, home, device, case, seconds)
        finally:
            tempfile.tempdir = None


def fill_log(database: Path) -> None:
    """Write the log of a database until its beginning is written over."""
    with closing(sqlite3.connect(database, isolation_level=None)) as store:
        store.execute("PRAGMA synchronous = OFF")
        (version,) = store.execute("PRAGMA user_version").fetchone()
        for _ in range(LOG_FRAMES):
            store.execute(f"PRAGMA user_version = {version}")


@contextmanager
def disk() -> Iterator[tuple[Path, Path]]:
    """Mount an empty ext4; give its folder and the counters of its device."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as below:
        image, folder = Path(below) / "disk", Path(below) / "mounted"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(DISK)
        call("mkfs.ext4", "-q", str(image))
        device = call("losetup", "--find", "--show", str(image)).strip()
        try:
            call("mount", device, str(folder))
            try:
                yield folder, Path("/sys/block") / Path(device).name / "stat"
            finally:
                call("umount", str(folder))
        finally:
            call("losetup", "--detach", device)


def call(*command: str) -> str:
    """Run a command and return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def watched(
    bench: SimpleNamespace, home: Path, device: Path, case: Case, seconds: float
) -> Figures:
    """Return what is written from now on, by the recorded hour."""
    before = written(bench, home, device)
    time.sleep(seconds)
    counts = written(bench, home, device)
    counts.subtract(before)
    recorded, whole = counts.pop("recordings") * case.seconds, counts.pop("device")
    audio = recorded * case.rate * SAMPLE + counts.pop("in progress")
    hours = audio / case.rate / SAMPLE / 3600
    counts["recording"] -= audio
    counts["the file system itself"] = whole - audio - sum(counts.values())
    by_whom = {name: figure(count, hours) for name, count in counts.items()}
    beside = {"value": round(100 * (whole - audio) / audio, 2), "unit": "%", "goal": GOAL}
    return {"audio": figure(audio, hours), "beside it": by_whom | {"all": beside}}


def written(bench: SimpleNamespace, home: Path, device: Path) -> Counter[str]:
    """Return the bytes written so far, by whom, and what was recorded so far."""
    counts: Counter[str] = Counter()
    for name, container in bench.containers(home).items():
        for process in bench.processes(container):
            counts[name] += process.io_counters().write_bytes
    for name in STORES:
        with closing(sqlite3.connect(home / "data" / name)) as store:
            store.execute("PRAGMA wal_checkpoint")
    counts["the databases from their logs"] = psutil.Process().io_counters().write_bytes
    counts["in progress"] = sum(one.stat().st_size for one in (home / "data").rglob(".*.part"))
    os.sync()
    counts["device"] = int(device.read_text().split()[6]) * SECTOR
    counts["recordings"] = recordings(home)
    return counts


def recordings(home: Path) -> int:
    """Return how many recordings there are, deleted ones too."""
    path = home / "data" / "metadata.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        (count,) = store.execute("SELECT count(*) FROM recording").fetchone()
        return int(count)


def figure(count: float, hours: float) -> Figures:
    """Return how much is written for a recorded hour."""
    return {"value": round(count / MEGABYTE / hours, 3), "unit": "MB/h"}
