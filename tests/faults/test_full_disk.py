"""A small disk that fills: the reserve is not touched, the stores are written, all is explained."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.backup.making import make_backup
from acoupi.backup.restoring import restore
from acoupi.components import SqliteStore
from acoupi.components.stores import ballast
from acoupi.data import EffortState
from acoupi.errors import AcoupiError, MetadataStoreError
from acoupi.home import using_home
from acoupi.services.construction import load_program
from acoupi.space import SpacePolicy, disk_sizes
from acoupi.system import Settings, setup_program
from tests.sensors import sensor_at, wait_for
from tests.services import require
from tests.stores import SITE, detection, output, recording

MEGABYTE = 1_000_000
DISK = 80 * MEGABYTE
RESERVE = 16 * MEGABYTE


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 80 MB, mounted."""
    require("mounting a disk needs root", os.geteuid() == 0)
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "acoupi-test", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    require(f"cannot mount a disk here: {mounted.stderr}", mounted.returncode == 0)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def free(disk: Path) -> int:
    return disk_sizes(disk)[0]


def fill(disk: Path) -> Path:
    """Let another program take all that is free."""
    path = disk / "of another program"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(disk))
    assert free(disk) == 0
    return path


def make_store(disk: Path) -> SqliteStore:
    store = SqliteStore(disk / "data" / "metadata.db")
    store.store_deployment(SITE)
    return store


def store_many(store: SqliteStore) -> None:
    for number in range(100):
        store.store_recording(recording(f"{number}.wav", number))


def test_a_store_without_space_of_its_own_meets_the_full_disk(disk: Path) -> None:
    store = make_store(disk)
    fill(disk)

    with pytest.raises(MetadataStoreError, match="the disk is full"):
        store_many(store)


def test_a_store_is_written_on_a_full_disk_in_the_space_of_its_own(disk: Path) -> None:
    store = make_store(disk)
    assert ballast.take(disk / "data")
    assert free(disk) < DISK - ballast.BALLAST_BYTES
    others = fill(disk)

    store_many(store)

    assert len(store.get_captured_recordings()) == 100
    assert 0 < free(disk) < ballast.BALLAST_BYTES
    assert not ballast.take(disk / "data")
    others.unlink()
    assert ballast.take(disk / "data")


def make_program(disk: Path, **settings: object) -> Any:
    home = Settings(home=disk / "home")
    options = {
        "microphone.samplerate": 256_000,
        "microphone.simulated.pace": "fast",
        "microphone.simulated.signal": "counter",
        "recording.duration": 5,
        "recording.interval": 5,
        "saving_threshold": 0,
        "sensor.disk.enabled": True,
        "sensor.disk.reserve_megabytes": RESERVE / MEGABYTE,
        "sensor.disk.best_per_night": 1,
        "sensor.disk.newest_per_night": 1,
        **settings,
    }
    args = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    setup_program(home, "acoupi.programs.demo", args)
    with using_home(home.home):
        program = load_program(home)
        program.on_start(data.Deployment(name="Pond"))
    return program


def turn(program: Any) -> data.Recording | None:
    """Do what the services do with one slot; something is found in each recording."""
    run = {name: task.function for name, task in program.tasks.items()}
    made: data.Recording | None = run["recording_task"]()
    if made is not None:
        (model,) = program.get_required_models(program.config)
        found = detection(0.5, ("species", "bat", 0.5))
        program.store.store_model_output(output(made, found, name_model=model))
        program.store.end_analysis(
            data.Analysis(recording_id=made.id, name_model=model, state=data.AnalysisState.DONE)
        )
    run["file_management_task"]()
    run["space_task"]()
    return made


def test_recording_goes_on_and_never_touches_the_reserve(disk: Path) -> None:
    program = make_program(disk)
    lowest = DISK
    with using_home(disk / "home"):
        for _ in range(40):
            assert turn(program) is not None
            lowest = min(lowest, free(disk))

    assert RESERVE <= lowest < 2 * RESERVE
    gone = program.store.count_given_up()
    assert sum(one.recordings for one in gone.values()) > 5
    assert program.store.get_unremoved() == []
    files = list((disk / "home/data/recordings").rglob("*.wav"))
    kept = program.store.get_recordings_by_path(files)
    assert len(kept) == len(files)


