"""``acoupi doctor`` on machines that lack something."""

import json
from pathlib import Path

import pytest

from tests.cli.fake_docker import FakeDocker
from tests.cli.support import Run, data_of, lines_of


def test_a_machine_that_can_run_a_sensor_is_told_so(run: Run, docker: FakeDocker) -> None:
    result = run("doctor")

    assert result.exit_code == 0, result.stderr
    assert "✓ engine             answers on fake" in result.stdout
    assert result.stdout.endswith("✓ This machine can run the sensor.\n")


def test_doctor_needs_no_sensor_and_changes_nothing(
    run: Run, docker: FakeDocker, home: Path
) -> None:
    run("doctor")

    assert not home.exists()
    assert docker.started == []


def test_what_is_missing_is_named_in_three_lines_and_the_code_is_3(
    run: Run, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.answer("info", code=1, err="permission denied while trying to connect\n")

    result = run("doctor")

    assert result.exit_code == 3
    errors = [line for line in result.stderr.splitlines() if not line.startswith("Note: ")]
    start = errors.index("Error: cannot reach the Docker engine.")
    assert "permission denied" in errors[start + 1]
    assert "usermod -aG docker" in errors[start + 2]
    assert "✗ engine" in result.stdout


def test_every_failure_is_shown(run: Run, docker: FakeDocker) -> None:
    docker.answer("info", json.dumps({"ServerVersion": "19.03.1", "DockerRootDir": "/"}))
    docker.answer("compose version", "2.1.0\n")

    result = run("doctor")

    assert result.stderr.count("Error:") == 2
    assert result.stdout.count("✗") == 2


def test_as_json_it_is_json_and_nothing_else(run: Run, docker: FakeDocker) -> None:
    docker.answer("compose version", code=1, err="docker: 'compose' is not a docker command.\n")

    result = run("doctor", "--json")
    found = data_of(result)

    assert result.exit_code == 3
    assert found["ok"] is False
    compose = next(one for one in found["checks"] if one["name"] == "compose")
    assert compose["outcome"] == "fail"
    assert compose["help"]


def test_a_sensor_of_plain_processes_needs_no_docker(run: Run, docker: FakeDocker) -> None:
    run("setup", "--program", "test", "--target", "process")

    result = run("doctor")

    assert result.exit_code == 0, result.stderr
    assert docker.asked == []
    assert "engine" not in result.stdout


def test_where_docker_is_not_installed_it_says_how(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    result = run("doctor")

    lines = [line for line in result.stderr.splitlines() if line.startswith(("Error", "  "))]
    assert "Error: cannot reach the Docker engine." in lines
    assert any("not installed" in line for line in lines)
    assert result.exit_code == 3


def test_a_home_that_may_not_be_written_is_named(
    run: Run, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"  # not a folder: that stops root, too
    closed.touch()
    monkeypatch.setenv("ACOUPI_HOME", str(closed / "home"))

    assert str(closed) in lines_of(run("doctor"))[0]
