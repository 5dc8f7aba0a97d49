"""The backlog policy: from the settings of the sensor to what people are told."""

import csv
import datetime
import json
from pathlib import Path

import pytest

from acoupi import data
from acoupi.backlog import Backlog, LeftOut
from acoupi.components import SqliteStore
from acoupi.services.construction import load_program
from acoupi.stack.settings import Settings
from acoupi.testing import make_recording
from tests.cli.support import Run, lines_of

MODEL = "model"


@pytest.fixture
def home(run: Run, sensor: Path) -> Path:
    result = run("setup", "--program", "demo", "--target", "fake", "--no-prompt")
    assert result.exit_code == 0, result.stderr
    return sensor


def test_the_settings_reach_the_store_and_a_task_follows_them(run: Run, home: Path) -> None:
    program = load_program(Settings(home=home))
    assert program.store.backlog == Backlog()
    assert "backlog_task" not in program.tasks

    for name, value in (("policy", "thin"), ("limit_hours", "2"), ("keep_files", "true")):
        assert run("config", "set", f"sensor.backlog.{name}", value).exit_code == 0

    program = load_program(Settings(home=home))
    found = program.store.backlog
    assert (found.policy, found.limit_hours, found.keep_files) == ("thin", 2.0, True)
    assert "backlog_task" in program.tasks
    schedule = json.loads((home / "config" / "schedule.json").read_text())
    assert "backlog_task" in json.dumps(schedule)


@pytest.mark.parametrize(
    ("program", "policy", "why"),
    [
        ("demo", "nightly", "it records day and night, as far as is known"),
        ("connected", "thin", "it runs no model on its recordings"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused_by_name(
    run: Run, home: Path, program: str, policy: str, why: str
) -> None:
    all_day = ("--recording.schedule_start", "00:00", "--recording.schedule_end", "00:00")
    options = ("--program", program, "--target", "fake", "--no-prompt", *all_day)
    assert run("setup", *options).exit_code == 0
    before = {path: path.read_bytes() for path in (home / "config").glob("*.json")}

    result = run("config", "set", "sensor.backlog.policy", policy)

    assert result.exit_code == 2
    said = lines_of(result)
    assert f"cannot have sensor.backlog.policy {policy}" in said[0]
    assert why in said[1]
    assert {path: path.read_bytes() for path in (home / "config").glob("*.json")} == before


def test_effort_says_what_was_left_out(run: Run, home: Path, tmp_path: Path) -> None:
    store = SqliteStore(home / "data" / "metadata.db")
    start = datetime.datetime(2024, 8, 1, 20, tzinfo=datetime.UTC)
    site = data.Deployment(
        name="Old oak", started_on=start, ended_on=start + datetime.timedelta(seconds=40)
    )
    made = [
        make_recording(
            deployment=site, duration=10, created_on=start + datetime.timedelta(seconds=10 * n)
        )
        for n in range(4)
    ]
    for one in made:
        store.store_recording(one)
    assert site.ended_on is not None
    ids = frozenset(one.id for one in made[1:])
    store.leave_out(LeftOut(site.id, start, site.ended_on, ids, "too many waited"), [MODEL])
    store.close()

    text = run("effort").stdout
    table = tmp_path / "effort.csv"
    assert run("effort", "--csv", str(table)).exit_code == 0

    assert "25.000 % of that, chosen evenly in time" in " ".join(text.split())
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(one["duration_s"], one["analysed_fraction"]) for one in rows] == [
        ("40.000000", "0.25")
    ]
