"""Whether a sample is lost, when recordings begin, and what recording costs.

A counter is the sound, so that loss is counted in samples. Real PortAudio
records it from virtual microphones (scripts/virtual-microphone) while as many
processes as there are cores do nothing but compute. The recorder is asked every
3 s, late by up to 2.5 s; on slots, every 6 s, late by up to 5 s.

Three lines run side by side, which makes it harder for each: one microphone of
48 kHz and one simulated of 384 kHz for an hour, and the other rates and the slots
one after the other. How long, in seconds, is in the environment:
ACOUPI_BENCH_CAPTURE_HOUR_SECONDS (3600) for the first two
(ACOUPI_BENCH_CAPTURE_SIMULATED_SECONDS for the simulated one alone, 0 for none),
ACOUPI_BENCH_CAPTURE_SECONDS (600) for each other rate,
ACOUPI_BENCH_CAPTURE_SLOT_SECONDS (600);
ACOUPI_BENCH_CAPTURE_RATES (192000,250000) says which other rates. The processor time
and the memory that have a goal are those at 250 kHz.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from acoupi.audio.counter import TURN, count_frames
from acoupi.audio.formats import read_audio
from acoupi.audio.stream import RING_SECONDS

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "virtual-microphone"
DURATION = 3.0
SIMULATED_RATE = 384_000
COSTLY_RATE = 250_000
Figures = dict[str, object]

RECORDER = """
import json, os, random, resource, sys, time
from pathlib import Path
from acoupi import data
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components.audio_recorder import PARecorder
what = json.loads(sys.argv[1])
simulated = SimulatedAudio(signal="counter") if what["simulated"] else None
recorder = PARecorder(what["duration"], what["rate"], 1, "virtual_microphone",
                      audio_dir=Path(what["folder"]), interval=what["interval"],
                      simulated=simulated)
deployment, chance = data.Deployment(name="bench"), random.Random(7)
start = due = time.monotonic()
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
warm = None
while time.monotonic() - start < what["seconds"]:
    while True:
        recording = recorder.record(deployment)
        report = recording.capture
        print(json.dumps([str(recording.path), recording.created_on.timestamp(),
            report.first_frame, report.frames, report.gap_before_frames,
            sum(o.frames for o in report.overruns), len(report.overruns)]), flush=True)
        if not recorder.is_behind():
            break
    if warm is None:
        warm = (time.monotonic(), used())
    due += what["interval"]
    time.sleep(max(0.0, due + chance.uniform(0, what["delay"]) - time.monotonic()))
