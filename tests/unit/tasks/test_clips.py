"""Clips are the stream, sample for sample, and nothing that was found is given up without one."""

import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from acoupi import clips, data
from acoupi.audio import formats
from acoupi.components import SavingThreshold
from acoupi.components.stores import SqliteReader
from acoupi.components.types import RecordingSavingFilter
from acoupi.heard import Filters
from acoupi.sampling import Sampling
from acoupi.tasks.clips import PATIENCE_S, work_folder
from tests.clips import BEGAN, RATE, SITE, Stream, numbers
from tests.clocks import Clock
from tests.faulty import Faulty
from tests.kills import homes_killed_at_each_rename

from .conftest import Crash

State = data.RecordingState


@pytest.fixture
def stream(tmp_path: Path, clock: Clock) -> Stream:
    clock.now = BEGAN
    return Stream(tmp_path)


def state(stream: Stream, recording: data.Recording) -> State:
    return next(row.state for row in stream.rows() if row.id == recording.id)


@pytest.mark.parametrize("file_format", ["wav", "flac"])
@pytest.mark.parametrize(("bits", "channels"), [(16, 1), (24, 2)])
def test_a_clip_is_the_stream_to_the_sample_across_the_edge_of_a_file(
    stream: Stream, file_format: str, bits: int, channels: int
) -> None:
    stream.file_format, stream.bits, stream.channels = file_format, bits, channels
    first, second = stream.record((0.95, 0.97)), stream.record((0.5, 0.55))
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(850, 1170), (1400, 1750)]
    assert [state(stream, one) for one in (first, second)] == [State.CLIPPED, State.CLIPPED]
    assert [path.suffix for path in stream.files()] == [f".{file_format}"] * 2
    assert stream.waiting() == []
    for path in stream.files():
        assert (formats.read_info(path).bits, formats.read_info(path).channels) == (bits, channels)
        samples, _ = formats.read_audio(path)
        low = samples[:, -1].astype(float) * 2**23 % 2**8
        high = samples[:, -1].astype(float) * 2**23 // 2**8
        assert (low == (high % 2**8 if bits == 24 else 0)).all()


def test_clips_that_touch_are_one_whichever_files_they_are_from(stream: Stream) -> None:
    stream.record((0.1, 0.2), (0.5, 0.6), (0.95, 0.99))  # to 0.4; from 0.4
    stream.record((0.29, 0.3))  # from 0.19: exactly where the other ends
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(0, 800), (850, 1500)]
    held = [{clip.id for clip in row.clips} for row in stream.rows()]
    assert [len(one) for one in (held[0] - held[1], held[0] & held[1])] == [1, 1]


def test_a_clip_ends_at_a_gap_and_says_what_is_missing(stream: Stream) -> None:
    stream.record((0.02, 0.9))
    stream.skip(1)
    stream.record((0.01, 0.95), frames=1000)
    stream.end()
    stream.manage()

    one, two = stream.clips().values()
    assert stream.kept_frames() == [(0, 1000), (1001, 2001)]
    assert (one.missing_before_s, one.missing_after_s) == (0.08, 0.1)
    assert (two.missing_before_s, two.missing_after_s) == (0.09, 0.15)
    fields = formats.read_guano(two.path)
    assert fields["Acoupi|Clip Missing Before"] == "0.090000"
    assert fields["Acoupi|Clip Missing After"] == "0.150000"


def test_files_of_two_streams_are_not_joined(stream: Stream, tmp_path: Path) -> None:
    stream.record((0.95, 0.97))
    other = Stream(tmp_path)
    other.position = stream.position
    other.record((0.5, 0.55))
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(850, 1000), (1400, 1750)]


