"""Pulses, logs and messages of a service that puts something else where its files are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components.messengers import FileMessenger
from acoupi.errors import MessageSendError
from acoupi.stack.pulse import LONGEST_PULSE, PulseFile, ServiceLock, is_locked, read_pulse
from acoupi.stack.settings import Settings
from acoupi.targets import service_status
from acoupi.targets.process import tail

MAKE: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, secret: path.symlink_to(secret),
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a link to a FIFO": lambda path, secret: path.symlink_to(secret.with_name("fifo")),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    path = tmp_path / "secret"
    path.write_text("secret")
    return path


@pytest.fixture
def run_dir(home: Path) -> Path:
    folder = home / "run"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_reading_what_is_no_file_waits_for_nothing(
    run_dir: Path, secret: Path, make: Callable[[Path, Path], object]
) -> None:
    for suffix in ("json", "lock", "pid", "log"):
        make(run_dir / f"recording.{suffix}", secret)

    assert read_pulse(run_dir, "recording") is None
    assert not is_locked(run_dir, "recording")
    assert tail(run_dir / "recording.log", 10) == []
    status = service_status(Settings(home=run_dir.parent), "recording", "recorder")
    assert status.state == "stopped"


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_service_puts_its_own_files_there_again(
    run_dir: Path, secret: Path, make: Callable[[Path, Path], object]
) -> None:
    for suffix in ("json", "lock", "pid"):
        make(run_dir / f"recording.{suffix}", secret)

    with ServiceLock(run_dir, "recording") as lock:
        PulseFile(run_dir, "recording").write()
        assert lock.keep()
        assert is_locked(run_dir, "recording")
        pulse = read_pulse(run_dir, "recording")

    assert pulse is not None
    assert pulse.pid == os.getpid()
    assert secret.read_text() == "secret"


def test_a_pulse_without_end_is_none(run_dir: Path) -> None:
    (run_dir / "recording.json").write_bytes(b" " * (LONGEST_PULSE + 1) + b"{}")
    assert read_pulse(run_dir, "recording") is None


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_messages_are_written_to_a_file_only(
    home: Path, secret: Path, make: Callable[[Path, Path], object]
) -> None:
    (home / "data").mkdir(parents=True)
    make(home / "data" / "messages.jsonl", secret)
    messenger = FileMessenger(home / "data" / "messages.jsonl")
    with pytest.raises(MessageSendError) as caught:
        messenger.send_message(data.Message(content="bat"))
    assert "it is" in str(caught.value.why)
    assert secret.read_text() == "secret"
