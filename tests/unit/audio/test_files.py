"""Moves and deletions: no crash loses a file, and none is ever written over."""

import ctypes
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from acoupi.audio import files
from tests.services import require


class Crash(BaseException):
    """The power goes: not an Exception, so that nothing tidies up after it."""


class Steps:
    """Counts calls that touch the disk, and crashes before one of them."""

    NAMES = (
        (os, "link"),
        (os, "fsync"),
        (Path, "unlink"),
        (Path, "rename"),
        (Path, "mkdir"),
        (Path, "open"),
        (shutil, "copyfileobj"),
        (shutil, "copystat"),
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.count = 0

    @contextmanager
    def crash_before(self, step: int | None) -> Iterator[None]:
        self.count = 0
        with self.monkeypatch.context() as patch:
            for owner, name in self.NAMES:
                patch.setattr(owner, name, self._wrap(getattr(owner, name), step))
            yield

    def _wrap(self, function: Callable[..., Any], step: int | None) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == step:
                raise Crash
            return function(*args, **kwargs)

        return wrapped


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def _refuse(code: int, where: Callable[[Path, Path], bool]) -> Callable[..., None]:
    link = os.link

    def refusing(source: Path, target: Path) -> None:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "exists")  # as Linux does, before it says EXDEV
        if where(Path(source), Path(target)):
            raise OSError(code, os.strerror(code))
        link(source, target)

    return refusing


KINDS = ["same file system", "across file systems", "no links", "no links, no renameat2"]


def no_library(*_: object, **__: object) -> None:
    raise OSError(errno.ENOENT, "no such library")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "across file systems":
        monkeypatch.setattr(os, "link", _refuse(errno.EXDEV, lambda a, b: a.parent != b.parent))
    elif request.param.startswith("no links"):
        monkeypatch.setattr(os, "link", _refuse(errno.EPERM, lambda a, b: True))
    if request.param.endswith("renameat2"):
        monkeypatch.setattr(ctypes, "CDLL", no_library)
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "spool" / "a.wav"
    path.parent.mkdir()
    path.write_bytes(b"sound" * 1000)
    return path


