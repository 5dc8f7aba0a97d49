"""Times that were told before the clock was set are corrected afterwards."""

import datetime
import fcntl
import logging
from collections.abc import Iterable, Iterator
from itertools import count, pairwise
from pathlib import Path

import pytest

from acoupi import data, effort
from acoupi.audio import system_clock
from acoupi.audio.formats import read_guano, read_recording
from acoupi.audio.simulated import SimulatedAudio
from acoupi.audio.system_clock import ClockState, read_boot_clock
from acoupi.components.audio_recorder import PARecorder
from acoupi.data import EffortState
from acoupi.effort import NO_REASON, CapturePlan, ledger
from acoupi.errors import MetadataStoreError
from acoupi.tasks import (
    effort_log,
    generate_file_management_task,
    generate_recording_task,
)
from acoupi.testing import InMemoryStore
from tests.clocks import RunningClock
from tests.faulty import Faulty

HOUR = 3600.0
PLAN = CapturePlan(duration=0.2, interval=0.2)
LOGGER = logging.getLogger(__name__)
SET, NOT_SET = ClockState(True, 0.01), ClockState(False, None)


class Machine:
    """A machine whose clock was not set when it booted."""

    def __init__(self, folder: Path, clock: RunningClock) -> None:
        self.folder = folder
        self.store = Faulty(InMemoryStore())
        self.clock = clock
        self.recorder: PARecorder | None = None
        self.start()

    def boot(self) -> None:
        self.stop()
        self.clock.boot()
        self.clock.state = NOT_SET

    def start(self) -> None:
        """Begin a new process of the recorder."""
        self.stop()
        self.recorder = PARecorder(
            PLAN.duration,
            8000,
            1,
            "default",
            audio_dir=self.folder / "spool",
            interval=PLAN.interval,
            simulated=SimulatedAudio(signal="counter"),
        )
        self.record = generate_recording_task(self.recorder, self.store, LOGGER, plan=PLAN)

    def stop(self) -> None:
        if self.recorder is not None:
            self.recorder.close()

    def made(self) -> data.Recording:
        recording = self.record()
        assert recording is not None
        return recording

    def set_clock(self, seconds: float) -> None:
        self.clock.step(seconds)
        self.clock.state = SET

    def stored(self, recording: data.Recording) -> data.Recording:
        ((found, _),) = self.store.get_recordings([recording.id])
        return found

    def spans(self) -> list[data.EffortSpan]:
        (site,) = self.store.get_deployments()
        history = self.store.get_effort(site)
        assert history is not None
        return ledger(history, data.utc_now())


@pytest.fixture
def machine(tmp_path: Path, running_clock: RunningClock) -> Iterator[Machine]:
    running_clock.state = NOT_SET
    machine = Machine(tmp_path, running_clock)
    yield machine
    machine.stop()


def moved(before: data.Recording, after: data.Recording) -> float:
    return (after.created_on - before.created_on).total_seconds()


def off_spans(spans: Iterable[data.EffortSpan]) -> list[data.EffortSpan]:
    return [one for one in spans if one.state is EffortState.NOT_RUNNING and one.duration > 60]


@pytest.mark.parametrize("step", [HOUR, 20 * 365 * 24 * HOUR])
def test_recordings_of_before_get_the_right_time_once_the_clock_is_set(
    machine: Machine, step: float
) -> None:
    doubtful = [machine.made() for _ in range(3)]
    machine.set_clock(step)

    right = machine.made()

    for recording in doubtful:
        after = machine.stored(recording)
        assert moved(recording, after) == pytest.approx(step, abs=0.01)
        assert after.path is not None
        told = read_recording(after.path)
        assert told.created_on == after.created_on
        assert told.capture is not None
        assert told.capture.clock_synchronised is False  # As it was when it was made.
        assert told.capture.clock_corrected_s == pytest.approx(step, abs=0.01)
        assert told.capture.clock_error_s == pytest.approx(0.01, abs=0.001)
    # In the order of their frames, without a gap.
    times = [machine.stored(recording).created_on for recording in (*doubtful, right)]
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    assert gaps == [pytest.approx(0.2, abs=0.01)] * 3
    assert machine.stored(right).created_on == right.created_on


