"""Pictures of recordings: right whatever is to be shown, and never larger in memory."""

import datetime
import wave
from pathlib import Path

import numpy as np
import pytest

from acoupi.exports import pictures
from acoupi.exports.pictures import Box, spectrogram

RATE = 8_000
PNG = b"\x89PNG\r\n\x1a\n"


def write(path: Path, samples: np.ndarray, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, RATE, 0, "NONE", ""))
        file.writeframes((32_767 * samples).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("seconds", [0.001, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_sound_of_any_length_is_drawn(tmp_path: Path, seconds: float, level: float) -> None:
    samples = level * np.sin(np.arange(max(1, round(seconds * RATE))))
    path = write(tmp_path / "a.wav", samples)

    assert spectrogram(path, RATE, (0, seconds)).startswith(PNG)


def test_a_recording_that_broke_off_is_drawn_up_to_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 0.3 * np.sin(np.arange(RATE)))

    assert spectrogram(path, RATE, (0, 5.0)).startswith(PNG)


def test_two_channels_are_drawn_as_their_mean(tmp_path: Path) -> None:
    tone = 0.3 * np.sin(np.arange(RATE))
    one = write(tmp_path / "one.wav", tone)
    two = write(tmp_path / "two.wav", np.stack([tone, tone], axis=1), channels=2)

    assert spectrogram(one, RATE, (0, 1)) == spectrogram(two, RATE, (0, 1))


@pytest.mark.parametrize(
    "box",
    [
        Box(0, 0, 1, 4_000),
        Box(0.5, 1_000, 0.5, 1_000),
        Box(-3, -10, 0.1, 100),
        Box(0.9, 3_900, 70, 90_000),
        Box(0.999, 0, 1, 1),
    ],
)
def test_a_box_is_drawn_wherever_it_is(tmp_path: Path, box: Box) -> None:
    path = write(tmp_path / "a.wav", 0.3 * np.sin(np.arange(RATE)))
    plain = spectrogram(path, RATE, (0, 1))

    begun = datetime.datetime(1999, 12, 31, 23, 59, tzinfo=datetime.UTC)
    marked = spectrogram(path, RATE, (0, 1), [box] * 12, begun)

    assert marked.startswith(PNG)
    assert marked != plain


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 0.3 * np.sin(np.arange(RATE)))

    assert spectrogram(path, RATE, (0, 1)) == spectrogram(path, RATE, (0, 1))


def test_brighter_is_louder() -> None:
    anchors = [bytes.fromhex(colour) for colour in pictures._CIVIDIS]
    weights = np.array([0.2126, 0.7152, 0.0722])  # relative luminance, ITU-R BT.709
    luminance = [float(weights @ np.frombuffer(one, np.uint8)) for one in anchors]

    assert luminance == sorted(luminance)
