"""Files are written as a whole, or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acoupi.errors import DeviceError
from acoupi.writing import RenderedFile, write_atomic, write_files


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_file_gets_its_text_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "secrets.env"

    write_atomic(path, "A=1\n", 0o600)

    assert path.read_text() == "A=1\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["secrets.env"]


def test_if_one_file_cannot_be_written_none_is(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    (tmp_path / "in-the-way").write_text("a file where a folder should be")
    before = tree(tmp_path)

    with pytest.raises(DeviceError):
        write_files(
            {
                tmp_path / "kept": RenderedFile("new"),
                tmp_path / "folder" / "first": RenderedFile("first"),
                tmp_path / "in-the-way" / "second": RenderedFile("second"),
            }
        )

    assert tree(tmp_path) == before
    assert not (tmp_path / "folder").exists()


def test_if_a_name_cannot_be_taken_the_others_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").write_text("old")
    (tmp_path / "gone").write_text("old")
    before = tree(tmp_path)
    replace = Path.replace

    def failing(self: Path, target: Any) -> Path:
        if Path(target).name == "second":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)

    with pytest.raises(DeviceError) as caught:
        write_files(
            {tmp_path / "first": RenderedFile("new"), tmp_path / "second": RenderedFile("new")},
            remove=[tmp_path / "gone"],
        )

    assert tree(tmp_path) == before
    assert "second" in caught.value.message
    assert "no space left" in (caught.value.why or "")
    assert "df -h" in (caught.value.help or "")


@pytest.mark.parametrize("when", ["replace", "fsync"])
def test_an_interrupt_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (tmp_path / "first").write_text("old")
    replace, fsync = Path.replace, os.fsync
    calls = []

    def interrupt(act: Callable[..., Any], *args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return act(*args)

    if when == "replace":
        monkeypatch.setattr(Path, "replace", lambda self, to: interrupt(replace, self, to))
    else:
        monkeypatch.setattr(os, "fsync", lambda handle: interrupt(fsync, handle))

    with pytest.raises(KeyboardInterrupt):
        write_files(
            {
                tmp_path / "first": RenderedFile("new"),
                tmp_path / "folder" / "second": RenderedFile("new"),
            }
        )

    assert tree(tmp_path) == {"first": "old"}
    assert not (tmp_path / "folder").exists()


def test_files_are_removed_and_folders_made_with_the_rest(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")

    write_files(
        {tmp_path / "new": RenderedFile("new")},
        remove=[tmp_path / "old", tmp_path / "never-was"],
        folders=[tmp_path / "log", tmp_path / "run"],
    )

    assert tree(tmp_path) == {"new": "new"}
    assert (tmp_path / "log").is_dir()
    assert (tmp_path / "run").is_dir()
