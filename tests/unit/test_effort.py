"""The ledger: every moment of a deployment is used for exactly one thing."""

import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoupi import data, effort
from acoupi.data import EffortSpan, EffortState, IncompleteReason
from acoupi.effort import Captured, CapturePlan, DailyWindows, EffortHistory, PlanFrom, ledger

UTC = datetime.UTC
START = datetime.datetime(2024, 6, 1, 20, tzinfo=UTC)
STREAM = UUID(int=7)
RATE = 8000

S = EffortState
R = IncompleteReason
CONTINUOUS = CapturePlan(duration=3, interval=3)
SPACED = CapturePlan(duration=3, interval=10)


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def heard(start: float, duration: float = 3, **fields: Any) -> Captured:
    start_us = data.to_microseconds(at(start))
    return Captured(start_us, start_us + round(duration * 1e6), RATE, **fields)


def streamed(start: float, first: float, duration: float = 3, **fields: Any) -> Captured:
    """A recording that begins so many seconds into the stream."""
    frames = round(duration * RATE)
    return heard(
        start, duration, stream_id=STREAM, first_frame=round(first * RATE), frames=frames, **fields
    )


def note(start: float, end: float, state: S, detail: str = "") -> EffortSpan:
    return EffortSpan(at(start), at(end), state, detail)


def history(
    *captured: Captured,
    seconds: float = 60,
    plan: CapturePlan | None = CONTINUOUS,
    notes: tuple[EffortSpan, ...] = (),
) -> EffortHistory:
    deployment = data.Deployment(name="Pond", started_on=START, ended_on=at(seconds))
    plans = () if plan is None else (PlanFrom(START, plan),)
    return EffortHistory(deployment, captured, notes, plans)


def states(spans: list[EffortSpan]) -> list[tuple[float, float, S]]:
    return [
        ((span.start - START).total_seconds(), (span.end - START).total_seconds(), span.state)
        for span in spans
    ]


def seconds_of(spans: list[EffortSpan], state: S) -> float:
    return sum(span.duration for span in spans if span.state is state)


def test_recordings_without_a_gap_are_one_span() -> None:
    spans = ledger(history(*(heard(3 * n) for n in range(20))), START)

    assert states(spans) == [(0, 60, S.RECORDED)]


def test_times_that_wobble_do_not_tear_a_stream_apart() -> None:
    wobble = [0.0, 0.0004, -0.0011, 0.0008]
    parts = [streamed(3 * n + wobble[n % 4], 3 * n) for n in range(20)]

    spans = ledger(history(*parts), START)

    assert states(spans) == [(0, 60, S.RECORDED)]


def test_the_seam_of_a_recorder_without_a_stream_is_lost_sound() -> None:
    spans = ledger(history(heard(0, 2.9), heard(3), seconds=6), START)

    assert states(spans) == [
        (0, 2.9, S.RECORDED),
        (2.9, 3, S.OVERRUN),
        (3, 6, S.RECORDED),
    ]


def test_time_between_the_recordings_of_an_interval_is_off_schedule() -> None:
    spans = ledger(history(*(heard(10 * n) for n in range(6)), plan=SPACED), START)

    assert seconds_of(spans, S.RECORDED) == 18
    assert seconds_of(spans, S.OFF_SCHEDULE) == 42


@pytest.mark.parametrize("microseconds", [2, 16, 1000])
def test_a_recording_that_ends_as_its_frames_are_rounded_leaves_no_hole(microseconds: int) -> None:
    short = 3 - microseconds / 1e6
    parts = [heard(0), heard(10, short), heard(20), heard(30), heard(40), heard(50)]

    spans = ledger(history(*parts, plan=SPACED), START)

    assert {span.state for span in spans} == {S.RECORDED, S.OFF_SCHEDULE}


def test_more_than_that_is_a_hole() -> None:
    parts = [heard(0), heard(10, 2.998), heard(20), heard(30), heard(40), heard(50)]

    spans = ledger(history(*parts, plan=SPACED), START)

    assert seconds_of(spans, S.NOT_RUNNING) == pytest.approx(0.002)


