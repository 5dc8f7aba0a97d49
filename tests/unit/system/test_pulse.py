"""Locks and pulses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.errors import DeviceError
from acoupi.stack.pulse import (
    AlreadyRunningError,
    PulseFile,
    ServiceLock,
    is_locked,
    read_pulse,
)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[ServiceLock]:
    with ServiceLock(tmp_path, "recording") as lock:
        yield lock


def test_who_holds_the_lock_lives(tmp_path: Path) -> None:
    assert not is_locked(tmp_path, "recording")

    with ServiceLock(tmp_path, "recording"):
        assert is_locked(tmp_path, "recording")
        assert (tmp_path / "recording.pid").read_text() == f"{os.getpid()}\n"

    assert not is_locked(tmp_path, "recording")
    assert not (tmp_path / "recording.pid").exists()


def test_a_second_service_of_one_name_is_refused(tmp_path: Path, lock: ServiceLock) -> None:
    with pytest.raises(AlreadyRunningError, match='"recording" is already running') as caught:
        ServiceLock(tmp_path, "recording").acquire(patience=0.05)

    assert caught.value.exit_code == 75


def test_asking_whether_it_is_held_does_not_take_it(tmp_path: Path) -> None:
    lock = ServiceLock(tmp_path, "recording")

    assert not is_locked(tmp_path, "recording")
    lock.acquire()

    assert is_locked(tmp_path, "recording")
    lock.release()


@pytest.mark.parametrize(
    "number",
    [
        "1",
        pytest.param(str(os.getpid()), id="our own"),
        "4194303",
        "rubbish",
        "",
    ],
)
def test_a_stale_pid_file_means_nothing(tmp_path: Path, number: str) -> None:
    (tmp_path / "recording.pid").write_text(number)
    (tmp_path / "recording.lock").touch()

    with ServiceLock(tmp_path, "recording"):
        assert (tmp_path / "recording.pid").read_text() == f"{os.getpid()}\n"


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path, lock: ServiceLock) -> None:
    lock.path.unlink()
    assert not is_locked(tmp_path, "recording")

    assert lock.keep()

    assert is_locked(tmp_path, "recording")


def test_a_lock_that_another_has_taken_meanwhile_is_lost(tmp_path: Path, lock: ServiceLock) -> None:
    lock.path.unlink()

    with ServiceLock(tmp_path, "recording"):
        assert not lock.keep()


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")

    with pytest.raises(DeviceError, match="cannot write"):
        ServiceLock(tmp_path / "run", "recording").acquire()


def test_a_pulse_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACOUPI_SERVICE_RESTARTS", "3")
    file = PulseFile(tmp_path / "run", "recording")
    file.pulse.last_error = "x" * 10_000
    file.write()
    size = file.path.stat().st_size
    file.pulse.last_error = None
    file.pulse.done = 7

    file.write()

    found = read_pulse(tmp_path / "run", "recording")
    assert found == file.pulse
    assert found is not None
    assert (found.done, found.restarts) == (7, 3)
    assert file.path.stat().st_size == size


def test_a_missing_or_broken_pulse_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")

    assert read_pulse(tmp_path, "none") is None
    assert read_pulse(tmp_path, "broken") is None


def test_a_pulse_that_cannot_be_written_ends_nobody(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")

    PulseFile(tmp_path / "run", "recording").write()


def test_a_pulse_is_cut_to_its_size_only_where_that_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulse = PulseFile(tmp_path, "recording")
    pulse.path.write_text("x" * 5000)
    cut: list[int] = []
    truncate = os.ftruncate
    monkeypatch.setattr(
        os, "ftruncate", lambda handle, size: [cut.append(size), truncate(handle, size)]
    )

    pulse.write()
    pulse.write()

    assert len(cut) == 1, "ext4 forces to the disk what is cut, even if nothing is"
    assert read_pulse(tmp_path, "recording") == pulse.pulse