def test_a_file_waits_for_its_neighbour_and_what_is_found_in_it(
    stream: Stream, clock: Clock
) -> None:
    first = stream.record((0.95, 0.97))
    stream.manage()
    assert stream.waiting() == [first.path]  # the next one may be on its way

    second = stream.file()
    stream.store.store_recording(second)
    stream.record()
    stream.manage()
    assert len(stream.waiting()) == 3  # no model has looked at the second one

    stream.analyse(second, (0.05, 0.1))
    stream.manage()
    assert stream.kept_frames() == [(850, 1300)]
    assert len(stream.waiting()) == 1  # a fourth one may ask for the end of the third


def test_the_beginning_of_a_clip_is_held_back_in_a_file_without_detections(
    stream: Stream,
) -> None:
    quiet = stream.record()
    later = stream.file()
    stream.store.store_recording(later)
    stream.manage()
    assert state(stream, quiet) is State.CAPTURED

    stream.analyse(later, (0.01, 0.3))
    stream.end()
    stream.manage()
    assert stream.kept_frames() == [(910, 1500)]
    assert state(stream, quiet) is State.CLIPPED


def test_a_margin_longer_than_recordings_reaches_over_several(tmp_path: Path) -> None:
    stream = Stream(tmp_path, before=2.5, after=1.5)
    for _ in range(4):
        stream.record()
    stream.record((0.2, 0.3))
    for _ in range(4):
        stream.record()
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(1700, 5800)]
    assert [row.state.value for row in stream.rows()] == [
        "deleted",
        *["clipped"] * 5,
        *["deleted"] * 3,
    ]


def test_the_next_recording_is_not_waited_for_longer_than_it_can_take(
    stream: Stream, clock: Clock
) -> None:
    stream.record((0.95, 0.97))
    clock.now = BEGAN + timedelta(seconds=PATIENCE_S)
    stream.manage()
    assert stream.files() == []

    clock.advance(2)
    stream.manage()
    assert stream.kept_frames() == [(850, 1000)]
    assert next(iter(stream.clips().values())).missing_after_s == 0.17


def test_a_recorder_that_has_moved_on_brings_the_gap_no_more(stream: Stream) -> None:
    stream.record((0.95, 0.97))
    stream.skip(5000)
    stream.record()
    stream.manage()

    assert stream.kept_frames() == [(850, 1000)]


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_recording_that_the_store_does_not_know_yet_is_waited_for(
    stream: Stream, clock: Clock, is_complete: bool
) -> None:
    stream.record((0.95, 0.97))
    path = stream.file().path
    assert path is not None
    part = path.with_name(f".{path.name}.part")
    if not is_complete:
        path = path.rename(part)
    os.utime(path, (clock.now.timestamp(),) * 2)
    stream.record()
    stream.manage()
    assert stream.files() == []

    stream.recover()
    [adopted] = [row for row in stream.rows() if not row.detections][:1]
    recording, _ = stream.store.get_recordings([adopted.id])[0]
    stream.analyse(recording)
    stream.end()
    stream.manage()
    assert stream.kept_frames() == [(850, 1170)]


