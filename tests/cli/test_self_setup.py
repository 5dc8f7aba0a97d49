"""Commands in a home that set itself up from variables."""

from pathlib import Path

import pytest

from acoupi.provisioning.apply import provision
from acoupi.system import Settings
from tests.cli.support import Run, lines_of


@pytest.fixture
def self_setup(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home the variables of which have changed once: its schedule was written again."""
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
    settings = Settings(home=home)
    for interval in ("10", "20"):
        variables = {"CONFIG__RECORDING__INTERVAL": interval, "DEPLOYMENT__NAME": "Oak"}
        given = {f"ACOUPI_{name}": value for name, value in variables.items()}
        provision(settings, {"ACOUPI_PROGRAM": "default", **given})
    return settings


@pytest.mark.parametrize("words", [("doctor",), ("check",), ("deployment", "status")])
def test_nobody_is_said_to_have_edited_what_it_wrote_itself(
    run: Run, self_setup: Settings, words: tuple[str, ...]
) -> None:
    result = run(*words)

    assert "by hand" not in result.output
    assert (result.exit_code == 0) is (words != ("deployment", "status"))  # nothing runs here


@pytest.mark.parametrize("name", ["interval", "duration"])  # one of them is in the schedule
def test_a_change_is_answered_with_the_variables(run: Run, self_setup: Settings, name: str) -> None:
    before = self_setup.program_config_file.read_text()
    lines = lines_of(run("config", "set", f"recording.{name}", "5"))

    assert "come from variables" in lines[0]
    assert "ACOUPI_CONFIG__" in lines[2]
    assert self_setup.program_config_file.read_text() == before


def test_a_setup_that_changes_nothing_is_no_change(run: Run, self_setup: Settings) -> None:
    result = run("setup", "--program", "default", "--no-prompt")

    assert result.exit_code == 0, result.stderr


def test_it_can_become_a_home_of_another_target(run: Run, self_setup: Settings) -> None:
    words = ("setup", "--program", "default", "--target", "process", "--no-prompt")

    result = run(*words, "--recording.interval", "30")

    assert result.exit_code == 0, result.stderr
    assert run("config", "get", "recording.interval").stdout.strip() == "30.0"
