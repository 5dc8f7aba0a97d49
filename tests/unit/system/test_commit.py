"""Several files are changed as one, wherever the process is killed."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from acoupi.commit import DECIDED, LOCK, changing, commit_files, read_whole, settle, whole
from acoupi.errors import DeviceError
from acoupi.writing import RenderedFile
from tests.kills import KILLED, run_until_rename

OLD = {"config/a": "old a", "config/b": "old b", "bin/gone": "old", "app.py": "old"}
NEW = {"config/a": "new a", "config/b": "new b", "bin/new": "new", "app.py": "new"}
COMMIT = """
from pathlib import Path
from acoupi.commit import changing, commit_files
from acoupi.writing import RenderedFile
home, new = Path({home!r}), {new!r}
with changing(home / "config", "a test"):
    files = {{home / name: RenderedFile(text) for name, text in new.items()}}
    commit_files(home / "config", files, remove=[home / "bin" / "gone"])
"""


def tree(home: Path) -> dict[str, str]:
    """Every file of a home, but the lock."""
    return {
        path.relative_to(home).as_posix(): path.read_text()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


@pytest.fixture
def old(home: Path) -> Path:
    """A home with some files in it."""
    for name, text in OLD.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return home


def commit(home: Path, texts: dict[str, str]) -> None:
    with changing(home / "config", "a test"):
        files = {home / name: RenderedFile(text) for name, text in texts.items()}
        commit_files(home / "config", files, remove=[home / "bin" / "gone"])


def test_files_are_written_and_removed_and_nothing_else_is_left(old: Path) -> None:
    commit(old, NEW)

    assert tree(old) == NEW


STEPS = range(1, 11)
"""The calls that change names in that commit: of the journal 5, of files 5."""
DECIDED_AT = 5
"""The first of them after which the new files are in force."""


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_any_rename_it_is_all_old_or_all_new(old: Path, step: int) -> None:
    code = COMMIT.format(home=str(old), new=NEW)

    assert run_until_rename(step, code) == KILLED
    seen = {name: read_whole(old / name) for name in ("config/a", "config/b")}
    settle(old / "config")

    left = tree(old)
    assert left in (OLD, NEW)
    assert seen == {name: left[name] for name in seen}, "readers did not wait for it"
    commit(old, NEW)
    assert tree(old) == NEW


def test_there_is_no_other_step_to_be_killed_at(old: Path) -> None:
    assert run_until_rename(STEPS[-1] + 1, COMMIT.format(home=str(old), new=NEW)) == 0
    assert tree(old) == NEW


def test_a_place_that_cannot_be_taken_gives_the_others_back(old: Path) -> None:
    (old / "bin" / "new" / "in the way").mkdir(parents=True)

    with pytest.raises(DeviceError, match="bin/new"):
        commit(old, NEW)

    assert tree(old) == OLD


def test_a_full_disk_leaves_nothing_behind(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def refuse(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(DeviceError, match="cannot write"):
        commit(old, NEW)

    assert tree(old) == OLD


def test_a_link_stays_and_what_it_leads_to_is_written_and_read(old: Path) -> None:
    real = old / "secrets" / "a"
    real.parent.mkdir()
    (old / "config" / "a").replace(real)
    (old / "config" / "a").symlink_to("../secrets/a")

    assert run_until_rename(DECIDED_AT, COMMIT.format(home=str(old), new=NEW)) == KILLED
    assert whole(old / "config" / "a").parent == real.parent
    commit(old, NEW)

    assert (old / "config" / "a").is_symlink()
    assert real.read_text() == "new a"


def test_a_link_that_is_removed_goes_alone(old: Path) -> None:
    real = old / "mine"
    (old / "bin" / "gone").replace(real)
    (old / "bin" / "gone").symlink_to(real)

    commit(old, NEW)

    assert real.read_text() == "old"
    assert not (old / "bin" / "gone").is_symlink()


def test_a_home_that_was_moved_in_between_is_finished_where_it_is(
    old: Path, tmp_path: Path
) -> None:
    assert run_until_rename(DECIDED_AT + 1, COMMIT.format(home=str(old), new=NEW)) == KILLED
    moved = tmp_path / "elsewhere"
    old.rename(moved)

    settle(moved / "config")

    assert tree(moved) == NEW


def test_a_journal_that_cannot_be_read_is_named_and_reading_goes_on(old: Path) -> None:
    (old / "config" / DECIDED).write_text("{")

    assert read_whole(old / "config" / "a") == "old a"
    with pytest.raises(DeviceError, match="decided") as caught:
        commit(old, NEW)

    assert "mv " in (caught.value.help or "")


# --- the lock


def test_a_home_is_changed_by_one_at_a_time_and_who_waits_is_told_by_whom(old: Path) -> None:
    waiting = f"""
