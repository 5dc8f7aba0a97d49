"""A damaged database is set aside, and what can be read of it is taken over into a new one."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from acoupi import data
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.database import Database
from acoupi.components.stores.healing import find_damage, set_aside, take_over
from acoupi.components.stores.healings import Healing, database_of, healings_of
from acoupi.data import EffortSpan, EffortState
from acoupi.errors import StoreError
from tests import message_stores
from tests.kills import homes_killed_at_each_rename
from tests.message_stores import answer
from tests.stores import SITE, at, detection, output, recording

PAGE = 1024
"""Bytes of a page of a new file."""
TABLES = ("deployment", "recording", "analysis", "model_output", "detection", "tag", "effort_note")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a season in it, after a power cut: the last of it is in the journal."""
    folder = tmp_path_factory.mktemp("full")
    store = SqliteStore(folder / "metadata.db")
    store.store_deployment(SITE)
    for number in range(120):
        one = recording(f"{number:05}.wav", 10 * number)
        store.store_recording(one)
        store.note_effort(
            SITE, [EffortSpan(at(10 * number), at(10 * number + 5), EffortState.OVERRUN, "late")]
        )
        store.end_analysis(store.begin_analysis(one, "bats"))
        found = [detection(0.5, ("species", f"S{number % 9}", 0.9)) for _ in range(5)]
        store.store_model_output(output(one, *found))
    database_of(store).close()  # type: ignore[union-attr]
    return folder / "metadata.db"


@pytest.fixture
def path(full: Path, tmp_path: Path) -> Path:
    shutil.copy(full, tmp_path)
    return tmp_path / full.name


def rows(path: Path, table: str) -> set[tuple[Any, ...]]:
    """The content of a table, by what does not depend on the numbers of rows."""
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        named = ", ".join(one for one in columns if one != "row" and not one.endswith("_row"))
        return set(connection.execute(f"SELECT {named} FROM {table}"))


def heal(store: Any, why: str | None = None, *, at_once: bool = False) -> Healing:
    database = database_of(store)
    assert database is not None
    why = why or find_damage(database, patience=30)
    assert why is not None
    healing = set_aside(database, why)
    assert healing is not None
    take_over(database, healing, at_once=at_once)
    return healing


