"""Recordings and the stream they are cut from: nothing missing, and every fault told.

A fault of a simulated microphone has its time in the stream. The first recording begins later in
it, by as much as this machine is slow: half a second and more are left for that.
"""

import datetime
import random
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from acoupi import data
from acoupi.audio import riff, stream, wav
from acoupi.audio.counter import TURN
from acoupi.audio.formats import read_audio, read_info, read_recording
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components.audio_recorder import PARecorder, keeper
from acoupi.errors import (
    AcoupiError,
    ConfigurationError,
    DeviceError,
    DeviceUnavailableError,
    RecordingError,
)
from tests.clocks import RunningClock
from tests.disks import Disk
from tests.services import DEADLINE, eventually

RATE = 8000
WOOD = data.Deployment(name="Wood")

Make = Callable[..., PARecorder]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made = []

    def make(faults: str = "", pace: str = "realtime", **settings: Any) -> PARecorder:
        simulated = SimulatedAudio.parse(f"counter,pace={pace},faults={faults}")
        arguments: dict[str, Any] = {
            "duration": 0.25,
            "samplerate": RATE,
            "audio_channels": 1,
            "device_name": "default",
            "audio_dir": tmp_path / "spool",
            "simulated": simulated,
            "interval": 0.25,
        }
        made.append(PARecorder(**arguments | settings))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


def report(recording: data.Recording) -> data.CaptureReport:
    assert recording.capture is not None
    return recording.capture


def values(*recordings: data.Recording) -> Any:
    """Return the counter as it was recorded; lost frames are 0."""
    parts = [read_audio(recording.path)[0][:, 0] for recording in recordings if recording.path]
    return np.rint(np.concatenate(parts) * 32768).astype(int)


def breaks(heard: Any) -> int:
    return int(np.count_nonzero(np.diff(heard[heard != 0]) % TURN != 1))


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_the_files_laid_end_to_end_are_the_stream(make: Make, file_format: str) -> None:
    recorder = make(duration=0.1, interval=0.1, file_format=file_format)
    chance = random.Random(3)
    pause = threading.Event()
    recordings = []

    while len(recordings) < 12:
        recordings.append(recorder.record(WOOD))
        if not recorder.is_behind():
            pause.wait(chance.uniform(0, 0.25))  # The task is late.

    assert breaks(values(*recordings)) == 0
    reports = [report(recording) for recording in recordings]
    assert [r.first_frame for r in reports] == [800 * n for n in range(12)]
    assert len({r.stream_id for r in reports}) == 1
    assert all(r.gap_before_frames == 0 and not r.overruns for r in reports)


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_the_report_is_in_the_file_too(make: Make, file_format: str) -> None:
    recorder = make("overrun:0.3:0.01", duration=0.5, interval=0.5, file_format=file_format)

    recording = recorder.record(WOOD)

    assert recording.path is not None
    assert recording.path.suffix == f".{file_format}"
    again = read_recording(recording.path).capture
    assert again is not None
    assert again.model_copy(update={"health": None}) == report(recording).model_copy(
        update={"health": None}
    )
    assert again.health is not None


@pytest.mark.parametrize("pace", ["realtime", "fast"])
def test_an_overrun_is_located_and_silence_stands_in_its_place(make: Make, pace: str) -> None:
    recorder = make("overrun:0.8:0.025", pace, duration=1)

    recording = recorder.record(WOOD)

    (overrun,) = report(recording).overruns
    heard = values(recording)
    assert overrun.frames == pytest.approx(200, abs=40)
    assert np.flatnonzero(heard == 0).tolist() == list(
        range(overrun.frame, overrun.frame + overrun.frames)
    )
    assert heard[overrun.frame + overrun.frames] - heard[overrun.frame - 1] == 201
    assert recording.duration == 1


def test_a_microphone_that_is_pulled_out_and_back_is_found_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_FIRST_PAUSE", 0.05)
    recorder = make("unplug:1.6:0.3", duration=1, interval=1)
    made = [recorder.record(WOOD)]
    stream_of_before = report(made[0]).stream_id

    while report(made[-1]).stream_id == stream_of_before or len(made) < 4:
        try:
            made.append(recorder.record(WOOD))
        except DeviceError as error:  # Unless it was pulled out just between two.
            made += [error.kept] if isinstance(error.kept, data.Recording) else []

    before = [one for one in made if report(one).stream_id == stream_of_before]
    after = made[len(before) :]
    cut_short = report(before[-1])
    assert cut_short.incomplete is data.IncompleteReason.DEVICE_LOST
    assert "stopped" in cut_short.incomplete_detail
    assert cut_short.first_frame == report(before[-2]).first_frame + RATE
    assert breaks(values(*before)) == 0
    assert len({report(one).stream_id for one in after}) == 1
    assert report(after[0]).first_frame == 0
    assert report(after[0]).gap_before_frames > 0.25 * RATE
    assert breaks(values(*after)) == 0


