"""``acoupi effort``, and how the microphone does in ``acoupi deployment status``."""

import csv
import datetime
import io
import re
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from acoupi import data
from acoupi.cli.effort import effort as effort_command
from acoupi.cli.timezones import shown_time
from acoupi.components import SqliteStore
from acoupi.components.stores.views import EFFORT
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import CapturePlan, DailyWindows, EffortHistory, PlanFrom, ledger
from tests.cli.support import Run, data_of, lines_of
from tests.clocks import Clock

S = EffortState
START = datetime.datetime(2024, 6, 1, 19, tzinfo=datetime.UTC)  # 20:00 in London
SITE = data.Deployment(name="Old oak", started_on=START)
NIGHT = DailyWindows(
    intervals=(data.TimeInterval(start=datetime.time(20), end=datetime.time(4)),),
    timezone="Europe/London",
)
PLAN = CapturePlan(duration=600, interval=600, windows=(NIGHT,), timezone="Europe/London")
HEALTH = data.MicrophoneHealth(
    rms_dbfs=-40,
    peak_dbfs=0,
    clipped_share=0.03,
    dc_offset=0,
    is_silent=False,
    is_stuck=False,
    noise_floor_dbfs=-72,
)


def at(minutes: float) -> datetime.datetime:
    return START + datetime.timedelta(minutes=minutes)


def record(
    store: SqliteStore, minutes: float, site: data.Deployment = SITE, *, is_set: bool = True
) -> None:
    report = data.CaptureReport(
        stream_id=UUID(int=1),
        first_frame=round(minutes * 60 * 8000),
        frames=600 * 8000,
        samplerate_measured=8000,
        clock_synchronised=is_set,
        clock_error_s=0.01,
        health=HEALTH,
    )
    store.store_recording(
        data.Recording(
            path=None,
            duration=600,
            samplerate=8000,
            deployment=site,
            created_on=at(minutes),
            capture=report,
        )
    )


@pytest.fixture
def store(sensor: Path) -> SqliteStore:
    """A night of eight hours with two holes, and the half of a day after it."""
    store = SqliteStore(sensor / "data" / "metadata.db")
    ended = SITE.model_copy(update={"ended_on": at(16 * 60)})
    store.store_deployment(ended)
    store.note_plan(ended, PLAN, START)
    for minutes in range(0, 8 * 60, 10):
        if not (60 <= minutes < 120 or minutes == 300):
            record(store, minutes, ended)
    store.note_effort(
        ended,
        [
            EffortSpan(at(60), at(120), S.DEVICE_MISSING, 'cannot find "UltraMic".'),
            EffortSpan(at(300), at(310), S.NOT_RUNNING, "the recorder was off"),
        ],
    )
    return store


def test_the_table_tells_of_every_day_and_every_hole(run: Run, store: SqliteStore) -> None:
    result = run("effort")

    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "planned 8:00:00" in text
    assert "captured 6:50:00, 85.416 % of the plan" in text
    assert "2024-06-01 4:00:00 3:00:00 75.000 %" in text
    assert "2024-06-01 21:00:00 2024-06-01 22:00:00 1:00:00 device missing cannot find" in text
    assert "2024-06-02 01:00:00 2024-06-02 01:10:00 0:10:00 not running the recorder was" in text
    assert "total 16:00:00 100.00 %" in text
    assert "from (Europe/London) to" in text


def test_the_shares_add_up_to_a_hundred_percent(run: Run, store: SqliteStore) -> None:
    table = run("effort").stdout.partition("in all")[2]

    shares = re.findall(r"(\d+\.\d\d) %", table)

    assert len(shares) == 5
    assert sum(int(share.replace(".", "")) for share in shares[:-1]) == 10_000


def test_each_hour_is_a_bar(run: Run, store: SqliteStore) -> None:
    lines = run("effort").stdout.splitlines()

    (first,) = [line for line in lines if re.match(r"2024-06-01 +█", line)]
    (second,) = [line for line in lines if re.match(r"2024-06-02 +█[▁-█]", line)]
    assert first[12:] == " " * 20 + "█✗██"
    assert second[12:].rstrip() == "█▆██" + "·" * 8


def test_json_holds_all_of_it(run: Run, store: SqliteStore) -> None:
    found = data_of(run("effort", "--json"))

    assert found["deployment"]["name"] == "Old oak"
    assert found["planned_s"] == 8 * 3600
    assert found["captured_share"] == pytest.approx(410 / 480)
    assert sum(found["states_s"].values()) == found["total_s"] == 16 * 3600
    assert [(hole["state"], hole["lost_s"]) for hole in found["holes"]] == [
        ("device_missing", 3600),
        ("not_running", 600),
    ]
    assert [day["date"] for day in found["days"]] == ["2024-06-01", "2024-06-02"]
    assert found["days"][0]["hours"][1]["states_s"]["device_missing"] == 3600


