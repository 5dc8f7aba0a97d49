"""The band-energy detector finds sounds of every pace, and nothing in noise."""

import tracemalloc
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acoupi import data
from acoupi.components.models import BandEnergyConfig, BandEnergyModel, band_energy, detect
from acoupi.errors import AudioError

Samples = NDArray[np.float32]


def noise(seconds: float, samplerate: int, *, amplitude: float = 0.01, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    return np.float32(amplitude) * rng.standard_normal(int(seconds * samplerate), dtype=np.float32)


def add_sweep(
    samples: Samples,
    samplerate: int,
    start: float,
    duration: float,
    freqs: tuple[float, float],
    amplitude: float = 0.05,
) -> None:
    """Add a tone that glides from one frequency to the other, with soft ends."""
    time = np.arange(int(duration * samplerate)) / samplerate
    phase = freqs[0] * time + (freqs[1] - freqs[0]) * time**2 / (2 * duration)
    first = int(start * samplerate)
    samples[first : first + len(time)] += (
        amplitude * np.hanning(len(time)) * np.sin(2 * np.pi * phase)
    ).astype(np.float32)


def box(detection: data.Detection) -> tuple[float, float, float, float]:
    assert detection.location is not None
    return detection.location.coordinates


def tone(seconds: float, samplerate: int, freq: float) -> Samples:
    return np.sin(2 * np.pi * freq * np.arange(int(seconds * samplerate)) / samplerate).astype(
        np.float32
    )


def recording_of(
    path: Path, samples: NDArray[np.generic], rate: int, te: float = 1
) -> data.Recording:
    soundfile.write(path, samples, int(rate / te), subtype="PCM_16")
    return data.Recording(
        path=path,
        duration=len(samples) / rate,
        samplerate=rate,
        time_expansion=te,
        audio_channels=samples.shape[1] if samples.ndim > 1 else 1,
        deployment=data.Deployment(name="test"),
    )


class TestNoise:
    @pytest.mark.parametrize("samplerate", [48_000, 384_000])
    @pytest.mark.parametrize(("seed", "amplitude"), [(0, 1e-4), (1, 0.003), (2, 0.1)])
    def test_nothing_is_found_in_a_minute_of_white_noise(
        self, samplerate: int, seed: int, amplitude: float
    ) -> None:
        samples = noise(60, samplerate, amplitude=amplitude, seed=seed)

        assert detect(samples, samplerate) == []

    @pytest.mark.parametrize("samplerate", [48_000, 384_000])
    @pytest.mark.parametrize("steps", [0.05, 0.12, 0.2, 0.5, 2])
    def test_nothing_is_found_in_noise_about_as_quiet_as_a_step_of_16_bits(
        self, samplerate: int, steps: float
    ) -> None:
        samples = np.round(noise(20, samplerate, amplitude=steps)) / np.float32(2**15)

        assert detect(samples, samplerate) == []

    @pytest.mark.parametrize("tilt", [-1.5, -1, -0.5, 0.5])
    def test_nothing_is_found_in_noise_of_any_colour(self, tilt: float) -> None:
        spectrum = np.fft.rfft(noise(10, 48_000))
        spectrum[1:] *= np.arange(1.0, len(spectrum)) ** tilt
        coloured = np.fft.irfft(spectrum).astype(np.float32)

        assert detect(coloured / (2 * np.abs(coloured).max()), 48_000) == []

    @pytest.mark.parametrize("length", [4_352, 6_000, 10_000, 40_000])
    def test_nothing_is_found_in_a_short_clip_of_noise(self, length: int) -> None:
        samples = noise(20, 48_000)

        clips = [
            samples[first : first + length] for first in range(0, len(samples) - length, length)
        ]

        assert [clip for clip in clips if detect(clip, 48_000)] == []

    @pytest.mark.parametrize(
        "samples",
        [
            pytest.param(np.zeros(96_000, np.float32), id="digital silence"),
            pytest.param(np.full(96_000, 0.9, np.float32), id="direct current"),
            pytest.param(0.5 + noise(2, 48_000, amplitude=1e-4), id="noise on direct current"),
            pytest.param(np.clip(noise(2, 48_000, amplitude=3), -1, 1), id="clipped noise"),
            pytest.param(np.zeros(0, np.float32), id="no samples"),
            pytest.param(np.ones(1, np.float32), id="one sample"),
            pytest.param(noise(0.08, 48_000), id="too short to know the background"),
        ],
    )
    def test_nothing_is_found_where_there_is_no_sound(self, samples: Samples) -> None:
        assert detect(samples, 48_000) == []

    def test_a_clipped_tone_without_any_noise_is_survived(self) -> None:
        """Its overtones beat with the frames, and there is no noise to hide that: much is found."""
        found = detect(np.sign(tone(2, 48_000, 1_000)), 48_000)

        assert len(found) < 200

    def test_a_steady_whine_is_background(self) -> None:
        samples = noise(3, 384_000) + 0.05 * tone(3, 384_000, 48_000)

        assert detect(samples, 384_000) == []


class TestSoundThatIsNone:
    @pytest.mark.parametrize("samplerate", [48_000, 384_000])
    @pytest.mark.parametrize("share", [0.01, 0.15, 0.3, 0.5, 0.8, 0.99])
    @pytest.mark.parametrize("offset", [0, 0.3])
    def test_nothing_is_found_around_a_hole_of_digital_silence(
        self, samplerate: int, share: float, offset: float
    ) -> None:
        samples = noise(3, samplerate) + np.float32(offset)
        count = int(share * len(samples))
        first = (len(samples) - count) // 3
        samples[first : first + count] = 0

        assert detect(samples, samplerate) == []

    def test_nothing_is_found_around_many_holes_of_a_long_recording(self) -> None:
        samples = noise(120, 48_000)
        for start in range(0, len(samples), 96_000):
            samples[start : start + 70_000] = 0

        assert detect(samples, 48_000) == []

    def test_a_value_that_a_microphone_repeats_is_no_background(self) -> None:
        samples = noise(3, 48_000)
        samples[40_000:90_000] = 0.25

        assert detect(samples, 48_000) == []

    def test_sounds_beside_a_hole_keep_their_scores(self) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 0.5, 0.1, (3_000, 5_000))
        [whole] = detect(samples, 48_000)
        samples[48_000:120_000] = 0

        [found] = detect(samples, 48_000)

        assert box(found) == pytest.approx(box(whole), abs=0.006)  # a frame
        assert found.detection_score == pytest.approx(whole.detection_score, abs=0.02)

    def test_a_hole_too_short_to_be_noticed_is_a_click_and_no_sound(self) -> None:
        samples = noise(3, 48_000) + np.float32(0.3)
        samples[60_000:60_100] = 0

        assert detect(samples, 48_000) == []

    def test_nothing_is_found_in_what_was_lost(self) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 1.25, 0.02, (3_000, 5_000))

        assert detect(samples, 48_000) != []
        assert detect(samples, 48_000, lost=[(60_000, 61_000)]) == []

    def test_lost_parts_beyond_either_end_are_cut(self) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 1.5, 0.1, (3_000, 5_000))

        [plain] = detect(samples, 48_000)

        lost = [(-900, -300), (-5, 10), (140_000, 10**9), (20_000, 20_000)]
        [found] = detect(samples, 48_000, lost=lost)
        assert found.location == plain.location