def test_a_microphone_that_stays_away_is_missing(make: Make) -> None:
    recorder = make("unplug:0.1:1000")

    with pytest.raises(RecordingError):
        recorder.record(WOOD)
    with pytest.raises(DeviceUnavailableError, match="cannot find"):
        recorder.record(WOOD)


class Told:
    """Listens to what becomes of the microphone."""

    def __init__(self) -> None:
        self.missing: list[tuple[datetime.datetime, AcoupiError]] = []
        self.back = threading.Event()

    def device_missing(self, since: datetime.datetime, error: AcoupiError) -> None:
        self.missing.append((since, error))

    def device_back(self) -> None:
        self.back.set()


def test_a_microphone_pulled_out_between_recordings_is_noticed_and_found_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(keeper, "_FIRST_PAUSE", 0.05)
    recorder, told = make("unplug:1:1000"), Told()
    recorder.device_listener = told
    first = recorder.record(WOOD)

    eventually(lambda: len(told.missing) > 1)  # Opening it fails until it is back.
    recorder._stream_source().script.gone_until = 0  # type: ignore[attr-defined]
    assert told.back.wait(DEADLINE)  # Nobody asked for a recording meanwhile.

    since, error = told.missing[0]
    assert "stopped" in error.message
    assert {when for when, _ in told.missing} == {since}
    made = [first, *(recorder.record(WOOD) for _ in range(5))]  # Of before, there is a second.
    *_, last = (one for one in made if report(one).stream_id == report(first).stream_id)
    assert last is not made[-1]
    silence = since - last.created_on - datetime.timedelta(seconds=last.duration)
    assert -0.01 <= silence.total_seconds() < 0.12  # A rest of less than 0.1 s is not recorded.


def test_a_microphone_that_falls_silent_is_noticed_and_what_came_before_is_recorded(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.5)
    recorder, told = make("stall:1.5:100", duration=0.8, interval=0.8), Told()
    recorder.device_listener = told
    first = recorder.record(WOOD)
    assert told.back.wait(DEADLINE)  # Another stream is open by now.
    assert "delivered nothing" in str(told.missing[0][1].why)

    rest = recorder.record(WOOD)

    assert report(rest).stream_id == report(first).stream_id
    assert report(rest).incomplete is data.IncompleteReason.DEVICE_LOST
    assert 0 < rest.duration < 0.8
    assert breaks(values(first, rest)) == 0
    assert report(recorder.record(WOOD)).stream_id != report(first).stream_id


def test_a_microphone_that_is_closed_on_purpose_is_not_missed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LOOK_SECONDS", 0.02)
    recorder, told = make(), Told()
    recorder.device_listener = told
    recorder.record(WOOD)

    recorder.close()

    assert recorder._watch is not None
    thread = recorder._watch._thread
    assert thread is not None
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert told.missing == []


def test_a_stall_is_an_overrun_once_sound_comes_again(make: Make) -> None:
    recording = make("stall:1:0.2", duration=1.5).record(WOOD)

    assert sum(o.frames for o in report(recording).overruns) == pytest.approx(0.2 * RATE, abs=100)