def test_the_csv_holds_every_span_without_a_gap(
    run: Run, store: SqliteStore, tmp_path: Path
) -> None:
    path = tmp_path / "effort.csv"

    result = run("effort", "--csv", str(path))
    printed = run("effort", "--csv", "-")

    assert "captured" in result.stdout
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert list(csv.DictReader(io.StringIO(printed.stdout))) == rows
    assert [row["state"] for row in rows] == [
        "recorded",
        "device_missing",
        "recorded",
        "not_running",
        "recorded",
        "off_schedule",
    ]
    assert all(one["end"] == after["start"] for one, after in pairwise(rows))
    assert sum(float(row["duration_s"]) for row in rows) == 16 * 3600
    assert rows[1]["detail"] == 'cannot find "UltraMic".'


def test_a_part_is_chosen_in_local_days_and_times(run: Run, store: SqliteStore) -> None:
    one_day = data_of(run("effort", "--from", "2024-06-02", "--to", "2024-06-02", "--json"))
    evening = data_of(
        run("effort", "--from", "2024-06-01T20:30", "--to", "2024-06-01T21:30", "--json")
    )

    assert one_day["total_s"] == 12 * 3600
    assert one_day["since"] == "2024-06-01T23:00:00+00:00"
    assert (evening["total_s"], evening["recorded_s"]) == (3600, 1800)


def test_a_deployment_is_chosen_by_name_or_id(run: Run, store: SqliteStore) -> None:
    other = data.Deployment(name="Lake", started_on=at(3000), ended_on=at(3001))
    store.store_deployment(other)

    assert data_of(run("effort", "--json"))["deployment"]["name"] == "Lake"
    for text in ("Old oak", str(SITE.id)):
        found = data_of(run("effort", "--deployment", text, "--json"))
        assert found["deployment"]["name"] == "Old oak"


def test_a_deployment_that_there_was_not_is_refused_by_name(run: Run, store: SqliteStore) -> None:
    result = run("effort", "--deployment", "Old elm")

    assert lines_of(result)[0] == 'Error: there is no deployment "Old elm".'
    assert '"Old oak"' in lines_of(result)[1]
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--from", "last week"], '--from cannot be "last week"'),
        (["--from", "2025-01-01"], "does not overlap"),
        (["--csv", "/nowhere/at/all.csv"], 'cannot write "/nowhere/at/all.csv"'),
        (["--csv", "a.csv", "--json"], "cannot be given together"),
    ],
)
def test_a_wrong_option_is_refused(
    run: Run, store: SqliteStore, args: list[str], named: str
) -> None:
    result = run("effort", *args)

    assert named in lines_of(result)[0]
    assert result.exit_code in (1, 2)


def test_without_a_deployment_it_says_how_to_begin_one(run: Run, sensor: Path) -> None:
    result = run("effort")

    assert lines_of(result)[2].startswith("  Try: acoupi start")
    assert result.exit_code == 2


def test_a_deployment_whose_recorder_never_ran_is_measured_by_the_plan_of_the_program(
    run: Run, store: SqliteStore
) -> None:
    noon = datetime.datetime(2024, 6, 20, 11, tzinfo=datetime.UTC)
    hour = datetime.timedelta(hours=1)
    store.store_deployment(data.Deployment(name="Lake", started_on=noon, ended_on=noon + hour))

    result, found = run("effort"), data_of(run("effort", "--json"))

    assert "does not say" not in result.stderr
    assert found["schedule_known"]
    assert found["captured_share"] == 0
    assert found["planned_s"] == found["states_s"]["not_running"] > 0
    assert found["total_s"] == 3600


WITHOUT_A_PLAN = """
from acoupi.programs import connected

class Program(connected.Program):
    def get_capture_plan(self, config):
        return None
"""