class TestSounds:
    @pytest.mark.parametrize("duration", [0.05, 0.1, 0.25, 0.5])
    @pytest.mark.parametrize("freqs", [(2_000, 4_000), (7_500, 3_000), (4_000, 8_000)])
    def test_a_bird_like_sweep_is_one_detection_around_it(
        self, duration: float, freqs: tuple[float, float]
    ) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 1.2, duration, freqs)

        [found] = detect(samples, 48_000)

        start, low, end, high = box(found)
        slope = abs(freqs[1] - freqs[0]) / duration * 0.0107 + 400  # a frame of it, and leakage
        assert start == pytest.approx(1.2, abs=0.02 + 0.2 * duration)
        assert end == pytest.approx(1.2 + duration, abs=0.02 + 0.2 * duration)
        assert low == pytest.approx(min(freqs), abs=slope + 0.25 * abs(freqs[1] - freqs[0]))
        assert high == pytest.approx(max(freqs), abs=slope + 0.25 * abs(freqs[1] - freqs[0]))

    def test_every_pulse_of_an_insect_is_found_in_its_place(self) -> None:
        starts = 0.3 + 0.12 * np.arange(20)
        samples = noise(3, 48_000, amplitude=0.002)
        for start in starts:
            add_sweep(samples, 48_000, start, 0.03, (12_000, 12_000))

        found = [box(detection) for detection in detect(samples, 48_000)]

        assert len(found) == len(starts)
        assert [start for start, *_ in found] == pytest.approx(starts.tolist(), abs=0.012)
        assert all(low < 12_000 < high and high - low < 3_000 for _, low, _, high in found)

    def test_pulses_too_quick_to_tell_apart_are_one_sound(self) -> None:
        samples = noise(3, 48_000)
        for start in np.arange(0.5, 1.5, 0.008):
            add_sweep(samples, 48_000, start, 0.006, (9_000, 9_000))

        found = [box(detection) for detection in detect(samples, 48_000)]

        assert len(found) == 1
        assert found[0][0] == pytest.approx(0.5, abs=0.03)
        assert found[0][2] == pytest.approx(1.5, abs=0.03)

    def test_a_bat_like_sweep_is_found_at_its_own_pace(self) -> None:
        samples = noise(1, 384_000)
        add_sweep(samples, 384_000, 0.4, 0.006, (90_000, 40_000))

        [found] = detect(samples, 384_000)

        start, low, end, high = box(found)
        assert start == pytest.approx(0.4, abs=0.003)
        assert end == pytest.approx(0.406, abs=0.003)
        assert 35_000 < low < 55_000
        assert 75_000 < high < 95_000

    @pytest.mark.parametrize("amplitude", [0.006, 0.01, 0.03, 0.1, 0.5])
    def test_a_long_tone_is_not_split(self, amplitude: float) -> None:
        samples = noise(30, 48_000)
        samples[240_000:720_000] += np.float32(amplitude) * tone(10, 48_000, 5_000)

        [found] = detect(samples, 48_000)

        start, low, end, high = box(found)
        assert (start, end) == pytest.approx((5, 15), abs=0.05)
        assert low < 5_000 < high

    def test_a_sound_on_silence_is_found(self) -> None:
        samples = np.zeros(96_000, np.float32)
        add_sweep(samples, 48_000, 1, 0.1, (3_000, 5_000), amplitude=0.001)

        assert detect(samples, 48_000)

    def test_a_clipped_sound_is_found(self) -> None:
        samples = noise(3, 48_000)
        samples[48_000:60_000] += 5 * tone(0.25, 48_000, 3_000)

        found = detect(np.clip(samples, -1, 1), 48_000)

        assert any(box(one)[0] < 1.1 and box(one)[2] > 1.15 for one in found)

    def test_sounds_beyond_the_chosen_band_are_left_out(self) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 0.5, 0.2, (3_000, 3_000))
        add_sweep(samples, 48_000, 1.5, 0.2, (9_000, 9_000))

        low = detect(samples, 48_000, high_freq=6_000)
        high = detect(samples, 48_000, low_freq=6_000)

        assert [round(box(one)[0], 1) for one in (*low, *high)] == [0.5, 1.5]

    def test_the_floor_follows_noise_that_grows(self) -> None:
        samples = noise(120, 48_000) * np.geomspace(1, 10, 120 * 48_000, dtype=np.float32)

        assert detect(samples, 48_000) == []


