"""The file behind a store: how it is made, recognised, migrated, shared and lost sight of."""

import gc
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.message_stores import sql as message_sql
from acoupi.components.stores import SqliteReader, SqliteStore, effort_tables, sql
from acoupi.components.stores.database import Database, Schema
from acoupi.effort import Captured
from acoupi.errors import MessageStoreError, MetadataStoreError, StoreError
from acoupi.heard import Filters
from tests.databases import SITE, count, recording

# Making it


@pytest.mark.parametrize("kind", [SqliteStore, SqliteMessageStore])
def test_constructing_touches_nothing_and_the_first_use_makes_all(
    tmp_path: Path, kind: type[SqliteStore] | type[SqliteMessageStore]
) -> None:
    path = tmp_path / "not" / "yet" / "there.db"

    store = kind(path)
    assert list(tmp_path.iterdir()) == []
    if isinstance(store, SqliteStore):
        store.get_current_deployment()
    else:
        store.get_unsent_messages()

    assert store.db_path == path
    assert path.exists()


def test_the_file_is_in_wal_mode_marked_and_versioned(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    SqliteStore(path).store_deployment(SITE)

    connection = sqlite3.connect(path)
    found = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "application_id", "user_version")
    ]
    connection.close()

    assert found == ["wal", sql.SCHEMA.application_id, sql.SCHEMA.version]