def test_a_file_that_the_recorder_cannot_change_is_corrected_by_who_manages_files(
    machine: Machine,
) -> None:
    doubtful = machine.made()
    assert doubtful.path is not None
    with doubtful.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        machine.set_clock(HOUR)
        machine.made()
        machine.made()
        assert read_recording(doubtful.path).created_on == doubtful.created_on
    manage = generate_file_management_task(
        machine.store, [], LOGGER, required_models={"none"}, tmp_path=machine.folder / "spool"
    )

    manage()

    assert read_recording(doubtful.path).created_on == machine.stored(doubtful).created_on


def test_the_account_holds_no_doubt_any_more(machine: Machine) -> None:
    first, *_ = [machine.made() for _ in range(3)]
    machine.set_clock(HOUR)
    machine.made()

    spans = machine.spans()

    assert spans[0].start > first.created_on + datetime.timedelta(seconds=HOUR - 60)
    assert EffortState.CLOCK_UNKNOWN not in {span.state for span in spans}
    recorded = sum(span.duration for span in spans if span.state is EffortState.RECORDED)
    assert recorded == pytest.approx(0.8, abs=0.02)
    (site,) = machine.store.get_deployments()
    history = machine.store.get_effort(site)
    assert history is not None
    assert all(one.is_synchronised for one in history.captured)


@pytest.mark.parametrize(
    "saved",
    [
        -5,  # The clock goes on where it was saved, so no time seems to be missing.
        -0.3,  # It was saved a little before the last recording; the recorder starts after that.
        -100,
        -20 * 365 * 24 * HOUR,
        400 * 24 * HOUR,
    ],
)
def test_after_a_power_cut_the_time_without_power_is_known_once_the_clock_is_set(
    machine: Machine, saved: float
) -> None:
    machine.clock.state = SET
    machine.made()
    machine.stop()
    machine.clock.step(600)  # Another time without power, with a clock that was kept.
    machine.start()
    before = [machine.made() for _ in range(2)]
    known = off_spans(machine.spans())
    machine.boot()
    machine.clock.step(saved)
    machine.start()
    after = [machine.made() for _ in range(2)]
    machine.set_clock(HOUR - saved)
    machine.made()

    *spans, _ = machine.spans()  # the last is that of the recording to come

    assert EffortState.CLOCK_UNKNOWN not in {span.state for span in spans}
    assert [span for span in spans if NO_REASON in span.detail] == []
    off = off_spans(spans)
    assert off[:1] == known
    assert [span.duration for span in off[1:]] == [pytest.approx(HOUR, abs=30)]
    assert off[1].start >= before[-1].created_on
    assert off[1].end <= machine.stored(after[0]).created_on


def test_a_recorder_that_was_restarted_corrects_what_the_one_before_made(machine: Machine) -> None:
    doubtful = machine.made()
    machine.set_clock(-HOUR)
    machine.start()

    machine.made()

    assert moved(doubtful, machine.stored(doubtful)) == pytest.approx(-HOUR, abs=0.01)


def test_another_boot_and_a_clock_that_was_right_are_left_alone(machine: Machine) -> None:
    before_boot = machine.made()
    machine.boot()
    machine.clock.state = SET
    machine.start()
    right = machine.made()
    machine.set_clock(HOUR)
    machine.start()

    machine.made()

    assert machine.stored(before_boot) == before_boot
    assert machine.stored(right) == right


def test_a_difference_that_a_crystal_explains_is_left_alone(machine: Machine) -> None:
    recording = machine.made()
    machine.set_clock(0.04)
    machine.start()

    machine.made()

    assert machine.stored(recording) == recording


def test_a_second_time_finds_nothing_to_do(machine: Machine) -> None:
    doubtful = machine.made()
    machine.set_clock(HOUR)
    machine.made()
    once = machine.stored(doubtful)
    spans = machine.spans()[:3]

    machine.start()
    machine.made()

    assert machine.stored(doubtful) == once
    assert [span.start for span in machine.spans()[:3]] == [span.start for span in spans]
    assert machine.store.get_files_to_correct(10) == []