def test_a_recording_that_begins_a_little_late_on_an_interval_loses_nothing() -> None:
    parts = [heard(0), heard(10.2), heard(20.9), heard(30.1), heard(40), heard(50)]

    spans = ledger(history(*parts, plan=SPACED), START)

    assert {span.state for span in spans} == {S.RECORDED, S.OFF_SCHEDULE}


def test_a_missed_slot_is_missed_for_as_long_as_a_recording() -> None:
    parts = [heard(10 * n) for n in (0, 1, 3, 4, 5)]

    spans = ledger(history(*parts, plan=SPACED), START)

    assert (20, 23, S.NOT_RUNNING) in states(spans)
    assert seconds_of(spans, S.OFF_SCHEDULE) == 42


def test_lost_frames_are_a_hole_in_their_recording() -> None:
    holes = (data.Overrun(RATE, RATE // 2),)

    spans = ledger(history(streamed(0, 0, overruns=holes), seconds=3), START)

    assert states(spans) == [(0, 1, S.RECORDED), (1, 1.5, S.OVERRUN), (1.5, 3, S.RECORDED)]


def test_what_the_buffer_no_longer_held_is_an_overrun_before_the_recording() -> None:
    parts = [streamed(0, 0), streamed(5, 5, gap_before_frames=2 * RATE)]

    spans = ledger(history(*parts, seconds=8), START)

    assert states(spans) == [(0, 3, S.RECORDED), (3, 5, S.OVERRUN), (5, 8, S.RECORDED)]


def test_what_a_new_stream_began_too_late_for_is_the_microphones_fault() -> None:
    parts = [
        streamed(0, 0, 2, incomplete=R.DEVICE_LOST, incomplete_words="it stopped."),
        heard(9, stream_id=UUID(int=8), gap_before_frames=7 * RATE),
    ]

    spans = ledger(history(*parts, seconds=12), START)

    assert states(spans) == [(0, 2, S.RECORDED), (2, 9, S.DEVICE_MISSING), (9, 12, S.RECORDED)]
    assert spans[1].detail == "it stopped."


def test_slots_that_the_buffer_no_longer_held_are_overruns() -> None:
    parts = [streamed(0, 0), streamed(41, 41, 2, gap_before_frames=(3 * 3 + 1) * RATE)]

    spans = ledger(history(*parts, seconds=43, plan=SPACED), START)

    lost = [(start, end) for start, end, state in states(spans) if state is S.OVERRUN]
    assert lost == [(10, 13), (20, 23), (30, 33), (40, 41)]


def test_a_missed_slot_is_one_where_a_recording_is_no_whole_number_of_frames() -> None:
    rate, plan = 11_025, CapturePlan(duration=2.5, interval=10)
    length = round(2.5 * rate)  # Half a frame shorter than planned.
    start = data.to_microseconds(at(20))
    late = Captured(start, start + 2_500_000, rate, STREAM, 0, length, gap_before_frames=length)

    spans = ledger(history(heard(0, 2.5), late, seconds=22.5, plan=plan), START)

    missing = [(a, b) for a, b, state in states(spans) if state is S.DEVICE_MISSING]
    assert missing == [(10, 12.5)]


def test_the_lost_beginning_of_a_slot_on_an_interval_is_planned_time() -> None:
    parts = [streamed(0, 0), streamed(11, 11, 2, gap_before_frames=RATE), streamed(20, 20)]

    spans = ledger(history(*parts, seconds=23, plan=SPACED), START)

    assert (10, 11, S.OVERRUN) in states(spans)
    assert (13, 20, S.OFF_SCHEDULE) in states(spans)


def deployed(
    start: float, seconds: float, *captured: Captured, plans: list[tuple[float, CapturePlan]]
) -> EffortHistory:
    """A deployment that does not begin on a slot."""
    deployment = data.Deployment(name="Pond", started_on=at(start), ended_on=at(seconds))
    return EffortHistory(
        deployment, captured, plans=[PlanFrom(at(since), plan) for since, plan in plans]
    )


def planned(spans: list[EffortSpan]) -> float:
    return sum(span.duration for span in spans if span.state is not S.OFF_SCHEDULE)


def test_a_deployment_that_starts_between_two_slots_has_lost_none() -> None:
    every_ten_minutes = CapturePlan(duration=60, interval=600)
    parts = [heard(600 * n, 60) for n in (1, 2, 3)]

    spans = ledger(deployed(120, 1860, *parts, plans=[(120, every_ten_minutes)]), START)

    assert {span.state for span in spans} == {S.RECORDED, S.OFF_SCHEDULE}
    assert planned(spans) == 180


@pytest.mark.parametrize("captured", [(), (heard(60, 3),)])
def test_missed_slots_before_the_first_recording_are_multiples_of_the_interval(captured) -> None:
    spans = ledger(deployed(4, 63, *captured, plans=[(4, SPACED)]), START)

    lost = [(start, end) for start, end, state in states(spans) if state is S.NOT_RUNNING]
    assert lost[:5] == [(10 * n, 10 * n + 3) for n in range(1, 6)]
    assert planned(spans) == 18


def test_a_change_of_the_plan_between_two_slots_adds_none() -> None:
    parts = [heard(0), heard(10), heard(20), heard(60, 6), heard(120, 6)]
    wider = CapturePlan(duration=6, interval=60)

    spans = ledger(deployed(0, 126, *parts, plans=[(0, SPACED), (24, wider)]), START)

    assert {span.state for span in spans} == {S.RECORDED, S.OFF_SCHEDULE}
    assert planned(spans) == 21


def test_a_slot_that_began_before_its_hours_is_not_planned() -> None:
    evening = data.TimeInterval(start=datetime.time(20, 0, 31), end=datetime.time(20, 1, 1))
    windows = (DailyWindows(intervals=(evening,), timezone="UTC"),)
    plan = CapturePlan(duration=3, interval=10, windows=windows)

    spans = ledger(deployed(0, 100, plans=[(0, plan)]), START)

    # The slot at 30 began before; that at 60 is cut where the hours end.
    lost = [(start, end) for start, end, state in states(spans) if state is S.NOT_RUNNING]
    assert lost == [(40, 43), (50, 53), (60, 61)]


def test_a_late_recording_of_full_length_loses_nothing() -> None:
    late = streamed(11.9, 0, gap_before_frames=round(1.9 * RATE))

    spans = ledger(history(heard(0), late, heard(20), seconds=23, plan=SPACED), START)

    assert {span.state for span in spans} == {S.RECORDED, S.OFF_SCHEDULE}
    assert planned(spans) == 9


def test_a_late_recording_that_had_to_end_early_loses_what_is_missing() -> None:
    late = streamed(18.5, 0, 1.5, gap_before_frames=round(8.5 * RATE))
    tight = CapturePlan(duration=9, interval=10)

    spans = ledger(history(heard(0, 9), late, heard(20, 9), seconds=29, plan=tight), START)

    assert seconds_of(spans, S.DEVICE_MISSING) == 7.5
    assert planned(spans) == 27


def test_a_full_disk_goes_on_until_there_is_a_recording_again() -> None:
    # The recorder tried twice; then nobody asked it, as the broker's disk was full, too.
    parts = [streamed(0, 0), streamed(53, 53, gap_before_frames=50 * RATE)]
    full = note(5, 8, S.DISK_FULL, "no space left")

    spans = ledger(history(*parts, seconds=56, notes=(full,)), START)

    assert states(spans) == [
        (0, 3, S.RECORDED),
        (3, 5, S.OVERRUN),
        (5, 53, S.DISK_FULL),
        (53, 56, S.RECORDED),
    ]
    assert {span.detail for span in spans if span.state is S.DISK_FULL} == {"no space left"}


def test_a_full_disk_that_ended_a_recording_goes_on_until_there_is_one_again() -> None:
    parts = [
        streamed(0, 0, 2, incomplete=R.DISK_FULL, incomplete_words="no space left"),
        streamed(50, 50, gap_before_frames=48 * RATE),
    ]

    spans = ledger(history(*parts, seconds=53), START)

    assert states(spans) == [(0, 2, S.RECORDED), (2, 50, S.DISK_FULL), (50, 53, S.RECORDED)]


def test_a_full_disk_goes_on_over_the_slots_of_an_interval() -> None:
    parts = [streamed(0, 0), streamed(50, 50, gap_before_frames=4 * 3 * RATE)]
    full = note(10, 13, S.DISK_FULL, "no space left")

    spans = ledger(history(*parts, seconds=53, plan=SPACED, notes=(full,)), START)

    assert seconds_of(spans, S.DISK_FULL) == 12
    assert seconds_of(spans, S.OVERRUN) == 0


def test_a_recorder_that_nobody_asked_did_not_come_too_late() -> None:
    # The buffer still held the last 20 s.
    parts = [streamed(0, 0), streamed(33, 33, 23, gap_before_frames=30 * RATE)]
    unasked = note(3, 52, S.NOT_RUNNING, "nobody asked")

    spans = ledger(history(*parts, seconds=56, notes=(unasked,)), START)

    assert states(spans) == [(0, 3, S.RECORDED), (3, 33, S.NOT_RUNNING), (33, 56, S.RECORDED)]
    assert spans[1].detail == "nobody asked"


def test_a_cause_that_was_not_the_last_known_does_not_go_on() -> None:
    parts = [streamed(0, 0), streamed(53, 53, gap_before_frames=20 * RATE)]
    notes = (
        note(5, 8, S.DISK_FULL, "no space left"),
        note(8, 33, S.CONDITION_REFUSED, "too dark"),
    )

    spans = ledger(history(*parts, seconds=56, notes=notes), START)

    assert (33, 53, S.OVERRUN) in states(spans)


@pytest.mark.parametrize("reason", [R.CRASHED, R.STOPPED, R.DEVICE_LATE])
def test_a_late_microphone_is_not_told_in_the_words_of_the_recording_before(reason: R) -> None:
    parts = [
        streamed(0, 0, 1, incomplete=reason, incomplete_words="the recorder ended"),
        heard(9, stream_id=UUID(int=8), gap_before_frames=RATE),
    ]

    spans = ledger(history(*parts, seconds=12), START)

    before = next(span for span in spans if span.end == at(9))
    assert (before.state, before.detail) == (S.DEVICE_MISSING, effort.NOT_READY)


def test_a_recording_that_broke_off_leaves_a_hole_with_its_reason() -> None:
    parts = [
        streamed(0, 0, 1, incomplete=R.DEVICE_LOST, incomplete_words="unplugged"),
        heard(9, stream_id=UUID(int=8)),
    ]
    missing = note(3, 9, S.DEVICE_MISSING, "unplugged")

    spans = ledger(history(*parts, seconds=12, notes=(missing,)), START)

    assert states(spans) == [(0, 1, S.RECORDED), (1, 9, S.DEVICE_MISSING), (9, 12, S.RECORDED)]
    assert spans[1].detail == "unplugged"


def test_a_recording_that_broke_off_for_the_disk_says_so() -> None:
    part = streamed(0, 0, 1, incomplete=R.DISK_FULL, incomplete_words="no space left")

    spans = ledger(history(part, seconds=3), START)

    assert states(spans) == [(0, 1, S.RECORDED), (1, 3, S.DISK_FULL)]


@pytest.mark.parametrize("reason", [R.CRASHED, R.STOPPED])
def test_the_rest_of_a_recording_whose_recorder_ended_is_time_it_did_not_run(reason: R) -> None:
    part = streamed(0, 0, 1, incomplete=reason, incomplete_words="it ended")

    spans = ledger(history(part, seconds=3), START)

    assert states(spans) == [(0, 1, S.RECORDED), (1, 3, S.NOT_RUNNING)]
    assert spans[1].detail == "it ended"


def test_a_note_goes_on_until_it_could_have_been_renewed() -> None:
    notes = (note(0, 3, S.DEVICE_MISSING, "gone"),)

    spans = ledger(history(heard(20), seconds=23, notes=notes), START)

    assert states(spans) == [(0, 20, S.DEVICE_MISSING), (20, 23, S.RECORDED)]


def test_a_note_does_not_go_on_for_ever() -> None:
    notes = (note(0, 3, S.DEVICE_MISSING, "gone"),)

    spans = ledger(history(heard(597), seconds=600, notes=notes), START)

    assert states(spans) == [
        (0, 3, S.DEVICE_MISSING),
        (3, 597, S.NOT_RUNNING),
        (597, 600, S.RECORDED),
    ]


def test_outside_the_daily_hours_nothing_is_missed() -> None:
    night = data.TimeInterval(start=datetime.time(22), end=datetime.time(2))
    windows = (DailyWindows(intervals=(night,), timezone="Europe/London"),)  # 21:00 to 01:00 UTC
    plan = CapturePlan(duration=3, interval=3, windows=windows)

    spans = ledger(history(seconds=86_400, plan=plan), START)

    assert states(spans) == [
        (0, 3600, S.OFF_SCHEDULE),
        (3600, 5 * 3600, S.NOT_RUNNING),
        (5 * 3600, 86_400, S.OFF_SCHEDULE),
    ]


def test_the_same_start_and_end_is_the_whole_day() -> None:
    noon = data.TimeInterval(start=datetime.time(12), end=datetime.time(12))
    windows = (DailyWindows(intervals=(noon,), timezone="Europe/London"),)

    spans = ledger(
        history(seconds=2 * 86_400, plan=CapturePlan(duration=1, interval=1, windows=windows)),
        START,
    )

    assert {span.state for span in spans} == {S.NOT_RUNNING}


def test_a_recording_outside_the_hours_is_a_recording() -> None:
    noon = data.TimeInterval(start=datetime.time(12), end=datetime.time(13))
    windows = (DailyWindows(intervals=(noon,), timezone="UTC"),)
    plan = CapturePlan(duration=3, interval=3, windows=windows)

    spans = ledger(history(heard(10), seconds=60, plan=plan), START)

    assert seconds_of(spans, S.RECORDED) == 3
    assert seconds_of(spans, S.OFF_SCHEDULE) == 57


def test_two_plans_hold_one_after_the_other() -> None:
    deployment = data.Deployment(name="Pond", started_on=START, ended_on=at(60))
    plans = (PlanFrom(START, SPACED), PlanFrom(at(30), CONTINUOUS))

    spans = ledger(EffortHistory(deployment, plans=plans), START)

    assert seconds_of(spans, S.OFF_SCHEDULE) == 21
    assert seconds_of(spans, S.NOT_RUNNING) == 39


def test_a_clock_that_was_set_forward_is_told() -> None:
    notes = (note(3, 50, S.CLOCK_UNKNOWN, "set"), note(0, 60, S.NOT_RUNNING))

    spans = ledger(history(heard(0), heard(50), seconds=53, notes=notes), START)

    assert states(spans) == [(0, 3, S.RECORDED), (3, 50, S.CLOCK_UNKNOWN), (50, 53, S.RECORDED)]


def test_without_a_plan_it_says_that_the_schedule_is_not_known() -> None:
    notes = (note(40, 60, S.NOT_RUNNING, "off"),)

    spans = ledger(history(heard(0), plan=None, notes=notes), START)

    assert states(spans) == [
        (0, 3, S.RECORDED),
        (3, 40, S.OFF_SCHEDULE),
        (40, 60, S.NOT_RUNNING),
    ]
    assert spans[1].detail == effort.NO_PLAN


def test_a_deployment_that_goes_on_ends_now() -> None:
    deployment = data.Deployment(name="Pond", started_on=START)
    plans = (PlanFrom(START, CONTINUOUS),)

    spans = ledger(EffortHistory(deployment, plans=plans), at(5))

    assert states(spans) == [(0, 5, S.NOT_RUNNING)]


def test_what_goes_on_is_accounted_for_until_its_last_sign_of_life() -> None:
    deployment = data.Deployment(name="Pond", started_on=START)
    plans = (PlanFrom(START, CONTINUOUS),)
    alive = EffortHistory(deployment, (heard(0), heard(3)), plans=plans)

    assert effort.horizon(alive, at(8)) == at(6)
    assert effort.horizon(alive, at(800)) == at(800)


# Whatever happened, it adds up

TIMES = st.integers(-5_000_000, 400_000_000).map(lambda us: us / 1e6)
LENGTHS = st.integers(1, 90_000_000).map(lambda us: us / 1e6)
NOTED = [state for state in S if state is not S.RECORDED]
FRAMES = st.integers(0, 400 * RATE)


@st.composite
def captures(draw: st.DrawFn) -> Captured:
    return heard(
        draw(TIMES),
        draw(LENGTHS),
        stream_id=draw(st.sampled_from([None, STREAM, UUID(int=8)])),
        first_frame=draw(FRAMES),
        frames=draw(FRAMES),
        gap_before_frames=draw(st.sampled_from([0, 0, 1, 4000, 50_000])),
        overruns=tuple(
            data.Overrun(frame, frames)
            for frame, frames in draw(st.lists(st.tuples(FRAMES, FRAMES), max_size=3))
        ),
        incomplete=draw(st.sampled_from([None, None, *R])),
    )


@st.composite
def notes(draw: st.DrawFn) -> EffortSpan:
    start = draw(TIMES)
    return note(
        start, start + draw(LENGTHS), draw(st.sampled_from(NOTED)), draw(st.sampled_from("ab"))
    )


@st.composite
def plans(draw: st.DrawFn) -> CapturePlan:
    times = st.times().map(lambda time: time.replace(microsecond=0))
    intervals = st.builds(data.TimeInterval, start=times, end=times)
    windows = st.builds(
        DailyWindows,
        intervals=st.lists(intervals, max_size=2).map(tuple),
        timezone=st.sampled_from(["UTC", "Europe/London", "Asia/Kathmandu"]),
    )
    return CapturePlan(
        duration=draw(st.sampled_from([0.1, 1, 3, 60])),
        interval=draw(st.sampled_from([0.1, 3, 7.3, 10, 600])),
        windows=tuple(draw(st.lists(windows, max_size=2))),
    )


@st.composite
def histories(draw: st.DrawFn) -> EffortHistory:
    ended = draw(st.integers(1, 400_000_000).map(lambda us: us / 1e6))
    since = sorted(draw(st.lists(TIMES, max_size=2)))
    return EffortHistory(
        data.Deployment(name="Pond", started_on=START, ended_on=at(ended)),
        draw(st.lists(captures(), max_size=12)),
        draw(st.lists(notes(), max_size=12)),
        [PlanFrom(at(seconds), draw(plans())) for seconds in since],
    )


@settings(max_examples=200)
@given(histories())
def test_every_moment_of_any_history_is_used_for_exactly_one_thing(some: EffortHistory) -> None:
    spans = ledger(some, START)

    assert spans[0].start == some.deployment.started_on
    assert spans[-1].end == some.deployment.ended_on
    for one, following in pairwise(spans):
        assert one.end == following.start
        assert (one.state, one.detail) != (following.state, following.detail)
    assert all(span.start < span.end for span in spans)
    total = sum((span.end - span.start for span in spans), datetime.timedelta())
    assert total == spans[-1].end - some.deployment.started_on


@settings(max_examples=500)
@given(histories(), st.lists(TIMES, min_size=1, max_size=3))
def test_the_parts_of_any_history_add_up_to_the_whole(
    some: EffortHistory, cuts: list[float]
) -> None:
    bounds = [None, *(at(cut) for cut in sorted(cuts)), None]

    parts = [
        span
        for since, until in pairwise(bounds)
        for span in ledger(some, START, since=since, until=until)
    ]

    assert joined(parts) == ledger(some, START)


@settings(max_examples=500)
@given(histories())
def test_what_was_recorded_is_recorded(some: EffortHistory) -> None:
    whole = [one for one in some.captured if not one.overruns and one.stream_id is None]
    recorded = [span for span in ledger(some, START) if span.state is S.RECORDED]
    begin = data.to_microseconds(some.deployment.started_on)
    end = data.to_microseconds(some.deployment.ended_on or START)

    for one in whole:
        start, stop = max(one.start, begin), min(one.end, end)
        assert start >= stop or any(
            data.to_microseconds(span.start) <= start and stop <= data.to_microseconds(span.end)
            for span in recorded
        )


def joined(spans: list[EffortSpan]) -> list[EffortSpan]:
    found: list[EffortSpan] = []
    for span in spans:
        if found and (found[-1].state, found[-1].detail) == (span.state, span.detail):
            found[-1] = EffortSpan(found[-1].start, span.end, span.state, span.detail)
        else:
            found.append(span)
    return found
