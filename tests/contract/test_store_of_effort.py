"""What every metadata store remembers of the effort."""

import datetime
from dataclasses import replace
from uuid import UUID

import pytest

from acoupi import data
from acoupi.components import SqliteStore as Store
from acoupi.effort import Captured, CapturePlan, EffortHistory, PlanFrom, ledger
from tests.clocks import START
from tests.stores import (
    SITE,
    at,
    deployment,
    recording,
)

# Effort


HEALTH = data.MicrophoneHealth(
    rms_dbfs=-51.5,
    peak_dbfs=-3.25,
    clipped_share=0.03,
    dc_offset=-0.01,
    is_silent=False,
    is_stuck=False,
    noise_floor_dbfs=-72.0,
)
REPORT = data.CaptureReport(
    stream_id=UUID(int=5),
    first_frame=768_000,
    frames=768_000,
    samplerate_measured=255_998.5,
    clock_synchronised=False,
    clock_error_s=16.0,
    overruns=[data.Overrun(800_000, 512)],
    gap_before_frames=7,
    incomplete=data.IncompleteReason.DEVICE_LOST,
    incomplete_detail="the microphone was unplugged",
    health=HEALTH,
)
PLAN = CapturePlan(duration=3, interval=10)


def refused(start: float, end: float, detail: str = "") -> data.EffortSpan:
    return data.EffortSpan(at(start), at(end), data.EffortState.CONDITION_REFUSED, detail)


def history(store: Store, *window: datetime.datetime) -> EffortHistory:
    found = store.get_effort(SITE, *window)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        REPORT.model_copy(
            update={"health": None, "overruns": [], "incomplete": None, "incomplete_detail": ""}
        ),
        REPORT.model_copy(update={"clock_synchronised": None, "samplerate_measured": None}),
    ],
)
def test_how_a_recording_was_captured_is_remembered(
    store: Store, report: data.CaptureReport
) -> None:
    sound = recording("a.wav", capture=report)
    store.store_recording(sound)
    store.store_recording(recording("early.wav", -60))

    [(known, _)] = store.get_recordings([sound.id])
    assert known.capture == report
    last = store.get_last_recording(SITE)

    assert last == sound
    assert last is not None
    assert last.capture == report
    assert store.get_last_recording() == sound
    assert store.get_last_recording(deployment()) is None


def test_how_it_was_captured_stays_when_a_recording_is_stored_again_without_it(
    store: Store,
) -> None:
    sound = recording("a.wav", capture=REPORT)
    store.store_recording(sound)

    store.store_recording(sound.model_copy(update={"capture": None}))

    last = store.get_last_recording(SITE)
    assert last is not None
    assert last.capture == REPORT


def test_a_recording_that_comes_back_equals_the_one_that_went_in(store: Store) -> None:
    sound = recording("a.wav", capture=REPORT)
    store.store_recording(sound)

    [(found, _)] = store.get_recordings([sound.id])
    assert found == sound
    assert "capture" not in found.model_dump()


def test_the_history_holds_every_recording_whatever_became_of_its_file(store: Store) -> None:
    kept, gone = recording("a.wav", 0, capture=REPORT), recording("b.wav", 3, duration=2.5)
    for sound in (gone, kept):
        store.store_recording(sound)
    store.end_recording(gone, data.RecordingState.DELETED)

    found = history(store)

    assert found.deployment == SITE
    assert list(found.captured) == [Captured.of(kept), Captured.of(gone)]
    assert found.captured[0].overruns == (data.Overrun(800_000, 512),)
    assert found.captured[0].is_synchronised is False


def test_notes_come_back_in_order(store: Store) -> None:
    notes = [refused(10, 20, "rain"), refused(0, 5)]

    store.note_effort(SITE, notes)

    assert list(history(store).notes) == notes[::-1]
    assert store.get_deployments() == [SITE]


def test_a_note_that_goes_on_replaces_the_one_before_it(store: Store) -> None:
    store.note_effort(SITE, [refused(0, 5)])
    store.note_effort(SITE, [refused(0, 30, "rain")])

    assert list(history(store).notes) == [refused(0, 30, "rain")]


def test_the_same_plan_again_changes_nothing(store: Store) -> None:
    other = CapturePlan(duration=3, interval=3)
    for seconds, plan in ((0, PLAN), (10, PLAN), (20, other), (30, PLAN)):
        store.note_plan(SITE, plan, at(seconds))

    assert list(history(store).plans) == [
        PlanFrom(at(0), PLAN),
        PlanFrom(at(20), other),
        PlanFrom(at(30), PLAN),
    ]


