"""Sound without a microphone."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoupi import data
from acoupi.audio.formats import add_guano
from acoupi.audio.playback import PlaybackSource
from acoupi.audio.simulated import SimulatedAudio
from acoupi.audio.simulated_source import to_int16
from acoupi.audio.stream import CaptureStream
from acoupi.audio.synthetic import chirps_of_second, synthesize_second
from acoupi.audio.wav import WavWriter
from acoupi.errors import (
    AudioError,
    ConfigurationError,
    DeviceConfigurationError,
    DeviceUnavailableError,
)
from tests.services import DEADLINE

FAST = "fast"


def write(path: Path, samples: Any, samplerate: int = 1000, channels: int = 1) -> Path:
    with WavWriter(path, samplerate, channels) as writer:
        writer.write(np.asarray(samples, dtype="<i2").tobytes())
        return writer.finish()


def hear(simulated: SimulatedAudio, frames: int, samplerate: int = 1000, channels: int = 1) -> Any:
    source = simulated.source(samplerate, channels, owner="me")
    with CaptureStream(source) as stream:
        step = min(100, stream.capacity)
        content = b"".join(
            stream.read(start, min(step, frames - start), data.monotonic() + 20)
            for start in range(0, frames, step)
        )
    return np.frombuffer(content, dtype="<i2").reshape(-1, channels)


def threads() -> set[int]:
    return {t.ident or 0 for t in threading.enumerate() if t.name == "simulated-audio"}


# -- what to hear --------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("synthetic", SimulatedAudio()),
        (" synthetic , seed=3,pace=fast ", SimulatedAudio(seed=3, pace="fast")),
        ("/a/b.wav", SimulatedAudio(path=Path("/a/b.wav"))),
        ("/a/b, c=d.wav,pace=fast", SimulatedAudio(path=Path("/a/b, c=d.wav"), pace="fast")),
    ],
)
def test_a_text_says_what_to_hear(text: str, expected: SimulatedAudio) -> None:
    assert SimulatedAudio.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("synthetic,seed=x", "seed"),
        ("synthetic,seed=-1", "seed"),
        ("synthetic,pace=slow", "pace"),
        ("synthetic,seed=1,pace=slow", "pace"),
        (",pace=fast", "neither"),
    ],
)
def test_a_text_that_says_nothing_is_refused(text: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SimulatedAudio.parse(text)

    assert word in str(caught.value.why)
    assert len(caught.value.lines()) == 3


def test_the_environment_may_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SimulatedAudio.from_environment() is None

    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "")
    assert SimulatedAudio.from_environment() is None

    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,seed=5")
    assert SimulatedAudio.from_environment() == SimulatedAudio(seed=5)


# -- files ---------------------------------------------------------------


def test_a_file_is_heard_again_and_again(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", range(30))

    heard = hear(SimulatedAudio(path=tmp_path / "a.wav", pace=FAST), 100)

    assert heard[:, 0].tolist() == [n % 30 for n in range(100)]


def test_the_files_of_a_folder_are_heard_in_order_of_name(tmp_path: Path) -> None:
    write(tmp_path / "b.WAV", [2] * 10)
    write(tmp_path / "a.wav", [1] * 20)
    (tmp_path / ".hidden.wav").write_text("no")
    (tmp_path / "notes.txt").write_text("no")

    heard = hear(SimulatedAudio(path=tmp_path, pace=FAST), 60)

    assert heard[:, 0].tolist() == ([1] * 20 + [2] * 10) * 2


def test_sixteen_bit_samples_are_heard_unchanged() -> None:
    every = np.arange(-32768, 32768)

    assert np.array_equal(to_int16((every / 32768).astype(np.float32)), every)


def test_channels_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", [1, -1] * 10, channels=2)

    heard = hear(SimulatedAudio(path=tmp_path / "a.wav", pace=FAST), 15, channels=2)

    assert heard.tolist() == [[1, -1]] * 15


@pytest.mark.parametrize(
    ("samplerate", "channels", "both"),
    [(48_000, 1, ("48000 Hz", "1000 Hz")), (1000, 2, ("2 channels", "has 1"))],
)
def test_a_file_that_does_not_fit_is_refused_with_both_figures(
    tmp_path: Path, samplerate: int, channels: int, both: tuple[str, str]
) -> None:
    write(tmp_path / "a.wav", range(30))
    simulated = SimulatedAudio(path=tmp_path, pace=FAST)
    before = threads()  # another test may have left a recorder to its end

    with pytest.raises(DeviceConfigurationError) as caught:
        hear(simulated, 10, samplerate, channels)

    assert both[0] in caught.value.message
    assert both[1] in str(caught.value.why)
    assert threads() <= before


@pytest.mark.parametrize("kind", ["missing", "empty folder", "no frames", "not wav", "cut off"])
def test_a_file_without_sound_is_no_microphone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    if kind == "empty folder":
        path.mkdir()
    elif kind == "no frames":
        write(path, [])
    elif kind == "not wav":
        path.write_text("no")
    elif kind == "cut off":
        write(path, range(30))
        path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(DeviceUnavailableError) as caught:
        hear(SimulatedAudio(path=path, pace=FAST), 10)

    assert len(caught.value.lines()) == 3


def test_a_damaged_file_does_not_cost_a_folder_its_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.wav", [1] * 20)
    (tmp_path / "b.wav").write_text("no")
    write(tmp_path / "c.wav", [3] * 20)

    heard = hear(SimulatedAudio(path=tmp_path, pace=FAST), 40)

    assert heard[:, 0].tolist() == [1] * 20 + [3] * 20
    assert "b.wav is skipped" in caplog.text


def test_a_file_of_a_folder_that_vanishes_is_left_out(tmp_path: Path) -> None:
    gone, stays = tmp_path / "a.wav", tmp_path / "b.wav"
    write(gone, [1] * 30)
    write(stays, [2] * 30)
    source = PlaybackSource(tmp_path, 1000, 1, pace="fast", owner="me")
    source.prepare()
    blocks = source.blocks(10)
    next(blocks)
    gone.unlink()

    heard = [np.frombuffer(next(blocks), "<i2")[0] for _ in range(6)]

    assert heard == [2] * 6


def test_what_was_slowed_down_is_played_at_its_true_speed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", range(30), samplerate=4_800)
    add_guano(path, "GUANO|Version: 1.0\nTE: 10\n")

    heard = hear(SimulatedAudio(path=path, pace=FAST), 30, samplerate=48_000)

    assert heard[:, 0].tolist() == list(range(30))
    with pytest.raises(DeviceConfigurationError, match="4800 Hz"):
        hear(SimulatedAudio(path=path, pace=FAST), 30, samplerate=4_800)


def test_a_file_that_vanishes_is_reported_to_the_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", range(30))
    source = PlaybackSource(path, 1000, 1, pace="fast", owner="me")
    with CaptureStream(source, ring_seconds=0.1) as stream:
        stream.read(0, 10, data.monotonic() + 20)
        path.unlink()

        def read_on() -> None:
            for start in range(10, 1000, 10):
                stream.read(start, 10, data.monotonic() + 20)

        with pytest.raises(AudioError, match="cannot open"):
            read_on()


# -- the made-up soundscape ----------------------------------------------


@pytest.mark.parametrize("samplerate", [8_000, 48_000, 250_000])
def test_a_seed_gives_the_same_sound_every_time(samplerate: int) -> None:
    frames = samplerate + 1234

    one = hear(SimulatedAudio(seed=7, pace=FAST), frames, samplerate)
    again = hear(SimulatedAudio(seed=7, pace=FAST), frames, samplerate)
    other = hear(SimulatedAudio(seed=8, pace=FAST), frames, samplerate)

    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(one[:samplerate], synthesize_second(7, 0, samplerate, 1))


@pytest.mark.parametrize("samplerate", [8_000, 16_000, 48_000, 192_000, 384_000])
def test_all_calls_are_below_half_the_rate_and_within_their_second(samplerate: int) -> None:
    chirps = [c for second in range(50) for c in chirps_of_second(1, second, samplerate)]

    assert chirps
    assert max(max(c.first_freq, c.last_freq) for c in chirps) < samplerate / 2
    assert max(c.start + c.duration for c in chirps) < 1
    assert all(0 < c.level < 1 for c in chirps)


def test_bats_need_a_high_rate() -> None:
    def highest(samplerate: int) -> float:
        return max(
            c.first_freq for second in range(20) for c in chirps_of_second(0, second, samplerate)
        )

    assert highest(48_000) < 8_000
    assert highest(384_000) > 60_000


@pytest.mark.parametrize("interval", [5, 10, 15, 30, 60, 600])
def test_no_usual_interval_always_misses_the_bats(interval: int) -> None:
    heard = [
        [c for second in range(start, start + 5) for c in chirps_of_second(0, second, 384_000)]
        for start in range(0, 12 * interval, interval)
    ]

    assert any(c.first_freq > 60_000 for calls in heard[1:] for c in calls)
    assert [calls for calls in heard if not any(c.first_freq > 60_000 for c in calls)]


def test_calls_stand_out_of_a_quiet_floor() -> None:
    quiet = synthesize_second(0, 0, 48_000, 1) / 32768
    loud = synthesize_second(0, 1, 48_000, 1) / 32768

    assert 20 * np.log10(quiet.std()) == pytest.approx(-66, abs=1)
    assert np.abs(loud).max() > 20 * quiet.std()


def test_channels_have_the_same_calls_and_noise_of_their_own() -> None:
    left, right = (synthesize_second(0, 1, 48_000, 2) / 32768).T

    assert not np.array_equal(left, right)
    assert np.corrcoef(left, right)[0, 1] > 0.9


# -- pace ----------------------------------------------------------------


def test_real_time_is_paced_by_the_clock_without_drift(tmp_path: Path) -> None:
    source = SimulatedAudio().source(8000, 1, owner="me")
    times: list[tuple[float, float, int]] = []

    class Listener:
        def deliver(self, block: memoryview, time: float, *, overrun: bool = False) -> bool:
            times.append((data.monotonic(), time, len(block) // 2))
            done.set() if len(times) == 12 else None
            return len(times) < 12

        def fail(self, error: Exception) -> None:
            raise error

    done = threading.Event()
    source.start(Listener())
    assert done.wait(DEADLINE)
    source.stop()

    start, frame = times[0][1], 0
    for now, captured, frames in times:
        assert captured == pytest.approx(start + frame / 8000)
        frame += frames
        assert now >= start + frame / 8000 - 1e-3  # Never before it was heard.


def test_as_fast_as_possible_is_much_faster() -> None:
    began = time.process_time()

    heard = hear(SimulatedAudio(pace=FAST), 60 * 8000, 8000)

    assert len(heard) == 60 * 8000
    assert time.process_time() - began < 30


def test_no_thread_stays_behind() -> None:
    before = threads()
    hear(SimulatedAudio(pace=FAST), 100)

    assert threads() <= before
