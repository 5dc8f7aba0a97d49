"""A trial sensor: in a separate home, without a microphone, for a few minutes.

Everything is real but the microphone: the home that ``acoupi setup`` makes, a container for
each service (plain processes where no Docker engine answers), Celery tasks between them.
"""

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.config.presets import settings_it_has
from acoupi.errors import AcoupiError
from acoupi.exports.pictures import Box, spectrogram
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings
from acoupi.system.sensor import Sensor
from acoupi.targets import service_status
from acoupi.targets.process import run_acoupi

__all__ = ["DEMO", "MESSAGES", "Progress", "TriedSensor", "clear", "own_home"]

DEMO = "demo"
MARKER = "made-by-acoupi-try"
OLD_MARKER = "made-by-scripts-run"
PLACE = ("--latitude", "51.5465", "--longitude", "-0.0163")
MESSAGES = "data/messages.jsonl"
SHORT = {
    "recording.schedule_start": "00:00",
    "recording.schedule_end": "00:00",
    "recording.duration": "3",
    "recording.interval": "5",
    "messaging.message_send_interval": "10",
}
"""Settings with which a program shows what it does within a minute."""


@dataclass
class Progress:
    """What the sensor has done so far, from its own files."""

    recordings: int = 0
    analysed: int = 0
    detections: int = 0
    kept: int = 0
    deleted: int = 0
    waiting: int = 0
    delivered: int = 0
    heartbeats: int = 0
    services: dict[str, str] = field(default_factory=dict)
    doing: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Return it in a line, for a log."""
        sick = [f"{name} {state}" for name, state in self.services.items() if state != "ok"]
        return (
            f"{self.recordings} recordings ({self.waiting} waiting, {self.kept} kept, "
            f"{self.deleted} deleted), {self.detections} detections, "
            f"{self.delivered} messages delivered, "
            f"services {', '.join(sick) if sick else 'ok'}"
        )


class TriedSensor:
    """A sensor in a home of its own.

    Parameters
    ----------
    home
        Its ACOUPI_HOME.
    program
        The program, as for ``acoupi setup``.
    options
        Options of the program; they override those that make it quick.
    target
        Where it runs: "compose" or "process".
    page
        Port of its page; None: it has none.
    """

    def __init__(
        self,
        home: Path,
        program: str = DEMO,
        options: Sequence[str] = (),
        target: str = "process",
        page: int | None = None,
    ) -> None:
        self.home, self.program, self.options = home, program, options
        self.target, self.page = target, page
        self.picture = home / "spectrogram.png"
        self.messages = home / MESSAGES
        self.settings = Settings(home=home)

    def acoupi(self, *arguments: str) -> str:
        """Run a command of acoupi on this home, and return what it printed.

        Raises
        ------
        AcoupiError
            If it failed.
        KeyboardInterrupt
            After the command, if a signal came meanwhile.
        """
        with undisturbed():
            done = run_acoupi(self.settings, arguments, **self._environment())
        if done.returncode:
            raise AcoupiError.printed_in(done.stdout) or AcoupiError(
                f"acoupi {arguments[0]} ended with {done.returncode}.",
                f"ls {self.home / 'log'}",
                why=done.stdout.strip() or "it printed nothing.",
            )
        return done.stdout

    @property
    def is_demo(self) -> bool:
        """Whether it runs the program made for demonstrations."""
        return self.program == DEMO

    def _environment(self) -> dict[str, str]:
        hears = "" if self.is_demo else os.environ.get("ACOUPI_SIMULATED_AUDIO", "synthetic")
        return {"NO_COLOR": "1", **({"ACOUPI_SIMULATED_AUDIO": hears} if hears else {})}

    def set_up(self) -> None:
        """Make the home."""
        answers = ("--program", self.program, "--target", self.target, "--no-prompt")
        # The folder already holds the marker.
        self.acoupi("setup", "--adopt-folder", *answers, *self._quick(), *self._page_answers())

    def _quick(self) -> list[str]:
        if self.is_demo:
            return list(self.options)
        wanted = {**SHORT, "messaging.file.path": str(self.messages)}
        schema = load_program_class(self.program).get_config_schema()
        given = {word.partition("=")[0] for word in self.options}
        quick = {f"--{name}": value for name, value in settings_it_has(schema, wanted).items()}
        words = [
            word for name, value in quick.items() if name not in given for word in (name, value)
        ]
        return [*words, *self.options]

    def _page_answers(self) -> list[str]:
        if self.page is None:
            return []
        return ["--web", "--sensor.web.port", str(self.page), "--sensor.web.public", "true"]

    def start(self) -> None:
        """Check the sensor and start its services."""
        self.acoupi("deployment", "start", "--name", self.program, *PLACE)

    def stop(self) -> None:
        """Stop the services; each finishes its current task."""
        self.acoupi("deployment", "stop")

    def is_running(self) -> bool:
        """Return whether any service is running."""
        return any(one.state != "stopped" for one in self._statuses())

    def _statuses(self) -> list[Any]:
        found = Sensor.at(self.settings)
        if not found.services:
            return []
        settings_of = found.target.settings_of
        # By their pulses: an engine would take a second to answer.
        return [service_status(settings_of(one.name), one.name, one.role) for one in found.services]

    @cached_property
    def config(self) -> Any:
        """The configuration of its program."""
        return Sensor.read(self.settings).config

    @cached_property
    def store(self) -> SqliteStore:
        """The store of its recordings; only where `has_store`."""
        return SqliteStore(self.config.paths.db_metadata)

    @property
    def has_store(self) -> bool:
        """Whether there is a store already."""
        paths = getattr(self.config, "paths", None)
        return paths is not None and paths.db_metadata.exists()

    def progress(self) -> Progress:
        """Return the progress so far."""
        progress = Progress()
        for one in self._statuses():
            well = f"{one.failed} failed" if one.failed else "ok"
            progress.services[one.name] = well if one.is_well else one.state
            progress.doing[one.name] = f"{one.task or 'idle'}, {one.done} done"
        if self.has_store:
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

    def _delivered(self) -> Iterator[dict[str, object]]:
        if self.messages.exists():
            for line in self.messages.read_text().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:  # the last line, only half written
                    return

    def outputs(self) -> list[data.ModelOutput]:
        """Return what the model found, oldest first."""
        outputs = self.store.get_model_outputs() if self.has_store else []
        return sorted(outputs, key=lambda one: one.recording.created_on)

    def draw(self) -> None:
        """Draw the kept recording with the most detections, if there is one."""
        kept = [
            output
            for output in self.outputs()
            if output.detections and output.recording.path and output.recording.path.exists()
        ]
        if not kept:
            return
        best = max(kept, key=lambda output: len(output.detections))
        recording = best.recording
        boxes = [Box(*one.location.coordinates) for one in best.detections if one.location]
        part = (0, recording.duration)
        assert recording.path is not None
        at = recording.created_on.astimezone()
        self.picture.write_bytes(spectrogram(recording.path, recording.samplerate, part, boxes, at))


@contextmanager
def own_home(home: Path) -> Iterator[None]:
    """Claim a home for one trial; files of an earlier one must be removed with `clear`.

    Raises
    ------
    AcoupiError
        If it holds other files, or another trial is running in it.
    """
    marker = home / MARKER
    if (home / OLD_MARKER).is_file():
        (home / OLD_MARKER).rename(marker)
    if home.exists() and not marker.exists() and any(home.iterdir()):
        raise AcoupiError(
            f'cannot try a sensor in "{home}".',
            "acoupi try --home AN_EMPTY_FOLDER",
            why='it holds files that "acoupi try" did not make.',
        )
    home.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AcoupiError(
                f'cannot try a sensor in "{home}".',
                "acoupi try --home SOMEWHERE_ELSE",
                why="another one is running there.",
            ) from error
        yield


def clear(home: Path) -> None:
    """Remove everything that an earlier trial left in its home."""
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back until the block is over, then raise `KeyboardInterrupt`."""
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
