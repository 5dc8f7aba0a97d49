"""A full or a read-only disk: three lines that say so, and nothing half-written."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.components.stores import SqliteReader
from acoupi.errors import AcoupiError, DeviceError
from acoupi.exports.formats import FORMATS
from acoupi.exports.packages import export
from acoupi.heard import Filters
from acoupi.system import Settings, end_deployment, setup_program, start_deployment, start_workers
from tests.clips import Stream
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


def fill(disk: Path, room: int = 0) -> None:
    """Leave so many bytes, or not one."""
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            try:
                ballast.write(bytes(1024))
            except OSError:
                break
        ballast.truncate(ballast.tell() - room)


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


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 400 detections in ten recordings, whose files are kept."""
    stream = Stream(tmp_path_factory.mktemp("heard"), are_on=False)
    for _ in range(10):
        stream.record(*[(number / 50, (number + 1) / 50) for number in range(40)])
    stream.end()
    stream.manage()
    return stream.path


def export_until_full(disk: Path, heard: Path, name: str, *, audio: bool) -> None:
    """Export again and again: some formats are small."""
    with SqliteReader(heard) as reader:
        for number in range(30):
            files = (lambda row: row) if audio else None
            export(FORMATS[name](), reader, Filters(), disk / f"out-{number}", audio=files)


@pytest.mark.parametrize("room", [0, 16_384, 65_536])
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_to_a_disk_that_fills_up_leaves_nothing(
    disk: Path, heard: Path, name: str, room: int
) -> None:
    fill(disk, room)
    before = contents(disk)

    with pytest.raises(DeviceError) as caught:
        export_until_full(disk, heard, name, audio=room > 0)

    lines = caught.value.lines()
    assert len(lines) == 3
    assert "no space left on device" in lines[1]
    left = {one.partition("/")[0] for one in contents(disk).keys() - before.keys()}
    assert left == {f"out-{done}" for done in range(len(left))}
    for folder in left:
        assert sorted(contents(disk / folder)) == sorted(contents(disk / "out-0"))