def test_a_chorus_becomes_clips_that_continue_each_other(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.tasks.clips.LONGEST_S", 2.5)
    for _ in range(7):
        stream.record(None)
        stream.manage()
    assert stream.kept_frames() == [(0, 3000), (3000, 6000)]
    assert len(stream.waiting()) == 1

    stream.end()
    stream.manage()
    assert stream.kept_frames() == [(0, 3000), (3000, 6000), (6000, 7000)]
    missing = [(one.missing_before_s, one.missing_after_s) for one in stream.clips().values()]
    assert missing == [(0.1, 0), (0, 0), (0, 0.2)]


def test_a_clip_describes_itself_as_the_recordings_do(stream: Stream) -> None:
    stream.record(overruns=[data.Overrun(900, 30)])
    stream.position, began = 1000, BEGAN + timedelta(seconds=1)
    stream.record((0.01, 0.02), samplerate_measured=RATE)
    stream.end()
    stream.manage()
    [clip] = stream.clips().values()

    told = formats.read_recording(clip.path)
    fields = formats.read_guano(clip.path)

    assert (told.id, told.deployment, told.duration) == (clip.id, SITE, 0.31)
    assert told.created_on == began - timedelta(seconds=0.09)
    assert told.capture is not None
    assert (told.capture.first_frame, told.capture.frames) == (910, 310)
    assert told.lost_frames == [(0, 20)]
    assert (told.capture.clock_synchronised, told.capture.clock_error_s) == (True, 0.004)
    assert (fields["Serial"], fields["Note"], fields["Loc Position"]) == (
        "S1",
        "oak",
        "51.5 -0.125",
    )
    assert len(fields["Acoupi|Clip Of"].split()) == 2


def test_the_time_of_a_clip_is_by_the_true_rate_of_the_microphone(stream: Stream) -> None:
    stream.record((0.5, 0.6), samplerate_measured=RATE * 1.25)
    stream.end()
    stream.manage()
    [clip] = stream.clips().values()

    began = BEGAN + timedelta(seconds=0.4 / 1.25)
    assert formats.read_recording(clip.path).created_on == began


def test_the_file_of_a_clip_gets_the_time_that_its_recording_gets_later(
    stream: Stream, clock: Clock
) -> None:
    wrong = data.BootClock(boot_id=clock.boot_id, offset_s=BEGAN.timestamp() - 5000)
    stream.record((0.5, 0.6), clock_synchronised=False, boot_clock=wrong)
    stream.end()
    stream.manage()
    right = wrong.model_copy(update={"offset_s": wrong.offset_s + 3600})
    stream.store.correct_times(right, clock.seconds + 10)

    [clip] = [one for one in stream.store.get_files_to_correct(10) if one.path is not None]

    assert clip.path == stream.files()[0]
    assert clip.created_on == BEGAN + timedelta(seconds=3600.4)
    assert clip.id == formats.read_recording(clip.path).id


def test_a_neighbour_that_cannot_be_read_is_a_gap(stream: Stream) -> None:
    broken = stream.record()
    stream.record((0.05, 0.5))
    stream.end()
    assert broken.path is not None
    broken.path.write_bytes(broken.path.read_bytes()[:-100])
    stream.manage()

    assert stream.kept_frames() == [(1000, 1700)]
    assert state(stream, broken) is State.KEPT  # what was to be cut from it is still in it


def test_a_recording_that_cannot_be_read_stays_whole(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    broken = stream.record((0.5, 0.6))
    stream.end()
    assert broken.path is not None
    broken.path.write_bytes(broken.path.read_bytes()[:-100])
    stream.manage()

    assert state(stream, broken) is State.KEPT
    assert "No clip can be cut" in caplog.text


@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_written_or_removed_through_a_link(
    stream: Stream, tmp_path: Path, is_folder: bool
) -> None:
    valuable, work = tmp_path / "valuable", work_folder(stream.spool)
    valuable.mkdir()
    (valuable / "a.wav").write_text("mine")
    link = work if is_folder else work / "link.wav"
    link.parent.mkdir(parents=True)
    link.symlink_to(valuable)
    recording = stream.record((0.5, 0.6))
    stream.end()
    stream.manage()

    assert [one.read_text() for one in valuable.iterdir()] == ["mine"]
    assert state(stream, recording) is (State.CAPTURED if is_folder else State.CLIPPED)


@pytest.mark.parametrize("seed", [3, 25, 30, 31])
def test_whatever_comes_in_whatever_order_exactly_the_windows_are_kept(
    tmp_path: Path, clock: Clock, seed: int
) -> None:
    """Recordings of many lengths, gaps, detections anywhere, and passes while models lag."""
    chance = random.Random(seed)
    before, after = chance.choice([(0, 0), (0.1, 0.2), (0.7, 0.4), (2, 3)])
    clock.now, stream = BEGAN, Stream(tmp_path, before=before, after=after)
    waiting, runs, windows = [], [[0, 0]], []
    for _ in range(12):
        if chance.random() < 0.2:
            stream.skip(chance.randrange(1, 300))
            runs.append([stream.position, stream.position])
        frames = chance.randrange(200, 1500)
        starts = [chance.randrange(frames) for _ in range(chance.choice([0, 0, 1, 2]))]
        ends = [min(frames, start + chance.randrange(1, 400)) for start in starts]
        for start, end in zip(starts, ends, strict=True):
            first, last = stream.position + start - before * RATE, stream.position + end
            windows.append((len(runs) - 1, round(first), round(last + after * RATE)))
        recording = stream.file(frames)
        runs[-1][1] = stream.position
        stream.store.store_recording(recording)
        found = [(one / RATE, other / RATE) for one, other in zip(starts, ends, strict=True)]
        waiting.append((recording, found))
        while waiting and chance.random() < 0.6:
            lagging, found = waiting.pop(chance.randrange(len(waiting)))
            stream.analyse(lagging, *found)
        if chance.random() < 0.5:
            stream.manage()
    for lagging, found in waiting:
        stream.analyse(lagging, *found)
    stream.end()
    stream.manage()

    wanted = {
        frame
        for run, first, last in windows
        for frame in range(max(first, runs[run][0]), min(last, runs[run][1]))
    }
    kept = [frame for first, last in stream.kept_frames() for frame in range(first, last)]
    assert len(kept) == len(set(kept))
    assert set(kept) == wanted
    assert stream.waiting() == []
    with SqliteReader(stream.path) as reader:
        assert all(row.clip is not None for row in reader.detections(Filters()))


# What is kept whole


class WholeHour(RecordingSavingFilter):
    """Wants the second recording."""

    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        return recording.created_on == BEGAN + timedelta(seconds=1)


def test_what_a_filter_of_times_wants_stays_whole_and_lends_its_sound(
    tmp_path: Path,
) -> None:
    stream = Stream(tmp_path, filters=[WholeHour()])
    stream.record((0.95, 0.97))
    whole = stream.record((0.3, 0.4))
    stream.record((0.02, 0.05))
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(850, 1170), (1920, 2250)]
    assert state(stream, whole) is State.KEPT


def test_detections_that_no_filter_accepts_get_no_clip(tmp_path: Path) -> None:
    stream = Stream(tmp_path, filters=[SavingThreshold(0.8)])
    stream.record((0.2, 0.3, 0.9), (0.7, 0.8, 0.5))
    given_up = stream.record((0.5, 0.6, 0.5))
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(100, 500)]
    assert state(stream, given_up) is State.DELETED