@pytest.mark.parametrize("on_full", ["stop", "detections_only"])
def test_what_happens_when_nothing_may_go_is_in_the_effort(disk: Path, on_full: str) -> None:
    program = make_program(
        disk,
        **{"sensor.disk.on_full": on_full, "sensor.disk.order": '["protected"]'},
    )
    with using_home(disk / "home"):
        made = [turn(program) for _ in range(30)]
        history = program.store.get_effort(program.store.get_current_deployment())
        assert free(disk) >= RESERVE

    assert history is not None
    full = [one for one in history.notes if one.state is EffortState.DISK_FULL]
    if on_full == "stop":
        assert made[-1] is None
        (why,) = {one.detail for one in full}
        assert why.startswith(
            "only the reserve of 16 MB was free, and no more files could be deleted"
        )
        assert why.endswith("(sensor.disk.on_full: stop)")
    else:
        assert all(made)
        assert full == []
        ((kind, gone),) = program.store.count_given_up().items()
        assert (kind.value, gone.recordings > 5) == ("new", True)
    assert program.store.count_recordings()[data.RecordingState.LOST] == 0


@contextmanager
def second_disk(disk: Path, size: str) -> Iterator[Path]:
    """A disk that is mounted for a while below another one."""
    usb = disk / "usb"
    usb.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "acoupi-test", usb], check=True)
    try:
        yield usb
    finally:
        subprocess.run(["umount", "--lazy", usb], check=True)


def test_a_second_disk_is_filled_to_its_reserve_and_the_rest_waits(disk: Path) -> None:
    with second_disk(disk, "24M") as usb:
        program = make_program(
            disk,
            **{
                "paths.recordings": usb / "kept",
                "sensor.disk.mounts": f'["{usb}"]',
                "sensor.disk.order": '["protected"]',
            },
        )
        with using_home(disk / "home"):
            assert all(turn(program) for _ in range(6))

        assert free(usb) >= RESERVE
        assert len(list((usb / "kept").rglob("*.wav"))) == 3
        assert len(list((disk / "home/data/spool").glob("*.wav"))) == 3


def test_nothing_is_written_beside_the_mount_point_of_a_second_disk(disk: Path) -> None:
    with second_disk(disk, "60M") as usb:
        program = make_program(
            disk,
            **{"paths.recordings": usb / "kept", "sensor.disk.mounts": f'["{usb}"]'},
        )

    with using_home(disk / "home"):
        made = turn(program)

    assert made is not None
    assert made.path is not None
    assert made.path.exists()
    assert list(usb.iterdir()) == []
    program.store.space = None
    with using_home(disk / "home"):
        program.tasks["file_management_task"].function()
    assert list(usb.iterdir()) != []


def test_a_home_on_a_disk_of_its_own_does_not_stand_for_a_second_disk(disk: Path) -> None:
    usb = disk.parent / "usb"
    usb.mkdir()
    policy = SpacePolicy(
        home=disk / "home", spool=disk / "spool", recordings=usb / "kept", rate=0, mounts=[usb]
    )

    assert policy.missing_mount(policy.recordings) == usb
    assert policy.missing_mount(policy.spool) is None


def test_a_store_is_opened_on_a_full_disk_in_the_space_of_its_own(disk: Path) -> None:
    make_store(disk).close()
    assert ballast.take(disk / "data")
    fill(disk)

    store = SqliteStore(disk / "data" / "metadata.db")

    assert store.get_current_deployment() == SITE


def test_the_services_start_on_a_disk_that_is_full_to_the_last_byte(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sensor_at(disk / "home", monkeypatch) as sensor:
        program = make_program(disk)
        program.store.close()
        assert ballast.take(disk / "home" / "data")
        others = fill(disk)
        sensor.target.up()
        wait_for(lambda: sensor.is_ready("recording"), "the recorder on a full disk", sensor)
        wait_for(lambda: sensor.is_ready("default"), "the worker on a full disk", sensor)
        others.unlink()
        sensor.target.down()


def test_a_backup_names_the_disk_that_is_full_and_leaves_nothing_there(
    disk: Path, home: Path
) -> None:
    settings = backed_up(home)
    fill(disk)
    there = sorted(disk.iterdir())

    with pytest.raises(AcoupiError) as caught:
        make_backup(settings, disk)

    assert str(disk) in caught.value.message
    assert "no space left" in str(caught.value.why)
    assert sorted(disk.iterdir()) == there


def test_a_restore_to_a_full_disk_does_not_blame_the_backup(
    disk: Path, home: Path, tmp_path: Path
) -> None:
    made = make_backup(backed_up(home), tmp_path)
    fill(disk)
    there = sorted(disk.iterdir())

    with pytest.raises(AcoupiError) as caught:
        restore(Settings(home=disk / "home"), Path(made.path))

    assert str(disk) in caught.value.message
    assert "no space left" in str(caught.value.why)
    assert sorted(disk.iterdir()) == there


def backed_up(home: Path) -> Settings:
    settings = Settings(home=home)
    setup_program(settings, "connected", ["--messaging.http.base_url", "https://a.org"])
    store = SqliteStore(home / "data" / "metadata.db")
    store.store_deployment(SITE)
    store.close()
    return settings