def is_intact(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        return found == [("ok",)] and not connection.execute("PRAGMA foreign_key_check").fetchall()


@pytest.mark.parametrize("seed", range(6))
def test_damage_anywhere_costs_what_is_on_the_pages_and_invents_nothing(
    path: Path, full: Path, seed: int
) -> None:
    random, content = Random(seed), bytearray(path.read_bytes())
    for page in random.sample(range(len(content) // PAGE), 1 + 2 * seed):
        content[page * PAGE : (page + 1) * PAGE] = random.randbytes(PAGE)
    path.write_bytes(content)
    store = SqliteStore(path)

    healing = heal(store)

    assert is_intact(path)
    for table in TABLES:
        assert rows(path, table) <= rows(full, table), table
    lost = sum(len(rows(full, table) - rows(path, table)) for table in TABLES)
    assert bool(lost) <= bool(healing.lost)
    assert lost < 0.8 * sum(len(rows(full, table)) for table in TABLES)
    assert healing.aside.read_bytes() == content
    before = {table: rows(path, table) for table in TABLES}
    take_over(database_of(store), healing)  # type: ignore[arg-type]
    assert {table: rows(path, table) for table in TABLES} == before


def test_what_only_an_index_has_lost_is_all_taken_over(path: Path, full: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'recording_created_on'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)

    healing = heal(SqliteStore(path))

    assert healing.lost == []
    for table in (*TABLES, "predicted_tag", "capture", "provenance"):
        assert rows(path, table) == rows(full, table)


def test_a_file_without_its_head_is_read_all_the_same(path: Path, full: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(PAGE))

    heal(SqliteStore(path))

    assert rows(path, "recording") == rows(full, "recording")
    assert rows(path, "detection") == rows(full, "detection")


def test_the_tags_of_a_species_survive_the_loss_of_their_only_page(path: Path, full: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'tag'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)

    heal(SqliteStore(path))

    assert rows(path, "tag") == rows(full, "tag")
    store = SqliteStore(path)
    [(_, [found])] = store.get_recordings([one.id for one in store.get_captured_recordings(1)])
    assert all(one.tags for one in found.detections)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def text(path: Path) -> None:
    path.write_text("shopping list: " + "batteries " * 5000)


def without_a_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE capture_clock")
        connection.commit()


def without_a_column(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE analysis DROP COLUMN interruptions")
        connection.commit()


def begun_again(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
        connection.commit()


DAMAGES = [cut_short, zeros, text, without_a_table, without_a_column, begun_again]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_kind_of_damage_is_found_and_healed(path: Path, damage: Any) -> None:
    damage(path)
    content = path.read_bytes()
    store = SqliteStore(path)

    healing = heal(store)

    assert is_intact(path)
    assert find_damage(Database(path, database_of(store).schema), 30) is None  # type: ignore[union-attr]
    assert healing.aside.read_bytes() == content or damage is begun_again
    healing.write()
    assert healings_of(path) == [healing]
    store.store_recording(recording("new.wav", 99_999))


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
        connection.commit()


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title)")


def sound(path: Path) -> None:
    pass


@pytest.mark.parametrize("change", [newer, of_another_program, sound])
def test_what_is_not_damaged_is_left_to_a_person(path: Path, change: Any) -> None:
    change(path)

    assert find_damage(database_of(SqliteStore(path)), 30) is None  # type: ignore[arg-type]


def test_a_process_that_meets_damage_leaves_a_note_for_the_one_that_heals(path: Path) -> None:
    store = SqliteStore(path)
    store.count_recordings()
    database = database_of(store)
    assert database is not None
    database.close()
    path.write_bytes(path.read_bytes()[:PAGE] + b"\xa5" * (path.stat().st_size - PAGE))

    with pytest.raises(StoreError) as error:
        store.count_recordings()

    assert "acoupi stores --heal" in (error.value.help or "")
    assert path.with_name("metadata.db.suspect").exists()
    heal(store)
    assert not path.with_name("metadata.db.suspect").exists()


def test_a_false_suspicion_is_cleared_once_the_whole_file_was_looked_at(path: Path) -> None:
    path.with_name("metadata.db.suspect").touch()

    assert find_damage(database_of(SqliteStore(path)), 0) is None  # type: ignore[arg-type]
    assert not path.with_name("metadata.db.suspect").exists()


WRITER = """
import sys
from pathlib import Path
from acoupi.components.stores import SqliteStore
from tests.stores import recording
store = SqliteStore(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    one = recording(f"{sys.argv[2]}-{number}.wav", number)
    store.store_recording(one)
    print(one.id, flush=True)
"""


def test_no_process_writes_into_a_file_that_was_set_aside_and_no_row_is_lost(path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    store = SqliteStore(path)
    stored: list[str] = []

    def wait_until_both_write() -> None:
        """Each has written into the file that is there now."""
        wanted = {"a", "b"}
        while wanted:
            for writer in writers:
                assert writer.stdout is not None
                stored.append(writer.stdout.readline().strip())
            paths = [str(one.path) for one in store.get_captured_recordings()]
            wanted -= {name for name in wanted if any(f"/{name}-" in one for one in paths)}

    try:
        wait_until_both_write()
        healings, digests = [], []
        for _ in range(2):
            healing = set_aside(database_of(store), "a test")  # type: ignore[arg-type]
            assert healing is not None
            digests.append(_digest(healing))
            healings.append(healing)
            wait_until_both_write()
    finally:
        for writer in writers:
            writer.kill()
            stored.extend(one for one in writer.communicate()[0].splitlines() if len(one) == 36)

    assert [_digest(healing) for healing in healings] == digests
    for healing in healings:
        assert take_over(database_of(store), healing)  # type: ignore[arg-type]
    known = {one.id for one in store.get_captured_recordings()}
    assert {UUID(one) for one in stored} <= known
    assert len(stored) == len(set(stored))
    assert is_intact(path)


def _digest(healing: Healing) -> str:
    """Of a file that was set aside and its journal: what is written goes into either."""
    journal = healing.aside.with_name(f"{healing.aside.name}-wal")
    content = healing.aside.read_bytes() + (journal.read_bytes() if journal.exists() else b"")
    return hashlib.sha256(content).hexdigest()


KILLED = """
import shutil
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.healing import set_aside
from acoupi.components.stores.healings import database_of
from tests.stores import recording

def before(home):
    home.mkdir()
    store = SqliteStore(home / "metadata.db")
    store.store_recording(recording("a.wav"))
    # Like a process that was killed: the journal stays.
    for suffix in ("", "-wal"):
        shutil.copy(home / f"metadata.db{suffix}", home / f"copy.db{suffix}")
    store.close()
    for suffix in ("", "-wal"):
        (home / f"copy.db{suffix}").rename(home / f"metadata.db{suffix}")

def change(home):
    assert set_aside(database_of(SqliteStore(home / "metadata.db")), "a test")
"""


def test_a_healing_that_is_cut_anywhere_is_completed(tmp_path: Path) -> None:
    homes = homes_killed_at_each_rename(tmp_path, KILLED)

    assert len(homes) > 2
    for home in homes:
        store = SqliteStore(home / "metadata.db")
        database = database_of(store)
        assert database is not None
        if not healings_of(database.path) or store.count_recordings()[data.RecordingState.CAPTURED]:
            assert set_aside(database, "a test") is not None
        [healing] = healings_of(database.path)
        assert take_over(database, healing), healing
        assert [one.path for one in store.get_captured_recordings()] == [Path("/spool/a.wav")]


def messages_damaged(path: Path, damage: Callable[[bytearray], None]) -> SqliteMessageStore:
    store = SqliteMessageStore(path)
    for message in message_stores.fill(store, 60)[:40]:
        [claimed] = store.claim_messages("mqtt", limit=1)
        assert claimed.id == message.id
        store.settle_message("mqtt", answer(claimed))
    store.claim_messages("mqtt", limit=2)
    store.close()
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    return SqliteMessageStore(path)


def test_what_was_sent_is_not_sent_again_and_what_waits_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "messages.db"

    def damage(content: bytearray) -> None:
        with closing(sqlite3.connect(path)) as connection:
            (page,) = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'message_unsent'"
            ).fetchone()
        content[(page - 1) * PAGE : page * PAGE] = b"\xa5" * PAGE

    store = messages_damaged(path, damage)

    healing = heal(store, at_once=True)

    assert healing.lost == []
    assert message_stores.contents(store.claim_messages("mqtt")) == [
        str(number) for number in range(41, 61)
    ]
    store.store_message(data.Message(content="new"))
    assert message_stores.contents(store.claim_messages("mqtt")) == ["new"]


@pytest.mark.parametrize("seed", range(5))
def test_messages_keep_their_ids_whatever_is_damaged(tmp_path: Path, seed: int) -> None:
    random = Random(seed)

    def damage(content: bytearray) -> None:
        for page in random.sample(range(len(content) // PAGE), 4):
            content[page * PAGE : (page + 1) * PAGE] = random.randbytes(PAGE)

    store = messages_damaged(tmp_path / "messages.db", damage)
    heal(store, at_once=True)

    texts = message_stores.contents(store.claim_messages("mqtt"))
    assert len(texts) == len(set(texts))
    assert is_intact(tmp_path / "messages.db")
