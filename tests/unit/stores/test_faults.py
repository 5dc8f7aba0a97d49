"""What a store says when its disk or its file fails: what, why, what to try."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from acoupi import data
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteStore, database, faults
from acoupi.errors import MessageStoreError, MetadataStoreError, StoreError

NOBODY = 65_534


class Kind(NamedTuple):
    name: str
    error: type[StoreError]
    store: Callable[[Path], Any]
    write: Callable[[Any], None]


KINDS = [
    Kind(
        "metadata store",
        MetadataStoreError,
        SqliteStore,
        lambda store: store.store_deployment(data.Deployment(name="x" * 5000)),
    ),
    Kind(
        "message store",
        MessageStoreError,
        SqliteMessageStore,
        lambda store: store.store_message(data.Message(content="x" * 5000)),
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others than its owner can enter, as pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def powerless() -> Iterator[None]:
    """Be a user for whom permissions hold."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def refused(kind: Kind, path: Path) -> StoreError:
    with pytest.raises(kind.error) as caught:
        kind.write(kind.store(path))
    error = caught.value
    assert len(error.lines()) == 3, error.lines()
    assert f'the {kind.name} "{path}"' in str(error) or "folder" in str(error)
    assert error.__cause__ is not None
    return error


def test_a_file_that_is_no_database_is_told_and_left(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("shopping list: " + "batteries " * 500)
    before = path.read_bytes()

    error = refused(kind, path)

    assert "is not a database" in str(error)
    assert error.help is not None
    assert error.help.startswith("acoupi stores --heal")
    assert path.read_bytes() == before


def test_a_damaged_database_is_told(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    store = kind.store(path)
    for _ in range(30):
        kind.write(store)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))

    error = refused(kind, path)

    assert "is damaged" in str(error)
    assert "acoupi stores --heal" in (error.help or "")


def test_a_folder_that_cannot_be_made_is_told(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "deeper" / "x.db"

    error = refused(kind, path)

    assert f'cannot make the folder "{path.parent}" for the {kind.name}' in str(error)
    assert "Not a directory" in (error.why or "")
    assert f"ls -ld {tmp_path / 'file'}" in (error.help or "")


def test_a_folder_without_the_right_to_write_is_told(kind: Kind, folder: Path) -> None:
    folder.chmod(0o555)

    with powerless():
        below = refused(kind, folder / "new" / "x.db")
        inside = refused(kind, folder / "x.db")

    assert "Permission denied" in (below.why or "")
    assert "cannot be opened" in str(inside)


def test_a_folder_that_may_not_be_entered_is_told(kind: Kind, folder: Path) -> None:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o600)

    with powerless():
        error = refused(kind, folder / "closed" / "new" / "x.db")

    assert "Permission denied" in (error.why or "")
    (folder / "closed").chmod(0o755)


def test_a_read_only_file_is_told_when_written_to(kind: Kind, folder: Path) -> None:
    path = folder / "x.db"
    store = kind.store(path)
    kind.write(store)
    store.close()
    path.chmod(0o444)
    folder.chmod(0o777)

    with powerless():
        error = refused(kind, path)

    assert "it is read-only" in str(error) or "cannot be opened" in str(error)
    assert "must be able to write both" in (error.help or "")


def test_a_full_disk_is_told_and_what_was_stored_before_stays(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "PRAGMA max_page_count = 60"  # SQLite's own full disk
    monkeypatch.setattr(database, "_PRAGMAS", (*database._PRAGMAS, limit))
    path = tmp_path / "x.db"
    store = kind.store(path)
    written = []

    with pytest.raises(kind.error) as caught:
        written.extend(kind.write(store) for _ in range(100))

    assert "the disk is full" in str(caught.value)
    assert "bytes are free" in (caught.value.why or "")
    assert "df -h" in (caught.value.help or "")
    store.close()
    table = "message" if kind.name == "message store" else "deployment"
    connection = sqlite3.connect(path)
    assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == len(written) > 0
    connection.close()


def test_a_failed_write_on_a_full_disk_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"

    def explained(free: int) -> str:
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        return str(
            faults.explain(
                error,
                store="message store",
                path=tmp_path / "x.db",
                action="open",
                kind=MessageStoreError,
            )
        )

    assert "the disk is full" in explained(0)
    assert "the disk fails" in explained(10**9)


def test_a_file_that_stays_locked_is_told(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    kind.write(kind.store(path))
    monkeypatch.setattr(faults, "BUSY_TIMEOUT", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    error = refused(kind, path)

    other.execute("ROLLBACK")
    other.close()
    assert "another process keeps it locked" in str(error)
    assert "fuser -v" in (error.help or "")
    kind.write(kind.store(path))


def test_a_number_that_fits_no_column_is_an_error_of_the_store(tmp_path: Path) -> None:
    site = data.Deployment(name="Pond")
    huge = data.Recording(duration=1, samplerate=2**70, deployment=site)

    with pytest.raises(MetadataStoreError, match="cannot write to the metadata store"):
        SqliteStore(tmp_path / "x.db").store_recording(huge)


def test_a_store_works_on_after_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.db"
    path.parent.write_text("in the way")
    store = SqliteStore(path)
    with pytest.raises(MetadataStoreError):
        store.get_current_deployment()

    path.parent.unlink()

    assert store.get_current_deployment() == store.get_current_deployment()


def test_a_path_with_braces_or_spaces_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a {b} c.db"
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"

    error = faults.explain(busy, store="store", path=path, action="open", kind=MetadataStoreError)

    assert (error.help or "").startswith(f"fuser -v '{path}'")