from pathlib import Path
from acoupi.commit import changing
from acoupi.errors import DeviceError
try:
    with changing(Path({str(old / "config")!r}), "another", patience=0.1):
        print("it was let in")
except DeviceError as error:
    print(*error.lines(), sep="\\n")
"""
    with changing(old / "config", "acoupi setup"):
        done = subprocess.run(
            [sys.executable, "-c", waiting], capture_output=True, text=True, check=True
        )

    message, why, _ = done.stdout.splitlines()
    assert message == f"Error: cannot change the sensor in {old}."
    assert f"acoupi setup (process {os.getpid()}) is changing it" in why


def test_changes_of_many_at_once_are_made_one_after_the_other(old: Path) -> None:
    path = old / "config" / "count"
    path.write_text("0")

    def count() -> None:
        for _ in range(10):
            with changing(old / "config", "a test"):
                number = int(path.read_text())
                commit_files(old / "config", {path: RenderedFile(str(number + 1))})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert path.read_text() == "40"


def test_a_change_inside_a_change_of_the_same_process_does_not_wait(old: Path) -> None:
    with changing(old / "config", "outer"), changing(old / "config", "inner", patience=0):
        assert (old / "config" / LOCK).read_text().startswith("outer")


def test_a_change_that_is_refused_leaves_no_folder_where_there_was_none(home: Path) -> None:
    with pytest.raises(RuntimeError), changing(home / "config", "a test"):
        raise RuntimeError

    assert not home.exists()


# --- what an earlier version left


@pytest.fixture
def staged(old: Path) -> Callable[..., None]:
    """Leaves a configuration half moved, as an earlier version did when it was killed."""

    def stage(*moved: str, marker: bool = True) -> None:
        texts = {"a": "new a", "b": "new b", "generated.json": "{}", ".generated.json": "{}"}
        texts |= {"provisioned.json": json.dumps({"generation": 2})} if marker else {}
        for name, text in texts.items():
            place = old / "config" / ("" if name in moved else "next")
            place.mkdir(exist_ok=True)
            (place / name).write_text(text)

    return stage


@pytest.mark.parametrize("moved", [(), ("a",), ("a", "b", "generated.json")])
def test_what_acoupi_0_1_had_decided_is_read_and_finished(
    old: Path, staged: Callable[..., None], moved: tuple[str, ...]
) -> None:
    staged(*moved)
    config = old / "config"

    seen = [read_whole(config / name) for name in ("a", "b")]
    settle(config)

    assert seen == ["new a", "new b"]
    assert [(config / name).read_text() for name in ("a", "b")] == ["new a", "new b"]
    assert (config / "generated.json").read_text() == "{}"
    assert (old / ".generated.json").read_text() == "{}"
    assert json.loads((config / "provisioned.json").read_text())["generation"] == 2
    assert not (config / "next").exists()


def test_what_acoupi_0_1_had_not_decided_is_not_read(
    old: Path, staged: Callable[..., None]
) -> None:
    staged(marker=False)

    assert read_whole(old / "config" / "a") == "old a"
    settle(old / "config")
    assert (old / "config" / "a").read_text() == "old a"