def test_what_the_driver_loses_without_a_word_is_an_overrun_once_it_is_sure(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.audio.clock._LOSS_PROOF", 3)
    recorder = make("loss:1.5:0.4", duration=1, interval=1)

    made = [recorder.record(WOOD) for _ in range(7)]

    lost = [o for recording in made for o in report(recording).overruns]
    assert [o.frames for o in lost] == [pytest.approx(0.4 * RATE, abs=RATE // 100)]
    # Frames are time again.
    assert 1.5 * RATE < lost[0].frame < 7 * RATE
    assert breaks(values(*made)) == 1


def test_a_device_that_drifts_is_measured(make: Make) -> None:
    source = SimulatedAudio.parse("counter,faults=drift:0:200").source(RATE, 1, owner="x")

    assert source.script.speed == pytest.approx(1.0002)


@pytest.mark.parametrize(
    ("faults", "name", "low", "high"),
    [("dc:0:0.25", "dc_offset", 0.2, 0.8), ("clip:0:4", "clipped_share", 0.1, 1.0)],
)
def test_offset_and_clipping_show_in_the_health(
    make: Make, faults: str, name: str, low: float, high: float
) -> None:
    health = report(make(faults, "fast", duration=3).record(WOOD)).health

    assert low <= getattr(health, name) <= high


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_clock_during_a_recording_neither_stretches_nor_reorders(
    make: Make, running_clock: RunningClock, step: float
) -> None:
    recorder = make(duration=0.5, interval=0.5)
    recordings = [recorder.record(WOOD)]
    timer = threading.Timer(0.2, lambda: running_clock.step(step))
    timer.start()

    recordings += [recorder.record(WOOD) for _ in range(3)]

    timer.join()
    starts = [recording.created_on.timestamp() for recording in recordings]
    assert np.diff(starts) == pytest.approx([0.5] * 3, abs=0.01)
    assert breaks(values(*recordings)) == 0


@pytest.mark.parametrize("room", [-1, 2 * RATE // 100])  # for no file, for next to nothing
def test_a_full_disk_loses_nothing_that_the_ring_holds(make: Make, disk: Disk, room: int) -> None:
    recorder = make()
    before = recorder.record(WOOD)
    disk.room = room
    with pytest.raises(RecordingError) as caught:
        recorder.record(WOOD)
    disk.room = None

    after = recorder.record(WOOD)

    assert isinstance(caught.value.__cause__, OSError)
    assert breaks(values(before, after)) == 0
    assert report(after).first_frame == report(before).frames


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("rate", [8000, 48_000, 384_000])
@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_every_width_keeps_every_bit(
    make: Make, file_format: str, rate: int, channels: int, bits: int
) -> None:
    recorder = make(
        pace="fast", samplerate=rate, audio_channels=channels, bits=bits, file_format=file_format
    )

    recordings = [recorder.record(WOOD) for _ in range(2)]

    for recording in recordings:
        assert recording.path is not None
        info = read_info(recording.path)
        assert (info.samplerate, info.channels, info.bits) == (rate, channels, bits)
        other = soundfile.info(recording.path)
        assert (other.format, other.subtype) == (file_format.upper(), f"PCM_{bits}")
    samples = np.concatenate([read_audio(r.path)[0] for r in recordings if r.path])
    assert len(samples) == rate // 2
    assert (samples == samples[:, :1]).all()
    assert breaks(values(*recordings)) == 0


def test_24_bits_are_not_16() -> None:
    block = np.array([0x12345678, -0x12345678, 2**31 - 1, -(2**31)], dtype="<i4").tobytes()

    narrow = wav.decode(bytes(wav.narrow(block, 4, 3)), riff.Format(riff.PCM, 1, RATE, 24))

    expected = np.array([0x123456, -0x123457, 2**23 - 1, -(2**23)]) / 2**23
    assert narrow[:, 0] == pytest.approx(expected, abs=1e-9)


def test_idle_times_close_the_microphone_and_the_next_slot_is_on_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acoupi.audio.pool import streams  # noqa: PLC0415
    from acoupi.components.audio_recorder import base  # noqa: PLC0415

    monkeypatch.setattr(base, "_LEAD_SECONDS", 1.2)  # a busy machine is late, but not so late
    monkeypatch.setattr(base, "_WARM_UP_SECONDS", 0.2)
    recorder = make(duration=0.1, interval=3, idle_close=0.1)
    first = recorder.record(WOOD)
    key = recorder._stream_source().key

    assert streams.open_stream(key) is None
    second = recorder.record(WOOD)

    assert report(second).stream_id != report(first).stream_id
    assert report(second).first_frame >= 0.2 * RATE  # It had warmed up.
    assert (second.created_on.timestamp() + 1.5) % 3 == pytest.approx(1.5, abs=0.05)


def test_a_ring_that_does_not_fit_says_what_would(make: Make) -> None:
    with pytest.raises(ConfigurationError) as small:
        make(ring_seconds=2)
    with pytest.raises(ConfigurationError) as large:
        make(ring_seconds=1e7, samplerate=384_000)

    with pytest.raises(ConfigurationError) as few:
        make(ring_bytes=10_000, bits=24, audio_channels=2)
    with pytest.raises(ConfigurationError) as many:
        make(ring_bytes=10**15)
    with pytest.raises(ConfigurationError, match="both in seconds and in bytes"):
        make(ring_bytes=10**6, ring_seconds=30)

    assert small.value.help == "acoupi config set recording.ring_seconds 10"
    assert "s would fit" in str(large.value.why)
    assert few.value.help == f"acoupi config set recording.ring_bytes {10 * RATE * 2 * 4}"
    fits = int(str(many.value.help).rpartition(" ")[2])
    assert make(ring_bytes=fits).ring_seconds == fits / 2 / RATE


def test_a_ring_of_so_many_bytes_takes_so_many(make: Make) -> None:
    recorder = make(ring_bytes=1_000_000)

    recorder.record(WOOD)

    with recorder._using_stream() as stream:
        assert len(stream._ring) == 1_000_000


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"samplerate": 655_360}, "up to 655350 Hz"),
        ({"samplerate": 192_001}, "multiples of 10 Hz"),
        ({"audio_channels": 9}, "at most 8 channels"),
        ({"file_format": "mp3"}, None),
    ],
)
def test_what_flac_cannot_hold_is_refused(
    make: Make, settings: dict[str, Any], words: str | None
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**{"file_format": "flac", **settings})

    assert caught.value.help == "acoupi config set recording.file_format wav"
    assert words is None or words in str(caught.value.why)
    make(**settings | {"file_format": "wav"})


def test_ten_minutes_at_384_khz_stream_to_the_disk(make: Make) -> None:
    recorder = make(pace="fast", samplerate=384_000, duration=600, file_format="flac")
    make(pace="fast", samplerate=384_000, duration=1).record(WOOD)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    recording = recorder.record(WOOD)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB
    assert report(recording).frames == 600 * 384_000
