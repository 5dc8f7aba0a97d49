"""Files of shared folders are opened through no link, and opening them never waits."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from acoupi import opening
from acoupi.home import using_home
from tests.swaps import swapped

SECRET = "secret of another"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "run" / "inside"
    path.mkdir(parents=True)
    return path


def make_socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


NO_FILES: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, secret: path.symlink_to(secret),
    "a link to nothing": lambda path, _: path.symlink_to("nothing"),
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a socket": make_socket,
    "a folder": lambda path, _: path.mkdir(),
}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_RDWR])
def test_what_is_no_file_is_refused_at_once(
    folder: Path, secret: Path, make: Callable[[Path, Path], object], flags: int
) -> None:
    path = folder / "entry"
    make(path, secret)
    with pytest.raises(opening.NotAFileError) as caught:
        os.close(opening.open_file(path, flags))
    assert caught.value.filename == str(path)
    assert not opening.is_file(path)
    assert secret.read_text() == SECRET


def test_a_file_is_read_and_its_size_is_bounded(folder: Path) -> None:
    path = folder / "entry"
    path.write_text("12345")
    assert opening.is_file(path)
    assert opening.read_text(path, 5) == "12345"
    with pytest.raises(OSError, match="more than 4 bytes") as caught:
        opening.read_bytes(path, 4)
    assert caught.value.errno == errno.EFBIG


def test_a_file_is_emptied_only_when_it_is_known_to_be_one(folder: Path) -> None:
    path = folder / "entry"
    path.write_text("before")
    os.close(opening.open_file(path, os.O_WRONLY | os.O_TRUNC))
    assert path.read_bytes() == b""


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        opening.open_file(folder / "none")
    assert caught.value.filename == str(folder / "none")


def test_below_a_given_folder_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "entry").write_text(SECRET)
    (folder / "linked").symlink_to(elsewhere)
    with pytest.raises(opening.NotAFileError):
        opening.read_bytes(folder / "linked" / "entry", 100, beneath=folder)
    with pytest.raises(opening.NotAFileError):
        opening.read_bytes(folder / ".." / "inside" / "linked", 100, beneath=folder)


def test_a_link_of_the_owner_to_a_larger_disk_is_followed(folder: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "entry").write_text("recording")
    (folder / "recordings").symlink_to(disk)
    with using_home(tmp_path / "home"):
        assert opening.read_text(folder / "recordings" / "entry", 100) == "recording"


@pytest.mark.skipif(os.getuid() != 0, reason="gives a link to another user")
def test_a_link_that_another_user_made_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "recordings").symlink_to(tmp_path)
    os.lchown(folder / "recordings", 1000, 1000)
    with using_home(tmp_path / "home"), pytest.raises(opening.NotAFileError, match="a link"):
        opening.read_bytes(folder / "recordings" / "secret", 100)


def test_the_folders_of_a_home_may_be_links(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "entry").write_text("row")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "data").symlink_to(disk)
    (tmp_path / "home").symlink_to(tmp_path / "real")
    with using_home(tmp_path / "home"):
        assert opening.read_text(tmp_path / "home" / "data" / "entry", 100) == "row"


@pytest.mark.parametrize("what", ["a file", "a folder"])
def test_what_is_swapped_while_it_is_opened_gives_nothing_away(
    folder: Path, secret: Path, what: str
) -> None:
    """A service swaps the file, or its folder, for a link while another one opens it."""
    path = folder / secret.name
    path.write_text("own")
    entry, target = (path, secret) if what == "a file" else (folder, secret.parent)
    read = set()
    with swapped(entry, target):
        for _ in range(200):
            with suppress(OSError):
                read.add(opening.read_text(path, 100, beneath=folder.parent))
    assert read <= {"own"}
