"""The backlog policy: from the settings of the sensor to what people are told."""

import csv
import datetime
import json
from pathlib import Path

import pytest

from acoupi import data
from acoupi.backlog import Backlog, Change, LeftOut
from acoupi.components import SqliteStore
from acoupi.effort import CapturePlan, DailyWindows
from acoupi.services.construction import load_program
from acoupi.stack.settings import Settings
from acoupi.system.state import analysis_pace
from acoupi.testing import make_recording
from tests.cli.support import Run, lines_of
from tests.clocks import Clock

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
        ("demo", "nightly", "it seems to record day and night"),
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
    assert said[0] == f"Error: this program cannot use sensor.backlog.policy {policy}."
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

    assert "25.000 % of that, chosen by time alone" in " ".join(text.split())
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [(one["duration_s"], one["analysed_fraction"]) for one in rows] == [
        ("40.000000", "0.25")
    ]


@pytest.mark.parametrize(
    ("policy", "limit", "is_behind", "told"),
    [
        ("none", "4", True, "30 s per recording, one comes every 10 s: "),
        ("thin", "4", False, "every 4th recording is analysed; 30 s per recording"),
        ("thin", "0.01", True, "every 4th recording is analysed; 30 s per recording"),
    ],
)
def test_status_says_how_far_behind_it_is_and_by_which_policy(
    run: Run, home: Path, clock: Clock, policy: str, limit: str, is_behind: bool, told: str
) -> None:
    assert run("config", "set", "sensor.backlog.policy", policy).exit_code == 0
    assert run("config", "set", "sensor.backlog.limit_hours", limit).exit_code == 0
    store = SqliteStore(home / "data" / "metadata.db")
    site = data.Deployment(name="Old oak", started_on=clock.now)
    night = data.TimeInterval(
        start=clock.now.time(), end=(clock.now + datetime.timedelta(hours=8)).time()
    )
    windows = (DailyWindows(intervals=(night,), timezone="UTC"),)
    store.note_plan(site, CapturePlan(duration=10, interval=10, windows=windows), clock.now)
    if policy == "thin":
        store.change_sampling(Change(4, "the model is slow"), [MODEL])
    made = []
    for number in range(300):  # all are stored, and every third is analysed meanwhile
        clock.advance(10)
        made.append(make_recording(deployment=site, created_on=clock.now, duration=10))
        store.store_recording(made[-1])
        if number % 3 == 2:
            analysis = store.begin_analysis(made[number // 3], MODEL)
            done = {"state": data.AnalysisState.DONE}
            store.end_analysis(analysis.model_copy(update=done))
    store.close()

    pace = analysis_pace(Settings(home=home), site)

    assert pace is not None
    assert pace.words().startswith(told)
    assert "h behind by" in pace.words()
    assert pace.falls_behind is is_behind
