"""A running sensor whose microphone fails: it tells, once, and tells when it is over."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.alarms.facts import Heard
from acoupi.alarms.floors import HourFloor, hour_of
from acoupi.components import SqliteStore
from acoupi.components.stores.alarms import SqliteAlarmStore
from tests.services import Redis, eventually

ACOUPI = Path(sys.executable).with_name("acoupi")
SETUP = [
    *("--program", "connected", "--target", "process", "--no-prompt"),
    *("--recording.duration", "1", "--recording.interval", "1"),
    *("--recording.schedule_start", "00:00", "--recording.schedule_end", "00:00"),
    *("--messaging.file.path", "data/told.jsonl", "--messaging.message_send_interval", "1"),
    *("--sensor.alarms.enabled", "true", "--sensor.alarms.interval_seconds", "2"),
    *("--sensor.alarms.microphone_times", "3"),
]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Board:
    """A sensor of the connected program, on a microphone that fails as it is told."""

    def __init__(self, home: Path, faults: str) -> None:
        self.home = home
        self.environ = {
            **os.environ,
            "ACOUPI_HOME": str(home),
            "ACOUPI_SIMULATED_AUDIO": f"synthetic,faults={faults}",
        }

    def run(self, *args: str, code: int = 0) -> str:
        result = subprocess.run(
            [str(ACOUPI), *args], env=self.environ, capture_output=True, text=True, check=False
        )
        assert result.returncode == code, result.stderr
        return result.stdout

    def told(self, alarm: str) -> list[str]:
        """What arrived about an alarm."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.home / "data" / "told.jsonl").read_text().splitlines()
            found = [json.loads(line) for line in lines if line.endswith("}")]
            return [
                one["content"]["state"]
                for one in found
                if one["message_type"] == "alarm" and one["content"]["alarm"] == alarm
            ]
        return []

    def active(self) -> list[str]:
        return [one.key for one in SqliteAlarmStore(self.home / "data" / "alarms.db").get_active()]

    def heard(self) -> list[Heard]:
        store = SqliteStore(self.home / "data" / "metadata.db")
        now = data.utc_now()
        return store.get_heard(now - timedelta(hours=1), now)


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[str], Board]]:
    boards = []

    def begin(faults: str, *options: str) -> Board:
        board = Board(home, faults)
        boards.append(board)
        board.run("setup", *SETUP, *options)
        board.run("deployment", "start", "--name", "oak", "--no-check")
        return board

    yield begin
    for board in boards:
        board.run("deployment", "stop")


def test_a_muted_microphone_is_told_once(start: Callable[[str], Board]) -> None:
    board = start("clip:6:0")

    eventually(lambda: board.told("microphone_silent"), "an alarm", 120)
    number = len(board.heard())
    eventually(lambda: len(board.heard()) > number + 6, "more silence")

    assert board.told("microphone_silent") == ["raised"]
    found = json.loads(board.run("alarms", "--json", code=3))
    assert "microphone_silent" in [one["alarm"] for one in found["alarms"]]
    effort = json.loads(board.run("effort", "--json"))
    assert 0 < effort["microphone_suspect_s"] < effort["recorded_s"]


def test_an_unplugged_microphone_is_told_and_so_is_its_return(
    start: Callable[[str], Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = start("unplug:6:68")

    eventually(lambda: board.told("cannot_record") == ["raised"], "an alarm", 150)
    eventually(lambda: board.told("cannot_record") == ["raised", "cleared"], "its end")

    assert "cannot_record" not in board.active()
    history: list[Any] = json.loads(board.run("alarms", "--history", "--json"))["alarms"]
    (one,) = [one for one in history if one["alarm"] == "cannot_record"]
    assert one["detail"].startswith("device missing: ")


def test_a_microphone_that_hears_20_db_less_than_for_days_is_deaf(
    start: Callable[[str], Board],
) -> None:
    board = start("clip:12:0.1")
    eventually(lambda: len(board.heard()) >= 3, "the first recordings")
    usual = board.heard()[0].floor
    remember_days(board, usual)

    eventually(lambda: board.told("microphone_deaf"), "an alarm", 120)

    assert board.told("microphone_deaf") == ["raised"]
    assert board.heard()[-1].floor == pytest.approx(usual - 20, abs=4)


def test_a_broker_that_is_gone_is_told_without_it(
    start: Callable[..., Board], tmp_path: Path
) -> None:
    with Redis(tmp_path / "redis") as redis:
        board = start("drift:0:1", "--broker", redis.url)
        eventually(lambda: len(board.heard()) >= 3, "the first recordings")

        redis.kill()
        eventually(lambda: board.told("service_down") == ["raised"], "an alarm", 150)
        (found,) = [
            one
            for one in json.loads(board.run("alarms", "--json", code=3))["alarms"]
            if one["alarm"] == "service_down"
        ]
        assert "default: waiting for the broker" in found["detail"]
        redis.start()
        eventually(lambda: board.told("service_down") == ["raised", "cleared"], "its end")


def remember_days(board: Board, floor: float) -> None:
    """Let the sensor have heard this noise floor for four days."""
    store = SqliteStore(board.home / "data" / "metadata.db")
    (deployment,) = store.get_deployments()
    began = deployment.started_on - timedelta(days=4)
    store.store_deployment(deployment.model_copy(update={"started_on": began}))
    hours = [hour_of(data.utc_now()) - timedelta(hours=n) for n in range(1, 24 * 4)]
    floors = [HourFloor(hour, floor, floor - 2) for hour in hours]
    SqliteAlarmStore(board.home / "data" / "alarms.db").put_floors(floors, began)