wall, cpu = time.monotonic() - warm[0], used() - warm[1]
lines = open("/proc/self/smaps_rollup").read().splitlines()
pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
print(json.dumps({"cpu": 100 * cpu / wall, "pss": pss * 1024 / 1e6}), flush=True)
"""


def run(runs: int) -> Figures:
    """Return the figures; one run of each, however many are asked for."""
    del runs
    hour = _seconds("HOUR_SECONDS", 3600)
    with busy_cores(), ThreadPoolExecutor(3) as pool:
        lines = [pool.submit(simulated, _seconds("SIMULATED_SECONDS", hour))]
        missing = _missing_tools()
        if not missing:
            lines += [pool.submit(long_time, hour), pool.submit(one_after_the_other)]
        figures: Figures = {"virtual microphones": f"not measured: {missing}"} if missing else {}
        for line in lines:
            figures |= line.result()
    return figures


def simulated(seconds: float) -> Figures:
    """Measure a simulated microphone of 384 kHz."""
    if not seconds:
        return {}
    return _told({"simulated 384 kHz": continuous(SIMULATED_RATE, seconds, None)})


def long_time(seconds: float) -> Figures:
    """Measure one microphone for long, above all its times."""
    with virtual_microphone(48_000) as environment:
        figures = continuous(48_000, seconds, environment)
    residual = figures["timestamp_residual_p95"]
    assert isinstance(residual, dict)
    residual |= _goal(float(residual["value"]), "ms", most=2)
    return _told({"virtual microphone 48 kHz": figures})


def one_after_the_other() -> Figures:
    """Measure the other rates, then slots."""
    figures: Figures = {}
    rates = os.environ.get("ACOUPI_BENCH_CAPTURE_RATES", "192000,250000").split(",")
    for rate in map(int, filter(None, rates)):
        with virtual_microphone(rate) as environment:
            found = continuous(rate, _seconds("SECONDS", 600), environment)
        figures |= _told({f"virtual microphone {rate / 1000:g} kHz": found})
    with virtual_microphone(48_000) as environment:
        figures |= _told({"slots": slots(48_000, _seconds("SLOT_SECONDS", 600), environment)})
    return figures


def _told(figures: Figures) -> Figures:
    """Say what was found as soon as it is: an hour is long."""
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def _goal(
    value: float, unit: str, *, most: float | None = None, least: float | None = None
) -> Figures:
    """Return a figure that is to be reached."""
    if most is not None:
        return {"value": value, "unit": unit, "goal": f"≤ {most:g}", "is_met": value <= most}
    return {"value": value, "unit": unit, "goal": f"≥ {least:g}", "is_met": value >= (least or 0)}


@dataclass
class Account:
    """What the files of one run hold, in their order."""

    files: int = 0
    frames: int = 0
    lost: int = 0
    breaks: int = 0
    missing: int = 0
    doubled: int = 0
    silent: int = 0
    left_out: int = 0
    """By the player, next to its silence."""
    ends_silent: bool = False
    overruns: int = 0
    jumps: int = 0
    """Recordings that did not begin where the one before ended."""
    last_value: int | None = None
    end: int | None = None
    out_of_order: int = 0
    """Recordings that say that they began before the one before."""
    stamps: list[tuple[int, float]] = field(default_factory=list)

    def add(
        self, path: Path, created_on: float, first: int, frames: int, *, lost: int, overruns: int
    ) -> None:
        """Count what a file holds."""
        samples, _ = read_audio(path)
        values = np.rint(samples[:, 0] * 32768).astype(int)
        self.files += 1
        self.frames += len(values)
        self.lost += lost
        self.overruns += overruns
        self.out_of_order += bool(self.stamps) and created_on <= self.stamps[-1][1]
        self.jumps += (self.end is not None and first != self.end) or len(values) != frames
        self.end = first + frames
        self.stamps.append((first, created_on))
        # A player that starves on a busy machine leaves silence, and may leave out what it is
        # late with (the sound server does not wait for it): no loss of ours.
        self.silent += int(np.count_nonzero(values == 0))
        places = np.flatnonzero(values)
        if not len(places):
            self.ends_silent = True
            return
        after_silence = np.diff(places, prepend=places[0] - 1) > 1
        after_silence[0] = self.ends_silent or places[0] > 0
        self.ends_silent = bool(values[-1] == 0)
        values = values[places]
        before = values[0] - 1 if self.last_value is None else self.last_value
        self.last_value = int(values[-1])
        steps = np.diff(values, prepend=before) % TURN
        left_out = (steps != 1) & after_silence
        self.left_out += int(((steps[left_out] - 1) % TURN).sum())
        wrong = steps[(steps != 1) & ~after_silence]
        self.breaks += len(wrong)
        self.doubled += int(np.count_nonzero(wrong == 0))
        self.missing += int(((wrong[wrong != 0] - 1) % TURN).sum())

    def slots_left_out(self, interval: float) -> int:
        """Return how many slots between the first and the last have no recording."""
        numbers = [round(time / interval) for _, time in self.stamps]
        return numbers[-1] - numbers[0] + 1 - len(set(numbers)) if numbers else 0

    def residual_ms(self, rate: int) -> float:
        """Return the 95th percentile of the times' distance from the line through them, ms."""
        frames, times = np.array(self.stamps).T
        at, late = frames / rate, times - times[0] - frames / rate
        middle = at.mean()
        design = np.stack([np.ones_like(at), at - middle], axis=1)
        answer = np.linalg.lstsq(design, late, rcond=None)[0]
        return float(np.percentile(np.abs(late - design @ answer), 95) * 1000)


