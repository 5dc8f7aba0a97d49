"""Times that were told by a wrong clock, in the store."""

import datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import CapturePlan
from acoupi.testing import InMemoryStore

BOOTS = [UUID(int=1), UUID(int=2)]
OFFSETS = [1_600_000_000.0, 1_700_000_000.0, 1_750_000_000.0]
RIGHT = data.BootClock(boot_id=BOOTS[0], offset_s=1_750_000_000.0)
NOW = 20_000.0


def at(offset: float, monotonic: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(offset + monotonic, tz=datetime.UTC)


def recorded(
    site: data.Deployment, boot: UUID, offset: float, monotonic: float, *, is_set: bool | None
) -> data.Recording:
    report = data.CaptureReport(
        stream_id=uuid4(),
        first_frame=0,
        frames=8000,
        samplerate_measured=None,
        clock_synchronised=is_set,
        clock_error_s=None,
        boot_clock=data.BootClock(boot_id=boot, offset_s=offset),
    )
    created_on = at(offset, monotonic)
    return data.Recording(
        duration=1, samplerate=8000, deployment=site, created_on=created_on, capture=report
    )


@pytest.mark.parametrize("offset", [OFFSETS[0], 2_000_000_000.0])
def test_a_plan_that_a_wrong_clock_told_holds_from_when_it_was_told(offset: float) -> None:
    """One in the future held for nothing; one of before the deployment came before an older one."""
    store = InMemoryStore()
    site = data.Deployment(name="site", started_on=at(RIGHT.offset_s, -9000))
    first, second = (CapturePlan(duration=1, interval=interval) for interval in (60, 10))
    store.store_deployment(site)
    store.note_plan(site, first, at(RIGHT.offset_s, -8000))
    store.note_plan(site, second, at(offset, 100))
    store.store_recording(recorded(site, BOOTS[0], offset, 110, is_set=False))

    for _ in range(2):
        store.correct_times(RIGHT, NOW, 0.02)
        store.store_recording(recorded(site, BOOTS[0], offset, 120, is_set=False))  # a late one

    history = store.get_effort(site)
    assert history is not None
    assert [(one.since, one.plan) for one in history.plans] == [
        (at(RIGHT.offset_s, -8000), first), (at(RIGHT.offset_s, 100), second),
    ]  # fmt: skip


case = st.tuples(
    st.sampled_from(BOOTS),
    st.sampled_from(OFFSETS),
    st.integers(0, 19_000),
    st.sampled_from([None, False, True]),
)
cases = st.lists(case, max_size=8)
notes = st.lists(case, max_size=8, unique_by=lambda one: one[1:3])
"""Of the same start and state there is one."""


@given(cases, notes)
def test_the_moment_stays_and_only_its_name_changes(
    made: list[tuple[UUID, float, int, bool | None]],
    noted: list[tuple[UUID, float, int, bool | None]],
) -> None:
    store = InMemoryStore()
    site = data.Deployment(name="site", started_on=at(OFFSETS[0], -1000))
    recordings = [recorded(site, *case[:3], is_set=case[3]) for case in made]
    for recording in recordings:
        store.store_recording(recording)
    for boot, offset, monotonic, _ in noted:
        clock = data.BootClock(boot_id=boot, offset_s=offset)
        start, end = at(offset, monotonic), at(offset, monotonic + 10)
        span = EffortSpan(start, end, EffortState.DEVICE_MISSING, "gone", clock)
        store.note_effort(site, [span])

    count, _ = store.correct_times(RIGHT, NOW, 0.02)

    wrong = 0
    for recording, (boot, offset, monotonic, is_set) in zip(recordings, made, strict=True):
        ((after, _),) = store.get_recordings([recording.id])
        is_wrong = boot == RIGHT.boot_id and not is_set and offset != RIGHT.offset_s
        wrong += is_wrong
        assert after.created_on == at(RIGHT.offset_s if is_wrong else offset, monotonic)
    assert count == wrong
    history = store.get_effort(site)
    noted_now = [note for note in history.notes if note.detail == "gone"] if history else []
    starts = {note.start for note in noted_now}
    assert starts == {
        at(RIGHT.offset_s if boot == RIGHT.boot_id else offset, monotonic)
        for boot, offset, monotonic, _ in noted
    }
    assert store.correct_times(RIGHT, NOW, 0.02) == (0, 0.0)
    assert len(store.get_files_to_correct(100)) == wrong


def test_what_began_before_the_boot_only_ends_at_another_time() -> None:
    store = InMemoryStore()
    site = data.Deployment(name="site", started_on=at(OFFSETS[0], -100_000))
    clock = data.BootClock(boot_id=BOOTS[0], offset_s=OFFSETS[0])
    last, began = at(OFFSETS[0], -500), at(OFFSETS[0], 30)
    off = EffortSpan(last, began, EffortState.NOT_RUNNING, "off", clock)
    store.note_effort(site, [off])

    store.correct_times(RIGHT, NOW)

    history = store.get_effort(site)
    assert history is not None
    (note,) = history.notes
    assert (note.start, note.end) == (last, at(RIGHT.offset_s, 30))
    assert history.deployment.started_on == site.started_on


def test_a_deployment_that_began_by_the_wrong_clock_begins_at_the_right_time() -> None:
    store = InMemoryStore()
    site = data.Deployment(name="site", started_on=at(OFFSETS[0], 40))
    store.store_recording(recorded(site, BOOTS[0], OFFSETS[0], 50, is_set=False))

    store.correct_times(RIGHT, NOW)

    (stored,) = store.get_deployments()
    assert stored.started_on == at(RIGHT.offset_s, 40)


@pytest.mark.parametrize("is_note", [False, True])
def test_a_deployment_that_knew_another_boot_keeps_its_start(*, is_note: bool) -> None:
    store = InMemoryStore()
    site = data.Deployment(name="site", started_on=at(OFFSETS[0], 20))
    if is_note:
        start, end = at(OFFSETS[0], 20), at(OFFSETS[0], 25)
        store.note_effort(site, [EffortSpan(start, end, EffortState.DISK_FULL)])
    else:
        store.store_recording(recorded(site, BOOTS[1], OFFSETS[0], 30, is_set=False))
    store.store_recording(recorded(site, BOOTS[0], OFFSETS[0], 50, is_set=False))

    store.correct_times(RIGHT, NOW)

    (stored,) = store.get_deployments()
    assert stored.started_on == site.started_on


def test_a_recording_that_is_adopted_later_is_corrected_then() -> None:
    store = InMemoryStore()
    site = data.Deployment(name="site", started_on=at(OFFSETS[0], 40))
    store.store_recording(recorded(site, BOOTS[0], OFFSETS[0], 50, is_set=False))
    store.correct_times(RIGHT, NOW)
    late = recorded(site, BOOTS[0], OFFSETS[0], 60, is_set=False)
    store.store_recording(late)

    assert store.correct_times(RIGHT, NOW)[0] == 1

    ((after, _),) = store.get_recordings([late.id])
    assert after.created_on == at(RIGHT.offset_s, 60)
    (stored,) = store.get_deployments()
    assert stored.started_on == at(RIGHT.offset_s, 40)
