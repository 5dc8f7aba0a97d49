"""Runs the demo sensor for a while, shows what it does, and what it found.

Everything is real but the microphone: the home that `acoupi setup` makes, a
container for each service (plain processes where no Docker engine answers),
Celery tasks between them.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from acoupi import data
from acoupi.bundles.engine import Host
from acoupi.bundles.images import image_name, why_build
from acoupi.bundles.preflight import failure, run_preflight
from acoupi.cli.effort import shown_seconds
from acoupi.components import SqliteStore
from acoupi.errors import AcoupiError
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.exports.pictures import Box, spectrogram
from acoupi.home import using_home
from acoupi.programs.demo import ConfigSchema, Program
from acoupi.stack.pulse import is_locked, read_pulse
from acoupi.stack.settings import Settings

PROGRAM = "acoupi.programs.demo"
PLACE = ("--latitude", "51.5465", "--longitude", "-0.0163")
ACOUPI = Path(sys.executable).with_name("acoupi")
MARKER = "made-by-scripts-run"
SERVICES = [*(worker.name for worker in Program.worker_config.workers), "beat"]
ROWS = 25
"""Longest table of detections."""

console = Console(highlight=False)


class DemoError(Exception):
    """The demo cannot go on: what happened, why, and what to try, a line each."""

    @classmethod
    def of(cls, what: str, why: str, fix: str) -> Self:
        """Make one of its three parts."""
        return cls(f"Error: {what}\n  Why: {why}\n  Try: {fix}")


@dataclass
class Progress:
    """What the sensor has done so far, as its own files say."""

    recordings: int = 0
    analysed: int = 0
    detections: int = 0
    kept: int = 0
    deleted: int = 0
    waiting: int = 0
    delivered: int = 0
    heartbeats: int = 0
    services: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Return it in a line, for a log."""
        sick = [f"{name} {state}" for name, state in self.services.items() if state != "ok"]
        return (
            f"{self.recordings} recordings ({self.waiting} waiting, {self.kept} kept, "
            f"{self.deleted} deleted), {self.detections} detections, "
            f"{self.delivered} messages delivered, "
            f"services {', '.join(sick) if sick else 'ok'}"
        )


