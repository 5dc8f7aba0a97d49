"""Recordings and the stream they are cut from: nothing missing, and every fault told."""

import random
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoupi import data
from acoupi.audio import riff, wav
from acoupi.audio.counter import TURN
from acoupi.audio.simulated import SimulatedAudio
from acoupi.audio.wav import read_audio, read_recording
from acoupi.components.audio_recorder import PARecorder, keeper
from acoupi.errors import ConfigurationError, DeviceError, DeviceUnavailableError, RecordingError

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


def test_the_files_laid_end_to_end_are_the_stream(make: Make) -> None:
    recorder, chance = make(duration=0.1, interval=0.1), random.Random(3)
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


def test_the_report_is_in_the_file_too(make: Make) -> None:
    recording = make("overrun:0.3:0.01", duration=0.5, interval=0.5).record(WOOD)

    assert recording.path is not None
    again = read_recording(recording.path).capture
    assert again is not None
    assert again.model_copy(update={"health": None}) == report(recording).model_copy(
        update={"health": None}
    )
    assert again.health is not None


@pytest.mark.parametrize("pace", ["realtime", "fast"])
def test_an_overrun_is_located_and_silence_stands_in_its_place(make: Make, pace: str) -> None:
    recorder = make("overrun:0.3:0.025", pace, duration=0.5)

    recording = recorder.record(WOOD)

    (overrun,) = report(recording).overruns
    heard = values(recording)
    assert overrun.frames == pytest.approx(200, abs=40)
    assert np.flatnonzero(heard == 0).tolist() == list(
        range(overrun.frame, overrun.frame + overrun.frames)
    )
    assert heard[overrun.frame + overrun.frames] - heard[overrun.frame - 1] == 201
    assert recording.duration == 0.5


def test_a_microphone_that_is_pulled_out_and_back_is_found_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_FIRST_PAUSE", 0.05)
    recorder = make("unplug:0.42:0.3")
    recordings, errors = [recorder.record(WOOD)], []

    while len(recordings) < 4:
        try:
            recordings.append(recorder.record(WOOD))
        except DeviceError as error:
            errors.append(error)

    first, *rest = (report(recording) for recording in recordings)
    assert errors
    cut_short = errors[0].kept
    assert isinstance(cut_short, data.Recording)
    assert "stopped" in str(report(cut_short).incomplete)
    assert breaks(values(recordings[0], cut_short)) == 0
    assert report(cut_short).first_frame == first.frames
    assert len({r.stream_id for r in rest}) == 1
    assert rest[0].stream_id != first.stream_id
    assert rest[0].first_frame == 0
    assert rest[0].gap_before_frames > 0.25 * RATE
    assert breaks(values(*recordings[1:])) == 0


def test_a_microphone_that_stays_away_is_missing(make: Make) -> None:
    recorder = make("unplug:0.1:1000")

    with pytest.raises(RecordingError):
        recorder.record(WOOD)
    with pytest.raises(DeviceUnavailableError, match="cannot find"):
        recorder.record(WOOD)


def test_a_stall_is_an_overrun_once_sound_comes_again(make: Make) -> None:
    recording = make("stall:0.1:0.2", duration=0.6).record(WOOD)

    assert sum(o.frames for o in report(recording).overruns) == pytest.approx(0.2 * RATE, abs=100)


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
    make: Make, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    import datetime  # noqa: PLC0415

    real, shift = data.utc_now, [0.0]
    monkeypatch.setattr(data, "utc_now", lambda: real() + datetime.timedelta(seconds=shift[0]))
    recorder = make(duration=0.5, interval=0.5)
    recordings = [recorder.record(WOOD)]
    timer = threading.Timer(0.2, lambda: shift.__setitem__(0, step))
    timer.start()

    recordings += [recorder.record(WOOD) for _ in range(3)]

    timer.join()
    starts = [recording.created_on.timestamp() for recording in recordings]
    assert np.diff(starts) == pytest.approx([0.5] * 3, abs=0.01)
    assert breaks(values(*recordings)) == 0


def test_a_full_disk_loses_nothing_that_the_ring_holds(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make()
    before = recorder.record(WOOD)
    with monkeypatch.context() as patch:
        patch.setattr(wav, "open_new", lambda part: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(RecordingError) as caught:
            recorder.record(WOOD)

    after = recorder.record(WOOD)

    assert isinstance(caught.value.__cause__, OSError)
    assert breaks(values(before, after)) == 0
    assert report(after).first_frame == report(before).frames


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("rate", [8000, 48_000, 384_000])
def test_every_width_keeps_every_bit(make: Make, rate: int, channels: int, bits: int) -> None:
    recorder = make(pace="fast", samplerate=rate, audio_channels=channels, bits=bits)

    recordings = [recorder.record(WOOD) for _ in range(2)]

    for recording in recordings:
        assert recording.path is not None
        info = wav.read_info(recording.path)
        assert (info.samplerate, info.channels, info.bits) == (rate, channels, bits)
        with wave.open(str(recording.path)) as file:
            assert file.getsampwidth() == bits // 8
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

    monkeypatch.setattr(base, "_LEAD_SECONDS", 0.3)
    monkeypatch.setattr(base, "_WARM_UP_SECONDS", 0.2)
    recorder = make(duration=0.1, interval=1.5, idle_close=0.1)
    first = recorder.record(WOOD)
    key = recorder._stream_source().key

    assert streams.open_stream(key) is None
    second = recorder.record(WOOD)

    assert report(second).stream_id != report(first).stream_id
    assert report(second).first_frame >= 0.2 * RATE  # It had warmed up.
    assert (second.created_on.timestamp() + 0.75) % 1.5 == pytest.approx(0.75, abs=0.05)


def test_a_ring_that_does_not_fit_says_what_would(make: Make) -> None:
    with pytest.raises(ConfigurationError) as small:
        make(ring_seconds=2)
    with pytest.raises(ConfigurationError) as large:
        make(ring_seconds=1e7, samplerate=384_000)

    assert "at least 10 seconds" in str(small.value.help)
    assert "s would fit" in str(large.value.why)
