"""The views of the stores: readable as they are, and as the rows of a reader say."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import duckdb
import duckdb_extension_sqlite_scanner
import pytest

import acoupi
from acoupi import data
from acoupi.clips import Clip
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.components.stores.views import MESSAGE_VIEWS, METADATA_VIEWS, View, dictionary
from acoupi.exports import Filters, Verdict, VerdictRow
from acoupi.exports.flat import flat_clip, flat_detection, flat_recording
from acoupi.provenance import Provenance
from tests.stores import SITE, at, deployment, detection, output, recording

VIEWS = (*METADATA_VIEWS, *MESSAGE_VIEWS)
KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """
    abort action add after all alter always analyze and as asc attach autoincrement before
    begin between by cascade case cast check collate column commit conflict constraint create
    cross current current_date current_time current_timestamp database default deferrable
    deferred delete desc detach distinct do drop each else end escape except exclude exclusive
    exists explain fail filter first following for foreign from full generated glob group
    groups having if ignore immediate in index indexed initially inner insert instead
    intersect into is isnull join key last left like limit match materialized natural no not
    nothing notnull null nulls of offset on or order others outer over partition plan pragma
    preceding primary query raise range recursive references regexp reindex release rename
    replace restrict returning right rollback row rows savepoint select set table temp
    temporary then ties to transaction trigger unbounded union unique update using vacuum
    values view virtual when where window with without start state time timestamp value user
    type
    """,
    )
)
BOX = data.BoundingBox.from_coordinates(0.25, 20_000, 0.5, 60_000)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A store with all that can be in it."""
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    lake = deployment(name='Lake "\N{SNOWMAN}"', latitude=51.5, longitude=-0.1, ended_on=at(9))
    for name, site in (("a.wav", SITE), ("b.wav", lake), (None, lake)):
        sound = recording(name, 0.000001, deployment=site, duration=3.3333333)
        store.store_recording(sound)
        found = [
            detection(0.5, ("event", "call", 0.9), ("species", "Myotis", 0.4), location=BOX),
            detection(0.25),
            detection(0.75, ("event", "a; b", 0.2)),
        ]
        made_by = Provenance(model="bats", model_version="1", weights="a", image="sha256:1")
        store.store_model_output(output(sound, *found, provenance=made_by if name else None))
    for said, note in ((Verdict.WRONG, ""), (Verdict.OTHER, "a social call")):
        store.add_verdict(VerdictRow(sound.id, found[0].id, said, "Plecotus", "Ana", note, at(1)))
    store.end_recording(sound, data.RecordingState.DELETED)
    for number, (start, missing) in enumerate([(-0.25, 0.0), (1.5, 0.5)]):
        store.put_clip(
            Clip(
                id=UUID(int=number),
                path=Path(f"/kept/{number}.wav"),
                stream_id=UUID(int=9),
                first_frame=number,
                frames=256_000,
                samplerate=256_000,
                missing_before_s=missing,
                parts={sound.id: start},
            )
        )
    store.add_verdict(VerdictRow(sound.id, found[1].id, Verdict.WITHDRAWN, None, "Ana", "", at(1)))
    store.note_effort(SITE, [data.EffortSpan(at(5), at(6.5), data.EffortState.DISK_FULL, "full")])
    yield path
    store.close()


def rows(path: Path, statement: str) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as connection:  # as other tools do: no functions of ours
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement)]


def test_the_view_of_detections_says_what_a_reader_says(path: Path) -> None:
    with SqliteReader(path) as reader:
        expected = [flat_detection(one) for one in reader.detections(Filters())]

    found = rows(path, "SELECT * FROM v_detection")

    assert len(found) == 9
    key = lambda row: row["detection_id"]  # noqa: E731 - of both
    assert sorted(found, key=key) == sorted(expected, key=key)


def test_the_view_of_recordings_says_what_a_reader_says(path: Path) -> None:
    with SqliteReader(path) as reader:
        expected = {
            one["recording_id"]: one for one in map(flat_recording, reader.recordings(Filters()))
        }

    for row in rows(path, "SELECT * FROM v_recording"):
        said = expected.pop(row["recording_id"])
        assert {name: row[name] for name in said} == said
    assert expected == {}