class TestScore:
    @pytest.mark.parametrize(("snr_db", "score"), [(20, 0.5), (30, 0.76), (40, 0.91)])
    def test_it_says_how_far_the_amplitude_is_above_the_background(
        self, snr_db: float, score: float
    ) -> None:
        # A tone of amplitude A has the power A² (Σw)² / 4 in its cell, noise σ² Σw².
        window = band_energy.WINDOW.astype(float)
        per_cell = window.sum() ** 2 / 4 / (window**2).sum()
        # The three bins of a tone hold 1 + 1/4 + 1/4 of its power, over three.
        amplitude = 0.001 * (10 ** (snr_db / 10) / (per_cell / 2)) ** 0.5
        samples = noise(10, 48_000, amplitude=0.001)
        samples[96_000:144_000] += np.float32(amplitude) * tone(1, 48_000, 4_500)

        [found] = detect(samples, 48_000)

        assert found.detection_score == pytest.approx(score, abs=0.03)

    def test_it_is_that_of_the_tag_too(self) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 1, 0.1, (3_000, 5_000))

        [found] = detect(samples, 48_000)

        assert found.tags == [data.PredictedTag(band_energy.SOUND, found.detection_score)]

    @settings(max_examples=25)
    @given(gain_db=st.floats(-40, 30))
    def test_it_does_not_depend_on_the_gain_of_the_microphone(self, gain_db: float) -> None:
        samples = noise(1, 48_000)
        add_sweep(samples, 48_000, 0.4, 0.1, (3_000, 5_000))

        [plain] = detect(samples, 48_000)
        [amplified] = detect(samples * np.float32(10 ** (gain_db / 20)), 48_000)

        assert amplified.location == plain.location
        assert amplified.detection_score == pytest.approx(plain.detection_score, abs=1e-3)


class TestLongSounds:
    def test_where_blocks_end_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        samples = noise(5, 48_000)
        for start in np.arange(0.2, 4.5, 0.31):
            add_sweep(samples, 48_000, start, 0.2, (2_000 + 1_000 * start, 4_000))
        whole = [(box(one), one.detection_score) for one in detect(samples, 48_000)]

        monkeypatch.setattr(band_energy, "BLOCK", 37)
        pieces = [(box(one), one.detection_score) for one in detect(samples, 48_000)]

        assert len(whole) >= 14
        assert pieces == whole

    def test_a_file_is_read_in_pieces(self, tmp_path: Path) -> None:
        recording = recording_of(tmp_path / "long.wav", noise(300, 48_000), 48_000)

        tracemalloc.start()
        BandEnergyModel().run(recording)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert peak < 300 * 48_000 * 2  # bytes of its 16-bit samples, which take 4 or 8 in memory


