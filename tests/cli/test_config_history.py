"""What was in force before, and the way back to it."""

import json
from pathlib import Path

import pytest

from acoupi.provisioning.apply import provision
from acoupi.system import Settings
from acoupi.system.config_history import MOST, history_file, read_history
from acoupi.system.sensor import Sensor
from tests.cli.support import Calls, Run, data_of


def duration_of(home: Path) -> float:
    return Sensor.read(Settings(home=home)).config.recording.duration  # type: ignore[attr-defined]


def test_a_setting_is_undone_and_done_again(run: Run, sensor: Path) -> None:
    run("config", "set", "recording.duration", "2")
    run("config", "set", "sensor.recorder.microphone_patience", "600")

    undone = run("config", "undo")

    assert undone.exit_code == 0, undone.stderr
    assert "sensor.recorder.microphone_patience 600" in undone.stdout
    assert Sensor.read(Settings(home=sensor)).own_config.recorder.microphone_patience is None  # type: ignore[attr-defined]
    assert duration_of(sensor) == 2
    run("config", "undo", "--to", "1")
    assert duration_of(sensor) == 1
    run("config", "undo")
    assert duration_of(sensor) == 2


def test_a_setting_that_is_applied_restarts_what_runs_and_says_so(
    run: Run, sensor: Path, target: Calls
) -> None:
    run("start", "Old oak", "--no-check")
    target.names.clear()

    result = run("config", "set", "recording.duration", "2", "--apply")
    undone = run("config", "undo", "--apply")

    assert result.exit_code == 0, result.stderr
    assert target.names == ["down", "up"] * 2
    assert "Restarting recording, default, beat (fake)" in result.stdout
    assert "acoupi workers restart" not in result.stderr
    assert undone.exit_code == 0, undone.stderr


def test_where_nothing_runs_nothing_is_started_by_applying(
    run: Run, sensor: Path, target: Calls
) -> None:
    result = run("config", "set", "--apply", "recording.duration", "2")

    assert "the new settings apply at the next start" in result.stdout
    assert target.names == []
    assert duration_of(sensor) == 2


def test_the_history_says_when_by_what_and_what_changed(run: Run, sensor: Path) -> None:
    run("config", "set", "recording.duration", "2")
    run("config", "set", "recording.duration", "2")  # nothing new

    table = run("config", "history").stdout
    first, second = data_of(run("config", "history", "--json"))

    assert (first["by"], second["by"]) == ("acoupi setup", "acoupi config set recording.duration")
    assert first["settings"]["recording"]["duration"] == 1
    assert first["on"] < second["on"]
    assert "recording.duration 1" in table
    assert "2" in table


def test_no_secret_is_in_it_and_an_undo_keeps_the_present_one(run: Run, sensor: Path) -> None:
    run("config", "set", "messaging.http", '{"base_url": "https://a.org", "token": "tok-one"}')
    run("config", "set", "messaging.http.token", "tok-two")
    run("config", "set", "recording.duration", "2")

    run("config", "undo")

    assert duration_of(sensor) == 1
    text = history_file(Settings(home=sensor)).read_text()
    assert "tok-one" not in text
    assert "tok-two" not in text
    assert "tok-two" in (sensor / "config" / "secrets.env").read_text()


def test_a_home_of_before_can_return_to_what_it_had(run: Run, sensor: Path) -> None:
    history_file(Settings(home=sensor)).unlink()
    run("config", "set", "recording.duration", "2")

    assert run("config", "undo").exit_code == 0
    assert duration_of(sensor) == 1


def test_where_there_is_nothing_to_undo_it_says_so(run: Run, sensor: Path) -> None:
    result = run("config", "undo")
    assert result.exit_code == 2
    assert "no earlier configuration" in result.stderr
    result = run("config", "undo", "--to", "7")
    assert "there is no configuration 7" in result.stderr
    assert duration_of(sensor) == 1


@pytest.mark.parametrize("noise", [b"\xff\xfe\n", b"{}\n", b'{"on": "2026'])
def test_damaged_lines_cost_only_themselves(run: Run, sensor: Path, noise: bytes) -> None:
    path = history_file(Settings(home=sensor))
    path.write_bytes(path.read_bytes() + noise)
    run("config", "set", "recording.duration", "2")
    assert run("config", "undo").exit_code == 0
    assert duration_of(sensor) == 1


def test_the_newest_are_kept(run: Run, sensor: Path) -> None:
    path = history_file(Settings(home=sensor))
    path.write_text(path.read_text() * (MOST + 5))
    run("config", "set", "recording.duration", "2")
    known = read_history(Settings(home=sensor))
    assert len(known) == MOST
    assert known[-1].settings["recording"]["duration"] == 2


def test_a_home_that_sets_itself_up_notes_its_sources(home: Path) -> None:
    settings = Settings(home=home)
    for seconds in ("3", "4"):
        found, is_new = provision(
            settings, {"ACOUPI_PROGRAM": "default", "ACOUPI_CONFIG__RECORDING__DURATION": seconds}
        )
        assert is_new, found.fault
    known = read_history(settings)
    assert [one.settings["recording"]["duration"] for one in known] == [3, 4]
    assert "variable" in known[0].by


def test_a_secret_that_is_gone_is_named_and_nothing_changes(run: Run, sensor: Path) -> None:
    run("config", "set", "messaging.http", '{"base_url": "https://a.org", "token": "tok-one"}')
    run("config", "set", "messaging.http", "null")

    result = run("config", "undo")

    assert result.exit_code == 2
    assert "token" in result.stderr
    assert json.loads((sensor / "config" / "program.json").read_text())["messaging"]["http"] is None