def test_a_clip_is_found_from_the_detection_that_it_holds(path: Path) -> None:
    statement = "SELECT * FROM v_detection WHERE recording_state = 'clipped'"
    found = {row["score"]: row for row in rows(path, statement)}
    clips = rows(path, "SELECT * FROM v_clip ORDER BY start_s")
    with SqliteReader(path) as reader:
        [told] = [one for one in reader.recordings(Filters()) if one.clips]

    assert (found[0.5]["clip_path"], found[0.5]["start_in_clip_s"]) == ("/kept/0.wav", 0.5)
    assert found[0.5]["verdict_note"] == "a social call"
    assert found[0.75]["clip_path"] is None  # no box: all of the recording, which no clip holds
    assert [(row["start_s"], row["missing_before_s"]) for row in clips] == [(-0.25, 0), (1.5, 0.5)]
    assert clips[0]["start_time"] == "2024-06-01T19:59:59.750001Z"
    said = [flat_clip(one) for one in told.clips]
    assert [{name: row[name] for name in said[0]} for row in clips] == said


@pytest.mark.parametrize("view", METADATA_VIEWS, ids=lambda view: view.name)
def test_duckdb_reads_what_is_there(path: Path, view: View) -> None:
    package = Path(duckdb_extension_sqlite_scanner.__file__).parent
    [extension] = package.rglob("*.duckdb_extension")
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{extension}'")
        connection.execute(f"ATTACH '{path}' AS metadata (TYPE sqlite, READ_ONLY)")
        found = connection.execute(f"SELECT * FROM metadata.{view.name}")
        names = [one[0] for one in found.description]
        told = [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    expected = [
        {name: None if value is None else str(value) for name, value in row.items()}
        for row in rows(path, f"SELECT * FROM {view.name}")
    ]
    assert sorted(map(str, told)) == sorted(map(str, expected))


def test_times_and_ids_are_text(path: Path) -> None:
    [ended] = rows(path, "SELECT * FROM v_deployment WHERE end_time IS NOT NULL")

    assert ended["start_time"] == "2024-06-01T20:00:00.000000Z"
    assert ended["end_time"] == "2024-06-01T20:00:09.000000Z"
    assert (ended["latitude"], ended["longitude"]) == (51.5, -0.1)


def test_effort_holds_recordings_and_notes(path: Path) -> None:
    found = rows(path, "SELECT * FROM v_effort ORDER BY start_time")

    assert [row["effort_state"] for row in found] == ["recorded"] * 3 + ["disk_full"]
    assert (found[-1]["duration_s"], found[-1]["reason"]) == (1.5, "full")


def test_messages_and_their_deliveries_are_readable(tmp_path: Path) -> None:
    store = SqliteMessageStore(tmp_path / "messages.db")
    message = data.Message(content=b'{"a": 1}', message_type=data.MessageType.SUMMARY)
    store.store_message(message)
    [waiting] = rows(store.db_path, "SELECT * FROM v_message")
    store.claim_messages("http")
    response = data.Response(status=data.ResponseStatus.FAILED, message=message, content="busy")
    store.settle_message("http", response)

    [tried] = rows(store.db_path, "SELECT * FROM v_message")
    store.close()

    assert (waiting["messenger"], waiting["message_text"]) == (None, '{"a": 1}')
    assert tried["message_id"] == str(message.id)
    assert (tried["messenger"], tried["delivery_state"], tried["attempt_count"]) == (
        "http", "pending", 1,
    )  # fmt: skip


def test_no_column_has_the_name_of_a_keyword() -> None:
    names = {column.name for view in VIEWS for column in view.columns}

    assert {name for name in names if name.lower() in KEYWORDS} == set()


@pytest.mark.parametrize("view", METADATA_VIEWS, ids=lambda view: view.name)
def test_a_store_has_the_views_that_are_described(path: Path, view: View) -> None:
    found = rows(path, f"SELECT * FROM {view.name} LIMIT 1")

    assert list(found[0]) == [column.name for column in view.columns]


def test_the_data_dictionary_is_that_of_the_views() -> None:
    page = Path(acoupi.__file__).parent / "docs" / "stores.md"

    assert page.read_text() == dictionary(), f"write dictionary() into {page}"
