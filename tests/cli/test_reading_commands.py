"""Commands that read leave the files of services as they are, and open nothing but files."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.message_stores import sql
from acoupi.components.stores.database import Database
from acoupi.errors import MetadataStoreError
from tests.cli.support import Run, lines_of, tree_of

READING = [
    ["messages", "list"],
    ["deployment", "status"],
    ["deployment", "list"],
    ["workers", "status"],
    ["task", "list"],
    ["config", "get"],
    ["check"],
    ["effort"],
]
NOT_READY = {0, 1, 2, 3}
"""Nothing is running, and no deployment has been started."""
DATABASES = ["metadata.db", "messages.db"]


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_a_command_that_reads_creates_no_database(run: Run, sensor: Path, args: list[str]) -> None:
    assert run(*args).exit_code in NOT_READY
    assert not list((sensor / "data").glob("*.db*"))


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_a_command_that_reads_leaves_the_databases_as_they_are(
    run: Run, sensor: Path, args: list[str]
) -> None:
    SqliteStore(sensor / "data" / "metadata.db").count_recordings()
    SqliteMessageStore(sensor / "data" / "messages.db").count_deliveries()
    before = tree_of(sensor / "data")

    assert run(*args).exit_code in NOT_READY
    assert tree_of(sensor / "data") == before


def test_a_database_of_an_earlier_version_is_read_and_not_updated(run: Run, sensor: Path) -> None:
    path = sensor / "data" / "messages.db"
    earlier = Database(path, replace(sql.SCHEMA, migrations=sql.SCHEMA.migrations[:1]))
    with earlier.reading():
        pass
    earlier.close()
    before = tree_of(sensor / "data")

    result = run("messages", "list")

    assert result.exit_code == 0, result.stderr
    assert "No messages have been sent yet" in result.stdout
    assert tree_of(sensor / "data") == before


@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("what", ["a link", "a FIFO"])
def test_what_is_no_file_is_no_database(
    run: Run, sensor: Path, tmp_path: Path, name: str, what: str
) -> None:
    path, elsewhere = sensor / "data" / name, tmp_path / "made.db"
    if what == "a link":
        path.symlink_to(elsewhere)
    else:
        os.mkfifo(path)
    args = ["messages", "list"] if name == "messages.db" else ["check"]

    result = run(*args)

    assert result.exit_code != 0
    assert f'cannot open the database "{path}"' in lines_of(result)[0]
    assert what in lines_of(result)[1]
    assert not elsewhere.exists()


def test_a_store_that_is_written_creates_nothing_behind_a_link(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "metadata.db", tmp_path / "made.db"
    path.symlink_to(elsewhere)

    with pytest.raises(MetadataStoreError, match="cannot open the database"):
        SqliteStore(path).count_recordings()
    assert not elsewhere.exists()


def test_what_is_no_file_in_the_spool_is_told(run: Run, sensor: Path, tmp_path: Path) -> None:
    spool = sensor / "data" / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    (spool / "a.wav").symlink_to(tmp_path / "secrets.env")

    result = run("deployment", "status")

    shown = " ".join(f"{result.stdout} {result.stderr}".split())
    assert "a.wav is a link, not a file, and is ignored" in shown
