"""A store of before analyses could be left out is taken over, with all that is in it."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from acoupi.components import SqliteStore
from acoupi.components.stores import analysis_tables as tables
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database
from acoupi.components.stores.reader import SqliteReader
from acoupi.data import AnalysisState
from acoupi.heard import Filters
from acoupi.testing import make_recording

BEFORE = 8
ROWS = [
    ("done", 1, None, 5_000_000, "boot:1", 0),
    ("retry", 2, "no memory", 6_000_000, "boot:2", 1),
    ("failed", 3, "no file", 7_000_000, None, 0),
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.db"
    schema = replace(sql.SCHEMA, migrations=sql.SCHEMA.migrations[:BEFORE])
    database = Database(path, schema)
    with database.writing() as connection:
        connection.execute(
            "INSERT INTO deployment (row, id, name, started_on_us) VALUES (1, ?, 'oak', 0)",
            (make_recording().deployment.id.bytes,),
        )
        for number, values in enumerate(ROWS, 1):
            connection.execute(
                "INSERT INTO recording (row, id, deployment_row, path, created_on_us, duration_s, "
                "samplerate_hz, audio_channels, time_expansion, state) "
                "VALUES (?, randomblob(16), 1, ?, ?, 3.0, 8000, 1, 1.0, 'captured')",
                (number, f"/spool/{number}.wav", number * 10_000_000),
            )
            connection.execute(
                "INSERT INTO analysis VALUES (?, 'bats', ?, ?, ?, ?, ?, ?)", (number, *values)
            )
    database.close()
    return path


def rows_in(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT state, attempts, error, updated_on_us, begun_by, interruptions "
            "FROM analysis ORDER BY recording_row"
        ).fetchall()


def test_analyses_of_before_stay_as_they_are(old: Path) -> None:
    store = SqliteStore(old)

    counts = store.count_analyses()

    assert {state: n for state, n in counts.items() if n} == {
        AnalysisState.DONE: 1, AnalysisState.RETRY: 1, AnalysisState.FAILED: 1,
    }  # fmt: skip
    store.close()
    assert rows_in(old) == ROWS
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == BEFORE + 1
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_all_recordings_of_before_count_as_analysed(old: Path) -> None:
    """Also where the file is only read, as status and exports do."""
    with SqliteReader(old) as reader:
        found = list(reader.recordings(Filters()))

    assert [one.analysed_fraction for one in found] == [1.0] * 3
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == BEFORE


def test_the_views_say_when_and_why_a_recording_was_left_out(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    recording = make_recording(duration=10.0)
    store.store_recording(recording)
    with store._database.writing() as connection:
        connection.execute(
            "INSERT INTO sampling VALUES (1, 0, NULL, 4, '[]', 4, 1, 'slow', 5000000)"
        )
        connection.execute("UPDATE recording SET sampling_row = 1")
        connection.execute(
            "INSERT INTO analysis VALUES (1, 'bats', 'left_out', 0, 'slow', 5000000, NULL, 0)"
        )
    store.close()

    with closing(sqlite3.connect(tmp_path / "metadata.db")) as connection:
        (told,) = connection.execute(
            "SELECT analysed_fraction, left_out_time, left_out_reason FROM v_recording"
        )
        (effort,) = connection.execute("SELECT analysed_fraction, reason FROM v_effort")
    assert told == (0.25, "1970-01-01T00:00:05.000000Z", "slow")
    assert effort == (0.25, "not analysed: slow")


def test_a_pass_reads_by_index(tmp_path: Path) -> None:
    """What a look costs does not grow with what was recorded before."""
    store = SqliteStore(tmp_path / "metadata.db")
    store.store_recording(make_recording())
    values = {"since": 0, "limit": 20, "yesterday": 0}
    with store._database.reading() as connection:
        for statement in (
            tables._UNFINISHED, tables._STARTS, tables._ENDS, tables._HAS_BEGUN,
            tables._WAITING, tables._ARRIVED,
        ):  # fmt: skip
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            scans = [row[3] for row in plan if row[3].startswith("SCAN")]
            assert scans in ([], ["SCAN CONSTANT ROW"], ["SCAN s"]), (statement, plan)
