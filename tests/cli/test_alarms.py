"""``acoupi alarms``, and alarms in ``acoupi deployment status`` and ``acoupi effort``."""

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from acoupi.alarms.episodes import Alarm
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.config.sensor import load_sensor
from acoupi.stack.settings import Settings
from tests.cli.support import Run, data_of
from tests.cli.test_effort import at, store

__all__ = ["store"]

SINCE = datetime(2024, 6, 1, 20, tzinfo=UTC)
OVER = Alarm("disk_low", SINCE, "0.50 GB free", SINCE, SINCE + timedelta(hours=1))
ACTIVE = Alarm("microphone_deaf", SINCE + timedelta(hours=2), "noise floor -99 dBFS")


@pytest.fixture
def alarms(sensor: Path, run: Run) -> SqliteAlarmStore:
    """Alarms are on."""
    assert run("config", "set", "sensor.alarms.enabled", "true").exit_code == 0
    return SqliteAlarmStore(sensor / "data" / "alarms.db")


def test_alarms_that_are_off_say_how_to_turn_them_on(run: Run, sensor: Path) -> None:
    result = run("alarms")

    assert result.exit_code == 0
    assert "acoupi config set sensor.alarms.enabled true" in result.stdout
    assert not (sensor / "data" / "alarms.db").exists()
    assert "alarms" not in (sensor / "config" / "schedule.json").read_text()


def test_alarms_that_are_on_are_a_task_of_the_default_queue(
    run: Run, sensor: Path, alarms: SqliteAlarmStore
) -> None:
    schedule = (sensor / "config" / "schedule.json").read_text()

    assert load_sensor(Settings(home=sensor)).alarms.enabled
    assert '"task": "alarms_task"' in schedule
    assert "dead_mans_task" not in schedule
    assert "No alarm is active." in run("alarms").stdout


def test_the_dead_mans_address_is_a_secret(run: Run, sensor: Path) -> None:
    url = "https://example.org/ping/0a1b2c3d4e"
    args = ["--sensor.alarms.enabled", "true", "--sensor.alarms.dead_mans_url", url]
    result = run("setup", "--program", "connected", "--target", "fake", *args)

    assert result.exit_code == 0, result.stderr
    assert url not in run("config", "get").stdout
    assert url not in (sensor / "config" / "sensor.json").read_text()
    assert load_sensor(Settings(home=sensor)).alarms.dead_mans_url.get_secret_value() == url
    assert '"task": "dead_mans_task"' in (sensor / "config" / "schedule.json").read_text()


def test_a_threshold_that_makes_no_sense_is_refused_by_name(run: Run, sensor: Path) -> None:
    result = run("config", "set", "sensor.alarms.effort_percent", "120")

    assert result.exit_code == 2
    assert "effort_percent" in result.stderr


def test_an_active_alarm_is_shown_and_told_by_the_exit_code(
    run: Run, alarms: SqliteAlarmStore
) -> None:
    alarms.put_look([OVER], {})
    assert run("alarms").exit_code == 0
    alarms.put_look([ACTIVE], {})

    result, found = run("alarms"), run("alarms", "--json")

    assert result.exit_code == found.exit_code == 3
    assert "microphone_deaf" in result.stdout
    assert "disk_low" not in result.stdout
    (one,) = data_of(found)["alarms"]
    assert one["alarm"] == "microphone_deaf"
    assert one["detail"] == "noise floor -99 dBFS"
    assert one["until"] is None


def test_the_history_has_those_that_are_over(run: Run, alarms: SqliteAlarmStore) -> None:
    alarms.put_look([OVER], {})

    result = run("alarms", "--history")
    (one,) = data_of(run("alarms", "--history", "--json"))["alarms"]

    assert result.exit_code == 0
    assert "2024-06-01 21:00:00" in result.stdout
    assert one["until"] == "2024-06-01T21:00:00Z"


def test_the_status_tells_of_active_alarms(run: Run, alarms: SqliteAlarmStore) -> None:
    alarms.put_look([ACTIVE], {})

    result = run("deployment", "status")

    assert result.exit_code == 3
    assert "alarm microphone_deaf since 2024-06-01 22:00:00 UTC" in result.stderr
    found = data_of(run("deployment", "status", "--json"))
    assert [one["alarm"] for one in found["alarms"]] == ["microphone_deaf"]
    assert found["ok"] is False


def test_what_a_deaf_microphone_recorded_is_marked_and_not_subtracted(
    run: Run, store: object, alarms: SqliteAlarmStore
) -> None:
    before = data_of(run("effort", "--json"))
    # From the middle of a recording, over a hole of an hour, to the end of another.
    alarms.put_look([Alarm("microphone_silent", at(45), ended_on=at(130))], {})

    found = data_of(run("effort", "--json"))
    rows = list(csv.DictReader(io.StringIO(run("effort", "--csv", "-").stdout)))

    assert before["microphone_suspect_s"] == 0
    assert found["microphone_suspect_s"] == 25 * 60
    assert found["recorded_s"] == before["recorded_s"]
    assert found["states_s"] == before["states_s"]
    assert [day["microphone_suspect_s"] for day in found["days"]] == [25 * 60, 0]
    assert sum(float(row["microphone_suspect_s"]) for row in rows) == 25 * 60
    table = run("effort")
    assert "0:25:00 were recorded by a microphone that seems to" in table.stderr
    assert "mic. suspect" in table.stdout
