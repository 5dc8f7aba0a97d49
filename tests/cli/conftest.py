"""The command line in this process, and homes that it has set up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from acoupi.cli import watching
from acoupi.cli.app import app
from tests.cli.fake_docker import FakeDocker, put_first
from tests.cli.fake_engine import FakeEngine, engine_on_a_socket
from tests.cli.support import Calls, FakeTarget, Run, Services
from tests.packages import install

SIMULATED = "synthetic,pace=fast"


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """The fake target, to be set up with ``--target fake``."""
    calls = Calls()
    monkeypatch.setattr(FakeTarget, "calls", calls)
    place = {"acoupi.targets": {"fake": "tests.cli.support:FakeTarget"}}
    install(monkeypatch, tmp_path_factory.mktemp("package"), place)
    return calls


@pytest.fixture
def run() -> Run:
    """Run a command; a traceback is never what the user sees."""

    def run(*args: str, input: str | None = None, **extra: Any) -> Result:
        result = CliRunner().invoke(app, list(args), input=input, prog_name="acoupi", **extra)
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def sensor(run: Run, target: Calls, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the connected program, on a microphone that is not there."""
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", SIMULATED)
    result = run("setup", "--program", "connected", "--target", "fake", "--recording.duration", "1")
    assert result.exit_code == 0, result.stderr
    return home


@pytest.fixture
def engine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """The API of the engine, so that no real one of this machine is asked for containers."""
    with engine_on_a_socket(home) as (engine, address):
        monkeypatch.setenv("DOCKER_HOST", address)
        yield engine


@pytest.fixture
def docker(tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "tools")
    put_first(monkeypatch, fake.folder)
    return fake


@pytest.fixture
def bundle(run: Run, docker: FakeDocker, home: Path) -> Path:
    """A home that was set up for containers."""
    result = run("setup", "--program", "demo", "--target", "compose", "--no-prompt")
    assert result.exit_code == 0, result.stderr
    assert "Next: acoupi compose up" in result.stdout
    docker.knows(home)
    return home


@pytest.fixture
def services(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Let the services be in a state."""
    monkeypatch.setattr(watching, "INTERVAL", 0)

    def services(*looks: dict[str, str]) -> FakeEngine:
        engine.looks, engine.is_up = list(looks), True
        return engine

    return services
