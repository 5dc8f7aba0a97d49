"""Other commands than ``acoupi compose`` on a sensor that runs in containers, or might."""

from pathlib import Path

import pytest

from acoupi.system import Settings
from acoupi.system.deployments import start_deployment
from tests.cli.fake_docker import FakeDocker
from tests.cli.support import READY, Run, Services, lines_of

# ---- what runs where the program is


def gone(home: Path) -> None:
    """Let the program of a home be none of this machine."""
    for path, old, new in [("config/name", "demo", "acoupi_far.program")]:
        file = home / path
        file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    "args", [["config", "get", "recording"], ["task", "list"], ["compose", "render"], ["effort"]],
    ids=" ".join,
)  # fmt: skip
def test_a_command_whose_program_is_not_here_runs_in_the_image(
    run: Run, docker: FakeDocker, bundle: Path, args: list[str]
) -> None:
    gone(bundle)
    docker.answer("run", "from inside\n", code=7)

    result = run(*args)

    assert result.exit_code == 7
    assert docker.asked[-1].startswith("run --rm")
    assert docker.asked[-1].endswith(f" acoupi {' '.join(args)}")
    assert result.stderr == ""


def test_where_there_is_no_image_it_is_said_that_the_program_is_missing(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    gone(bundle)
    docker.answer("image inspect", code=1, err="Error: No such image\n")

    result = run("config", "get")

    assert "acoupi_far.program" in lines_of(result)[0]
    assert not any(line.startswith("run") for line in docker.asked)


def test_inside_the_image_nothing_is_handed_on(
    run: Run, docker: FakeDocker, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(bundle)
    monkeypatch.setenv("ACOUPI_INSIDE", "1")

    assert "acoupi_far.program" in lines_of(run("config", "get"))[0]


def test_a_setup_with_a_package_builds_and_asks_inside(
    run: Run, docker: FakeDocker, home: Path
) -> None:
    docker.answer("image inspect", code=1, err="Error: No such image\n")

    result = run(
        "setup", "--package", "acoupi-far", "--program", "far", "--recording.duration", "3"
    )

    assert result.exit_code == 0, result.stderr
    assert docker.built == ["acoupi-far"]
    (asked,) = [line for line in docker.asked if line.startswith("run ")]
    words = "acoupi setup --target compose --program far --no-prompt --recording.duration 3"
    assert asked.endswith(words)
    assert "ACOUPI_PACKAGES=acoupi-far" in asked


def test_what_is_asked_of_a_setup_with_a_package_is_asked_inside(
    run: Run, docker: FakeDocker, home: Path
) -> None:
    run("setup", "--package", "acoupi-far", "--program", "far", "--broker", "redis://hub/0")

    (asked,) = [line for line in docker.asked if line.startswith("run ")]
    assert asked.endswith("--no-prompt --broker redis://hub/0"), "and is refused there"


def test_a_package_is_for_containers_only(run: Run, docker: FakeDocker, home: Path) -> None:
    result = run("setup", "--package", "acoupi-far", "--target", "process")

    assert "--package cannot be used with --target process" in lines_of(result)[0]
    assert result.exit_code == 2
    assert docker.asked == []


def test_weights_that_were_fetched_elsewhere_go_into_the_image_of_the_package(
    run: Run, docker: FakeDocker, home: Path, tmp_path: Path
) -> None:
    docker.answer("image inspect", code=1, err="Error: No such image\n")
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "far.tflite").write_bytes(b"weights")

    result = run("setup", "--package", "acoupi-far", "--weights", str(tmp_path / "fetched"))

    assert result.exit_code == 0, result.stderr
    assert docker.built == [f"acoupi-far weights:{tmp_path / 'fetched'}"]
    (asked,) = [line for line in docker.asked if line.startswith("run ")]
    assert f"ACOUPI_PACKAGES=acoupi-far weights:{tmp_path / 'fetched'}" in asked, "for an update"
    assert asked.endswith("acoupi setup --target compose --no-prompt")
    assert f"Licence of the weights in {tmp_path / 'fetched'}: see where" in result.stderr


def test_weights_without_a_package_are_refused(run: Run, docker: FakeDocker, home: Path) -> None:
    result = run("setup", "--weights", str(home))

    assert "--weights cannot be used without --package" in lines_of(result)[0]
    assert result.exit_code == 2
    assert docker.asked == []


# ---- where a sensor runs that nobody chose a place for


def test_where_an_engine_answers_a_sensor_runs_in_containers(
    run: Run, docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_TARGET")
    docker.answer("version", "24.0.7\n")

    result = run("setup", "--program", "test", "--no-prompt")

    assert "runs in containers, as a Docker engine answers" in result.stdout
    assert "--target process" in result.stdout
    assert (home / "docker-compose.yml").exists()


def test_where_none_answers_it_runs_as_processes(
    run: Run, docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_TARGET")
    docker.answer("version", code=1, err="Cannot connect to the Docker daemon\n")

    result = run("setup", "--program", "test", "--no-prompt")

    assert "acoupi setup --target compose" in result.stdout
    assert not (home / "docker-compose.yml").exists()


def test_what_was_chosen_once_is_not_asked_of_the_engine_again(
    run: Run, docker: FakeDocker, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_TARGET")
    asked = len(docker.asked)

    result = run("setup", "--program", "demo", "--no-prompt")

    assert "runs" not in result.stdout
    assert len(docker.asked) == asked
    assert (bundle / "docker-compose.yml").exists()


def test_another_broker_is_for_processes(
    run: Run, docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_TARGET")
    docker.answer("version", "24.0.7\n")

    run("setup", "--program", "test", "--no-prompt", "--broker", "redis://localhost:6379/0")

    assert not (home / "docker-compose.yml").exists()


# ---- trying out, and the workers


def test_check_tries_each_part_where_it_will_run(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    result = run("check")

    assert result.exit_code == 0, result.stderr
    tried = [line for line in docker.asked if "acoupi.system.checks" in line]
    start, limit = "compose run --rm --no-deps -T", "timeout --kill-after=10 600"
    assert sorted(tried) == [  # side by side, in any order
        f"{start} default {limit} python -m acoupi.system.checks rest",
        f"{start} detection {limit} python -m acoupi.system.checks model",
        f"{start} recording {limit} python -m acoupi.system.checks microphone",
    ]


def test_check_says_what_did_not_work_inside(run: Run, docker: FakeDocker, bundle: Path) -> None:
    said = "Error: cannot record.\n  Why: it is unplugged.\n  Try: plug it in\n"
    docker.answer("compose run --rm --no-deps -T recording", code=1, err=said)

    result = run("check")

    assert lines_of(result) == said.rstrip().splitlines()
    assert result.exit_code == 3


def test_check_passes_on_the_notes_from_inside(run: Run, docker: FakeDocker, bundle: Path) -> None:
    said = " Network bats  Created\nNote: it may be resampled\n"
    docker.answer("compose run --rm --no-deps -T recording", err=said)

    result = run("check")

    assert result.exit_code == 0
    assert "Note: it may be resampled" in result.stderr
    assert "Created" not in result.stderr


def test_the_microphone_of_a_recorder_that_runs_is_left_to_it(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services({"recording": "ready", "default": "ready"})

    assert run("check").exit_code == 0
    assert not any("checks microphone" in line for line in docker.asked)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("start", ["compose up -d recording detection default"]),
        ("stop", ["compose stop recording detection default"]),
    ],
)
def test_the_workers_of_a_bundle_are_started_and_stopped(
    run: Run, docker: FakeDocker, bundle: Path, command: str, expected: list[str]
) -> None:
    result = run("workers", command)

    assert result.exit_code == 0, result.stderr
    assert docker.asked[-len(expected) :] == expected


def test_the_workers_of_a_bundle_are_restarted(run: Run, docker: FakeDocker, bundle: Path) -> None:
    result = run("workers", "restart")

    assert result.exit_code == 0, result.stderr
    doing = [line for line in docker.asked if line.startswith(("compose stop", "compose up"))]
    assert [line.split()[1] for line in doing] == ["stop", "up"]


def test_new_settings_of_a_bundle_that_runs_need_new_containers(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services({**READY, "beat": "ready"})
    start_deployment(Settings(home=bundle), "heath", None, None)

    said = run("config", "set", "paths.recordings", str(bundle.parent / "disk"))
    result = run(*said.stderr.rstrip().rpartition("acoupi ")[2].split())

    assert result.exit_code == 0, result.stderr
    doing = [line for line in docker.asked if line.startswith(("compose down", "compose up"))]
    assert [line.split()[1] for line in doing] == ["down", "up"], "a new mount, for one"