def continuous(rate: int, seconds: float, environment: dict[str, str] | None) -> Figures:
    """Record without a gap and look for what is missing."""
    account, costs = record(rate, seconds, environment, interval=DURATION, delay=2.5)
    span = account.end - account.stamps[0][0] if account.end else 0
    captured = 100 * (account.frames - account.lost) / span if span else 0.0
    ring = RING_SECONDS * rate * 2 / 1e6
    figures: Figures = {
        "length_s": account.frames / rate,
        "files_count": account.files,
        "missing_samples": _goal(account.missing + account.lost, "", most=0),
        "doubled_samples": _goal(account.doubled, "", most=0),
        "breaks_count": account.breaks,
        "overruns_count": account.overruns,
        "files_not_contiguous_count": account.jumps,
        "captured": _goal(captured, "%", least=100),
        "silence_of_the_player_percent": 100 * account.silent / max(1, account.frames),
        "left_out_by_the_player_samples_count": account.left_out,
        "timestamp_residual_p95": {"value": account.residual_ms(rate), "unit": "ms"},
        "times_out_of_order_count": account.out_of_order,
    }
    if rate == COSTLY_RATE:
        figures["processor"] = _goal(costs["cpu"], "%", most=8)
        figures["memory_pss"] = _goal(costs["pss"], "MB", most=ring + 60)
    else:
        figures |= {"processor_percent": costs["cpu"], "memory_pss_mb": costs["pss"]}
    return figures


def slots(rate: int, seconds: float, environment: dict[str, str]) -> Figures:
    """Record on slots, asked up to 5 s late, and compare the times with the slots."""
    account, _ = record(rate, seconds, environment, interval=6.0, delay=5.0, duration=0.9)
    # The first slot began before the microphone was opened.
    account.stamps = account.stamps[1:]
    off = [abs((time + 3) % 6 - 3) * 1000 for _, time in account.stamps]
    return {
        "recordings_count": len(off),
        "slots_without_recording_count": account.slots_left_out(6.0),
        "start_error_p95_ms": float(np.percentile(off, 95)),
        "start_error_most": _goal(max(off), "ms", most=1),
        "timestamp_residual_p95_ms": account.residual_ms(rate),
    }


def record(
    rate: int,
    seconds: float,
    environment: dict[str, str] | None,
    *,
    interval: float,
    delay: float,
    duration: float = DURATION,
) -> tuple[Account, dict[str, float]]:
    """Run a recorder in a process of its own, and count what it makes while it does."""
    account = Account()
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        what = {
            "simulated": environment is None,
            "duration": duration,
            "rate": rate,
            "folder": folder,
            "interval": interval,
            "seconds": seconds,
            "delay": delay,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", RECORDER, json.dumps(what)],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        costs: dict[str, float] = {}
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if isinstance(told, dict):
                costs = told
                continue
            path, created_on, first, frames, _, lost, overruns = told
            account.add(Path(path), created_on, first, frames, lost=lost, overruns=overruns)
            Path(path).unlink()
        if process.wait():
            raise RuntimeError(f"the recorder at {rate} Hz ended with {process.returncode}")
    return account, costs


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """Keep every core busy."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextlib.contextmanager
def virtual_microphone(rate: int) -> Iterator[dict[str, str]]:
    """Play the counter for ever into a microphone; yield the environment to hear it in."""
    with tempfile.TemporaryDirectory(prefix="acoupi-microphone-") as name:
        folder = Path(name)
        # Whole turns of the counter, so that it goes on where it ends.
        (folder / "counter.raw").write_bytes(count_frames(0, 30 * TURN).tobytes())
        os.mkfifo(folder / "sound")
        subprocess.run([SCRIPT, "start", folder, str(rate)], check=True)
        children = []
        try:
            feed = 'exec >"$0/sound"; while cat "$0/counter.raw"; do :; done'
            children.append(subprocess.Popen(["bash", "-c", feed, name]))
            play = [SCRIPT, "play", folder, str(rate), folder / "sound"]
            children.append(subprocess.Popen(play))
            yield {
                "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
                "PULSE_RUNTIME_PATH": str(folder / "run"),
            }
        finally:
            for child in children:
                child.terminate()
                child.wait()
            subprocess.run([SCRIPT, "stop", folder], check=True)


def _missing_tools() -> str | None:
    tools = [tool for tool in ("pulseaudio", "pactl", "pacat") if shutil.which(tool) is None]
    return f"{', '.join(tools)} not installed" if tools else None


def _seconds(name: str, default: float) -> float:
    return float(os.environ.get(f"ACOUPI_BENCH_CAPTURE_{name}", default))