class Demo:
    """A sensor in a home of its own.

    Parameters
    ----------
    home
        Its ACOUPI_HOME.
    target
        Where it runs: "compose" or "process".
    page
        Port of its page; None: it has none.
    """

    def __init__(self, home: Path, target: str = "process", page: int | None = None) -> None:
        self.home = home
        self.target = target
        self.page = page
        self.picture = home / "spectrogram.png"
        with using_home(home):
            self.config = ConfigSchema()
        self.messages = home / "data" / "messages.jsonl"
        self.store = SqliteStore(self.config.paths.db_metadata)

    def acoupi(self, *arguments: str) -> str:
        """Run a command of acoupi on this home, and return what it printed.

        Raises
        ------
        DemoError
            If it failed.
        """
        command = [str(ACOUPI), *arguments]
        with undisturbed():
            done = subprocess.run(
                command,
                env={**os.environ, "ACOUPI_HOME": str(self.home), "NO_COLOR": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                start_new_session=True,  # Ctrl-C is for us; we stop the sensor in order
            )
        if done.returncode and "Error: " in done.stdout:
            raise DemoError(done.stdout.strip())
        if done.returncode:
            raise DemoError.of(
                f"acoupi {arguments[0]} ended with {done.returncode}.",
                done.stdout.strip() or "it printed nothing.",
                f"look into {self.home / 'log'}, then scripts/run again",
            )
        return done.stdout

    def setup(self) -> None:
        """Make the home."""
        # The folder holds the marker already.
        answers = ("--program", PROGRAM, "--target", self.target, "--no-prompt")
        self.acoupi("setup", "--adopt-folder", *answers, *self._page_answers())
        if self.target == "compose" and why_build(image_name()):
            say("Building the image of the sensor, which takes some minutes the first time ...")
            self.acoupi("compose", "build")

    def _page_answers(self) -> list[str]:
        if self.page is None:
            return []
        return ["--web", "--sensor.web.port", str(self.page), "--sensor.web.public", "true"]

    def say_page(self) -> None:
        """Say where the page is, and what opens it."""
        token = self.acoupi("web", "token").split()[0]
        say(f"The page: http://127.0.0.1:{self.page}/ (to change anything, log in with {token})")

    def start(self) -> None:
        """Check the sensor and start its services."""
        self.acoupi("deployment", "start", "--name", "demo", *PLACE)

    def stop(self) -> None:
        """Stop the services; what is in hand is finished."""
        self.acoupi("deployment", "stop")

    def is_running(self) -> bool:
        """Return whether any service lives."""
        return any(is_locked(self._run(name), name) for name in SERVICES)

    def _run(self, name: str) -> Path:
        """Return where the pulse of a service is: a container has a folder of its own."""
        run = self.home / "run"
        return run / name if self.target == "compose" else run

    def progress(self) -> Progress:
        """Return what was done so far."""
        progress = Progress(services={name: self._health(name) for name in SERVICES})
        if self.config.paths.db_metadata.exists():
            states = self.store.count_recordings()
            progress.recordings = sum(states.values())
            progress.kept = states[data.RecordingState.KEPT]
            progress.deleted = states[data.RecordingState.DELETED]
            progress.waiting = states[data.RecordingState.CAPTURED]
            outputs = self.store.get_model_outputs()
            progress.analysed = len(outputs)
            progress.detections = sum(len(output.detections) for output in outputs)
        for message in self._delivered():
            if message.get("message_type") == data.MessageType.HEARTBEAT:
                progress.heartbeats += 1
            else:
                progress.delivered += 1
        return progress

    def _health(self, name: str) -> str:
        if not is_locked(self._run(name), name):
            return "not running"
        pulse = read_pulse(self._run(name), name)
        if pulse is None or pulse.state == "starting":
            return "starting"
        if pulse.state != "ready":
            return pulse.state
        return f"{pulse.failed} failed" if pulse.failed else "ok"

    def task_of(self, name: str) -> str:
        """Return what a service is doing."""
        pulse = read_pulse(self._run(name), name)
        if pulse is None:
            return ""
        return f"{pulse.task or 'idle'}, {pulse.done} done"

    def _delivered(self) -> Iterator[dict[str, object]]:
        if self.messages.exists():
            for line in self.messages.read_text().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:  # the last line, half written
                    return


def watch(demo: Demo, seconds: float) -> None:
    """Show the progress until the time is over."""
    begun = time.monotonic()
    if not console.is_terminal:
        shown = -5.0
        while (passed := time.monotonic() - begun) < seconds:
            if passed - shown >= 5:
                shown = passed
                console.print(f"{passed:4.0f} s: {demo.progress().line()}", soft_wrap=True)
            time.sleep(0.25)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while (passed := time.monotonic() - begun) < seconds:
            live.update(_dashboard(demo, passed, seconds), refresh=True)
            time.sleep(0.5)


def _dashboard(demo: Demo, passed: float, seconds: float) -> Group:
    progress = demo.progress()
    width = 40
    done = round(width * passed / seconds)
    bar = Text.assemble(
        ("━" * done, "green"), ("━" * (width - done), "dim"), f"  {passed:.0f} of {seconds:.0f} s"
    )
    counts = Table.grid(padding=(0, 3))
    for name, value, remark in (
        ("recordings", progress.recordings, f"{progress.waiting} waiting"),
        ("analysed", progress.analysed, f"{progress.detections} detections"),
        ("messages delivered", progress.delivered, f"and {progress.heartbeats} heartbeats"),
        ("kept", progress.kept, f"with a score of at least {demo.config.saving_threshold:g}"),
        ("deleted", progress.deleted, "nothing of note in them"),
    ):
        counts.add_row(name, Text(str(value), "bold", justify="right"), Text(remark, "dim"))
    services = Table.grid(padding=(0, 3))
    for name, state in progress.services.items():
        colour = "green" if state == "ok" else "yellow"
        services.add_row(
            Text("●", colour), name, Text(state, colour), Text(demo.task_of(name), "dim")
        )
    return Group(bar, "", counts, "", services)


def report(demo: Demo) -> bool:
    """Print what was found and where it is; return whether anything was."""
    progress = demo.progress()
    outputs = sorted(demo.store.get_model_outputs(), key=lambda one: one.recording.created_on)
    found = [(output.recording, one) for output in outputs for one in output.detections]
    console.print()
    if found:
        _print_detections(found)
    console.print(
        f"{progress.recordings} recordings: {progress.kept} kept, {progress.deleted} deleted, "
        f"{progress.waiting} waiting. {progress.detections} detections. "
        f"{progress.delivered} messages and {progress.heartbeats} heartbeats delivered.",
        soft_wrap=True,
    )
    _print_effort(demo)
    kept = [
        output
        for output in outputs
        if output.detections and output.recording.path and output.recording.path.exists()
    ]
    if kept:
        best = max(kept, key=lambda output: len(output.detections))
        _draw(best, demo.picture)
    _print_places(demo)
    return bool(found)


def _draw(output: data.ModelOutput, picture: Path) -> None:
    """Draw the spectrogram of a recording with what was found in it."""
    recording = output.recording
    boxes = [Box(*one.location.coordinates) for one in output.detections if one.location]
    assert recording.path is not None
    picture.write_bytes(
        spectrogram(
            recording.path,
            recording.samplerate,
            (0, recording.duration),
            boxes,
            recording.created_on.astimezone(),
        )
    )


def _print_effort(demo: Demo) -> None:
    """Print what share of the plan was recorded, and what the rest was."""
    try:
        effort = measure(*read_effort(demo.store, find_deployment(demo.store, None)))
    except AcoupiError:  # It was interrupted before there was anything to tell of.
        return
    total = effort.total
    lost = [
        f"{shown_seconds(total.seconds(state))} {state.value.replace('_', ' ')}"
        for state in {gap.state: None for gap in effort.gaps}
    ]
    reasons = f" ({', '.join(lost)})" if lost else ""
    recorded, planned = shown_seconds(total.recorded), shown_seconds(total.planned)
    console.print(
        f"Effort: {recorded} of {planned} planned were recorded{reasons}; more: acoupi effort",
        soft_wrap=True,
    )


def _print_detections(found: list[tuple[data.Recording, data.Detection]]) -> None:
    table = Table(title="Detections", title_justify="left", box=None, pad_edge=False)
    for heading in ("time", "duration (ms)", "frequency (kHz)", "score"):
        table.add_column(heading, justify="right")
    for recording, one in found[:ROWS]:
        start, low, end, high = one.location.coordinates if one.location else (0, 0, 0, 0)
        at = recording.created_on.astimezone().timestamp() + start
        clock = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"
        table.add_row(
            clock,
            f"{1000 * (end - start):.0f}",
            f"{low / 1000:.1f} to {high / 1000:.1f}",
            f"{one.detection_score:.2f}",
        )
    console.print(table)
    if len(found) > ROWS:
        console.print(f"... and {len(found) - ROWS} more")
    console.print()


def _print_places(demo: Demo) -> None:
    places = [
        ("picture", demo.picture),
        ("recordings kept", demo.config.paths.recordings),
        ("messages", demo.messages),
        ("detections", demo.config.paths.db_metadata),
        ("logs", demo.home / "log"),
        ("all of it", demo.home),
    ]
    for what, path in places:
        if path.exists():
            console.print(f"  {what + ':':<17}{_short(path)}", soft_wrap=True)
    look = f"ACOUPI_HOME={_short(demo.home)} {_short(ACOUPI)} deployment status"
    console.print(f"To look around: {look}", soft_wrap=True)


def _short(path: Path) -> str:
    """Return a path as it is from here, if it is below here."""
    here = Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path)


