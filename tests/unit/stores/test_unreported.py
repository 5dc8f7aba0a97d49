"""What a metadata store notes for a hub, and how long it keeps it."""

import datetime
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from acoupi import data
from acoupi.components.stores import SqliteStore, unreported
from acoupi.components.stores.reporting import Reporter
from acoupi.components.stores.unreported import Change, Unreported, hub_standing
from acoupi.data import EffortSpan, EffortState
from acoupi.heard import Verdict, VerdictRow
from acoupi.reports import Report
from tests.clocks import Clock
from tests.stores import SITE, at, detection, output, recording

HUB = "hub:example.org"
NOT_OF_A_REPORT = {
    # what only the sensor needs
    *("protected", "sample_file", "sample_limit"),
    # what changes only with its output, its recording, or never
    *("detection", "predicted_tag", "tag", "provenance", "clip"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


@pytest.fixture
def changes(path: Path, store: SqliteStore) -> Iterator[Unreported]:
    store.store_recording(recording("a.wav"))
    changes = Unreported(path)
    changes.start(HUB)
    yield changes
    changes.close()


def acknowledge_all(changes: Unreported) -> None:
    while found := changes.next(100):
        changes.acknowledge(found)


def kinds(changes: Unreported) -> list[str]:
    return sorted(one.kind for one in changes.next(100))


def report(path: Path, found: list[Change]) -> Report:
    reporter = Reporter(path)
    try:
        return reporter.report(found, at(10_000))
    finally:
        reporter.close()


def test_a_store_without_a_hub_notes_nothing(path: Path, store: SqliteStore) -> None:
    store.store_recording(recording("a.wav"))

    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        assert found.fetchall() == []
    assert hub_standing(path) is None


def test_every_table_is_reported_or_known_not_to_be(path: Path, changes: Unreported) -> None:
    with sqlite3.connect(path) as connection:
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("sqlite_") and name not in {"unreported", "hub_standing"}
        }
        watched = {
            table
            for (table,) in connection.execute(
                "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'"
            )
        }
    assert tables - watched == NOT_OF_A_REPORT


def test_what_was_there_before_is_reported_after_what_is_new(
    path: Path, store: SqliteStore, changes: Unreported
) -> None:
    new = recording("b.wav", 10)
    store.store_recording(new)

    first, second, third = changes.next(10)

    assert [first.kind, second.kind, third.kind] == ["deployment", "recording", "recording"]
    assert [one.name for one in report(path, [second, third]).recordings] == ["b.wav", "a.wav"]


Act = Callable[[SqliteStore, data.Recording], object]
ACTS: dict[str, tuple[Act, list[str]]] = {
    "another recording": (lambda s, r: s.store_recording(recording("b.wav", 9)), ["recording"]),
    "kept": (lambda s, r: s.update_recording_path(r, Path("/kept/a.wav")), ["recording"]),
    "deleted": (lambda s, r: s.end_recording(r, data.RecordingState.DELETED), ["recording"]),
    "analysis": (lambda s, r: s.begin_analysis(r, "bats"), ["recording"]),
    "output": (lambda s, r: s.store_model_output(output(r, detection())), ["recording"]),
    "deployment": (
        lambda s, r: s.update_deployment(SITE.model_copy(update={"ended_on": at(99)})),
        ["deployment"],
    ),
    "note": (
        lambda s, r: s.note_effort(SITE, [EffortSpan(at(50), at(60), EffortState.OFF_SCHEDULE)]),
        ["notes"],
    ),
    "verdict": (
        lambda s, r: s.add_verdict(VerdictRow(r.id, None, Verdict.WRONG, None, "x", "", at(80))),
        ["verdict"],
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_changes_is_noted_again(
    path: Path, store: SqliteStore, changes: Unreported, act: str
) -> None:
    acknowledge_all(changes)
    [(known, _)] = store.get_recordings_by_path([Path("/spool/a.wav")])
    do, expected = ACTS[act]

    do(store, known)

    assert kinds(changes) == expected


def test_a_change_while_a_report_is_on_its_way_is_not_forgotten(
    store: SqliteStore, changes: Unreported
) -> None:
    sent = changes.next(100)
    [(known, _)] = store.get_recordings_by_path([Path("/spool/a.wav")])
    store.end_recording(known, data.RecordingState.DELETED)

    changes.acknowledge(sent)

    assert kinds(changes) == ["recording"]


def test_a_note_that_moves_is_reported_for_both_hours(
    path: Path, store: SqliteStore, changes: Unreported
) -> None:
    store.note_effort(SITE, [EffortSpan(at(0), at(60), EffortState.OFF_SCHEDULE)])
    acknowledge_all(changes)

    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE effort_note SET start_us = start_us + 7200 * 1000000")
    [found] = report(path, changes.next(10)).deployments

    assert [one.start for one in found.notes] == [at(7200)]
    assert list(found.whole_hours) == [at(0), at(7200)]


def test_a_hidden_conflict_rule_does_not_lose_a_change(
    path: Path, store: SqliteStore, changes: Unreported
) -> None:
    before = changes.next(100)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT OR IGNORE INTO analysis (recording_row, name_model, state, attempts,"
            " updated_on_us) VALUES (1, 'bats', 'left_out', 0, 0)"
        )

    changes.acknowledge(before)

    assert kinds(changes) == ["recording"]


def test_another_hub_is_told_everything(store: SqliteStore, changes: Unreported) -> None:
    acknowledge_all(changes)

    assert changes.start(HUB).waiting == 0
    assert changes.start("hub:elsewhere").waiting == 2


def test_where_a_trigger_is_missing_everything_is_told_again(
    path: Path, store: SqliteStore, changes: Unreported
) -> None:
    acknowledge_all(changes)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER report_recording_insert")
    store.store_recording(recording("b.wav", 10))

    assert changes.start(HUB).waiting == 3


def test_many_recordings_of_before_are_noted_a_part_at_a_time(
    path: Path, store: SqliteStore, changes: Unreported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreported, "_TAKEN", 3)
    for number in range(7):
        store.store_recording(recording(f"{number}.wav", 10 * (number + 1)))
    other = Unreported(path)
    waiting = other.start("hub:elsewhere").waiting
    seen = []
    while found := other.next(2):
        seen += [one for one in found if one.kind == "recording"]
        other.acknowledge(found)

    assert waiting == 9
    assert len({one.row for one in seen}) == len(seen) == 8


def test_a_report_is_later_than_the_one_before_though_the_clock_is_set_back(
    changes: Unreported, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = changes.stamp()
    Clock(first - datetime.timedelta(days=400)).install(monkeypatch)

    assert changes.stamp() > first
    assert changes.start("hub:elsewhere").acknowledged_on is None
    assert changes.stamp() > first


def test_what_is_refused_waits_behind_all_else(store: SqliteStore, changes: Unreported) -> None:
    first = changes.next(1)[0]
    changes.postpone(first)
    store.store_recording(recording("b.wav", 10))

    assert [one.kind for one in changes.next(10)] == ["recording", "recording", "deployment"]
    assert changes.next(10)[2].number == first.number


def test_a_verdict_on_a_recording_that_is_gone_keeps_nothing_waiting(
    path: Path, changes: Unreported
) -> None:
    acknowledge_all(changes)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO verdict (recording_id, verdict, reviewer, note, given_on_us)"
            " VALUES (?, 'wrong', 'x', '', 0)",
            (uuid4().bytes,),
        )
    found = changes.next(10)

    assert [one.kind for one in found] == ["verdict"]
    told = report(path, found)
    assert (*told.deployments, *told.recordings, *told.messages) == ()
