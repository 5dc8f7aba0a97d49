"""The command line in this process, and homes that it has set up."""

from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner, Result

from acoupi import targets
from acoupi.cli import watching
from acoupi.cli.app import app
from acoupi.errors import TargetError
from acoupi.targets.compose import ComposeTarget
from tests.cli.fake_docker import FakeDocker, put_first
from tests.cli.support import Calls, FakeTarget, Run, Services, Statuses

SIMULATED = "synthetic,pace=fast"


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The fake target, to be set up with ``--target fake``."""
    calls = Calls()
    monkeypatch.setattr(FakeTarget, "calls", calls)
    monkeypatch.setitem(targets.BUILT_IN, "fake", "tests.cli.support:FakeTarget")
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
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "tools")
    put_first(monkeypatch, fake.folder)
    monkeypatch.setattr("acoupi.targets.containers.engine", _no_engine)
    return fake


def _no_engine() -> NoReturn:
    """Stand for the SDK, so that no real engine of this machine is asked for containers."""
    raise TargetError("cannot reach the Docker engine.", "none", why="there is none here.")


@pytest.fixture
def bundle(run: Run, docker: FakeDocker, home: Path) -> Path:
    """A home that was set up for containers."""
    result = run("setup", "--program", "demo", "--target", "compose", "--no-prompt")
    assert result.exit_code == 0, result.stderr
    assert "Next: acoupi compose up" in result.stdout
    docker.knows(home)
    return home


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    """Let the services say something."""
    monkeypatch.setattr(watching, "INTERVAL", 0)

    def services(*looks: dict[str, str]) -> Statuses:
        statuses = Statuses(*looks)
        # Bound to the statuses, so that they stand for those of any target.
        monkeypatch.setattr(ComposeTarget, "status", statuses.status)
        monkeypatch.setattr(ComposeTarget, "logs", statuses.logs)
        return statuses

    return services


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is built instead of an image: the packages, time after time."""
    times: list[list[str]] = []

    def build_image(packages: list[str], **extra: Any) -> str:
        times.append(list(packages))
        extra["echo"]("docker buildx build ...")
        return f"acoupi/sensor:test-{len(packages)}"

    monkeypatch.setattr("acoupi.bundles.images.build_image", build_image)
    return times
