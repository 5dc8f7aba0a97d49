"""What the tests of `acoupi.system` share: a program, a home, and clocks that obey."""

import datetime
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import acoupi
from acoupi.bundles.rendering import Manifest
from acoupi.stack.stack import Service
from acoupi.system import Settings
from acoupi.writing import RenderedFile
from tests.clocks import Clock


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def sensor(settings: Settings) -> Settings:
    """A home that was set up for containers."""
    compose = RenderedFile("services: {}\n")
    manifest = Manifest(
        version=acoupi.__version__,
        target="compose",
        program="default",
        files={"docker-compose.yml": compose.digest},
        services=(Service("recording", "recorder", ()), Service("default", "worker", ())),
    )
    files = {
        settings.home / "docker-compose.yml": compose,
        settings.program_name_file: RenderedFile("default\n"),
        settings.program_config_file: RenderedFile("{}"),
        settings.manifest_file: manifest.to_file(),
    }
    for path, file in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    return settings


WriteModule = Callable[[str, str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Writes an importable module and returns its name."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    written: list[str] = []

    def write(name: str, text: str) -> str:
        (folder / f"{name}.py").write_text(text)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


PROGRAM = """
from pydantic import BaseModel, SecretStr
from acoupi.programs import AcoupiProgram, AcoupiWorker, WorkerConfig

class Config(BaseModel):
    interval: float = 10
    site: str = "heath"
    password: SecretStr | None = None

class Program(AcoupiProgram[Config]):
    config_schema = Config
    worker_config = WorkerConfig(workers=[
        AcoupiWorker(name="recording", queues=["recording"], concurrency=1),
        AcoupiWorker(name="default", queues=["celery"]),
    ])

    def setup(self, config):
        def recording_task(): return None
        def tidy_task(): return "tidy"
        def broken_task(): raise ValueError("broken")
        def detection_task(recording): return recording
        self.add_task(
            recording_task,
            callbacks=[detection_task],
            schedule=config.interval,
            queue="recording",
        )
        self.add_task(tidy_task, schedule=60)
        self.add_task(broken_task)
"""


@pytest.fixture
def program_name(write_module: WriteModule) -> str:
    """A module with a small program."""
    return write_module("small_program", PROGRAM)


@pytest.fixture
def clock(clock: Clock) -> Clock:
    """The time stands still a quarter of a second after noon."""
    clock.now = datetime.datetime(2024, 6, 1, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
    return clock
