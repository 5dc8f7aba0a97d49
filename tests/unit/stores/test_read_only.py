"""Reading a database changes nothing: not it, and not what lies beside it."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from acoupi.components.stores.database import Database, Schema, open_read_only
from acoupi.errors import MetadataStoreError, StoreError

WRITE = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE IF NOT EXISTS rows (value)")
connection.execute("INSERT INTO rows VALUES (7)")
os._exit(0)  # as if it was killed: the journal stays
"""


def make(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE rows (value)")
        connection.execute("INSERT INTO rows VALUES (7)")


def make_killed(path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
    assert path.with_name(path.name + "-wal").stat().st_size


def rows(path: Path) -> list[int]:
    with closing(open_read_only(path)) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM rows")]


def entries(folder: Path) -> dict[str, bytes]:
    """Content of all files of a folder, without the index that running services share."""
    return {
        path.name: b"" if path.name.endswith("-shm") else path.read_bytes()
        for path in sorted(folder.iterdir())
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "a ?home%20"
    folder.mkdir()
    return folder / "metadata.db"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others can enter, other than those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_stopped_store_is_read_and_nothing_is_left(path: Path) -> None:
    make(path)
    before = entries(path.parent)
    assert rows(path) == [7]
    assert entries(path.parent) == before
    assert list(before) == ["metadata.db"]


def test_a_killed_store_is_read_with_what_its_journal_holds(path: Path) -> None:
    make_killed(path)
    before = entries(path.parent)
    assert rows(path) == [7]
    assert entries(path.parent) == before


def test_a_journal_without_its_index_is_read_from_a_copy(path: Path) -> None:
    make_killed(path)
    path.with_name(f"{path.name}-shm").unlink()
    before = entries(path.parent)
    assert rows(path) == [7]
    assert entries(path.parent) == before


def test_a_running_store_is_read_as_it_is_now(path: Path) -> None:
    make(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as service:
        service.execute("INSERT INTO rows VALUES (8)")
        before = entries(path.parent)
        with closing(open_read_only(path)) as connection:
            assert connection.execute("SELECT count(*) FROM rows").fetchone() == (2,)
            service.execute("INSERT INTO rows VALUES (9)")
            assert connection.execute("SELECT count(*) FROM rows").fetchone() == (3,)
        assert sorted(entries(path.parent)) == sorted(before)


def test_a_store_without_wal_is_read_while_it_is_written(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as service:
        service.execute("CREATE TABLE rows (value)")
        service.execute("INSERT INTO rows VALUES (7)")
        assert rows(path) == [7]
        service.execute("INSERT INTO rows VALUES (8)")
        assert rows(path) == [7, 8]
    assert list(entries(path.parent)) == ["metadata.db"]


def test_what_is_read_cannot_be_written(path: Path) -> None:
    make(path)
    with closing(open_read_only(path)) as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("INSERT INTO rows VALUES (8)")


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="reads as another user"
)
def test_without_the_right_to_write_it_is_read_too(public: Path, *, is_killed: bool) -> None:
    path = public / "metadata.db"
    (make_killed if is_killed else make)(path)
    before = entries(path.parent)
    code = (
        "import sys; from pathlib import Path;"
        "from acoupi.components.stores.database import open_read_only;"
        "print(open_read_only(Path(sys.argv[1])).execute('SELECT value FROM rows').fetchall())"
    )
    ran = subprocess.run(
        ["setpriv", "--reuid=1000", "--clear-groups", sys.executable, "-c", code, str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "[(7,)]\n", ran.stderr
    assert entries(path.parent) == before


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "none", place], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this user cannot mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_store_on_a_read_only_disk_is_read(disk: Path, *, is_killed: bool) -> None:
    path = disk / "metadata.db"
    (make_killed if is_killed else make)(path)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert rows(path) == [7]


def test_a_missing_store_is_not_created(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_read_only(path)
    assert not entries(path.parent)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_what_is_no_file_is_refused(path: Path, suffix: str, kind: str) -> None:
    make_killed(path)
    entry, other = path.with_name(path.name + suffix), path.with_name("other.db")
    entry.rename(other)
    if kind == "link":
        entry.symlink_to(other)
    elif kind == "FIFO":
        os.mkfifo(entry)
    else:
        entry.mkdir()
    before = other.read_bytes()
    with pytest.raises(MetadataStoreError) as caught:
        open_read_only(path, MetadataStoreError)
    assert str(entry) in str(caught.value.why)
    assert kind in str(caught.value.why)
    assert other.read_bytes() == before


def test_a_file_of_something_else_is_named(path: Path) -> None:
    path.write_text("no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_read_only(path)


def write(path: Path) -> None:
    schema = Schema("store", 7, ((),), frozenset(), StoreError)
    with Database(path, schema).writing() as connection:
        connection.execute("CREATE TABLE taken (value)")


@pytest.mark.parametrize("act", [rows, write])
def test_a_store_that_is_swapped_for_a_link_when_it_is_opened_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]
) -> None:
    """A service swaps the database for a link to another one, just before SQLite looks."""
    foreign = tmp_path / "foreign.db"
    for place in (path, foreign):
        make(place)
        with closing(sqlite3.connect(place, isolation_level=None)) as connection:
            connection.execute("PRAGMA application_id = 7")
            connection.execute("PRAGMA user_version = 1")
    before = foreign.read_bytes()
    connect = sqlite3.connect

    def swap_and_connect(*args: Any, **options: Any) -> sqlite3.Connection:
        if not path.is_symlink():
            path.rename(path.with_name("aside"))
            path.symlink_to(foreign)
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", swap_and_connect)
    with pytest.raises(StoreError, match="cannot open"):
        act(path)
    assert foreign.read_bytes() == before
    assert [each.name for each in tmp_path.glob("foreign.db*")] == ["foreign.db"]
