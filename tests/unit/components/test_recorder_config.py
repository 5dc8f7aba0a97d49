"""What recorders are called, and how they are configured."""

import subprocess
import sys
from pathlib import Path

import pytest

from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import audio_recorder
from acoupi.components.audio_recorder import (
    MicrophoneConfig,
    PARecorder,
    PARecorderConfig,
    PWRecorderConfig,
    PyAudioRecorder,
)
from acoupi.errors import ParameterError

RATE = 8000


def test_published_names_mean_what_they_meant() -> None:
    assert PyAudioRecorder is PARecorder
    assert MicrophoneConfig is PARecorderConfig
    assert Path("/run/shm/") == audio_recorder.TMP_PATH
    assert PARecorder(1, RATE, 1, "default").chunksize == 2048
    assert PARecorder(1, RATE, 1, "x", 8192, Path("a"), 2).audio_dir == Path("a")


def test_importing_them_imports_no_sound_library() -> None:
    code = (
        "import sys, acoupi.components.audio_recorder as r; "
        "r.PARecorder(1, 8000, 1, 'default'); r.MicrophoneConfig(); "
        "print([m for m in ('sounddevice', 'soundfile', 'numpy', 'psutil') if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.stdout.strip() == "[]", result.stderr


def test_the_defaults_are_the_only_microphone_at_48_khz() -> None:
    config = MicrophoneConfig()

    assert config.model_dump() == {
        "device_name": "default",
        "samplerate": 48_000,
        "audio_channels": 1,
        "time_expansion": 1,
        "simulated": None,
    }


@pytest.mark.parametrize("kind", [PARecorderConfig, PWRecorderConfig])
@pytest.mark.parametrize("prefix", ["microphone", "microphone.", "--microphone."])
def test_a_configuration_is_read_from_arguments(
    kind: type[PARecorderConfig | PWRecorderConfig], prefix: str
) -> None:
    arguments = [
        "--program", "x", "--microphone.device-name", "UltraMic", "--microphone.samplerate=192000",
        "--microphone.simulated.path", "/a.wav", "--microphone.simulated.pace", "fast",
    ]  # fmt: skip

    config = kind.setup(arguments, prompt=False, prefix=prefix)

    assert config == kind(
        device_name="UltraMic",
        samplerate=192_000,
        simulated=SimulatedAudio(path=Path("/a.wav"), pace="fast"),
    )


def test_a_configuration_needs_no_arguments_and_no_microphone() -> None:
    assert MicrophoneConfig.setup([]) == MicrophoneConfig()


def test_without_a_prefix_other_options_are_passed_over() -> None:
    config = MicrophoneConfig.setup(["--program", "x", "--samplerate", "8000"])

    assert config.samplerate == 8000


@pytest.mark.parametrize(
    ("arguments", "option", "words"),
    [
        (["--mic.samplerate", "fast"], "--mic.samplerate", "valid integer"),
        (["--mic.samplerate", "0"], "--mic.samplerate", "greater than 0"),
        (["--mic.audio_channels", "0"], "--mic.audio_channels", "greater than or equal to 1"),
        (["--mic.time_expansion", "-1"], "--mic.time_expansion", "greater than 0"),
        (["--mic.simulated.pace", "slow"], "--mic.simulated.pace", "realtime"),
        (["--mic.sample_rate", "8000"], "--mic.samplerate", "possible are"),
        (["--mic.samplerate"], "--mic.samplerate", "has no value"),
        (["--mic.samplerate", "--other"], "--mic.samplerate", "has no value"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], option: str, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        MicrophoneConfig.setup(arguments, prefix="mic")

    text = "\n".join(caught.value.lines())
    assert option in text
    assert words in text