def test_the_last_sign_of_life_is_a_recording_or_a_note(store: Store) -> None:
    assert store.get_alive_until(SITE) is None
    store.note_effort(SITE, [refused(0, 5)])
    assert store.get_alive_until(SITE) == at(5)
    store.store_recording(recording("a.wav", 10))
    assert store.get_alive_until(SITE) == at(13)
    store.note_effort(SITE, [refused(1, 20)])
    assert store.get_alive_until(SITE) == at(20)


def test_what_a_boot_told_before_its_clock_was_set_can_be_left_out(store: Store) -> None:
    boot = data.BootClock(boot_id=UUID(int=9), offset_s=START.timestamp() - 100)

    def told(start: float, *, is_set: bool) -> data.Recording:
        report = REPORT.model_copy(update={"boot_clock": boot, "clock_synchronised": is_set})
        return recording(f"{start}.wav", start, capture=report)

    store.store_recording(told(10, is_set=True))
    store.store_recording(told(20, is_set=False))
    store.note_effort(SITE, [replace(refused(25, 30), clock=boot)])

    assert store.get_alive_until(SITE) == at(30)
    assert store.get_alive_until(SITE, without=boot.boot_id) == at(13)
    assert store.get_alive_until(SITE, without=UUID(int=8)) == at(30)
    assert store.get_alive_in_boot(SITE, boot.boot_id, before_set=True) == 130
    store.store_recording(told(40, is_set=True))
    assert store.get_alive_in_boot(SITE, boot.boot_id, before_set=True) == 130
    assert store.get_alive_in_boot(SITE, boot.boot_id) == 143


def test_a_part_of_a_history_gives_the_same_ledger_as_the_whole(store: Store) -> None:
    store.note_plan(SITE, PLAN, START)
    for number in (0, 1, 2, 700, 701, 1400):
        store.store_recording(recording(f"{number}.wav", number * 10))
    store.note_effort(SITE, [refused(40, 90), refused(12_000, 13_000)])
    window = at(6995), at(7105)

    part = history(store, *window)
    spans = ledger(part, at(15_000), since=window[0], until=window[1])

    assert spans == ledger(history(store), at(15_000), since=window[0], until=window[1])
    assert sum(span.duration for span in spans) == 110


def test_a_part_of_a_history_knows_that_something_comes_after_it(store: Store) -> None:
    site = SITE.model_copy(update={"ended_on": at(900_000)})
    store.store_deployment(site)
    store.note_plan(site, PLAN, START)
    store.note_effort(site, [refused(800_000, 800_003)])

    spans = ledger(history(store, at(0), at(60)), START, since=at(0), until=at(60))

    assert spans == ledger(history(store), START, since=at(0), until=at(60))


def test_a_part_of_a_history_knows_the_cause_that_goes_on_in_it(store: Store) -> None:
    first, last = recording("a.wav", 0), recording("b.wav", 360_000)
    whole = REPORT.model_copy(update={"incomplete": None, "gap_before_frames": 0, "overruns": []})
    first.capture = whole
    last.capture = whole.model_copy(update={"gap_before_frames": 359_997 * last.samplerate})
    store.store_recording(first)
    store.store_recording(last)
    store.note_plan(SITE, CapturePlan(duration=3, interval=3), at(0))
    full = data.EffortSpan(at(90), at(95), data.EffortState.DISK_FULL, "no space left")
    store.note_effort(SITE, [full])

    window = at(180_000), at(180_100)
    part = ledger(history(store, *window), at(360_003), since=window[0], until=window[1])

    assert {(span.state, span.detail) for span in part} == {(full.state, full.detail)}


def test_a_deployment_that_is_not_stored_has_no_history(store: Store) -> None:
    assert store.get_effort(SITE) is None
    assert store.get_deployments() == []


def test_deployments_are_listed_by_their_start(store: Store) -> None:
    later = deployment(name="Lake", started_on=at(5))
    for each in (later, SITE):
        store.store_deployment(each)

    assert store.get_deployments() == [SITE, later]


def test_time_off_dawn_that_earlier_versions_noted_as_refused_was_never_planned(
    store: Store,
) -> None:
    store.store_deployment(SITE)
    store.note_effort(
        SITE,
        [
            refused(0, 60, "DawnTimeInterval did not hold"),
            refused(60, 90, "HasNoRain did not hold"),
        ],
    )

    states = [note.state for note in history(store, at(0), at(100)).notes]

    assert states == [data.EffortState.OFF_SCHEDULE, data.EffortState.CONDITION_REFUSED]
