"""The command line in this process, and a home that it has set up."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from acoupi.cli.app import app
from acoupi.system import targets
from tests.cli.support import Calls, FakeTarget, Run

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
