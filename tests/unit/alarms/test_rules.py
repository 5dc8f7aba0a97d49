"""Every rule: what raises its alarm, what clears it, and what does neither."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import acoupi
from acoupi.alarms.episodes import Alarm, judge, suspect_spans
from acoupi.alarms.facts import Facts, Heard
from acoupi.alarms.floors import DAYS, HourFloor, floor_limit, hour_floor, hour_of, known_days
from acoupi.alarms.limits import Alarms, Key
from acoupi.alarms.rules import RULES
from tests.unit.alarms.field_sound import floors, heard

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
LIMITS = Alarms(enabled=True)


def recent(floor: float = -70, count: int = 5, **changes: Any) -> tuple[Heard, ...]:
    """The last recordings, one a minute, all alike."""
    starts = [NOW - timedelta(minutes=count - n) for n in range(count)]
    return tuple(heard(start, floor, **changes) for start in starts)


FINE: dict[str, Any] = {
    "cannot_record": "",
    "missing_s": 0.0,
    "planned_s": 86_400.0,
    "recorded_s": 86_300.0,
    "heard": recent(),
    "floor_limit": -85.0,
    "floor_days": 10,
    "free_bytes": 20e9,
    "disk_hours": 400.0,
    "oldest_message_s": 0.0,
    "oldest_recording_s": 5.0,
    "clock_is_set": True,
    "restarts": {"recording": 0},
    "temperature_celsius": 55.0,
    "has_low_voltage": False,
}
# An alarm, what raises it, what neither raises nor clears it.
CASES: list[tuple[Key, dict[str, Any], dict[str, Any]]] = [
    ("cannot_record", {"cannot_record": "device missing: unplugged"}, {"cannot_record": None}),
    ("nothing_recorded", {"missing_s": 600.0}, {"missing_s": 300.0}),
    ("effort_low", {"recorded_s": 0.79 * 86_400}, {"recorded_s": 0.82 * 86_400}),
    (
        "microphone_silent",
        {"heard": recent(is_silent=True)},
        {"heard": (*recent(is_silent=True)[:-1], recent()[-1])},
    ),
    ("microphone_stuck", {"heard": recent(is_stuck=True)}, {"heard": ()}),
    ("microphone_clipped", {"heard": recent(clipped_share=0.01)}, {"heard": recent()[:4]}),
    ("microphone_offset", {"heard": recent(dc_offset=-0.2)}, {"heard": recent()[:4]}),
    ("microphone_deaf", {"heard": recent(-90)}, {"heard": recent(-83)}),
    ("disk_low", {"disk_hours": 23.0}, {"disk_hours": 28.0}),
    ("messages_old", {"oldest_message_s": 6.1 * 3600}, {"oldest_message_s": 5 * 3600.0}),
    ("recordings_old", {"oldest_recording_s": 2.1 * 3600}, {"oldest_recording_s": 6000.0}),
    ("clock_unknown", {"clock_is_set": False}, {"clock_is_set": None}),
    ("clock_stepped", {"clock_steps": (-3600.0,)}, {"clock_steps": (-3600.0,)}),
    ("store_damaged", {"set_aside": ("moved",)}, {"set_aside": ("moved",)}),
    ("service_down", {"down": {"beat": "stopped"}}, {"down": {"beat": "stopped"}}),
    ("service_restarts", {"restarts": {"detection": 3}}, {"restarts": {"detection": 1}}),
    ("temperature_high", {"temperature_celsius": 81.0}, {"temperature_celsius": 77.0}),
    ("voltage_low", {"has_low_voltage": True}, {"has_low_voltage": None}),
]


class Watch:
    """A sensor that is looked at again and again."""

    def __init__(self, limits: Alarms = LIMITS) -> None:
        self.limits = limits
        self.now = NOW
        self.active: dict[str, Alarm] = {}
        self.past: list[Alarm] = []
        self.waiting: dict[str, datetime] = {}

    def look(self, **facts: Any) -> list[Alarm]:
        given = FINE | facts
        given["heard"] = tuple(
            Heard(one.start + (self.now - NOW), one.duration, one.bytes_per_second, one.health)
            for one in given["heard"]
        )
        return self.judge(Facts(now=self.now, **given))

    def judge(self, facts: Facts) -> list[Alarm]:
        found = judge(self.active.values(), self.waiting, facts, self.limits)
        self.waiting = found.waiting
        for one in found.changed:
            self.active.pop(one.key, None)
            if one.is_active:
                self.active[one.key] = one
            else:
                self.past.append(one)
        return found.changed

    def go_on(self, minutes: float, **facts: Any) -> list[Alarm]:
        """Look every half a minute."""
        changed = []
        for _ in range(round(minutes * 2)):
            changed += self.look(**facts)
            self.now += timedelta(seconds=30)
        return changed


def test_every_rule_has_a_name_a_description_and_a_case() -> None:
    assert [rule.key for rule in RULES] == list(get_args(Key)) == [key for key, _, _ in CASES]
    assert all(rule.description.endswith(".") for rule in RULES)
    told = (Path(acoupi.__path__[0]) / "docs" / "alarms.md").read_text()
    assert not [rule.key for rule in RULES if f"| `{rule.key}` |" not in told], "in docs/alarms.md"


def test_a_sensor_that_is_well_raises_nothing() -> None:
    assert Watch().go_on(60) == []


def test_where_nothing_is_known_nothing_is_raised() -> None:
    assert judge([], {}, Facts(now=NOW), LIMITS) == ([], {})


@pytest.mark.parametrize(("key", "wrong", "between"), CASES, ids=[case[0] for case in CASES])
def test_a_fault_is_raised_once_and_cleared_once(
    key: Key, wrong: dict[str, Any], between: dict[str, Any]
) -> None:
    watch = Watch()
    lasting = 12 if key == "clock_unknown" else 2

    raised = watch.go_on(lasting, **wrong)
    steady = watch.go_on(5, **wrong) + watch.go_on(5, **between)
    cleared = watch.go_on(2)

    assert [(one.key, one.is_active) for one in raised] == [(key, True)]
    assert raised[0].detail
    assert steady == []
    assert [(one.key, one.is_active, one.since) for one in cleared] == [
        (key, False, raised[0].since)
    ]
    assert watch.go_on(5) == []


@pytest.mark.parametrize(("key", "wrong", "between"), CASES, ids=[case[0] for case in CASES])
def test_what_lies_between_the_limits_raises_nothing(
    key: Key, wrong: dict[str, Any], between: dict[str, Any]
) -> None:
    if between != wrong:  # some have no limit to lie between
        assert Watch().go_on(12, **between) == []


@pytest.mark.parametrize(("key", "wrong", "between"), CASES, ids=[case[0] for case in CASES])
def test_an_ignored_alarm_is_not_raised_and_an_active_one_is_cleared(
    key: Key, wrong: dict[str, Any], between: dict[str, Any]
) -> None:
    watch = Watch()
    watch.go_on(12, **wrong)
    watch.limits = Alarms(enabled=True, ignored=[key])

    assert [one.is_active for one in watch.go_on(12, **wrong)] == [False]


def test_a_fault_that_is_over_in_a_moment_is_not_told() -> None:
    watch = Watch()

    assert watch.go_on(0.5, cannot_record="device missing: unplugged") == []
    assert watch.go_on(2) == []


def test_a_clock_that_is_set_back_delays_no_alarm() -> None:
    watch = Watch()
    watch.go_on(0.5, cannot_record="disk full")
    watch.now -= timedelta(days=400)

    assert [one.key for one in watch.go_on(1.5, cannot_record="disk full")] == ["cannot_record"]


def test_a_disk_without_room_for_an_hour_of_sound_is_low_however_slowly_it_fills() -> None:
    raised = Watch().go_on(1, free_bytes=96_000 * 1800.0, disk_hours=float("inf"))

    assert [one.key for one in raised] == ["disk_low"]
    assert "30 minutes of sound" in raised[0].detail


def test_an_effort_of_all_of_the_plan_clears_an_alarm_that_asks_for_all_of_it() -> None:
    watch = Watch(Alarms(enabled=True, effort_percent=100))

    assert [one.is_active for one in watch.go_on(1)] == [True]
    assert [one.is_active for one in watch.go_on(1, recorded_s=86_400.0)] == [False]


def test_what_was_recorded_hours_ago_says_nothing_of_the_microphone_now() -> None:
    long_ago = tuple(
        Heard(one.start - timedelta(hours=3), 10, 96_000, one.health)
        for one in recent(is_silent=True)
    )

    assert Watch().go_on(5, heard=long_ago) == []


# The deaf microphone


def test_no_verdict_before_three_days() -> None:
    known = [HourFloor(hour_of(NOW) - timedelta(days=day), -60, -62) for day in range(1, 3)]

    assert floor_limit(known, NOW, 10) is None
    known.append(HourFloor(hour_of(NOW) - timedelta(days=3), -60, -62))
    assert floor_limit(known, NOW, 10) == -70
    assert known_days(known, NOW) == 3


def test_only_the_same_hour_of_the_last_ten_days_counts() -> None:
    hour = hour_of(NOW)
    known = [HourFloor(hour - timedelta(days=day), -60, -61) for day in (1, 2, 10)]
    others = [HourFloor(hour - timedelta(days=day, hours=1), -40, -40) for day in range(9)]
    old = [HourFloor(hour - timedelta(days=DAYS + 1), -90, -90)]

    assert floor_limit([*known, *others, *old], NOW, 10) == -70


def test_what_was_usual_on_a_calm_day_is_no_fault_after_windy_ones() -> None:
    windy = [HourFloor(hour_of(NOW) - timedelta(days=day), -50, -52) for day in range(1, 7)]
    calm = [HourFloor(hour_of(NOW) - timedelta(days=day), -70, -72) for day in range(7, 10)]

    assert floor_limit([*windy, *calm], NOW, 10) == -75


def test_the_quietest_share_of_an_hour_is_no_single_recording() -> None:
    levels = [-99.0, *[-60.0 - 0.01 * n for n in range(59)]]

    assert hour_floor(NOW, levels).quietest > -61


class Field:
    """A sensor that has been in the field for ten days, and is looked at every minute from now."""

    def __init__(self, seed: int, hours: int = 0) -> None:
        self.levels = floors(NOW - timedelta(days=DAYS), DAYS + 3, seed)
        self.watch = Watch()
        self.known: list[HourFloor] = []
        self.hour: list[float] = []
        self.last: list[Heard] = []
        for _ in range((24 * DAYS + hours) * 60):
            self._hear(*next(self.levels))

    def go_on(self, hours: float, attenuation_db: float = 0) -> list[Alarm]:
        changed = []
        for _ in range(round(hours * 60)):
            time, level = next(self.levels)
            self._hear(time, level - attenuation_db)
            changed += self._look(time)
        return changed

    def _hear(self, time: datetime, level: float) -> None:
        if time.minute == 0 and self.hour:
            self.known.append(hour_floor(time - timedelta(hours=1), self.hour))
            self.hour = []
        if "microphone_deaf" not in self.watch.active:
            self.hour.append(level)
        self.last = [*self.last[-4:], heard(time, level)]

    def _look(self, time: datetime) -> list[Alarm]:
        facts = FINE | {
            "heard": tuple(self.last),
            "floor_limit": floor_limit(self.known, time, LIMITS.noise_floor_drop_db),
            "floor_days": known_days(self.known, time),
        }
        assert facts["floor_limit"] is not None
        return self.watch.judge(Facts(now=time + timedelta(seconds=11), **facts))


@pytest.mark.parametrize("seed", range(10))
def test_no_false_alarm_in_a_day_of_ordinary_field_sound(seed: int) -> None:
    assert Field(seed).go_on(24) == []


@pytest.mark.parametrize("hour", [0, 5, 9, 14, 20])
def test_a_microphone_that_hears_20_db_less_is_deaf_and_stays_so_until_it_hears(hour: int) -> None:
    field = Field(hour, hour)

    raised = field.go_on(1, attenuation_db=20)
    deaf = field.go_on(2, attenuation_db=20)
    cleared = field.go_on(1)

    assert [(one.key, one.is_active) for one in raised] == [("microphone_deaf", True)]
    assert deaf == []
    assert [(one.key, one.is_active) for one in cleared] == [("microphone_deaf", False)]
    assert raised[0].raised_on is not None
    assert raised[0].raised_on - (NOW + timedelta(hours=hour)) < timedelta(minutes=6)


def test_nothing_is_suspect_about_a_microphone_about_which_nothing_is_known_any_more() -> None:
    watch = Watch()
    watch.go_on(1, heard=recent(-95))

    assert watch.go_on(1, floor_limit=None, heard=recent(-95)) == []
    cleared = watch.go_on(1, floor_limit=None, floor_days=0, heard=recent(-95))
    assert [one.is_active for one in cleared] == [False]


def test_suspect_spans_are_those_of_a_microphone_that_heard_nothing() -> None:
    def alarm(key: str, start: int, end: int | None) -> Alarm:
        ended = None if end is None else NOW + timedelta(minutes=end)
        return Alarm(key, NOW + timedelta(minutes=start), ended_on=ended)

    alarms = [
        alarm("microphone_deaf", 0, 10),
        alarm("microphone_silent", 5, 20),
        alarm("microphone_clipped", 20, 40),
        alarm("microphone_stuck", 50, None),
    ]

    found = suspect_spans(alarms, NOW + timedelta(minutes=60))

    minutes = [((a - NOW).seconds // 60, (b - NOW).seconds // 60) for a, b in found]
    assert minutes == [(0, 20), (50, 60)]


# Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"ignored": ["no_such_alarm"]},
        {"microphone_times": 0},
        {"effort_percent": 101},
        {"noise_floor_drop_db": -1},
        {"dead_mans_url": "ftp://example.org"},
        {"dead_mans_url": "https://"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Alarms(**wrong)


def test_alarms_are_off_unless_they_are_asked_for() -> None:
    assert not Alarms().enabled


def test_recordings_may_wait_for_as_long_as_the_backlog_policy_allows() -> None:
    (rule,) = (one for one in RULES if one.key == "recordings_old")
    waits = {**FINE, "now": NOW, "oldest_recording_s": 10 * 3600.0}

    assert rule.judge(Facts(**waits), LIMITS).is_wrong
    assert not rule.judge(Facts(**waits, longest_wait_hours=28), LIMITS).is_wrong
    assert rule.judge(Facts(**waits, longest_wait_hours=4), LIMITS).is_wrong