@contextmanager
def own_home(home: Path, target: str = "process", page: int | None = None) -> Iterator[Demo]:
    """Take a home for the demo alone; what an earlier demo left there is removed.

    Raises
    ------
    DemoError
        If it holds what is not a demo's, or another demo runs in it.
    """
    marker = home / MARKER
    if home.exists() and not marker.exists() and any(home.iterdir()):
        raise DemoError.of(
            f'cannot run a demo in "{home}".',
            "it holds what no demo made.",
            "scripts/run --home AN_EMPTY_FOLDER",
        )
    home.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DemoError.of(
                f'cannot run a demo in "{home}".',
                "another one runs there.",
                "scripts/run --home SOMEWHERE_ELSE",
            ) from error
        demo = Demo(home, target, page)
        if demo.is_running():
            say("Stopping the services that an earlier demo left ...")
            demo.stop()
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != marker:
                path.unlink()
        yield demo


def run(demo: Demo, seconds: float) -> bool:
    """Run the sensor, and stop it in any case; return whether it was interrupted."""
    interrupted = False
    say(f"Setting up {PROGRAM} in {_short(demo.home)} ...")
    demo.setup()
    try:
        say("Checking and starting the sensor ...")
        demo.start()
        if demo.page is not None:
            demo.say_page()
        say(f"Listening for {seconds:.0f} s (Ctrl-C stops) ...")
        watch(demo, seconds)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        # A start that failed has undone itself.
        if demo.is_running():
            say("Stopping: what is in hand is finished ...")
            demo.stop()
    return interrupted