class Two(RecordingSavingFilter):
    judges_detections = True

    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        return len(model_outputs[0].detections) > 1


class Broken(RecordingSavingFilter):
    judges_detections = True

    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        raise RuntimeError("broken")


@pytest.mark.parametrize("judge", [Two(), Broken()])
def test_a_filter_that_judges_detections_together_or_fails_costs_none(
    tmp_path: Path, judge: RecordingSavingFilter
) -> None:
    stream = Stream(tmp_path, filters=[judge])
    stream.record((0.2, 0.3), (0.8, 0.85))
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(100, 500), (700, 1000)]


def test_the_sample_for_review_stays_whole_and_clips_remain_when_it_goes(
    stream: Stream,
) -> None:
    stream.store.sampling = Sampling(size=1)
    sounds = [stream.record((0.5, 0.6)) for _ in range(2)]
    stream.end()
    stream.manage()

    small, large = sorted(sounds, key=lambda one: Sampling().rank(one.id))
    assert [state(stream, one) for one in (small, large)] == [State.KEPT, State.CLIPPED]
    [displaced] = [row for row in stream.rows() if row.id == large.id]
    assert [numbers(one.path)[0] % 1000 for one in displaced.clips] == [400]


def test_a_recording_that_a_model_failed_on_stays_whole(stream: Stream) -> None:
    recording = stream.file()
    stream.store.store_recording(recording)
    analysis = stream.store.begin_analysis(recording, "bats")
    stream.store.end_analysis(analysis.model_copy(update={"state": data.AnalysisState.FAILED}))
    stream.end()
    stream.manage()

    assert state(stream, recording) is State.KEPT


