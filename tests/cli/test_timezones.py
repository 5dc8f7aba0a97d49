"""The zone of local times: taken from the machine, said at setup, doubted where it does not fit."""

import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from acoupi.cli.timezones import shown_time
from tests.cli.support import Run, data_of

SETUP = ("setup", "--program", "default", "--no-prompt")


def zone(run: Run) -> object:
    return data_of(run("config", "get", "timezone"))


def test_setup_takes_the_zone_of_the_machine_and_says_so(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Bogota")

    result = run(*SETUP)

    assert result.exit_code == 0, result.stderr
    assert "America/Bogota" in result.stdout
    assert zone(run) == "America/Bogota"


def test_a_container_takes_the_zone_of_its_coordinates(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("ACOUPI_DEPLOYMENT__LATITUDE", "-34.9")
    monkeypatch.setenv("ACOUPI_DEPLOYMENT__LONGITUDE", "138.6")

    assert run(*SETUP).exit_code == 0

    assert zone(run) == "Australia/Adelaide"


def test_a_stored_answer_stays(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    run(*SETUP, "--timezone", "Europe/London")

    result = run(*SETUP)

    assert zone(run) == "Europe/London"
    assert "Europe/London, but that of this machine is Europe/Berlin" in result.stderr


def test_a_person_is_offered_the_zone_of_the_machine(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")

    result = run("setup", "--program", "default", "--prompt", input="\n" * 60)

    assert result.exit_code == 0, result.stderr
    assert "[Asia/Tokyo]" in result.stdout
    assert zone(run) == "Asia/Tokyo"


def test_start_says_that_the_clocks_of_the_place_are_others(run: Run, sensor: Path) -> None:
    run("config", "set", "timezone", "Europe/London")
    start = ("deployment", "start", "--no-check", "--name")

    in_berlin = run(*start, "x", "--latitude", "52.5", "--longitude", "13.4")
    run("deployment", "stop")
    in_london = run(*start, "y", "--latitude", "51.5", "--longitude", "-0.1")

    assert "Europe/London, but the clocks at 52.5, 13.4 are those of Europe/" in in_berlin.stderr
    assert "time zone" not in in_london.stderr


def test_check_says_that_the_machine_has_another_zone(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("config", "set", "timezone", "Europe/London")
    monkeypatch.setenv("TZ", "Europe/Berlin")

    result = run("check")

    assert result.exit_code == 0, result.stderr
    assert "that of this machine is Europe/Berlin" in result.stderr


def test_shown_times_are_rounded_to_the_second() -> None:
    time = datetime.datetime(2026, 11, 29, 14, 41, 9, 999_998, tzinfo=datetime.UTC)

    assert shown_time(time) == "2026-11-29 14:41:10"
    assert shown_time(time, "%H:%M:%S", zone=ZoneInfo("Asia/Tokyo")) == "23:41:10"


def test_status_names_the_zone_of_its_times(run: Run, sensor: Path) -> None:
    run("deployment", "start", "--no-check", "--name", "x")

    result = run("deployment", "status")

    since = next(line for line in result.stdout.splitlines() if line.startswith("since"))
    assert since.endswith(" UTC")
    assert "last done (UTC)" in " ".join(result.stdout.split())
