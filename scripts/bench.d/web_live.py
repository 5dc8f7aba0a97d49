"""What watching costs: five viewers of the live picture while a sensor records at 384 kHz.

A whole sensor runs as processes: a counter is the sound, so that loss is counted in frames, and
recordings follow each other without a gap. It is measured for some time while nobody watches,
then while five read the events of the page, and then while one of them listens, too:
ACOUPI_BENCH_WEB_SECONDS (30) each.
"""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import psutil

from acoupi import data
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.heard import Filters

VIEWERS = 5
RATE = 384_000
PORT = 18_432
DETECTIONS = 20
SECONDS = float(os.environ.get("ACOUPI_BENCH_WEB_SECONDS", "30"))
SETTINGS = {
    "microphone.samplerate": RATE,
    "recording.duration": 3,
    "recording.interval": 3,
    "recording.schedule_start": "00:00:00",
    "recording.schedule_end": "00:00:00",
    "sensor.web.port": PORT,
    "sensor.web.public": "true",
    "sensor.web.live_audio": "everybody",
}
Figures = dict[str, object]


@dataclass
class Seen:
    """What viewers see."""

    columns: list[int]
    """By each of them."""
    start: float = 0.0
    """From when on it counts, by the monotonic clock."""
    detections: dict[str, float] = field(default_factory=dict)
    """When the last of them was told of each."""


def run(runs: int) -> Figures:
    """Return the figures; one run, however many are asked for."""
    del runs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with sensor(home):
            quiet = used(home)
            with viewers("/api/v1/live", VIEWERS) as watching:
                watched = used(home)
                columns = min(watching.columns) / (time.monotonic() - watching.start)
                with viewers("/api/v1/live/audio", 1):
                    heard = used(home)
                delays = [delay(home, watching) for _ in range(DETECTIONS)]
        lost, recordings = losses(home)
    if recordings * 3 < 3 * SECONDS:
        raise RuntimeError(f"the sensor made {recordings} recordings only")
    return {
        "recorder, nobody watches": percent(quiet["recording"]),
        "recorder, five watch: more": percent(watched["recording"] - quiet["recording"], most=2),
        "recorder, one listens, too: more": percent(heard["recording"] - quiet["recording"]),
        "web, nobody watches": percent(quiet["web"]),
        "web, five watch": percent(watched["web"], most=5),
        "web, one listens, too": percent(heard["web"]),
        "columns of each viewer": {"value": columns, "unit": "a second"},
        "a stored detection is told after (p95)": {
            "value": quantiles(delays, n=20)[-1],
            "unit": "s",
            "goal": 1,
        },
        "frames lost": {"value": lost, "unit": "", "goal": 0},
        "recordings_count": recordings,
    }


def percent(value: float, *, most: float | None = None) -> Figures:
    """Return a share of a core."""
    return {"value": value, "unit": "% of a core", **({} if most is None else {"goal": most})}


@contextlib.contextmanager
def sensor(home: Path) -> Iterator[None]:
    """Run a sensor with a page."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ACOUPI_")
    }
    environment |= {
        "ACOUPI_HOME": str(home), "ACOUPI_TARGET": "process", "ACOUPI_SIMULATED_AUDIO": "counter",
    }  # fmt: skip

    def acoupi(*words: str) -> None:
        command = [Path(sys.executable).with_name("acoupi"), *words]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    acoupi("setup", "--program", "default", "--web", "--no-prompt", *options)
    acoupi("deployment", "start", "--name", "bench")
    try:
        until(lambda: answers("/alive") and pids(home).keys() >= {"recording", "web"})
        until(lambda: answers("/"))  # the process that answers it has started, too
        yield
    finally:
        acoupi("deployment", "stop")


def until(condition: object, patience: float = 120.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + patience
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError("the sensor does not start")
        time.sleep(0.2)


def answers(path: str) -> bool:
    """Return whether the page answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 300
    except OSError:
        return False
    finally:
        connection.close()


def pids(home: Path) -> dict[str, int]:
    """Return the processes of the services that write a pulse, by name."""
    found = {}
    for path in (home / "run").rglob("*.json"):
        with contextlib.suppress(ValueError, KeyError, OSError):
            found[path.stem] = int(json.loads(path.read_text())["pid"])
    return found


def used(home: Path) -> dict[str, float]:
    """Return what the recorder and the page use of a core, with their children, percent."""
    services = {name: psutil.Process(pids(home)[name]) for name in ("recording", "web")}
    before, start = {name: seconds_of(one) for name, one in services.items()}, time.monotonic()
    time.sleep(SECONDS)
    wall = time.monotonic() - start
    return {name: 100 * (seconds_of(one) - before[name]) / wall for name, one in services.items()}


def seconds_of(process: psutil.Process) -> float:
    """Return the processor time of a process."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


@contextlib.contextmanager
def viewers(path: str, count: int) -> Iterator[Seen]:
    """Let some read a stream; yield what they see."""
    seen = Seen([0] * count)
    answers_ = [http.client.HTTPConnection("127.0.0.1", PORT, timeout=30) for _ in range(count)]
    over = threading.Event()

    def watch(number: int) -> None:
        answers_[number].request("GET", path)
        stream = answers_[number].getresponse()
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
            while not over.is_set() and (line := stream.readline()):
                if line.startswith(b'data: {"number"'):
                    seen.columns[number] += len(json.loads(line[6:])["columns"]) * 3 // 4 // 256
                elif line.startswith(b'data: {"detection_id"'):
                    seen.detections[json.loads(line[6:])["detection_id"]] = time.monotonic()

    threads = [threading.Thread(target=watch, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(5)  # what begins once is not what watching costs
    seen.columns[:], seen.start = [0] * count, time.monotonic()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join(5)
        for answer in answers_:
            answer.close()


def delay(home: Path, watching: Seen) -> float:
    """Store a detection, and return after how many seconds the last viewer was told."""
    store = SqliteStore(home / "data" / "metadata.db")
    now = data.utc_now()
    recording = data.Recording(
        duration=1,
        samplerate=RATE,
        deployment=store.get_current_deployment(),
        created_on=now,
    )
    found = data.Detection(detection_score=0.5)
    store.store_recording(recording)
    start = time.monotonic()
    store.store_model_output(
        data.ModelOutput(name_model="bench", recording=recording, detections=[found])
    )
    until(lambda: str(found.id) in watching.detections)
    time.sleep(0.2)  # the others, too
    return watching.detections[str(found.id)] - start


def losses(home: Path) -> tuple[int, int]:
    """Return the frames that were lost within or between recordings, and how many there are."""
    reader = SqliteReader(home / "data" / "metadata.db")
    captures = [reader.capture(row.id) for row in reader.recordings(Filters())]
    reports = [one for one in captures if one is not None]
    within = sum(lost.frames for one in reports for lost in one.overruns)
    return within + sum(one.gap_before_frames for one in reports[1:]), len(reports)
