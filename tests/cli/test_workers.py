"""``acoupi workers``: what is started, what is not, and what is said of it."""

from pathlib import Path

import pytest

from tests.cli.support import Calls, Run, data_of, lines_of


def test_workers_show_how_they_are(run: Run, sensor: Path, target: Calls) -> None:
    stopped = run("workers", "status")
    target.state = "ready"
    ready = run("workers", "status", "--json")

    assert stopped.exit_code == 3
    assert "stopped" in stopped.stdout
    assert ready.exit_code == 0
    assert data_of(ready)["state"] == "ok"


@pytest.mark.parametrize("command", ["stop", "restart"])
def test_workers_of_another_target_are_not_ours_to_start(
    run: Run, sensor: Path, command: str
) -> None:
    result = run("workers", command)

    assert "fake" in lines_of(result)[1]
    assert result.exit_code == 1


def test_a_restart_while_recording_makes_the_schedule_known_too(
    run: Run, sensor: Path, target: Calls
) -> None:
    run("deployment", "start", "--name", "oak")

    result = run("workers", "restart")

    assert result.exit_code == 0, result.stderr
    assert target.names == ["up", "down", "up"]


def test_a_restart_after_everything_was_killed_records_again(
    run: Run, sensor: Path, target: Calls
) -> None:
    run("deployment", "start", "--name", "oak")
    target.state = "stopped"

    result = run("workers", "restart")

    assert result.exit_code == 0, result.stderr
    assert target.names[-1] == "up"
    assert "beat" not in result.stderr


@pytest.mark.parametrize(
    ("is_deployed", "command"), [(True, "acoupi workers restart"), (False, "acoupi start")]
)
def test_workers_that_start_without_beat_say_that_nothing_is_recorded(
    run: Run, sensor: Path, target: Calls, is_deployed: bool, command: str
) -> None:
    if is_deployed:
        run("deployment", "start", "--name", "oak")
    target.state = "stopped"

    result = run("workers", "start")

    assert result.exit_code == 0, result.stderr
    assert f"beat (the scheduler) is not running, so nothing is recorded until: {command}" in (
        " ".join(result.stderr.split())
    )


def test_workers_that_start_beside_beat_say_nothing_of_it(
    run: Run, sensor: Path, target: Calls
) -> None:
    target.state, target.beat = "stopped", "ready"

    assert "beat" not in run("workers", "start").stderr
