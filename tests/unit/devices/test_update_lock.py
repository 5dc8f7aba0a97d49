"""The lock that keeps a supervisor from updating in the middle of a recording."""

import fcntl
from pathlib import Path

import pytest

from acoupi.devices.update_lock import MARK, UpdateLock, update_lock_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "updates.lock"


def test_it_is_there_while_it_is_held_and_no_longer(path: Path) -> None:
    with UpdateLock(path).held() as held:
        assert held
        assert path.exists()

    assert not path.exists()


def test_it_goes_also_when_the_block_fails(path: Path) -> None:
    with pytest.raises(ValueError, match="no"), UpdateLock(path).held():
        raise ValueError("no")

    assert not path.exists()


def test_the_host_sees_that_it_is_held(path: Path) -> None:
    with UpdateLock(path).held(), path.open() as host, pytest.raises(BlockingIOError):
        fcntl.flock(host, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_without_its_folder_nothing_is_made(tmp_path: Path) -> None:
    with UpdateLock(tmp_path / "balena" / "updates.lock").held() as held:
        assert not held

    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_somebody_else_is_left_alone_and_keeps_nobody(path: Path) -> None:
    path.write_text("")

    with UpdateLock(path).held() as held:
        assert not held

    assert path.exists()


def test_what_a_crash_left_is_removed(path: Path) -> None:
    path.write_text(MARK)

    with UpdateLock(path).held() as held:
        assert held

    assert not path.exists()


def test_it_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert update_lock_path() == Path("/tmp/balena/updates.lock")
    monkeypatch.setenv("ACOUPI_UPDATE_LOCK", "/run/lock/a")
    assert update_lock_path() == Path("/run/lock/a")
