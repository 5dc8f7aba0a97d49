"""A report made from runs of recordings says what one made from each of them says."""

import datetime
from pathlib import Path
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.effort import CapturePlan, DailyWindows
from acoupi.exports.effort_report import measure, read_effort
from tests.stores import recording

START = datetime.datetime(2026, 3, 29, 0, 10, 3, 250_000, tzinfo=datetime.UTC)
RATE = 48_000
MIDNIGHT = 24 * 3600 - 10 * 60 - 3.25
"""Seconds from the start to the end of the first part of a report."""

PLANS = st.sampled_from(
    [
        CapturePlan(duration=60, interval=60, timezone="Europe/London"),
        CapturePlan(duration=60, interval=90, timezone="Europe/London"),
        CapturePlan(
            duration=60,
            interval=75,
            timezone="Asia/Kolkata",
            windows=(
                DailyWindows(
                    intervals=(
                        data.TimeInterval(start=datetime.time(1), end=datetime.time(7, 20)),
                    ),
                    timezone="Asia/Kolkata",
                ),
            ),
        ),
    ]
)
ODD = st.sampled_from(["lost", "short", "late", "overrun", "new stream", "not synchronised"])


def store_with(path: Path, site: data.Deployment, plan: CapturePlan, odd: dict[int, str]) -> None:
    """Store 60 recordings around midnight and at the start, some of them out of the ordinary."""
    store = SqliteStore(path)
    store.store_deployment(site)
    store.note_plan(site, plan, START)
    stream = 1
    places = [*range(40), *(round(MIDNIGHT // plan.interval) - 10 + n for n in range(20))]
    for number, place in enumerate(places):
        what = odd.get(number)
        stream += what == "new stream"
        if what == "lost":
            continue
        late = 20 * RATE if what == "late" else 0
        length = 30 if what == "short" else plan.duration - late / RATE
        first = round(place * plan.interval * RATE) + late
        report = data.CaptureReport(
            stream_id=UUID(int=stream),
            first_frame=first,
            frames=round(length * RATE),
            samplerate_measured=None,
            clock_error_s=None,
            gap_before_frames=late,
            overruns=[data.Overrun(first + 10 * RATE, RATE)] if what == "overrun" else [],
            incomplete=data.IncompleteReason.STOPPED if what == "short" else None,
            clock_synchronised=what != "not synchronised",
        )
        made = recording(f"{number}.wav", duration=length, samplerate=RATE, capture=report)
        created_on = START + datetime.timedelta(seconds=place * plan.interval + late / RATE)
        store.store_recording(made.model_copy(update={"created_on": created_on}), site)
    store.close()


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=PLANS, odd=st.dictionaries(st.integers(0, 59), ODD, max_size=12), cut=st.booleans())
def test_runs_of_recordings_count_as_each_of_them(
    tmp_path: Path, plan: CapturePlan, odd: dict[int, str], cut: bool
) -> None:
    end = START + datetime.timedelta(hours=26)
    site = data.Deployment(name="oak", started_on=START, ended_on=end)
    path = tmp_path / "metadata.db"
    path.unlink(missing_ok=True)
    store_with(path, site, plan, odd)
    store = SqliteStore(path)
    # Not where a recording begins or ends.
    part = (START + datetime.timedelta(seconds=1040), end - datetime.timedelta(seconds=8000))
    asked = part if cut else (None, None)

    each = measure(*read_effort(store, site, *asked))
    runs = measure(*read_effort(store, site, *asked, grouped=True))

    assert runs.as_json() == each.as_json()
    store.close()


def test_a_season_is_read_as_a_few_runs(tmp_path: Path) -> None:
    site = data.Deployment(name="oak", started_on=START)
    store_with(tmp_path / "metadata.db", site, CapturePlan(duration=60, interval=90), {})
    store = SqliteStore(tmp_path / "metadata.db")
    until = START + datetime.timedelta(hours=26)

    found = store.get_grouped_effort(site, START, until, (START, until))

    assert found is not None
    assert sum(one.count for one in found.captured) == 60
    assert len(found.captured) < 20
    store.close()
