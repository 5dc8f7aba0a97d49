"""What a recorder does, whichever it is."""

import datetime
import gc
import threading
import tracemalloc
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from acoupi import data
from acoupi.audio import wav
from acoupi.audio.formats import find_parts, read_audio, read_guano, read_info, read_recording
from acoupi.audio.guano import INCOMPLETE, INCOMPLETE_DETAIL, RECORDING_ID
from acoupi.audio.pool import streams
from acoupi.audio.simulated import SimulatedAudio
from acoupi.clock import nearest_second
from acoupi.components.audio_recorder import (
    BaseAudioRecorder,
    PARecorder,
    PWRecorder,
)
from acoupi.components.types import AudioRecorder
from acoupi.errors import (
    ConfigurationError,
    DeviceConfigurationError,
    DeviceUnavailableError,
    HealthCheckError,
    RecordingError,
)
from tests.clocks import RunningClock
from tests.disks import Disk
from tests.services import DEADLINE

RATE = 8000


class ByHand(BaseAudioRecorder):
    """A recorder as published programs write them: it makes a file and nothing else."""

    error: Exception | None = None
    factor = 1.0
    channels: int | None = None
    """How many there are in the file, whatever was asked for."""
    rate: int | None = None
    """Of the file, Hz, whatever was asked for."""
    paths: list[Path]

    def generate_recording(self, path: Path, duration: float | None = None) -> None:
        self.paths = [*getattr(self, "paths", []), path]
        if self.error is not None:
            raise self.error
        if self.factor == 0:
            return
        rate = self.rate or self.samplerate
        frames = round((duration or self.duration) * rate * self.factor)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(self.channels or self.audio_channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(bytes(2 * frames * (self.channels or self.audio_channels)))


class Overridden(PARecorder):
    """One of ours whose generate_recording a published program replaced."""

    error = None
    factor = 1.0
    channels = rate = None
    generate_recording = ByHand.generate_recording


Make = Callable[..., BaseAudioRecorder]
FAST = SimulatedAudio(pace="fast")

KINDS: dict[str, tuple[type[BaseAudioRecorder], SimulatedAudio | None]] = {
    "PARecorder": (PARecorder, FAST),
    "PWRecorder": (PWRecorder, FAST),
    "simulated at real time": (PARecorder, SimulatedAudio()),
    "made by hand": (ByHand, None),
    "made by hand, simulated": (ByHand, FAST),
    "overridden": (Overridden, None),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def deployment() -> data.Deployment:
    return data.Deployment(name="Wood", latitude=51.5, longitude=-0.02)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, folder: Path) -> Iterator[Make]:
    kind, simulated = KINDS[request.param]
    yield from _maker(kind, simulated, folder)


@pytest.fixture
def simulated(folder: Path) -> Iterator[Make]:
    yield from _maker(PARecorder, FAST, folder)


@pytest.fixture
def by_hand(folder: Path) -> Iterator[Make]:
    yield from _maker(ByHand, None, folder)


def _maker(
    kind: type[BaseAudioRecorder], simulated: SimulatedAudio | None, folder: Path
) -> Iterator[Make]:
    made = []

    def make(**settings: Any) -> BaseAudioRecorder:
        arguments: dict[str, Any] = {
            "duration": 0.25,
            "samplerate": RATE,
            "audio_channels": 1,
            "device_name": "default",
            "audio_dir": folder,
            "simulated": simulated,
        }
        made.append(kind(**arguments | settings))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


# -- what all of them do -------------------------------------------------


def test_a_recording_is_what_its_file_is(
    make: Make, folder: Path, deployment: data.Deployment
) -> None:
    recorder = make(audio_channels=2)

    recording = recorder.record(deployment)

    assert isinstance(recorder, AudioRecorder)
    assert recording.path is not None
    info = read_info(recording.path)
    assert (info.samplerate, info.channels, info.bits) == (RATE, 2, 16)
    assert recording.duration == info.frames / RATE == 0.25
    assert (recording.samplerate, recording.audio_channels) == (RATE, 2)
    assert recording.deployment == deployment
    assert [path.parent for path in folder.iterdir()] == [folder]
    assert list(folder.iterdir()) == [recording.path]


def test_a_file_is_named_for_its_time_and_its_recording(
    make: Make, deployment: data.Deployment
) -> None:
    recording = make().record(deployment)

    assert recording.path is not None
    stem = recording.path.stem
    time = nearest_second(recording.created_on)
    assert stem == f"{time:%Y%m%d_%H%M%S}_{recording.id}"
    assert UUID(stem[16:]) == recording.id


def test_a_file_alone_is_enough_to_make_its_recording_again(
    make: Make, deployment: data.Deployment
) -> None:
    recording = make(time_expansion=10).record(deployment)

    assert recording.path is not None
    assert read_recording(recording.path) == recording


def test_a_file_describes_itself(make: Make, deployment: data.Deployment) -> None:
    recording = make().record(deployment)

    assert recording.path is not None
    fields = read_guano(recording.path)
    assert fields[RECORDING_ID] == str(recording.id)
    assert fields["Samplerate"] == str(RATE)
    assert fields["Loc Position"] == "51.5 -0.02"
    assert float(fields["Length"]) == recording.duration
    assert INCOMPLETE not in fields


def test_time_expansion_is_in_the_file_only(make: Make, deployment: data.Deployment) -> None:
    recording = make(time_expansion=10).record(deployment)

    assert recording.path is not None
    assert read_info(recording.path).samplerate == RATE / 10
    assert recording.samplerate == RATE
    assert recording.duration == 0.25
    assert recording.time_expansion == 10
    assert read_guano(recording.path)["TE"] == "10"


def test_it_was_recorded_when_it_says(make: Make, deployment: data.Deployment) -> None:
    before = data.utc_now()

    recording = make().record(deployment)

    slack = datetime.timedelta(milliseconds=50)
    assert before - slack <= recording.created_on <= data.utc_now()


def test_names_never_collide_whatever_the_clock_says(
    make: Make, folder: Path, deployment: data.Deployment, running_clock: RunningClock
) -> None:
    recorder = make(duration=0.05)

    for _ in range(3):
        running_clock.now = datetime.datetime(2024, 8, 1, 12, tzinfo=datetime.UTC)
        recorder.record(deployment)

    assert len(list(folder.iterdir())) == 3


def test_check_passes_and_leaves_nothing(make: Make, folder: Path) -> None:
    make().check()

    assert list(folder.iterdir()) == []


def test_recording_goes_on_after_close(make: Make, deployment: data.Deployment) -> None:
    recorder = make(duration=0.05)
    recorder.record(deployment)

    recorder.close()
    recorder.close()

    assert recorder.record(deployment).duration == 0.05


def test_two_recorders_do_not_disturb_each_other(
    make: Make, folder: Path, deployment: data.Deployment
) -> None:
    one, two = make(), make(samplerate=RATE * 2)
    threads = [
        threading.Thread(target=recorder.record, args=(deployment,)) for recorder in (one, two)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert sorted(read_info(path).samplerate for path in folder.iterdir()) == [RATE, RATE * 2]


def test_one_recorder_can_be_asked_from_many_threads(
    make: Make, folder: Path, deployment: data.Deployment
) -> None:
    recorder = make(duration=0.05)
    threads = [threading.Thread(target=recorder.record, args=(deployment,)) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert [read_info(path).frames for path in folder.iterdir()] == [RATE // 20] * 4


def test_building_one_touches_nothing(make: Make, folder: Path) -> None:
    make(device_name="no such microphone")

    assert not folder.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"duration": 0},
        {"duration": -1},
        {"duration": float("nan")},
        {"duration": float("inf")},
        {"samplerate": 0},
        {"audio_channels": 0},
        {"time_expansion": 0},
        {"interval": 0},
        {"bits": 20},
        {"ring_seconds": 2},
        {"ring_seconds": 1e6, "samplerate": 384_000},
    ],
    ids=str,
)
def test_what_cannot_be_recorded_is_refused_at_once(make: Make, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot (record|keep)"):
        make(**wrong)


def test_a_folder_that_cannot_be_made_is_an_error(
    make: Make, folder: Path, deployment: data.Deployment
) -> None:
    folder.write_text("a file")
    recorder = make()

    with pytest.raises(RecordingError, match="cannot write") as caught:
        recorder.record(deployment)
    with pytest.raises(HealthCheckError, match="cannot write"):
        recorder.check()

    assert len(caught.value.lines()) == 3


# -- those that cut from a stream ----------------------------------------


def test_consecutive_recordings_of_what_waits_are_contiguous(
    simulated: Make, deployment: data.Deployment, tmp_path: Path
) -> None:
    count = np.arange(5000, dtype="<i2")
    with wav.WavWriter(tmp_path / "count.wav", RATE, 1) as writer:
        writer.write(count.tobytes())
        writer.finish()
    recorder = simulated(simulated=SimulatedAudio(path=tmp_path / "count.wav", pace="fast"))

    paths = [recorder.record(deployment).path for _ in range(2)]

    heard = np.concatenate([read_audio(path)[0][:, 0] for path in paths if path])
    assert np.rint(heard * 32768).astype(int).tolist() == count[: 2 * RATE // 4].tolist()


def test_a_long_recording_takes_no_more_memory_than_a_block(
    simulated: Make, deployment: data.Deployment
) -> None:
    recorder = simulated(duration=300)
    simulated(duration=1).record(deployment)
    tracemalloc.start()

    recorder.record(deployment)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < 300 * RATE * 2


def test_the_environment_has_precedence(
    make: Make, deployment: data.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,seed=9,pace=fast")
    recorder = make(device_name="no such microphone", duration=1.25)

    recording = recorder.record(deployment)

    assert recorder.simulated == SimulatedAudio(seed=9, pace="fast")
    assert recording.path is not None
    assert read_audio(recording.path)[0].std() > 0


def test_a_file_of_another_rate_is_an_error_with_both_rates(
    simulated: Make, deployment: data.Deployment, tmp_path: Path
) -> None:
    with wav.WavWriter(tmp_path / "a.wav", 384_000, 1) as writer:
        writer.write(bytes(2000))
        writer.finish()
    recorder = simulated(simulated=SimulatedAudio(path=tmp_path / "a.wav"))

    with pytest.raises(DeviceConfigurationError) as caught:
        recorder.record(deployment)
    with pytest.raises(HealthCheckError) as check:
        recorder.check()

    text = "\n".join(caught.value.lines())
    assert "8000 Hz" in text
    assert "384000 Hz" in text
    assert check.value.message == caught.value.message


def test_a_disk_that_is_full_keeps_what_there_was(
    simulated: Make, folder: Path, deployment: data.Deployment, disk: Disk
) -> None:
    disk.room = RATE * 2
    recorder = simulated(duration=3)

    with pytest.raises(RecordingError) as caught:
        recorder.record(deployment)

    assert len(caught.value.lines()) == 3
    assert "No space left" in str(caught.value.why)
    (path,) = folder.iterdir()
    assert path.name in str(caught.value.why)
    kept = read_recording(path)
    assert kept.duration == 1
    assert kept.deployment == deployment
    assert read_guano(path)[INCOMPLETE] == "disk_full"
    assert "cannot write" in read_guano(path)[INCOMPLETE_DETAIL]


def test_a_disk_that_is_full_at_once_leaves_nothing(
    simulated: Make, folder: Path, deployment: data.Deployment, disk: Disk
) -> None:
    disk.room = 100

    with pytest.raises(RecordingError, match="cannot write"):
        simulated(duration=3).record(deployment)

    assert list(folder.iterdir()) == []


def test_a_microphone_that_stops_keeps_all_that_came(
    simulated: Make, folder: Path, deployment: data.Deployment
) -> None:
    unplugged = SimulatedAudio.parse("counter,pace=fast,faults=unplug:0.34:100")

    with pytest.raises(RecordingError, match="stopped") as caught:
        simulated(duration=3, simulated=unplugged).record(deployment)

    (path,) = folder.iterdir()
    assert read_recording(path).duration == pytest.approx(17 * 0.02)
    assert read_guano(path)[INCOMPLETE] == "device_lost"
    assert read_guano(path)[INCOMPLETE_DETAIL] == 'the microphone "counter" stopped.'
    assert "unplugged (simulated). The first 0.3 s are kept in" in str(caught.value.why)


def test_an_interrupt_keeps_what_there_was(
    simulated: Make, folder: Path, deployment: data.Deployment, disk: Disk
) -> None:
    disk.room, disk.error = RATE * 2, KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        simulated(duration=3).record(deployment)

    (path,) = folder.iterdir()
    assert 1 <= read_recording(path).duration < 3
    assert read_guano(path)[INCOMPLETE] == "stopped"
    assert "KeyboardInterrupt" in read_guano(path)[INCOMPLETE_DETAIL]


def test_a_failure_does_not_disturb_the_next_recording(
    simulated: Make, deployment: data.Deployment, disk: Disk
) -> None:
    recorder = simulated(duration=3)
    disk.room = 100
    with pytest.raises(RecordingError):
        recorder.record(deployment)
    disk.room = None

    assert recorder.record(deployment).duration == 3


def test_a_recorder_nobody_needs_lets_go_of_its_stream(
    folder: Path, deployment: data.Deployment
) -> None:
    recorder = PARecorder(0.05, RATE, 1, "default", audio_dir=folder, simulated=FAST)
    recorder.record(deployment)
    key = recorder._stream_source().key
    assert key in streams._entries

    del recorder
    gc.collect()

    assert key not in streams._entries


def test_a_missing_microphone_is_an_error_that_lists_those_there_are(
    folder: Path, deployment: data.Deployment
) -> None:
    recorder = PARecorder(1, RATE, 1, "no such microphone", audio_dir=folder)

    with pytest.raises(DeviceUnavailableError) as caught:
        recorder.record(deployment)
    with pytest.raises(HealthCheckError):
        recorder.check()

    assert len(caught.value.lines()) == 3
    assert find_parts(folder) == []


# -- those of published programs -----------------------------------------


def test_it_is_given_the_path_of_a_wav_file_that_is_hidden(
    by_hand: Make, folder: Path, deployment: data.Deployment
) -> None:
    recorder = by_hand()

    recorder.record(deployment)

    assert isinstance(recorder, ByHand)
    (path,) = recorder.paths
    assert path.suffix == ".wav"
    assert path.parent.name.startswith(".")
    assert path.parent.parent == folder


def test_what_it_really_recorded_counts(by_hand: Make, deployment: data.Deployment) -> None:
    recorder = by_hand()
    recorder.factor = 0.5  # type: ignore[attr-defined]

    assert recorder.record(deployment).duration == 0.125


@pytest.mark.parametrize("error", [RecordingError("unplugged"), OSError("Input overflowed")])
def test_its_errors_come_through_and_leave_nothing(
    by_hand: Make, folder: Path, deployment: data.Deployment, error: Exception
) -> None:
    recorder = by_hand()
    recorder.error = error  # type: ignore[attr-defined]

    with pytest.raises((RecordingError, OSError)):
        recorder.record(deployment)
    with pytest.raises(HealthCheckError) as caught:
        recorder.check()

    assert str(error) in "\n".join(caught.value.lines())
    assert list(folder.iterdir()) == []


def test_one_that_makes_no_file_is_an_error(
    by_hand: Make, folder: Path, deployment: data.Deployment
) -> None:
    recorder = by_hand()
    recorder.factor = 0  # type: ignore[attr-defined]

    with pytest.raises(RecordingError, match="made no recording"):
        recorder.record(deployment)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("rate", RATE * 2, "the sample rate is 16000 instead of 8000 Hz"),
        ("channels", 2, "the number of channels is 2 instead of 1"),
        ("factor", 2.0, "the length is 0.2 instead of 0.1 s"),
    ],
)
def test_check_says_what_is_different(
    by_hand: Make, attribute: str, value: float, words: str
) -> None:
    recorder = by_hand()
    setattr(recorder, attribute, value)

    with pytest.raises(HealthCheckError) as caught:
        recorder.check()

    assert caught.value.why == f"{words}."


def test_generate_recording_of_ours_still_makes_a_file(simulated: Make, tmp_path: Path) -> None:
    recorder = simulated(time_expansion=10)

    recorder.generate_recording(tmp_path / "a.wav", 0.5)
    recorder.generate_recording(tmp_path / "b.wav")

    assert read_info(tmp_path / "a.wav").duration == 0.5
    assert read_info(tmp_path / "b.wav").duration == 0.25
