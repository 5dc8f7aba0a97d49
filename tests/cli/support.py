"""A target that starts nothing, services that say something, readers of what is printed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from typer.testing import Result

from acoupi.stack.stack import Stack
from acoupi.targets import ServiceStatus, Target
from acoupi.targets.process import ProcessTarget
from acoupi.writing import RenderedFile
from tests.cli.fake_engine import FakeEngine

Run = Callable[..., Result]


@dataclass
class Calls:
    """What a fake target was asked to do, and what it is to say."""

    names: list[str] = field(default_factory=list)
    state: Any = "stopped"
    beat: Any = None
    """State of beat, where it is another than that of the workers."""
    last_error: str | None = None
    error: Exception | None = None
    meanwhile: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens while it does something of that name."""


class FakeTarget(Target):
    """Renders what the process target renders, and starts nothing."""

    name = "fake"
    calls: ClassVar[Calls] = Calls()

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        return ProcessTarget(self.settings).files(stack)

    def up(self) -> None:
        self._called("up", "ready")

    def down(self) -> None:
        self._called("down", "stopped")

    def stop_recorder(self) -> None:
        self._called("stop_recorder", "ready")

    def start_workers(self) -> None:
        beat = self.calls.beat or self.calls.state
        self._called("start_workers", "ready")
        self.calls.beat = beat

    def _called(self, name: str, state: str) -> None:
        if self.calls.error is not None:
            raise self.calls.error
        self.calls.names.append(name)
        self.calls.meanwhile.get(name, lambda: None)()
        self.calls.state, self.calls.beat = state, None

    def status(self) -> list[ServiceStatus]:
        roles = {"recording": "recorder", "default": "worker", "beat": "beat"}
        return [
            ServiceStatus(
                name=name,
                role=role,
                state=self.calls.beat or self.calls.state if role == "beat" else self.calls.state,
                last_error=self.calls.last_error,
            )
            for name, role in roles.items()
        ]

    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        return {}


class Sound(ModuleType):
    """Stands for the sounddevice library: each name is a microphone with these sample rates."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, *names: str, rates: Sequence[int] = (384_000,)) -> None:
        super().__init__("sounddevice")
        self.names = names
        self.rates = rates
        self._lib = SimpleNamespace(Pa_GetDeviceCount=lambda: len(names))
        self._ffi = SimpleNamespace(string=lambda text: text)

    def _initialize(self) -> None:
        pass

    def _terminate(self) -> None:
        pass

    def query_devices(self, device: int = 0, kind: str | None = None) -> Any:
        if kind:
            return {"index": 0}
        rate = float(max(self.rates))
        name = self.names[device]
        return {"name": name, "max_input_channels": 1, "default_samplerate": rate}

    def check_input_settings(self, *, samplerate: int, **_: object) -> None:
        if samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate")


READY: dict[str, str] = {}
"""A look at services all of which work."""
Services = Callable[..., FakeEngine]


def lines_of(result: Result) -> list[str]:
    """The three lines of an error."""
    lines = result.stderr.splitlines()
    starts = ["Error:", "  Why:", "  Try:"]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=False)] == starts, lines
    assert len(lines) == 3, lines
    return lines


def data_of(result: Result) -> Any:
    """What a command with --json printed: JSON and nothing else."""
    return json.loads(result.stdout)


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def error_of(result: Result) -> list[str]:
    """The three lines at the end of what a command said."""
    lines = result.stderr.splitlines()[-3:]
    assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"], result.stderr
    assert sum(line.startswith("Error:") for line in result.stderr.splitlines()) == 1
    return lines