def test_a_recording_of_another_recorder_is_a_stream_of_its_own(stream: Stream) -> None:
    recording = stream.file()
    stream.store.store_recording(recording.model_copy(update={"capture": None}))
    stream.analyse(recording, (0.95, 0.97))
    stream.end()
    stream.manage()

    assert stream.kept_frames() == [(850, 1000)]


def test_without_the_option_nothing_is_cut(stream: Stream) -> None:
    stream.store.clips = clips.ClipSettings()
    recording = stream.record((0.5, 0.6))
    stream.manage()

    assert state(stream, recording) is State.KEPT
    assert stream.clips() == {}


# Crashes


def record_three(stream: Stream) -> None:
    stream.record((0.95, 0.97))
    stream.record((0.3, 0.4), (0.9, 0.95))
    stream.record((0.5, 0.55))
    stream.end()


def check_that_nothing_is_lost_or_twice(stream: Stream) -> None:
    stream.recover()
    stream.manage()

    assert stream.kept_frames() == [(850, 1170), (1200, 1600), (1800, 2150), (2400, 2750)]
    assert len(stream.files()) == 4
    assert stream.waiting() == []
    assert {row.state for row in stream.rows()} == {State.CLIPPED}


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("method", ["put_clip", "end_recording", "get_clipped"])
def test_a_crash_between_steps_loses_nothing_and_leaves_nothing_twice(
    stream: Stream, method: str, is_after: bool
) -> None:
    store: Any = Faulty(stream.store)
    record_three(stream)
    with store.failing(method, Crash(), after=is_after), pytest.raises(Crash):
        stream.task(store)()

    check_that_nothing_is_lost_or_twice(stream)


KILLED_PASS = """
from tests.clips import Stream
from tests.unit.tasks.test_clips import record_three

def before(home):
    record_three(Stream(home))

def change(home):
    Stream(home).manage()
"""


def test_a_kill_before_any_change_of_a_name_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    homes = homes_killed_at_each_rename(tmp_path, KILLED_PASS)

    assert len(homes) > 12
    for home in homes:
        check_that_nothing_is_lost_or_twice(Stream(home))


def test_two_passes_at_once_do_no_harm(stream: Stream) -> None:
    store: Any = Faulty(stream.store)
    passes = []

    def put_clip(clip: clips.Clip) -> None:
        if not passes:
            passes.append(1)
            stream.manage()
        stream.store.put_clip(clip)

    stream.record((0.95, 0.97))
    stream.record((0.3, 0.4))
    stream.end()
    with store.replaced("put_clip", put_clip):
        stream.task(store)()

    assert stream.kept_frames() == [(850, 1170), (1200, 1600)]
    assert len(stream.files()) == 2


def test_other_settings_after_a_crash_keep_no_sound_twice(stream: Stream) -> None:
    store: Any = Faulty(stream.store)
    stream.record((0.5, 0.6))
    stream.end()
    with store.failing("put_clip", Crash(), after=True), pytest.raises(Crash):
        stream.task(store)()
    stream.store.clips = clips.ClipSettings(True, 0.2, 0.3)
    stream.manage()

    assert stream.kept_frames() == [(300, 400), (400, 800), (800, 900)]


def test_a_clip_that_no_manager_wants_is_given_up_with_its_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream(tmp_path, managers=[])
    recording = stream.record((0.5, 0.6))
    stream.end()
    stream.manage()

    assert state(stream, recording) is State.DELETED
    assert stream.waiting() == []
    assert "no saving manager" in caplog.text