class TestFaults:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
    def test_samples_that_are_no_numbers_are_refused(self, bad: float) -> None:
        samples = noise(1, 48_000)
        samples[20_000] = bad

        with pytest.raises(AudioError, match="cannot look for sounds") as error:
            detect(samples, 48_000)

        assert error.value.why
        assert error.value.help

    def test_two_channels_at_once_are_refused(self) -> None:
        with pytest.raises(AudioError, match=r"\(100, 2\)"):
            detect(np.zeros((100, 2), np.float32), 48_000)

    @pytest.mark.parametrize(
        "wrong",
        [{"min_snr_db": 3}, {"low_freq": -1}, {"low_freq": 5_000, "high_freq": 4_000}],
    )
    def test_impossible_settings_are_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BandEnergyConfig(**wrong)


class TestModel:
    def samples(self, rate: int) -> Samples:
        samples = noise(2, rate)
        add_sweep(samples, rate, 0.8, 0.2, (rate / 16, rate / 12))
        return samples

    def test_its_output_names_model_and_recording(self, tmp_path: Path) -> None:
        recording = recording_of(tmp_path / "a.wav", self.samples(48_000), 48_000)
        model = BandEnergyModel(name="Loud")

        output = model.run(recording)

        assert (output.name_model, output.recording) == ("Loud", recording)
        assert len(output.detections) == 1

    @pytest.mark.parametrize(
        ("rate", "expansion"), [(48_000, 1), (384_000, 10), (44_100, 8), (8_000, 0.5)]
    )
    def test_boxes_are_those_of_the_original_sound(
        self, tmp_path: Path, rate: int, expansion: float
    ) -> None:
        samples = self.samples(rate)
        recording = recording_of(tmp_path / "slow.wav", samples, rate, expansion)

        [found] = BandEnergyModel().run(recording).detections

        [direct] = detect(samples, rate)
        assert box(found) == pytest.approx(box(direct), rel=1e-6)
        assert 0.75 < box(found)[0] < 1.05

    def test_what_its_recorder_lost_is_no_sound(self, tmp_path: Path) -> None:
        samples = noise(3, 48_000)
        add_sweep(samples, 48_000, 1.25, 0.02, (3_000, 5_000))
        recording = recording_of(tmp_path / "a.wav", samples, 48_000)
        report = data.CaptureReport(
            stream_id=uuid4(),
            first_frame=7_000,
            frames=len(samples),
            samplerate_measured=None,
            clock_synchronised=None,
            clock_error_s=None,
            overruns=[data.Overrun(67_000, 1_000)],
        )

        told = BandEnergyModel().run(recording.model_copy(update={"capture": report}))

        assert BandEnergyModel().run(recording).detections
        assert not told.detections

    def test_the_samplerate_of_the_file_has_the_last_word(self, tmp_path: Path) -> None:
        recording = recording_of(tmp_path / "a.wav", self.samples(48_000), 48_000)
        wrong = recording.model_copy(update={"samplerate": 16_000})

        assert [box(one) for one in BandEnergyModel().run(wrong).detections] == [
            box(one) for one in BandEnergyModel().run(recording).detections
        ]

    def test_channels_are_mixed_so_that_each_sound_is_reported_once(self, tmp_path: Path) -> None:
        samples = self.samples(48_000)
        both = np.stack([samples, noise(2, 48_000, seed=9)], axis=1)

        output = BandEnergyModel().run(recording_of(tmp_path / "a.wav", both, 48_000))

        assert len(output.detections) == 1

    def test_a_file_that_is_not_wav_is_read_too(self, tmp_path: Path) -> None:
        path = tmp_path / "a.flac"
        recording = recording_of(tmp_path / "a.wav", self.samples(48_000), 48_000)
        soundfile.write(path, soundfile.read(recording.path)[0], 48_000)

        flac = BandEnergyModel().run(recording.model_copy(update={"path": path}))

        wav = BandEnergyModel().run(recording)
        assert [box(one) for one in flac.detections] == [box(one) for one in wav.detections]

    @pytest.mark.parametrize("path", [None, Path("nowhere.wav")])
    def test_a_recording_without_a_file_is_an_error(self, path: Path | None) -> None:
        recording = data.Recording(
            path=path, duration=1, samplerate=48_000, deployment=data.Deployment(name="test")
        )

        with pytest.raises(AudioError):
            BandEnergyModel().run(recording)

    def test_making_one_touches_nothing_and_its_check_passes(self) -> None:
        BandEnergyModel().check()
