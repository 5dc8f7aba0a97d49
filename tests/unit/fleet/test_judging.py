"""Which sensors are silent and which unwell, by what they sent."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acoupi.fleet.judging import DISK_HOURS, KEPT, Fleet, Row, groups_of, values_that_differ

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def beat(
    device: str = "a", ago: timedelta = timedelta(), *, figures: Any = None, **fields: Any
) -> dict[str, Any]:
    metrics = [
        {"name": name, "value": value, "unit": "x"} for name, value in (figures or {}).items()
    ]
    sent_on = (NOW - ago).isoformat()
    said = {"sent_on": sent_on, "device_id": device, "status": "OK", "metrics": metrics}
    return said | fields


def alarm(name: str, state: str, since: timedelta, device: str = "a") -> dict[str, Any]:
    return {
        "alarm": name, "state": state, "since": (NOW - since).isoformat(), "device_id": device,
    }  # fmt: skip


def rows(*said: object, silent_after: timedelta | None = None) -> list[Row]:
    fleet = Fleet(NOW, silent_after)
    for one in said:
        fleet.put(one)
    return fleet.rows()


def row(*said: object, **options: Any) -> Row:
    [found] = rows(*said, **options)
    return found


def test_a_sensor_that_sends_is_well_and_says_how_it_is() -> None:
    figures = {
        "effort_recorded": 36_000, "effort_planned": 40_000, "disk_hours_left": 300,
        "recordings_waiting": 2, "messages_waiting": 5, "microphone_noise_floor": -61.5,
        "clock_set": 1,
    }  # fmt: skip

    found = row(beat(version="2.1", program="p", configuration="0a1b", figures=figures))

    assert (found.state, found.reasons, found.heartbeat_on) == ("well", [], NOW)
    assert (found.version, found.program, found.configuration) == ("2.1", "p", "0a1b")
    assert (found.recorded_h, found.coverage_percent) == (10, 90)
    assert (found.disk_hours_left, found.noise_floor_dbfs) == (300, -61.5)
    assert (found.recordings_waiting, found.messages_waiting, found.clock) == (2, 5, "set")


def test_of_an_older_version_what_is_missing_is_not_known() -> None:
    found = row({"sent_on": NOW.isoformat(), "device_id": "a", "status": "OK"})

    assert found.state == "well"
    assert (found.version, found.configuration, found.clock) == (None, None, None)
    assert (found.coverage_percent, found.disk_hours_left, found.alarms) == (None, None, [])


@pytest.mark.parametrize(
    ("ago", "interval", "state"),
    [
        (timedelta(hours=2.9), {}, "well"),  # an hour, where nothing says otherwise
        (timedelta(hours=3.1), {}, "silent"),
        (timedelta(minutes=46), {"interval_s": 900}, "silent"),
        (timedelta(hours=11), {"interval_s": 4 * 3600}, "well"),
        (timedelta(days=40), {"interval_s": 1e12}, "silent"),
        (timedelta(hours=4), {"interval_s": -1}, "silent"),
    ],
)
def test_silent_is_who_missed_three_of_its_own_intervals(
    ago: timedelta, interval: dict[str, float], state: str
) -> None:
    assert row(beat(ago=ago, **interval)).state == state


def test_the_interval_of_an_older_version_is_seen_from_its_heartbeats() -> None:
    every = [beat(ago=timedelta(minutes=50 + 10 * number)) for number in range(5)]

    assert row(*every).state == "silent"
    assert row(*every, silent_after=HOUR).state == "well"


def test_the_silent_come_first_the_longest_silent_on_top_then_the_worst() -> None:
    found = rows(
        beat("well"),
        beat("unwell", status="the microphone is silent"),
        beat("worse", status="no disk", figures={"disk_hours_left": DISK_HOURS - 1}),
        beat("silent", ago=5 * HOUR),
        beat("gone", ago=50 * HOUR),
    )

    assert [one.sensor for one in found] == ["gone", "silent", "worse", "unwell", "well"]
    assert found[0].reasons == ["no heartbeat for 2 d"]
    assert found[3].reasons == ["the microphone is silent"]


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"disk_hours_left": DISK_HOURS - 0.5}, "its disk is full in 24 h"),
        ({"effort_recorded": 79, "effort_planned": 100}, "79 % of the planned time was recorded"),
        ({"effort_recorded": 0, "effort_planned": 0}, None),
        ({"disk_hours_left": DISK_HOURS}, None),
        ({"disk_hours_left": 2, "given_up": 0}, "its disk is full in 2 h"),
        ({"disk_hours_left": 2, "given_up": 10**9}, None),
        ({"clock_set": 0}, None),  # a board without a network: the alarm says whether it matters
    ],
)
def test_figures_that_are_bad_are_named(figures: dict[str, float], reason: str | None) -> None:
    assert row(beat(figures=figures)).reasons == ([reason] if reason else [])


def test_a_microphone_that_hears_less_than_on_the_days_before_is_noticed() -> None:
    def floors(today: float) -> list[dict[str, Any]]:
        return [
            beat(ago=age * HOUR, figures={"microphone_noise_floor": today if age < 24 else -60})
            for age in range(72)
        ]

    deaf, fine = row(*floors(-71)), row(*floors(-66))

    assert (deaf.noise_floor_change_db, deaf.state) == (-11, "unwell")
    assert (fine.noise_floor_change_db, fine.state) == (-6, "well")
    assert row(*floors(-71)[:25]).noise_floor_change_db is None  # one hour is no day before


@pytest.mark.parametrize("order", [1, -1])
def test_an_alarm_is_active_until_it_is_cleared_whatever_came_first(order: int) -> None:
    messages = [
        alarm("disk_low", "raised", 5 * HOUR),
        alarm("disk_low", "cleared", 5 * HOUR),
        alarm("clock_unknown", "cleared", 9 * HOUR),
        alarm("clock_unknown", "raised", 2 * HOUR),
    ]

    found = row(beat(), *messages[::order])

    assert (found.alarms, found.state) == (["clock_unknown"], "unwell")


def test_a_clock_that_is_ahead_is_wrong_and_does_not_hide_silence_for_ever() -> None:
    ahead = beat(ago=timedelta(days=-400))

    found = row(beat(ago=HOUR), ahead)
    assert (found.state, found.clock) == ("unwell", "400 d ahead")
    assert "its clock is wrong: 400 d ahead" in found.reasons

    corrected = row(ahead, beat(ago=30 * HOUR))
    assert (corrected.state, corrected.clock_is_wrong) == ("silent", False)


def test_a_clock_that_was_never_set_is_told_from_silence() -> None:
    found = row(beat(ago=HOUR), beat(sent_on="1970-01-01T00:05:00Z"))

    assert (found.state, found.clock) == ("unwell", "in the year 1970")


def test_a_name_with_two_devices_is_two_rows_and_says_which() -> None:
    fleet = Fleet(NOW)
    for device in ("a", "b"):
        fleet.put(beat(device), name="oak-1")
    fleet.put(beat("c"), name="elm-2")

    assert [one.sensor for one in fleet.rows()] == ["elm-2", "oak-1 (a)", "oak-1 (b)"]


def test_a_sensor_that_should_send_and_never_did_is_silent() -> None:
    fleet = Fleet(NOW)
    fleet.expect("elm-2")
    fleet.expect("oak-1")
    fleet.put(beat(), name="oak-1")

    assert [(one.sensor, one.state) for one in fleet.rows()] == [
        ("elm-2", "silent"),
        ("oak-1", "well"),
    ]


def test_what_a_broker_says_counts_too() -> None:
    fleet = Fleet(NOW)
    fleet.put(beat("a"))
    fleet.put_presence("a", is_offline=True)
    fleet.put_presence("b", is_offline=False)

    found = fleet.rows()
    assert [(one.sensor, one.state, one.heartbeat_on) for one in found] == [
        ("a", "silent", NOW),
        ("b", "well", None),
    ]


@pytest.mark.parametrize(
    ("said", "reported", "state", "reasons"),
    [
        ([], 2, "well", []),
        ([], 4, "silent", ["no contact for 4 h"]),
        ([beat()], 0, "well", []),
        ([beat(ago=5 * HOUR)], 2, "unwell", ["no heartbeat for 5 h, although it reports"]),
        ([beat(ago=5 * HOUR)], 4, "silent", ["no heartbeat for 5 h"]),
        ([beat(ago=-48 * HOUR)], 0, "unwell", ["its clock is wrong: 2 d ahead"]),
        (
            [beat(ago=-48 * HOUR)],
            4,
            "silent",
            ["no contact for 4 h", "its clock is wrong: 2 d ahead"],
        ),
        ([alarm("disk_low", "raised", HOUR)], 2, "unwell", ["alarm disk_low"]),
        (
            [alarm("disk_low", "raised", HOUR)],
            4,
            "silent",
            ["no contact for 4 h", "alarm disk_low"],
        ),
    ],
)
def test_whatever_a_hub_hears_of_a_sensor_is_a_sign_of_life(
    said: list[Any], reported: float, state: str, reasons: list[str]
) -> None:
    fleet = Fleet(NOW)
    fleet.expect("oak-1")
    fleet.report("oak-1", NOW - reported * HOUR)
    for one in said:
        fleet.put(one, name="oak-1")

    [found] = fleet.rows()

    assert (found.state, found.reasons) == (state, reasons)
    assert found.reported_on == NOW - reported * HOUR


def test_of_two_devices_with_one_name_a_report_says_nothing() -> None:
    fleet = Fleet(NOW)
    fleet.report("oak-1", NOW)
    fleet.put(beat("old", ago=48 * HOUR), name="oak-1")
    fleet.put(beat("new"), name="oak-1")

    assert {one.device_id: one.state for one in fleet.rows()} == {"old": "silent", "new": "well"}


def test_the_same_heartbeat_counts_once_and_many_take_no_more_memory() -> None:
    fleet = Fleet(NOW)
    for age in [*range(5 * KEPT, -1, -1), 0, 0]:
        fleet.put(beat(ago=age * HOUR))

    [sensor] = fleet._sensors.values()
    assert len(sensor.floors) <= 2 * KEPT
    assert fleet.rows()[0].heartbeat_on == NOW


@pytest.mark.parametrize(
    "foreign",
    [
        None,
        "text",
        [],
        {},
        {"sent_on": "yesterday", "device_id": "x", "status": "OK"},
        {"sent_on": 5, "device_id": "x", "status": "OK"},
        {"sent_on": NOW.isoformat(), "status": "OK"},
        {"alarm": "disk_low", "state": "raised", "since": None},
        {"alarm": {}, "state": [], "since": "x"},
        {"sent_on": "0001-01-01T00:00:00+14:00", "device_id": "x", "status": "OK"},
    ],
)
def test_what_is_no_heartbeat_is_left_out(foreign: object) -> None:
    fleet = Fleet(NOW)

    assert not fleet.put(foreign)
    assert fleet.rows() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"device_id": None, "status": 5, "version": ["x"], "program": {}, "interval_s": "1"},
        {"metrics": 5},
        {"sections": 5},
        {"sections": [None, "x", "=", "a=b=c"] * 1000},
        {"metrics": [None, {"name": "disk_hours_left"}, {"name": [], "value": 1}]},
        {"metrics": [{"name": "disk_hours_left", "value": 10**400}]},
        {"metrics": [{"name": "disk_hours_left", "value": float("nan")}]},
        {"metrics": [{"name": "clock_set", "value": True}]},
        {"interval_s": 10**400, "sent_on": "9999-12-31T23:59:59-00:01"},
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_not_known(fields: dict[str, Any]) -> None:
    found = rows(beat() | fields, beat("b"))

    assert {one.sensor for one in found} >= {"b"}
    assert all(one.disk_hours_left is None and one.version is None for one in found)


def test_a_strangers_endless_texts_are_cut() -> None:
    found = row(beat("d" * 9000, status="s" * 9000, version="v" * 9000))

    assert max(map(len, [found.sensor, *found.reasons, found.version or ""])) <= 300


def test_sensors_are_grouped_by_what_they_run_and_it_is_said_what_differs() -> None:
    usual, other = ["microphone=1", "recording=2"], ["recording=3", "messaging=4", "microphone=1"]
    said = [
        beat(name, program="p", configuration="1", version="2.0", sections=usual) for name in "abc"
    ]
    groups = groups_of(
        rows(
            beat("d", program="p", configuration="2", version="2.1", sections=other),
            beat("q", program="q", configuration="1", sections=["recording=9"]),
            *said,
            beat("e"),
            beat("f"),
        )
    )

    found = [
        (one.program, one.configuration, one.versions, one.sensors, one.differs_in)
        for one in groups
    ]
    assert found == [
        ("p", "1", ["2.0"], ["a", "b", "c"], []),
        ("p", "2", ["2.1"], ["d"], ["messaging", "recording"]),
        ("q", "1", [], ["q"], []),
        (None, None, [], ["e", "f"], []),
    ]


def test_what_was_recorded_of_the_day_need_not_count() -> None:
    fleet = Fleet(NOW, judges_effort=False)
    fleet.put(beat(figures={"effort_recorded": 40, "effort_planned": 100, "disk_hours_left": 1}))

    [found] = fleet.rows()

    assert (found.reasons, found.coverage_percent) == (["its disk is full in 1 h"], 40)


def test_values_are_told_of_the_sections_that_differ() -> None:
    groups = groups_of(
        [
            Row(name, None, "well", [], NOW, 60, program="p", configuration=digest, sections=of)
            for name, digest, of in (
                ("a", "1", {"recording": "x", "paths": "x"}),
                ("b", "1", {"recording": "x", "paths": "x"}),
                ("c", "2", {"recording": "y", "paths": "x"}),
                ("d", "3", {"recording": "z", "paths": "x"}),
            )
        ]
    )
    values = {
        "b": {"recording.duration": 3, "paths.data": "/b"},
        "c": {"recording.duration": 5, "recording.new": True, "paths.data": "/c"},
    }

    assert values_that_differ(groups, values) == [
        {},
        {"recording.duration": (5, 3), "recording.new": (True, None)},
        {},  # of which no values are known
    ]
