"""Recordings that wait in memory: what has no room there goes to the disk, and nothing is lost."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from acoupi import data
from acoupi.audio.counter import TURN
from acoupi.audio.formats import read_audio
from acoupi.audio.memory import MemorySpool, make_memory_folder
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import SqliteStore
from acoupi.components.audio_recorder import PARecorder
from acoupi.config.sensor import Spool
from acoupi.home import memory_folder, spool_dir
from acoupi.programs.core.base import AcoupiProgram
from acoupi.services.construction import load_program
from acoupi.services.memory_spool import keeping_in_memory
from acoupi.system import Settings, get_status, setup_program
from acoupi.system.memory import in_memory
from acoupi.tasks import generate_file_management_task, generate_recovery_task
from acoupi.testing import make_recording, make_wav

RATE = 192_000
DURATION = 0.25
FILE = round(RATE * DURATION) * 2


@pytest.fixture
def spool(home: Path) -> Iterator[Path]:
    spool = spool_dir()
    make_memory_folder(spool)
    memory = memory_folder(spool).resolve()
    yield spool
    shutil.rmtree(memory, ignore_errors=True)


def test_a_small_memory_overflows_to_the_disk_at_real_speed_without_a_lost_sample(
    spool: Path,
) -> None:
    recorder = PARecorder(
        duration=DURATION,
        samplerate=RATE,
        audio_channels=1,
        device_name="default",
        audio_dir=spool,
        simulated=SimulatedAudio.parse("counter"),
        interval=DURATION,
    )
    recorder.memory = MemorySpool(spool, 2 * FILE + 100_000)
    made = [recorder.record(data.Deployment(name="Oak")) for _ in range(4)]
    first = made[0].path
    assert first is not None
    first.unlink()  # analysed, and not kept: there is room again
    made += [recorder.record(data.Deployment(name="Oak")) for _ in range(2)]
    recorder.close()

    memory = memory_folder(spool)
    folders = [one.path.parent for one in made if one.path is not None]
    assert folders == [memory, memory, spool, spool, memory, spool]
    heard = [read_audio(one.path)[0][:, 0] for one in made[1:] if one.path is not None]
    values = np.rint(np.concatenate(heard) * 32768).astype(int)
    steps = np.diff(values)
    assert set(steps.tolist()) <= {1, 1 - TURN}
    assert all(one.capture is not None and not one.capture.overruns for one in made)


def test_without_memory_at_that_place_everything_goes_to_the_disk(home: Path) -> None:
    spool = spool_dir()
    memory_folder(spool).mkdir(parents=True)  # just a folder of the disk

    assert MemorySpool(spool, 10**9).folder_for(1) == spool
    assert MemorySpool(spool / "missing", 10**9).folder_for(1) == spool / "missing"


def test_a_place_in_memory_that_another_made_is_not_used(spool: Path) -> None:
    link = memory_folder(spool)
    place = link.resolve()
    link.unlink()
    place.rmdir()
    place.symlink_to(spool)
    try:
        make_memory_folder(spool)
        assert not MemorySpool(spool, 10**9).is_there
    finally:
        place.unlink()


@pytest.fixture
def settings(home: Path, spool: Path) -> Settings:
    settings = Settings()
    setup_program(settings, "default", ["--sensor.spool.memory_mb", "8"])
    return settings


def waiting(store: SqliteStore, spool: Path) -> data.Recording:
    recording = make_recording(deployment=store.get_current_deployment())
    recording.path = memory_folder(spool) / "a.wav"
    make_wav(recording.path)
    store.store_recording(recording)
    return recording


def test_what_is_in_memory_is_on_the_disk_when_the_recorder_has_stopped(
    settings: Settings, spool: Path
) -> None:
    program: AcoupiProgram = load_program(settings)
    store: SqliteStore = program.store
    with keeping_in_memory(program, settings, Spool(memory_mb=8)):
        assert program.recorder.memory is not None
        recording = waiting(store, spool)
        found = in_memory(settings)
        assert found is not None
        assert "would lose 1 recording" in found.words()
        assert get_status(settings).in_memory == found

    assert (spool / "a.wav").exists()
    assert list(memory_folder(spool).iterdir()) == []
    [row] = store.get_captured_recordings()
    assert (row.id, row.path) == (recording.id, spool / "a.wav")
    told = in_memory(settings)
    assert told is not None
    assert "nothing is waiting" in told.words()


def test_a_spool_on_the_disk_is_as_before(home: Path) -> None:
    settings = Settings()
    setup_program(settings, "default", [])
    program = load_program(settings)

    with keeping_in_memory(program, settings, Spool()):
        assert program.recorder.memory is None
    assert in_memory(settings) is None
    assert not memory_folder(spool_dir()).exists()


def test_recordings_in_memory_are_kept_and_recovered_like_others(
    settings: Settings, spool: Path, tmp_path: Path
) -> None:
    store: SqliteStore = load_program(settings).store
    recording = waiting(store, spool)
    kept = tmp_path / "kept"

    class Manager:
        def save_recording(
            self, recording: data.Recording, outputs: list[data.ModelOutput] | None = None
        ) -> Path:
            return kept / "a.wav"

    generate_file_management_task(store, [Manager()], tmp_path=spool)()  # type: ignore[list-item]

    [(row, _)] = store.get_recordings([recording.id])
    assert row.path is not None
    assert row.path.is_relative_to(kept)
    lost = waiting(store, spool)
    assert lost.path is not None
    lost.path.unlink()  # as by a power cut
    recover: Callable[[], None] = generate_recovery_task(store, tmp_path=spool, settle_time=0)
    recover()
    assert store.count_recordings()[data.RecordingState.LOST] == 1
