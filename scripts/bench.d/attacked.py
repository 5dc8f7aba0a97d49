"""Whether a sample is lost while the worker of a model takes all that it can.

The demo program at 384 kHz under the compose target, its sound a counter. From inside its
container, the model's worker fills its scratch, its number of processes, its memory and the broker,
one after the other and then all at once (``tests/docker/attacks/planted.py``). Every recording says
what was lost within it and before it.

ACOUPI_BENCH_ATTACKED_SECONDS (75): how long, in seconds, for all five together; the goal is meant
for 600.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path

from acoupi.audio.simulated import VARIABLE
from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.bundles.variables import choose
from acoupi.system import Settings, setup_program

PLANTED = Path(__file__).parents[2] / "tests" / "docker" / "attacks" / "planted.py"
RATE, DURATION = 384_000, 3
KINDS = ("scratch", "processes", "memory", "full_broker")
OPTIONS = ("--microphone.samplerate", str(RATE), "--recording.duration", str(DURATION),
           "--recording.interval", str(DURATION))  # fmt: skip
DEADLINE = 120.0
CAPTURES = """
SELECT hex(stream_id), first_frame, frames, gap_before_frames, overruns
FROM capture ORDER BY recording_row
"""

Figures = dict[str, object]
Capture = tuple[str, int, int, int, str]


def run(runs: int) -> Figures:
    """Return what was lost; one run, however many are asked for."""
    del runs
    seconds = float(os.environ.get("ACOUPI_BENCH_ATTACKED_SECONDS", "75"))
    if why_build(image_name()):
        build_image()
    with bundle() as home:
        wait_for_recordings(home, 2)
        figures: Figures = {}
        begun = time.monotonic()
        for kinds in (*((kind,) for kind in KINDS), KINDS):
            words = attack(home, kinds, seconds / 5)
            print(f"attacked by {', '.join(kinds)}: {', '.join(words)}", file=sys.stderr)
        attacked = time.monotonic() - begun
        wait_for_recordings(home, len(captures(home)) + 2)
        figures["attacked"] = {"value": round(attacked), "unit": "s"}
        return figures | lost(captures(home))


@contextmanager
def bundle() -> Iterator[Path]:
    """Run a bundle in a home of its own; remove it in the end."""
    with tempfile.TemporaryDirectory(prefix="acoupi-bench-") as folder:
        home = Path(folder) / "home"
        setup_program(
            Settings(home=home), "acoupi.programs.demo", [*OPTIONS], target="compose", environ={}
        )
        choose(home, {VARIABLE: "counter"})
        try:
            docker("compose", "up", "-d", cwd=home)
            yield home
        finally:
            docker("compose", "down", "--volumes", "--timeout", "5", cwd=home)


def docker(*words: str, cwd: Path) -> str:
    """Run docker and return what it printed."""
    done = subprocess.run(["docker", *words], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"docker {words[0]} failed: {done.stderr[-400:]}")
    return done.stdout


def attack(home: Path, kinds: tuple[str, ...], seconds: float) -> list[str]:
    """Let the model's worker do these for some seconds, again whenever its container ends."""
    words = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with ExitStack() as stack:
            attackers = [stack.enter_context(attacker(home, kind)) for kind in kinds]
            words += [one.stdout.readline().decode().strip() for one in attackers if one.stdout]
            while time.monotonic() < end and any(one.poll() is None for one in attackers):
                time.sleep(0.2)
    return sorted({word for word in words if word})


@contextmanager
def attacker(home: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of `planted` within the model's container."""
    command = ["docker", "compose", "exec", "-T", "detection", "python", "-c",
               PLANTED.read_text(), kind]  # fmt: skip
    with subprocess.Popen(
        command, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def captures(home: Path) -> list[Capture]:
    """Return how each recording was captured, in their order."""
    path = home / "data" / "metadata.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(CAPTURES).fetchall()


def wait_for_recordings(home: Path, count: int) -> None:
    """Wait until there are so many, or end."""
    end = time.monotonic() + DEADLINE
    while len(captures(home)) < count:
        if time.monotonic() > end:
            raise SystemExit(f"{count} recordings did not come within {DEADLINE:.0f} s")
        time.sleep(0.5)


def lost(found: list[Capture]) -> Figures:
    """Return what recordings say was lost, and whether they lie end to end."""
    told = sum(gap for *_, gap, _ in found)
    within = sum(1 for *_, overruns in found if overruns)
    untold = 0
    for before, after in pairwise(found):
        is_one_stream = before[0] == after[0]
        untold += after[1] - before[1] - before[2] if is_one_stream else 1
    return {
        "recorded": {"value": round(sum(one[2] for one in found) / RATE), "unit": "s"},
        "streams": {"value": len({one[0] for one in found}), "unit": "", "goal": 1},
        "samples lost between recordings": {"value": told + untold, "unit": "", "goal": 0},
        "recordings with a loss within": {"value": within, "unit": "", "goal": 0},
    }
