"""A link, a FIFO or a socket in a folder of recordings is left alone, and gives nothing away."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from acoupi.audio import disk, files, formats
from acoupi.errors import AcoupiError, AudioError
from acoupi.home import using_home
from tests.swaps import swapped
from tests.unit.audio.test_wav import write_plain

SECRET = b"token=secret of the sender"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.env"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "data" / "spool"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(params=["one disk", "two disks"])
def kept(request: pytest.FixtureRequest, spool: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where recordings are kept: with two disks, moving one copies it."""
    if request.param == "two disks":
        monkeypatch.setattr(os, "link", _no_link(os.link))
    return spool.with_name("recordings")


def _no_link(link: Callable[..., None]) -> Callable[..., None]:
    def refusing(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    return refusing


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MAKE: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, secrets: path.symlink_to(secrets),
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_file_is_not_moved(spool: Path, secrets: Path, kept: Path, kind: str) -> None:
    entry = spool / "a.wav"
    MAKE[kind](entry, secrets)

    with pytest.raises(OSError, match=kind):
        files.move_file(entry, kept / "a.wav")
    with pytest.raises(OSError, match="no file"):
        files.delete_file(entry)

    assert files.list_recordings(spool) == []
    assert files.strange_entries(spool) == [(entry, kind)]
    assert os.path.lexists(entry)
    assert not kept.exists()
    assert secrets.read_bytes() == SECRET


def test_a_recording_that_is_swapped_while_it_is_moved_gives_nothing_away(
    spool: Path, secrets: Path, kept: Path
) -> None:
    """Issue 11: the file manager, which has the secrets, copied what a link led to."""
    entry = spool / "a.wav"
    for number in range(200):
        entry.write_bytes(b"sound")
        if number % 50:
            with suppress(OSError):
                files.move_file(entry, kept / f"{number}.wav")
            continue
        with swapped(entry, secrets):
            for again in range(50):
                with suppress(OSError):
                    files.move_file(entry, kept / f"{number}-{again}.wav")
    links = [path for path in kept.rglob("*") if path.is_symlink()]
    assert contents(kept) == {b"sound"}
    assert links == []


def test_a_destination_that_is_a_link_is_a_taken_name(
    spool: Path, secrets: Path, kept: Path
) -> None:
    kept.mkdir()
    (kept / "a.wav").symlink_to(secrets)
    (spool / "a.wav").write_bytes(SECRET)

    assert files.move_file(spool / "a.wav", kept / "a.wav") == kept / "a_1.wav"
    assert (kept / "a.wav").is_symlink()


@pytest.mark.skipif(os.getuid() != 0, reason="makes a link of another user")
def test_a_folder_of_recordings_that_another_service_linked_is_refused(
    spool: Path, kept: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    kept.symlink_to(tmp_path / "elsewhere")
    os.lchown(kept, 4711, 4711)
    (spool / "a.wav").write_bytes(b"sound")

    with using_home(tmp_path / "home"), pytest.raises(OSError, match="a link"):
        files.move_file(spool / "a.wav", kept / "a.wav")

    assert (spool / "a.wav").read_bytes() == b"sound"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_part_that_is_a_link_or_a_fifo_is_not_repaired(spool: Path, secrets: Path) -> None:
    (spool / ".a.wav.part").symlink_to(secrets)
    os.mkfifo(spool / ".b.wav.part")
    (spool / ".c.wav.part").symlink_to(secrets.parent)

    assert disk.find_parts(spool) == []
    assert [path.name for path, _ in files.strange_entries(spool)] == [
        ".a.wav.part",
        ".b.wav.part",
        ".c.wav.part",
    ]
    for part in spool.iterdir():
        with suppress(AcoupiError, OSError):
            formats.salvage(part)
    assert secrets.read_bytes() == SECRET


def test_the_text_of_an_interrupted_recording_is_no_link(
    spool: Path, secrets: Path, tmp_path: Path
) -> None:
    part = spool / ".a.wav.part"
    part.mkdir()
    write_plain(part / "0.wav")
    (part / "guano.txt").symlink_to(secrets)

    with using_home(tmp_path / "home"):
        published = formats.salvage(part)

    assert published is not None
    assert SECRET not in published.read_bytes()


def test_a_recording_of_the_spool_is_not_read_through_a_link(
    spool: Path, secrets: Path, tmp_path: Path
) -> None:
    (spool / "a.wav").symlink_to(secrets)
    with using_home(tmp_path / "home"), pytest.raises(AudioError, match="cannot open"):
        formats.read_recording(spool / "a.wav")
