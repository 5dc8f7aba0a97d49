"""The schedule as a file, and back."""

import datetime
import json
from pathlib import Path

import pytest
from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule, solar
from hypothesis import given
from hypothesis import strategies as st

from acoupi.errors import ConfigurationError
from acoupi.services.entries import (
    Aligned,
    Interval,
    UnknownSchedule,
    read_schedule,
    restore,
)
from acoupi.services.schedule import describe, describe_schedule, schedule_file
from acoupi.tasks.schedules import aligned_schedule

SECONDS = datetime.timedelta(seconds=1)


class TideSchedule(BaseSchedule):
    """A schedule of a program's own."""


@given(st.floats(min_value=0.01, max_value=1e6))
def test_an_interval_comes_back(seconds: float) -> None:
    when = schedule(datetime.timedelta(seconds=seconds))

    back = restore(json.loads(json.dumps(describe(when))))

    assert back == Interval(when.run_every.total_seconds())


@given(st.integers(1, 86_400), st.data())
def test_an_aligned_schedule_comes_back(seconds: int, draw: st.DataObject) -> None:
    when = aligned_schedule(seconds * SECONDS, draw.draw(st.integers(0, seconds - 1)))

    back = restore(json.loads(json.dumps(describe(when))))

    assert back == Aligned(float(seconds), when.offset_seconds)


@given(st.integers(1, 86_400), st.datetimes(), st.datetimes(), st.data())
def test_beat_finds_an_aligned_schedule_due_when_celery_does(
    seconds: int, now: datetime.datetime, last: datetime.datetime, draw: st.DataObject
) -> None:
    offset = draw.draw(st.integers(0, seconds - 1))
    when = aligned_schedule(seconds * SECONDS, offset, nowfun=lambda: now)

    back = restore(json.loads(json.dumps(describe(when))))

    assert isinstance(back, Aligned)
    assert back.is_due(last, now) == when.is_due(last)


@pytest.mark.parametrize(
    "when",
    [
        crontab(),
        crontab(minute="*/5", hour="6-18"),
        crontab(minute=0, hour={6, 18}),
        crontab(day_of_week="mon,fri", day_of_month="1-7", month_of_year=[4, 5]),
    ],
)
def test_a_crontab_comes_back(when: crontab) -> None:
    back = restore(json.loads(json.dumps(describe(when))))

    assert isinstance(back, crontab)
    for field in ("minute", "hour", "day_of_week", "day_of_month", "month_of_year"):
        assert getattr(back, field) == getattr(when, field)


def test_a_solar_schedule_comes_back() -> None:
    when = solar("dusk_civil", 51.5, -0.1)

    back = restore(json.loads(json.dumps(describe(when))))

    assert isinstance(back, solar)
    assert (back.event, back.lat, back.lon) == ("dusk_civil", 51.5, -0.1)


def test_a_schedule_of_the_programs_own_is_only_named() -> None:
    assert restore(describe(TideSchedule())) == UnknownSchedule(f"{__name__}.TideSchedule")


@pytest.fixture
def app() -> Celery:
    app = Celery("schedule", set_as_current=False)
    app.conf.task_routes = {"record": {"queue": "recording"}}
    app.conf.beat_schedule = {
        "z": {"task": "record", "schedule": schedule(10 * SECONDS), "options": {"expires": 10.0}},
        "a": {"task": "tidy", "schedule": 60, "args": (1, "x"), "kwargs": {"deep": True}},
        "m": {"task": "send", "schedule": crontab(), "options": {"queue": "messages"}},
    }
    return app


def test_entries_are_sorted_and_know_their_queues(app: Celery) -> None:
    described = describe_schedule(app)

    assert [(one["name"], one["queue"], one["expires"]) for one in described["entries"]] == [
        ("a", "celery", None),
        ("m", "messages", None),
        ("z", "recording", 10.0),
    ]


def test_a_schedule_file_is_read_as_it_was_written(app: Celery, tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(schedule_file(app).text)

    entries = {entry.name: entry for entry in read_schedule(path)}

    assert entries["a"].args == (1, "x")
    assert entries["a"].kwargs == {"deep": True}
    assert entries["z"].schedule == Interval(10.0)


def test_arguments_that_are_no_json_are_refused(app: Celery) -> None:
    app.conf.beat_schedule = {"a": {"task": "tidy", "schedule": 60, "args": (object(),)}}

    with pytest.raises(ConfigurationError, match='"tidy" cannot be scheduled'):
        describe_schedule(app)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2, "entries": []}', '{"version": 1, "entries": [{}]}', "null"],
)
def test_a_broken_schedule_file_is_said_to_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        read_schedule(path)

    assert len(caught.value.lines()) == 3


def test_a_missing_schedule_file_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no schedule"):
        read_schedule(tmp_path / "schedule.json")