def test_connections_sync_every_commit_and_enforce_references(tmp_path: Path) -> None:
    with Database(tmp_path / "x.db", sql.SCHEMA).writing() as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "foreign_keys", "busy_timeout", "temp_store")
        }

    assert found == {"synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000, "temp_store": 2}


def test_a_change_that_may_be_late_waits_for_the_next_that_may_not(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db", sql.SCHEMA)
    found = []
    for may_be_late in (True, False):
        with database.writing(may_be_late=may_be_late) as connection:
            found.append(connection.execute("PRAGMA synchronous").fetchone()[0])
    assert found == [1, 2]


def test_tags_are_stored_once_and_their_rows_leave_with_the_detection(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    sound = recording()
    store.store_recording(sound)
    tag = data.PredictedTag(data.Tag("species", "Myotis"), 0.5)
    output = data.ModelOutput(
        name_model="m", recording=sound, detections=[data.Detection(tags=[tag, tag])] * 50
    )
    store.store_model_output(output)
    assert (count(path, "tag"), count(path, "predicted_tag")) == (1, 100)

    store.store_model_output(output.model_copy(update={"detections": []}))

    assert (count(path, "detection"), count(path, "predicted_tag")) == (0, 0)


# Recognising it

PEER_TABLES = ("deployment", "recording", "model_output", "detection", "predicted_tag")


def foreign(path: Path, tables: tuple[str, ...], version: int) -> None:
    connection = sqlite3.connect(path)
    for table in tables:
        connection.execute(f"CREATE TABLE {table} (id BLOB PRIMARY KEY)")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("tables", "version", "reason"),
    [
        (PEER_TABLES, 1, r"an earlier acoupi \(0.5 or later\) wrote it"),
        (PEER_TABLES, 0, "an acoupi before 0.5 wrote it"),
        (("birds",), 0, "another program wrote it"),
        (("birds",), 7, "another program wrote it"),
    ],
)
def test_a_database_of_another_origin_is_refused_by_name_and_left_as_it_is(
    tmp_path: Path, tables: tuple[str, ...], version: int, reason: str
) -> None:
    path = tmp_path / "metadata.db"
    foreign(path, tables, version)
    before = path.read_bytes()

    with pytest.raises(MetadataStoreError, match=reason) as caught:
        SqliteStore(path).get_current_deployment()

    assert str(path) in str(caught.value)
    assert len(caught.value.lines()) == 3
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"metadata.db", "metadata.db.lock"}


def test_the_way_out_of_a_refusal_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "with space" / "metadata.db"
    path.parent.mkdir()
    foreign(path, PEER_TABLES, 1)
    store = SqliteStore(path)
    with pytest.raises(MetadataStoreError) as caught:
        store.get_current_deployment()
    assert caught.value.help is not None

    subprocess.run(["sh", "-c", caught.value.help.split("   (")[0]], check=True)

    store.store_deployment(SITE)
    assert count(path.parent / "earlier-acoupi" / "metadata.db", "recording") == 0
    assert store.get_current_deployment() == SITE


def test_a_message_store_of_the_peer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    foreign(path, ("message", "response"), 0)

    with pytest.raises(MessageStoreError, match=r"message store .* an acoupi before"):
        SqliteMessageStore(path).get_unsent_messages()


def test_the_two_stores_refuse_each_others_file(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    SqliteStore(path).store_deployment(SITE)

    with pytest.raises(MessageStoreError, match="another program") as caught:
        SqliteMessageStore(path).get_unsent_messages()

    assert "configure another file" in (caught.value.help or "")


@pytest.mark.parametrize(
    ("use", "schema", "error"),
    [
        (lambda path: SqliteStore(path).count_recordings(), sql.SCHEMA, MetadataStoreError),
        (
            lambda path: SqliteMessageStore(path).get_unsent_messages(),
            message_sql.SCHEMA,
            MessageStoreError,
        ),
    ],
)
def test_a_newer_schema_is_refused_naming_file_and_both_versions(
    tmp_path: Path, use: Callable[[Path], Any], schema: Schema, error: type[StoreError]
) -> None:
    path = tmp_path / "future.db"
    newer = replace(schema, migrations=(*schema.migrations, ("CREATE TABLE fancy (x)",)))
    with Database(path, newer).writing():
        pass

    with pytest.raises(error, match="a newer acoupi wrote it") as caught:
        use(path)

    text = "\n".join(caught.value.lines())
    assert str(path) in text
    assert f"version {newer.version}" in text
    assert f"up to {schema.version}" in text
    assert "pip install --upgrade acoupi" in text


# Migrating it

FIRST = ("CREATE TABLE pond (name TEXT)",)
SECOND = ("ALTER TABLE pond ADD COLUMN depth_m REAL", "UPDATE pond SET depth_m = 2")
BROKEN = ("ALTER TABLE pond ADD COLUMN depth_m REAL", "INSERT INTO nowhere VALUES (1)")


def schema(*migrations: tuple[str, ...]) -> Schema:
    return Schema("test store", 77, migrations, frozenset({"peer"}), MetadataStoreError)


def test_an_older_file_is_brought_up_to_date_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with Database(path, schema(FIRST)).writing() as connection:
        connection.execute("INSERT INTO pond VALUES ('Lily')")

    with Database(path, schema(FIRST, SECOND)).reading() as connection:
        found = connection.execute("SELECT name, depth_m FROM pond").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()[0]

    assert (found, version) == ([("Lily", 2.0)], 2)


FIRST_AT = 10**15


def old_recordings(path: Path, version: int, number: int) -> None:
    """Make a store of an earlier version, of recordings of 3 s, one every 10 s."""
    old = replace(sql.SCHEMA, migrations=sql.SCHEMA.migrations[:version])
    with Database(path, old).writing() as connection:
        connection.execute(
            "INSERT INTO deployment (id, name, started_on_us) VALUES (?, 'Pond', 0)",
            (SITE.id.bytes,),
        )
        connection.executemany(
            "INSERT INTO recording (id, deployment_row, created_on_us, duration_s, samplerate_hz,"
            " time_expansion, state) VALUES (?, 1, ?, 3.0, 8000, 1.0, 'kept')",
            [(os.urandom(16), FIRST_AT + n * 10_000_000) for n in range(number)],
        )


def captured(store: SqliteStore) -> Sequence[Captured]:
    history = store.get_effort(SITE)
    assert history is not None
    return history.captured


def test_a_metadata_store_without_an_effort_ledger_gets_one_and_keeps_its_recordings(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metadata.db"
    old_recordings(path, 1, 1)

    store = SqliteStore(path)

    assert [(one.start, one.end, one.stream_id) for one in captured(store)] == [
        (FIRST_AT, FIRST_AT + 3_000_000, None)
    ]
    assert store.count_recordings()[data.RecordingState.KEPT] == 1


@pytest.mark.parametrize("version", range(1, sql.SCHEMA.version + 1))
def test_a_store_of_any_version_is_read_without_being_changed(tmp_path: Path, version: int) -> None:
    path = tmp_path / "metadata.db"
    old_recordings(path, version, 3)
    gc.collect()  # closes the connections of what wrote it
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}

    with SqliteReader(path) as reader:
        found = list(reader.recordings(Filters(), newest_first=True))
        assert list(reader.detections(Filters())) == []
        assert reader.get_effort(SITE) == SqliteReader(path).get_effort(SITE)

    assert [data.to_microseconds(one.started_on) for one in found] == [
        FIRST_AT + 20_000_000, FIRST_AT + 10_000_000, FIRST_AT
    ]  # fmt: skip
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_a_store_of_before_keeps_its_detections_and_gets_views(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    old_recordings(path, 5, 1)
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO model_output (id, recording_row, name_model, created_on_us)"
        " VALUES (?, 1, 'bats', 5)",
        (os.urandom(16),),
    )
    connection.execute(
        "INSERT INTO detection (id, output_row, prediction_type, score)"
        " VALUES (?, 1, 'event', 0.5)",
        (os.urandom(16),),
    )
    connection.commit()
    connection.close()

    [output] = SqliteStore(path).get_model_outputs()

    assert (output.name_model, output.provenance, len(output.detections)) == ("bats", None, 1)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT score, weights_sha256 FROM v_detection").fetchall() == [
        (0.5, None)
    ]
    connection.close()


def test_why_a_recording_broke_off_is_said_in_the_vocabulary_from_version_3_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metadata.db"
    texts = ["cannot write the recording", "the microphone stopped.", None]
    old_recordings(path, 2, len(texts))
    connection = sqlite3.connect(path)
    connection.executemany(
        "INSERT INTO capture (recording_row, stream_id, first_frame, frames,"
        " gap_before_frames, incomplete) VALUES (?, ?, 0, 24000, 0, ?)",
        [(row, os.urandom(16), text) for row, text in enumerate(texts, 1)],
    )
    connection.commit()
    connection.close()

    assert [(one.incomplete, one.incomplete_words) for one in captured(SqliteStore(path))] == [
        (data.IncompleteReason.DISK_FULL, texts[0]),
        (data.IncompleteReason.OTHER, texts[1]),
        (None, None),
    ]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with Database(path, schema(FIRST)).writing() as connection:
        connection.execute("INSERT INTO pond VALUES ('Lily')")

    broken = Database(path, schema(FIRST, BROKEN)).reading()
    with pytest.raises(MetadataStoreError, match="cannot open the test store"), broken:
        pass

    with Database(path, schema(FIRST)).reading() as connection:
        assert connection.execute("SELECT * FROM pond").fetchall() == [("Lily",)]


def test_a_migration_that_fails_leaves_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"

    with pytest.raises(MetadataStoreError), Database(path, schema(FIRST, SECOND, BROKEN)).reading():
        pass

    with Database(path, schema(FIRST, SECOND)).reading() as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 2


def test_messages_of_an_earlier_version_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"
    first = replace(message_sql.SCHEMA, migrations=message_sql.SCHEMA.migrations[:1])
    with Database(path, first).writing() as connection:
        values = {"id": b"0" * 16, "content": "old", "message_type": None, "created_on": 1}
        connection.execute(message_sql.ADD_MESSAGE, values)

    store = SqliteMessageStore(path)
    [message] = store.claim_messages("http")
    store.settle_message("http", data.Response(status=data.ResponseStatus.SUCCESS, message=message))

    assert message.content == b"old"
    assert store.get_refusals() == []
    assert store.remove_delivered(data.utc_now(), ["http"]) == 1


# Sharing it


# What it costs


@pytest.mark.parametrize(
    ("schema", "statement"),
    [
        (sql.SCHEMA, sql.RECORDINGS_BY_ID),
        (sql.SCHEMA, sql.RECORDINGS_BY_PATH),
        (sql.SCHEMA, sql.RECORDINGS_BY_ROW),
        (sql.SCHEMA, sql.CAPTURED_RECORDINGS),
        (sql.SCHEMA, sql.OWNER_OF_PATH),
        (sql.SCHEMA, sql.LAST_RECORDING_OF),
        (sql.SCHEMA, effort_tables.CAPTURED),
        (sql.SCHEMA, effort_tables.NOTES),
        (sql.SCHEMA, effort_tables.PLANS),
        (sql.SCHEMA, sql.ANALYSES),
        (sql.SCHEMA, sql.OUTPUTS_OF_RECORDINGS),
        (sql.SCHEMA, sql.OUTPUTS_BY_RECORDING_TIME),
        (sql.SCHEMA, sql.DETECTIONS_OF_OUTPUTS),
        (sql.SCHEMA, sql.TAGS_OF_OUTPUTS),
        (sql.SCHEMA, sql.TAGS_OF_DETECTIONS),
        (sql.SCHEMA, sql.DELETE_DETECTIONS),
        (sql.SCHEMA, sql.outputs_where({"ids"})),
        (sql.SCHEMA, sql.outputs_where({"recording_ids"})),
        (sql.SCHEMA, sql.outputs_where({"detection_ids"})),
        (sql.SCHEMA, sql.outputs_where({"after", "before"})),
        (sql.SCHEMA, sql.detections_where({"ids"})),
        (sql.SCHEMA, sql.detections_where({"model_output_ids"})),
        (sql.SCHEMA, sql.detections_where({"after", "before", "score_gt"})),
        (sql.SCHEMA, sql.tags_where({"detection_ids"})),
        (sql.SCHEMA, sql.tags_where({"after", "before", "keys", "score_gt"})),
        (sql.SCHEMA, sql.tags_where({"keys", "values"})),
        (message_sql.SCHEMA, message_sql.ENLIST),
        (message_sql.SCHEMA, message_sql.CLAIM),
        (message_sql.SCHEMA, message_sql.RELEASE),
        (message_sql.SCHEMA, message_sql.DUE["oldest_first"]),
        (message_sql.SCHEMA, message_sql.DUE["newest_first"]),
        (message_sql.SCHEMA, message_sql.UNSENT["newest_first"]),
        (message_sql.SCHEMA, message_sql.CLOSE_DELIVERIES),
        (message_sql.SCHEMA, message_sql.CANDIDATES_OF_KIND["oldest_first"]),
        (message_sql.SCHEMA, message_sql.CANDIDATES_OF_KIND["newest_first"]),
        (message_sql.SCHEMA, message_sql.RESERVED),
        (message_sql.SCHEMA, message_sql.RESERVED_BY_LAPSED),
        (message_sql.SCHEMA, message_sql.TRAFFIC),
        (message_sql.SCHEMA, message_sql.EXPIRE),
        (message_sql.SCHEMA, message_sql.REMOVABLE),
        (message_sql.SCHEMA, message_sql.REMOVABLE_UNSENT),
        *((message_sql.SCHEMA, statement) for statement in message_sql.REMOVE),
    ],
)
def test_a_frequent_statement_reads_no_whole_table(
    tmp_path: Path, schema: Schema, statement: str
) -> None:
    names = set(re.findall(r":(\w+)", statement))
    values: dict[str, Any] = {name: "[]" if name.endswith("s") else 1 for name in names}

    with Database(tmp_path / "x.db", schema).reading() as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()

    steps = [str(step[3]) for step in plan]
    scans = [step for step in steps if step.startswith("SCAN")]
    # An array is read whole, and so are the indexes of what is unsent and of what has
    # expired, up to the limit; and the deployments, which are few.
    allowed = ("VIRTUAL TABLE", "message_unsent", "delivery_expired", "SCAN d")
    assert [step for step in scans if not any(name in step for name in allowed)] == [], steps


def test_due_messages_come_in_order_without_sorting(tmp_path: Path) -> None:
    values = dict.fromkeys(("messenger_row", "now", "longest_rest", "lease_end", "limit"), 1)

    with Database(tmp_path / "x.db", message_sql.SCHEMA).reading() as connection:
        plans = [
            connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            for statement in message_sql.DUE.values()
        ]

    assert not [step for plan in plans for step in plan if "TEMP B-TREE" in step[3]]


def test_a_commit_writes_small_pages(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    store.store_deployment(data.Deployment(name="oak"))
    connection = sqlite3.connect(path)

    assert connection.execute("PRAGMA page_size").fetchone()[0] == 1024
    connection.close()
    store.close()