def everything_below(path: Path) -> dict[str, bytes]:
    return {
        each.relative_to(path).as_posix(): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


def test_a_move_takes_the_file_to_its_place(kind: str, source: Path, tmp_path: Path) -> None:
    content = source.read_bytes()

    final = files.move_file(source, tmp_path / "kept/2024/8/b.wav")

    assert final == tmp_path / "kept/2024/8/b.wav"
    assert everything_below(tmp_path) == {"kept/2024/8/b.wav": content}


def test_a_taken_name_gets_a_number(kind: str, source: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "b.wav").write_bytes(b"another")
    (kept / "b_1.wav").write_bytes(b"a third")

    final = files.move_file(source, kept / "b.wav")

    assert final.name == "b_2.wav"
    assert (kept / "b.wav").read_bytes() == b"another"
    assert (kept / "b_1.wav").read_bytes() == b"a third"


def test_the_same_bytes_are_not_this_file_if_known_to_be_anothers(
    kind: str, source: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept" / "b.wav"
    kept.parent.mkdir()
    shutil.copy(source, kept)

    final = files.move_file(source, kept, is_taken=lambda name: name == kept)

    assert final.name == "b_1.wav"
    assert kept.exists()


def test_a_name_that_belongs_to_another_is_not_used_though_its_file_is_gone(
    kind: str, source: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "kept" / "b.wav"

    final = files.move_file(source, taken, is_taken=lambda name: name == taken)

    assert final.name == "b_1.wav"
    assert not taken.exists()


def test_commit_sees_both_files(kind: str, source: Path, tmp_path: Path) -> None:
    seen = []

    files.move_file(
        source,
        tmp_path / "kept.wav",
        commit=lambda path: seen.append((path, path.exists(), source.exists())),
    )

    assert seen == [(tmp_path / "kept.wav", True, True)]


def test_a_failed_commit_leaves_both_and_the_next_move_resumes(
    kind: str, source: Path, tmp_path: Path
) -> None:
    content = source.read_bytes()

    def fail(path: Path) -> None:
        raise RuntimeError("database is locked")

    with pytest.raises(RuntimeError):
        files.move_file(source, tmp_path / "kept" / "a.wav", commit=fail)
    assert source.read_bytes() == (tmp_path / "kept" / "a.wav").read_bytes() == content

    final = files.move_file(source, tmp_path / "kept" / "a.wav")

    assert final.name == "a.wav"
    assert everything_below(tmp_path) == {"kept/a.wav": content}


def test_a_move_survives_a_crash_before_any_step(
    kind: str, steps: Steps, source: Path, tmp_path: Path
) -> None:
    content = source.read_bytes()
    step = 0
    while True:
        step += 1
        shutil.rmtree(tmp_path / "kept", ignore_errors=True)
        source.write_bytes(content)
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "a.wav").write_bytes(b"another")
        committed: list[Path] = []
        target = tmp_path / "kept" / "a.wav"

        try:
            with steps.crash_before(step):
                files.move_file(source, target, commit=committed.append)
        except Crash:
            held = [source, *committed][-1]
            assert held.read_bytes() == content, f"the row points at nothing, step {step}"
            if source.exists():
                files.move_file(source, target, commit=committed.append)
        else:
            break

        assert everything_below(tmp_path) == {
            "kept/a.wav": b"another",
            "kept/a_1.wav": content,
        }, f"step {step}"
        assert set(committed) == {tmp_path / "kept" / "a_1.wav"}, f"step {step}"
    assert step > 4


def test_a_crash_while_folders_are_made_loses_nothing(
    steps: Steps, source: Path, tmp_path: Path
) -> None:
    content = source.read_bytes()
    for step in range(1, 5):
        with pytest.raises(Crash), steps.crash_before(step):
            files.move_file(source, tmp_path / "kept" / str(step) / "a.wav")
        assert source.read_bytes() == content

    assert files.move_file(source, tmp_path / "kept/1/a.wav").read_bytes() == content


def test_a_full_disk_leaves_the_source_and_no_rubbish(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", _refuse(errno.EXDEV, lambda a, b: True))
    monkeypatch.setattr(shutil, "copyfileobj", full)

    with pytest.raises(OSError, match="No space left"):
        files.move_file(source, tmp_path / "kept" / "a.wav")

    assert list(everything_below(tmp_path)) == ["spool/a.wav"]


def test_two_moves_at_once_make_one_file(kind: str, source: Path, tmp_path: Path) -> None:
    content = source.read_bytes()
    barrier = threading.Barrier(4)
    finals: list[Path] = []

    def move() -> None:
        barrier.wait()
        with suppress(FileNotFoundError):  # the other was faster
            finals.append(files.move_file(source, tmp_path / "kept" / "a.wav"))

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(finals) == {tmp_path / "kept" / "a.wav"}
    assert everything_below(tmp_path) == {"kept/a.wav": content}


def test_a_file_moved_onto_itself_through_a_linked_folder_stays(
    source: Path, tmp_path: Path
) -> None:
    content = source.read_bytes()
    (tmp_path / "other").symlink_to(source.parent)

    files.move_file(source, tmp_path / "other" / "a.wav")
    files.move_file(source, source)

    assert source.read_bytes() == content


def test_a_move_between_two_real_file_systems(source: Path) -> None:
    content = source.read_bytes()
    other = Path("/dev/shm")
    is_other = other.is_dir() and other.stat().st_dev != source.stat().st_dev
    require("a second file system at /dev/shm", is_other)

    with tempfile.TemporaryDirectory(dir=other) as folder:
        final = files.move_file(source, Path(folder) / "kept" / "a.wav")

        assert everything_below(Path(folder)) == {"kept/a.wav": content}
        assert final == Path(folder) / "kept" / "a.wav"
        assert not source.exists()


def test_renameat2_refuses_a_taken_name(tmp_path: Path) -> None:
    old, new = tmp_path / "a", tmp_path / "b"
    old.write_bytes(b"a")
    new.write_bytes(b"b")

    require("renameat2(2) on the temporary folder", files._rename_noreplace(old, tmp_path / "c"))
    (tmp_path / "c").rename(old)

    with pytest.raises(FileExistsError):
        files._rename_noreplace(old, new)

    assert (old.read_bytes(), new.read_bytes()) == (b"a", b"b")


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.move_file(tmp_path / "none.wav", tmp_path / "kept" / "a.wav")

    assert not (tmp_path / "kept").exists()


def test_a_copy_that_is_being_made_is_not_taken_for_rubbish(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.wav"

    with source.open("rb") as stream, files._copied_beside(stream, target) as copy:
        files._remove_abandoned_copies(target)

        assert copy.exists()


def test_a_deletion_survives_a_crash_before_any_step(
    steps: Steps, source: Path, tmp_path: Path
) -> None:
    step = 0
    while True:
        step += 1
        source.write_bytes(b"sound")
        committed: list[Path] = []
        try:
            with steps.crash_before(step):
                files.delete_file(source, commit=committed.append)
        except Crash:
            assert source.exists() or files.deletion_mark(source).exists() or committed
            for mark in files.hidden_files(source.parent, files.DELETED_SUFFIX):
                files.finish_deletion(mark, commit=committed.append)
            if not committed:
                files.delete_file(source, commit=committed.append)
        else:
            break

        assert set(committed) == {source}
        assert everything_below(tmp_path) == {}
    assert step > 2


def test_deleting_what_is_gone_says_so(tmp_path: Path) -> None:
    committed: list[Path] = []

    assert not files.delete_file(tmp_path / "a.wav", commit=committed.append)
    assert committed == []


def test_only_complete_wavs_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.wav", "a.WAV", ".c.wav", ".d.wav.part", "e.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "f.wav").mkdir()

    assert [path.name for path in files.list_recordings(tmp_path)] == ["a.WAV", "b.wav"]
    assert files.list_recordings(tmp_path / "none") == []
    assert [p.name for p in files.hidden_files(tmp_path, ".part")] == [".d.wav.part"]