def test_where_the_schedule_is_not_known_it_says_so(
    run: Run, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without_a_plan.py").write_text(WITHOUT_A_PLAN)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run("setup", "--program", "without_a_plan").exit_code == 0
    store.store_deployment(
        data.Deployment(name="Lake", started_on=at(3000), ended_on=at(3001)),
    )

    result = run("effort")

    assert "does not say when it plans" in result.stderr
    assert "% of the plan" not in result.stdout
    assert "Everything planned" not in result.stdout
    assert "100.00 %" in result.stdout


def test_recordings_of_a_clock_that_nothing_had_set_are_told(run: Run, sensor: Path) -> None:
    store = SqliteStore(sensor / "data" / "metadata.db")
    ended = SITE.model_copy(update={"ended_on": at(30)})
    for minutes, is_set in ((0, False), (10, True), (20, False)):
        record(store, minutes, ended, is_set=is_set)

    result = run("effort")

    assert "Note: 0:20:00 were recorded while no time server" in result.stderr
    assert data_of(run("effort", "--json"))["clock_not_synchronised_s"] == 1200


def test_a_hole_with_several_reasons_is_one(run: Run, store: SqliteStore) -> None:
    ended = SITE.model_copy(update={"ended_on": at(16 * 60)})
    notes = [EffortSpan(at(60), at(80), S.DEVICE_MISSING, "it stopped.")]
    store.note_effort(
        ended, [*notes, EffortSpan(at(80), at(120), S.DEVICE_MISSING, "cannot find it.")]
    )

    first = data_of(run("effort", "--json"))["holes"][0]

    assert (first["detail"], first["lost_s"]) == ("it stopped.; cannot find it.", 3600)


def test_a_deployment_that_goes_on_is_told_until_its_last_sign_of_life(
    run: Run, sensor: Path, clock: Clock
) -> None:
    store = SqliteStore(sensor / "data" / "metadata.db")
    store.note_plan(SITE, PLAN, START)
    for minutes in (0, 10, 20):
        record(store, minutes)
    clock.now = at(35)

    found = data_of(run("effort", "--json"))

    assert found["until"] == at(30).isoformat()
    assert found["captured_share"] == 1
    assert found["holes"] == []


# ---- deployment status


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "clipping 3 % (-40 dBFS, noise floor -72 dBFS; recorded"),
        ({"clipped_share": 0.0}, "ok (-40 dBFS"),
        ({"clipped_share": 0.0, "is_silent": True}, "silent (no sound"),
        ({"clipped_share": 0.0, "is_stuck": True}, "stuck at one value at times (-40"),
        ({"clipped_share": 0.0, "dc_offset": -0.12}, "DC offset -12 %"),
    ],
)
def test_status_says_how_the_microphone_does(
    run: Run, sensor: Path, changes: dict[str, object], words: str
) -> None:
    assert run("deployment", "start", "--name", "Old oak").exit_code == 0
    store = SqliteStore(sensor / "data" / "metadata.db")
    site = store.get_current_deployment()
    report = data.CaptureReport(
        stream_id=UUID(int=1),
        first_frame=0,
        frames=8000,
        samplerate_measured=None,
        clock_synchronised=None,
        clock_error_s=None,
        health=HEALTH.model_copy(update=changes),
    )
    store.store_recording(
        data.Recording(path=None, duration=1, samplerate=8000, deployment=site, capture=report)
    )

    shown = run("deployment", "status").stdout
    as_json = data_of(run("deployment", "status", "--json"))

    (line,) = [line for line in shown.splitlines() if line.startswith("microphone")]
    assert words in line
    assert as_json["microphone"]["health"]["rms_dbfs"] == -40


def test_status_is_silent_about_a_microphone_that_has_not_recorded(run: Run, sensor: Path) -> None:
    assert run("deployment", "start", "--name", "Old oak").exit_code == 0

    assert "microphone" not in run("deployment", "status").stdout
    assert data_of(run("deployment", "status", "--json"))["microphone"] is None


def test_a_microphone_that_is_missing_now_shows_in_the_status(run: Run, sensor: Path) -> None:
    run("deployment", "start", "--name", "Pond", "--no-check")
    store = SqliteStore(sensor / "data" / "metadata.db")
    site = store.get_current_deployment()
    now = data.utc_now()
    gone = now - datetime.timedelta(seconds=50)
    store.note_effort(site, [EffortSpan(gone, now, S.DEVICE_MISSING, "it was unplugged.")])

    shown = run("deployment", "status").stdout
    as_json = data_of(run("deployment", "status", "--json"))

    (line,) = [line for line in shown.splitlines() if line.startswith("microphone")]
    assert f"device missing since {shown_time(gone, '%H:%M:%S')} UTC: it was unplugged." in line
    assert as_json["microphone"]["missing_detail"] == "it was unplugged."


@pytest.mark.parametrize("state", EffortState)
def test_a_state_is_in_the_ledger_and_is_told_to_people(state: EffortState) -> None:
    """A new one needs a rank in `acoupi.effort`, and words in the help of the command."""
    begin, end = START, START + datetime.timedelta(minutes=20)
    note = EffortSpan(begin, end, state)
    site = SITE.model_copy(update={"ended_on": end})

    assert ledger(EffortHistory(site, (), (note,), (PlanFrom(START, PLAN),)), START)
    assert state.value.replace("_", " ") in " ".join((effort_command.__doc__ or "").split())
    said = next(one for one in EFFORT.columns if one.name == "effort_state")
    assert state.value in said.meaning
