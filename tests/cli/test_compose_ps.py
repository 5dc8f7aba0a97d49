"""acoupi compose ps, render and down: what is handed to docker compose, and what is shown."""

from pathlib import Path

import pytest

from tests.cli.fake_docker import FakeDocker
from tests.cli.support import READY, Run, Services, data_of


def test_down_stops_beat_first(run: Run, docker: FakeDocker, bundle: Path) -> None:
    result = run("compose", "down")

    assert [line for line in docker.asked if "compose" in line][-2:] == [
        "compose stop beat",
        "compose down --remove-orphans",
    ]
    assert result.exit_code == 0
    assert "acoupi compose up" in result.stdout


def test_ps_shows_what_each_service_does(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services(READY)

    result = run("compose", "ps")
    as_json = data_of(run("compose", "ps", "--json"))

    assert result.exit_code == 0
    header, _, _, recording, *_ = filter(str.strip, result.stdout.splitlines())
    assert header.split()[-1] == "MB"
    assert recording.split() == ["recording", "ready", "-", "0", "0", "0", "-"]
    assert [one["state"] for one in as_json] == ["ready"] * 5


def test_ps_ends_with_3_when_not_all_work(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services({"recording": "ready", "default": "stopped"})

    assert run("compose", "ps").exit_code == 3
    assert run("compose", "ps", "--json").exit_code == 3


def test_ps_without_an_engine_is_a_table_of_unknowns(
    run: Run, docker: FakeDocker, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    result = run("compose", "ps", "--json")

    assert {one["state"] for one in data_of(result)} == {"unknown"}
    assert result.exit_code == 3


def test_options_of_ps_go_to_docker_compose(run: Run, docker: FakeDocker, bundle: Path) -> None:
    run("compose", "ps", "--quiet")

    assert docker.asked[-1] == "compose ps --quiet"