def choose_target(wanted: str, home: Path) -> str:
    """Return where to run: in containers if this machine can, and says so if not."""
    if wanted != "auto":
        return wanted
    error = failure(list(run_preflight(Settings(home=home), Host(), None)))
    if error is None:
        say("A Docker engine answers: each service gets a container of its own.")
        return "compose"
    say(f"Running as plain processes, without containers: {error.message} {error.why}")
    return "process"


def say(line: str) -> None:
    """Print a step."""
    console.print(line, soft_wrap=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait until the block is over; `KeyboardInterrupt` is raised then."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="scripts/run", description=__doc__)
    parser.add_argument("--seconds", type=_positive, default=60.0, help="how long (60)")
    parser.add_argument(
        "--home", type=Path, default=Path(".demo"), help="folder of the demo (./.demo)"
    )
    parser.add_argument(
        "--target",
        choices=["auto", "compose", "process"],
        default="auto",
        help="containers, plain processes, or whichever can be had (auto)",
    )
    parser.add_argument(
        "--web",
        nargs="?",
        type=int,
        const=8080,
        metavar="PORT",
        help="show the page of the sensor, too, at http://127.0.0.1:PORT (8080)",
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f'"{text}" is not a number above 0')
    return value


def main(options: argparse.Namespace) -> int:
    """Run the demo; 0 if the sensor detected something."""
    home = options.home.absolute()
    with own_home(home, choose_target(options.target, home), options.web) as demo:
        interrupted = run(demo, options.seconds)
        found = report(demo)
    if interrupted:
        return 130
    if not found:
        raise DemoError.of(
            "the demo sensor detected nothing.",
            f"its log says more: {_short(demo.home / 'log')}.",
            "scripts/run --seconds 120   (on a slow machine)",
        )
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main(arguments()))
    except (DemoError, AcoupiError) as error:
        text = "\n".join(error.lines()) if isinstance(error, AcoupiError) else str(error)
        sys.exit(text)
    except OSError as error:
        sys.exit(
            f"Error: the demo cannot go on.\n  Why: {error}.\n"
            "  Try: scripts/run --home A_FOLDER_ON_A_DISK_WITH_SPACE"
        )
    except KeyboardInterrupt:
        sys.exit(130)