def test_what_dies_between_the_store_and_the_file_is_finished_by_the_next(
    machine: Machine,
) -> None:
    doubtful = machine.made()
    machine.set_clock(HOUR)

    dies = machine.store.failing("get_files_to_correct", KeyboardInterrupt())
    with dies, pytest.raises(KeyboardInterrupt):
        machine.made()
    assert doubtful.path is not None
    assert read_recording(doubtful.path).created_on == doubtful.created_on
    machine.start()

    machine.made()

    assert read_recording(doubtful.path).created_on == machine.stored(doubtful).created_on


def test_a_store_that_refuses_is_asked_again(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    doubtful = machine.made()
    machine.set_clock(HOUR)

    with machine.store.failing("correct_times", MetadataStoreError("cannot write.", "wait")):
        machine.made()
    assert "could not be corrected yet" in caplog.text

    machine.made()

    assert moved(doubtful, machine.stored(doubtful)) == pytest.approx(HOUR, abs=0.01)


def test_a_file_that_is_gone_costs_nothing(machine: Machine) -> None:
    doubtful = machine.made()
    assert doubtful.path is not None
    doubtful.path.unlink()
    machine.set_clock(HOUR)

    machine.made()

    assert moved(doubtful, machine.stored(doubtful)) == pytest.approx(HOUR, abs=0.01)
    assert machine.store.get_files_to_correct(10) == []


class KeptMeanwhile(InMemoryStore):
    """The first file that is to be corrected is moved before it can be."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place

    def get_files_to_correct(self, limit: int) -> list[data.Recording]:
        found = super().get_files_to_correct(limit)
        if found and not self.place.exists():
            assert found[0].path is not None
            found[0].path.rename(self.place)
            self.update_recording_path(found[0], self.place)
        return found


def test_a_file_that_is_kept_meanwhile_is_corrected_in_its_new_place(
    machine: Machine, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.wav"
    machine.store = Faulty(KeptMeanwhile(kept))
    machine.start()
    doubtful = machine.made()
    machine.set_clock(HOUR)

    machine.made()
    machine.made()

    assert read_recording(kept).created_on == machine.stored(doubtful).created_on
    assert machine.store.get_files_to_correct(10) == []


def test_what_kept_the_recorder_is_moved_too(machine: Machine) -> None:
    machine.made()
    (site,) = machine.store.get_deployments()
    log = effort_log.EffortLog(machine.store, PLAN, LOGGER)
    log.begin(site)
    log.failed(RuntimeError("unplugged"))
    log.end()
    machine.set_clock(HOUR)

    machine.made()

    missing = [span for span in machine.spans() if span.state is EffortState.DEVICE_MISSING]
    assert missing
    assert all(abs((span.start - data.utc_now()).total_seconds()) < 60 for span in missing)


def test_the_file_says_by_which_clock_its_time_is_told(machine: Machine) -> None:
    recording = machine.made()

    assert recording.path is not None
    assert read_guano(recording.path)["Acoupi|Boot Clock"].startswith(f"{machine.clock.boot_id} ")
    report = read_recording(recording.path).capture
    assert report is not None
    assert recording.capture is not None
    assert report.boot_clock is not None
    assert recording.capture.boot_clock is not None
    assert report.boot_clock.offset_s == pytest.approx(recording.capture.boot_clock.offset_s)


YEARS = 20 * 365 * 24 * HOUR


@pytest.mark.parametrize("step", [-5, -HOUR, -YEARS])
def test_what_no_power_and_each_restart_took_has_its_reason_once_the_clock_is_set(
    machine: Machine, step: float
) -> None:
    machine.clock.state = SET
    before = machine.made()
    machine.boot()
    machine.clock.step(step)
    machine.start()
    first = machine.made()
    machine.start()
    second = machine.made()
    machine.set_clock(HOUR - step)
    right = machine.made()

    spans = machine.spans()

    until = right.created_on + datetime.timedelta(seconds=right.duration)
    reasons = {
        span.detail
        for span in spans
        if span.state is not EffortState.RECORDED and span.start < until
    }
    assert effort.NO_REASON not in reasons
    assert EffortState.CLOCK_UNKNOWN not in {span.state for span in spans}
    off = [span for span in spans if span.detail == data.NO_POWER]
    assert (off[-1].end - off[0].start).total_seconds() == pytest.approx(HOUR, abs=30)
    assert off[0].start == before.created_on + datetime.timedelta(seconds=before.duration)
    assert off[-1].end <= machine.stored(first).created_on < machine.stored(second).created_on


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_step_that_is_put_right_soon_leaves_nothing(
    machine: Machine, step: float, is_restarted: bool
) -> None:
    machine.clock.state = SET
    made = [machine.made() for _ in range(2)]
    machine.clock.step(step)
    machine.clock.state = NOT_SET
    made.append(machine.made())
    if is_restarted:
        machine.start()
    made.append(machine.made())
    machine.set_clock(-step)
    if is_restarted:
        machine.start()
    made.append(machine.made())

    spans = machine.spans()

    assert EffortState.CLOCK_UNKNOWN not in {span.state for span in spans}
    reasons = {span.detail for span in spans if span.start < made[-1].created_on}
    assert effort.NO_REASON not in reasons
    times = [machine.stored(one).created_on for one in made]
    assert times == sorted(times)
    assert (times[-1] - times[0]).total_seconds() < 60
    off = sum(span.duration for span in spans if span.detail == effort_log.OFF)
    assert off < 60


def test_a_step_that_is_noted_after_all_was_corrected_leaves_nothing(machine: Machine) -> None:
    first = machine.made()
    machine.set_clock(HOUR)
    machine.start()
    machine.made()
    (site,) = machine.store.get_deployments()
    start = machine.stored(first).created_on - datetime.timedelta(seconds=HOUR)
    clock = read_boot_clock()
    end = start + datetime.timedelta(seconds=HOUR)
    late = data.EffortSpan(start, end, EffortState.CLOCK_UNKNOWN, "the clock was set", clock)
    machine.store.note_effort(site, [late])
    machine.start()

    machine.made()

    history = machine.store.get_effort(site)
    assert history is not None
    assert EffortState.CLOCK_UNKNOWN not in {note.state for note in history.notes}


def test_a_step_between_times_that_stay_is_told(machine: Machine) -> None:
    machine.clock.state = SET
    machine.made()
    machine.clock.step(HOUR)
    machine.made()
    machine.start()
    machine.made()

    assert EffortState.CLOCK_UNKNOWN in {span.state for span in machine.spans()}


def test_clocks_that_are_read_late_on_a_busy_machine_leave_no_hole(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.made()
    read, late = system_clock.read_boot_clock, count(0.0, 0.3)

    def read_late() -> data.BootClock | None:
        clock = read()
        assert clock is not None
        return clock.model_copy(update={"offset_s": clock.offset_s + next(late)})

    machine.start()
    monkeypatch.setattr(system_clock, "read_boot_clock", read_late)
    machine.clock.step(HOUR)
    machine.made()
    monkeypatch.undo()
    machine.clock.install(monkeypatch)
    machine.set_clock(0)
    right = machine.made()

    reasons = {span.detail for span in machine.spans() if span.start < right.created_on}

    assert effort.NO_REASON not in reasons


def test_a_recorder_that_is_killed_right_after_a_step_leaves_no_hole(machine: Machine) -> None:
    machine.clock.state = SET
    machine.made()
    (site,) = machine.store.get_deployments()
    machine.clock.step(HOUR)
    machine.clock.state = NOT_SET
    begun = data.utc_now()
    step = begun - datetime.timedelta(seconds=HOUR)
    note = data.EffortSpan(step, begun, EffortState.CLOCK_UNKNOWN, "set", read_boot_clock())
    machine.store.note_effort(site, [note])
    machine.start()
    machine.made()
    machine.set_clock(-HOUR)
    right = machine.made()

    reasons = {span.detail for span in machine.spans() if span.start < right.created_on}

    assert effort.NO_REASON not in reasons
