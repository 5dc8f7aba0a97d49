"""A full or a read-only disk: three lines that say so, and nothing half-written."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.errors import AcoupiError, DeviceError
from acoupi.system import Settings, end_deployment, setup_program, start_deployment, start_workers
from tests.sensors import PROGRAMS
from tests.services import require

DISK_BYTES = 512 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 kB, mounted."""
    require("mounting a disk needs root", os.geteuid() == 0)
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},nr_inodes=400", "acoupi-test", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    require(f"cannot mount a disk here: {mount.stderr}", mount.returncode == 0)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setenv("PYTHONPATH", str(PROGRAMS))


def fill(disk: Path) -> None:
    """Leave not one byte."""
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            try:
                ballast.write(bytes(1024))
            except OSError:
                break


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def set_up(home: Path, *args: str) -> None:
    setup_program(Settings(home=home), "metronome", ["--diary", "/tmp/diary", *args])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(fill, "no space left on device"), (make_read_only, "read-only file system")],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_setup_on_a_bad_disk_changes_nothing(
    disk: Path, harm: object, reason: str, is_new: bool
) -> None:
    assert callable(harm)
    home = disk / "home"
    if not is_new:
        set_up(home)
    harm(disk)
    before = contents(disk)

    with pytest.raises(DeviceError) as caught:
        set_up(home, "--interval", "7")

    lines = caught.value.lines()
    assert len(lines) == 3
    assert str(home) in lines[0]
    assert reason in lines[1]
    assert contents(disk) == before


@pytest.mark.parametrize("harm", [fill, make_read_only])
def test_a_deployment_on_a_bad_disk_keeps_its_file(disk: Path, harm: object) -> None:
    assert callable(harm)
    home = disk / "home"
    set_up(home)
    start_deployment(Settings(home=home), "heath")
    harm(disk)
    before = contents(disk)

    with pytest.raises(DeviceError) as caught:
        end_deployment(Settings(home=home))

    assert len(caught.value.lines()) == 3
    assert contents(disk) == before


@pytest.mark.parametrize("harm", [fill, make_read_only])
@pytest.mark.integration
def test_workers_on_a_bad_disk_say_so(disk: Path, harm: object) -> None:
    assert callable(harm)
    home = disk / "home"
    set_up(home)
    harm(disk)

    with pytest.raises(AcoupiError) as caught:
        start_workers(Settings(home=home))

    assert len(caught.value.lines()) == 3
    assert "cannot be written" in "\n".join(caught.value.lines())
