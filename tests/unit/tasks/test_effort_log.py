"""What the recording task writes down of why it did not record."""

import datetime
import errno
import logging
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import types
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import CapturePlan, EffortHistory, PlanFrom, ledger
from acoupi.errors import DeviceUnavailableError, MetadataStoreError, RecordingError
from acoupi.system import Settings, start_deployment
from acoupi.tasks import generate_recording_task
from acoupi.tasks.effort_log import OFF, STARTING, STOOD_STILL, UNASKED, EffortLog
from acoupi.testing import FakeRecorder, InMemoryStore
from tests.clocks import START, Clock
from tests.faulty import Faulty

S = EffortState
SITE = data.Deployment(name="Pond", started_on=START)
PLAN = CapturePlan(duration=3, interval=3)
LOCKED = MetadataStoreError("database is locked")


class Recorder(FakeRecorder):
    """Records in no time at all what takes three seconds."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, duration=0.1)
        self.clock = clock
        self.skipped = 0

    def record(self, deployment: data.Deployment) -> data.Recording:
        recording = super().record(deployment)
        self.clock.advance(3)
        return recording.model_copy(update={"duration": 3})

    def skip(self) -> None:
        self.skipped += 1


class Rain(types.RecordingCondition):
    falls = False

    def should_record(self) -> bool:
        return not self.falls


class NoRoom(Rain):
    refusal = EffortState.DISK_FULL


class Sensor:
    """A recorder that is asked every three seconds."""

    def __init__(self, folder: Path, store: Faulty, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.recorder = Recorder(folder, clock)
        self.rain = Rain()
        self.start()

    def start(self, **options: Any) -> None:
        options = {"plan": PLAN, "recording_conditions": [self.rain], **options}
        self.task = generate_recording_task(self.recorder, self.store, **options)

    def run(self, slots: int = 1) -> None:
        for _ in range(slots):
            before = self.clock.seconds
            try:
                self.task()
            finally:
                self.clock.seconds = max(self.clock.seconds, before + 3)

    def fail(self, error: Exception, slots: int = 1) -> None:
        self.recorder.error = error
        for _ in range(slots):
            with pytest.raises(type(error)):
                self.run()
        self.recorder.error = None

    def history(self) -> EffortHistory:
        found = self.store.get_effort(SITE)
        assert found is not None
        return found

    def spans(self) -> list[tuple[float, float, S]]:
        return [
            (seconds(span.start), seconds(span.end), span.state)
            for span in ledger(self.history(), self.clock.now)
        ]


def seconds(time: datetime.datetime) -> float:
    return (time - START).total_seconds()


@pytest.fixture
def sensor(tmp_path: Path, store: Faulty, clock: Clock) -> Sensor:
    store.store_deployment(SITE)
    return Sensor(tmp_path / "spool", store, clock)


def test_the_plan_is_noted_and_how_long_it_took_to_start(sensor: Sensor) -> None:
    sensor.clock.advance(4)
    sensor.run()

    assert list(sensor.history().plans) == [PlanFrom(START + datetime.timedelta(seconds=4), PLAN)]
    assert list(sensor.history().notes) == [
        EffortSpan(START, START + datetime.timedelta(seconds=4), S.NOT_RUNNING, STARTING)
    ]
    assert sensor.spans() == [(0, 4, S.NOT_RUNNING), (4, 7, S.RECORDED)]


def test_a_condition_that_did_not_hold_is_one_span_with_its_name(sensor: Sensor) -> None:
    sensor.run(2)
    sensor.rain.falls = True
    sensor.run(40)
    sensor.rain.falls = False
    sensor.run()

    assert sensor.spans() == [
        (0, 6, S.RECORDED),
        (6, 126, S.CONDITION_REFUSED),
        (126, 129, S.RECORDED),
    ]
    assert [note.detail for note in sensor.history().notes] == ["Rain did not hold"]
    assert sensor.recorder.skipped == 40


def test_a_condition_says_what_its_refusal_means(sensor: Sensor) -> None:
    condition = NoRoom()
    condition.falls = True
    sensor.start(recording_conditions=[condition])

    sensor.run()

    assert sensor.spans() == [(0, 3, S.DISK_FULL)]


def test_what_goes_on_is_written_now_and_then(sensor: Sensor) -> None:
    written: list[EffortSpan] = []
    note = sensor.store.note_effort
    sensor.rain.falls = True

    with sensor.store.replaced(
        "note_effort", lambda site, notes: (written.extend(notes), note(site, notes))
    ):
        sensor.run(100)

    assert len(written) == 10
    assert sensor.spans() == [(0, 300, S.CONDITION_REFUSED)]


def test_a_microphone_that_was_away_is_a_hole_until_it_is_back(sensor: Sensor) -> None:
    sensor.run()
    sensor.fail(DeviceUnavailableError('cannot find "UltraMic".'), slots=5)
    sensor.run()

    assert sensor.spans() == [
        (0, 3, S.RECORDED),
        (3, 18, S.DEVICE_MISSING),
        (18, 21, S.RECORDED),
    ]
    assert [note.detail for note in sensor.history().notes] == ['cannot find "UltraMic".']


def test_a_disk_that_refuses_is_a_full_disk(sensor: Sensor) -> None:
    error = RecordingError("cannot write the recording.")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")

    sensor.fail(error)

    assert sensor.spans() == [(0, 3, S.DISK_FULL)]


def test_what_was_heard_before_the_microphone_failed_is_stored_and_returned(
    sensor: Sensor,
) -> None:
    sensor.run()
    report = data.CaptureReport(
        stream_id=SITE.id,
        first_frame=0,
        frames=8000,
        samplerate_measured=None,
        clock_synchronised=None,
        clock_error_s=None,
        incomplete=data.IncompleteReason.DEVICE_LOST,
        incomplete_detail="it was unplugged",
    )
    kept = FakeRecorder(sensor.recorder.audio_dir).record(SITE)
    kept = kept.model_copy(update={"duration": 1, "capture": report})
    error = RecordingError("it was unplugged")
    error.kept = kept
    sensor.recorder.error = error

    assert sensor.task() == kept

    sensor.clock.advance(3)
    assert sensor.store.get_last_recording(SITE) == kept
    assert sensor.spans() == [
        (0, 4, S.RECORDED),
        (4, 6, S.DEVICE_MISSING),
    ]


@pytest.mark.parametrize("dead", [1, 3600, 86_400 * 3])
def test_the_time_for_which_it_was_dead_is_known_at_the_next_start(
    sensor: Sensor, dead: float
) -> None:
    sensor.run(3)
    sensor.clock.advance(dead)
    sensor.start()
    sensor.run()

    assert sensor.spans() == [
        (0, 9, S.RECORDED),
        (9, 9 + dead, S.NOT_RUNNING),
        (9 + dead, 12 + dead, S.RECORDED),
    ]
    assert [note.detail for note in sensor.history().notes] == [OFF]


def test_a_recorder_without_a_trace_is_not_said_to_have_been_off(sensor: Sensor) -> None:
    sensor.run()
    # It ran on, but the disk had become read-only; then the power was cut.
    sensor.clock.advance(60)
    sensor.start()
    sensor.run()

    (note,) = sensor.history().notes
    assert "left no trace" in note.detail
    assert "a disk it could not write to" in note.detail


def test_a_power_cut_while_a_condition_did_not_hold_hides_little(sensor: Sensor) -> None:
    sensor.rain.falls = True
    sensor.run(100)
    sensor.clock.advance(1000)
    sensor.start()
    sensor.run()

    refused = sum(end - start for start, end, state in sensor.spans() if state is not S.NOT_RUNNING)
    assert 270 <= refused <= 306


@pytest.mark.parametrize("step", [60, -60])
def test_a_clock_that_is_set_is_told_and_nothing_overlaps(sensor: Sensor, step: float) -> None:
    sensor.run(40)
    sensor.clock.step(step)
    sensor.run(40)

    spans = sensor.spans()
    assert sum(end - start for start, end, _ in spans) == 240 + step
    unknown = [end - start for start, end, state in spans if state is S.CLOCK_UNKNOWN]
    assert unknown == ([60] if step > 0 else [])
    recorded = [end - start for start, end, state in spans if state is S.RECORDED]
    assert sum(recorded) == (240 if step > 0 else 180)


def test_a_store_that_takes_no_notes_gets_them_later(
    sensor: Sensor, caplog: pytest.LogCaptureFixture
) -> None:
    with sensor.store.failing("note_effort", LOCKED), caplog.at_level(logging.WARNING):
        sensor.run()
        sensor.rain.falls = True
        sensor.run(2)
    sensor.rain.falls = False
    sensor.run()

    assert sensor.spans() == [
        (0, 3, S.RECORDED),
        (3, 9, S.CONDITION_REFUSED),
        (9, 12, S.RECORDED),
    ]


def test_a_note_that_the_store_did_not_take_is_written_with_the_next_recording(
    sensor: Sensor,
) -> None:
    sensor.run()
    with sensor.store.failing("note_effort", LOCKED):
        sensor.fail(DeviceUnavailableError('cannot find "UltraMic".'))
    sensor.run()

    assert [note.detail for note in sensor.history().notes] == ['cannot find "UltraMic".']


def test_a_store_that_keeps_no_account_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    class Published(InMemoryStore):
        note_effort = types.Store.note_effort
        note_plan = types.Store.note_plan
        get_alive_until = types.Store.get_alive_until

    sensor = Sensor(tmp_path, Faulty(Published()), clock)
    sensor.store.store_deployment(SITE)
    sensor.rain.falls = True

    sensor.run(3)

    assert sensor.history().notes == []


def test_a_microphone_that_goes_between_slots_is_noted_at_once(sensor: Sensor) -> None:
    sensor.recorder.device_listener = None
    sensor.start(plan=CapturePlan(duration=3, interval=60))
    sensor.run()
    listener: Any = sensor.recorder.device_listener
    gone = sensor.clock.now + datetime.timedelta(seconds=7)

    sensor.clock.advance(8)
    listener.device_missing(gone, RecordingError("it stopped."))
    first = sensor.store.get_effort(SITE)
    sensor.clock.advance(31)
    listener.device_missing(gone, DeviceUnavailableError("cannot find it."))
    sensor.clock.advance(2)
    listener.device_back()

    assert first is not None
    assert [note for note in first.notes if note.state is S.DEVICE_MISSING]
    last = sensor.store.get_effort(SITE)
    assert last is not None
    (note,) = [note for note in last.notes if note.state is S.DEVICE_MISSING]
    assert (note.start, note.end, note.detail) == (gone, sensor.clock.now, "it stopped.")


@pytest.mark.parametrize("step", [3600, -3600, 1_796_000_000])
def test_an_attempt_in_which_the_clock_is_set_has_the_times_of_one_clock(
    sensor: Sensor, step: int
) -> None:
    log = EffortLog(sensor.store, CapturePlan(duration=3, interval=60), logging.getLogger(__name__))
    log.begin(SITE)
    sensor.clock.advance(2)
    sensor.clock.step(step)

    log.failed(RecordingError("it stopped."))
    log.end()

    history = sensor.store.get_effort(SITE)
    assert history is not None
    missing = [note for note in history.notes if note.state is S.DEVICE_MISSING]
    assert [(note.end - note.start).total_seconds() for note in missing] == [60]
    assert missing[0].start == sensor.clock.now - datetime.timedelta(seconds=2)


@pytest.mark.parametrize("step", [3600, -3600, 1_796_000_000])
def test_a_microphone_that_is_missing_while_the_clock_is_set_is_missing_no_longer_for_that(
    sensor: Sensor, step: int
) -> None:
    sensor.recorder.device_listener = None
    sensor.start(plan=CapturePlan(duration=3, interval=60))
    sensor.run()
    listener: Any = sensor.recorder.device_listener
    gone, error = sensor.clock.now, RecordingError("it stopped.")
    sensor.clock.advance(8)
    listener.device_missing(gone, error)
    sensor.clock.advance(5)
    sensor.clock.step(step)
    listener.device_missing(gone, error)
    sensor.clock.advance(4)

    listener.device_missing(gone, error)
    listener.device_back()

    history = sensor.store.get_effort(SITE)
    assert history is not None
    missing = [note for note in history.notes if note.state is S.DEVICE_MISSING]
    assert sorted((note.end - note.start).total_seconds() for note in missing) == [4, 13]


def test_a_microphone_that_is_missing_at_the_next_slot_is_one_hole(sensor: Sensor) -> None:
    sensor.recorder.device_listener = None
    sensor.start()
    sensor.run()
    listener: Any = sensor.recorder.device_listener
    gone = sensor.clock.now
    sensor.clock.advance(1)

    listener.device_missing(gone, RecordingError("it stopped."))
    sensor.fail(DeviceUnavailableError("cannot find it."), slots=3)
    sensor.recorder.error = None
    listener.device_back()
    sensor.run()

    history = sensor.store.get_effort(SITE)
    assert history is not None
    spans = ledger(history, sensor.clock.now)
    assert {span.state for span in spans} == {S.RECORDED, S.DEVICE_MISSING}


def test_a_deployment_that_starts_while_it_records_is_no_start_of_the_recorder(
    sensor: Sensor,
) -> None:
    sensor.run(2)
    sensor.clock.advance(-1)
    oak = start_deployment(Settings(), "Oak")  # in the middle of a recording
    sensor.clock.advance(1)
    sensor.run(2)

    found = sensor.store.get_effort(oak)
    assert found is not None
    assert list(found.notes) == []
    assert [
        (seconds(span.start), seconds(span.end), span.state)
        for span in ledger(found, sensor.clock.now)
    ] == [(5, 12, S.RECORDED)]
    assert sensor.spans() == [(0, 5, S.RECORDED)]


def test_a_recorder_that_nobody_asks_notes_it_while_it_waits_and_when_it_is_asked(
    sensor: Sensor,
) -> None:
    sensor.run(2)
    sensor.clock.advance(4)  # the last recording ended a moment before its task did
    sensor.task.while_waiting()
    assert list(sensor.history().notes) == []  # the next attempt is not overdue yet

    sensor.clock.advance(36)  # beat is dead
    sensor.task.while_waiting()
    [note] = sensor.history().notes
    assert (seconds(note.start), seconds(note.end)) == (6, 46)
    assert (note.state, note.detail) == (S.NOT_RUNNING, UNASKED)

    sensor.clock.advance(10)
    sensor.run()
    [note] = sensor.history().notes
    assert (seconds(note.start), seconds(note.end)) == (6, 56)
    assert sensor.spans() == [
        (0, 6, S.RECORDED),
        (6, 56, S.NOT_RUNNING),
        (56, 59, S.RECORDED),
    ]


def test_a_full_disk_that_keeps_others_from_asking_stays_the_reason(sensor: Sensor) -> None:
    sensor.run()
    sensor.fail(OSError(errno.ENOSPC, "No space left on device"))
    sensor.clock.advance(60)
    sensor.task.while_waiting()
    sensor.run()

    assert {note.detail for note in sensor.history().notes} != {UNASKED}
    assert all(note.state is S.DISK_FULL for note in sensor.history().notes)


def test_a_recorder_that_stood_still_says_so(sensor: Sensor) -> None:
    sensor.run()
    sensor.clock.advance(20)
    sensor.task.while_waiting(18.0)
    sensor.run()

    assert [
        (seconds(note.start), seconds(note.end), note.detail) for note in sensor.history().notes
    ] == [(5, 23, STOOD_STILL)]
