"""Pages of SQLite files, read without SQLite: against SQLite itself."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from acoupi.components.stores.pages import Image, Walk

ODD = [None, 0, 1, -5, 2**40, -(2**62), 1.5, -0.1, b"", b"zz", "ä"]


@pytest.fixture
def rows() -> list[tuple[object, ...]]:
    random = Random(14)
    texts = ["é" * random.randrange(9000) if number % 50 == 0 else "x" for number in range(1500)]
    return [
        (number - 3, text, random.random() * 10 ** random.randrange(-5, 5), random.choice(ODD))
        for number, text in enumerate(texts)
    ]


@pytest.fixture
def made(tmp_path: Path, rows: list[tuple[object, ...]]) -> Iterator[sqlite3.Connection]:
    """A file of which much is still in its journal; `copy.db` is as a power cut would leave it."""
    with closing(sqlite3.connect(tmp_path / "made.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE a (row INTEGER PRIMARY KEY, text TEXT, real REAL, any)")
        connection.execute("CREATE TABLE b (n INT, k TEXT, PRIMARY KEY (k, n)) WITHOUT ROWID")
        for first in range(0, len(rows), 100):
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO a VALUES (?, ?, ?, ?)", rows[first : first + 100])
            keys = [(number, f"k{number % 7}" * (number % 90)) for number in range(first)]
            connection.executemany("INSERT OR IGNORE INTO b VALUES (?, ?)", keys)
            connection.execute("COMMIT")
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"made.db{suffix}", tmp_path / f"copy.db{suffix}")
        yield connection


def root(connection: sqlite3.Connection, name: str) -> int:
    found = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [name])
    return int(found.fetchone()[0])


def test_every_row_is_read_as_sqlite_reads_it(
    made: sqlite3.Connection, tmp_path: Path, rows: list[tuple[object, ...]]
) -> None:
    with closing(Image(tmp_path / "copy.db")) as image:
        walk = Walk()
        numbered = [(cell.row, *cell.values[1:]) for cell in image.rows(root(made, "a"), walk)]
        keyed = {cell.values for cell in image.rows(root(made, "b"), walk)}

    assert walk.damaged == 0
    assert numbered == rows
    assert keyed == set(made.execute("SELECT k, n FROM b"))


def test_a_journal_counts_up_to_its_first_damaged_frame(
    made: sqlite3.Connection, tmp_path: Path
) -> None:
    journal = tmp_path / "copy.db-wal"
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 0xFF
    journal.write_bytes(content)
    shutil.copy(tmp_path / "copy.db", tmp_path / "same.db")
    shutil.copy(journal, tmp_path / "same.db-wal")

    with closing(Image(tmp_path / "copy.db")) as image:
        found = [cell.row for cell in image.rows(root(made, "a"), Walk())]

    with closing(sqlite3.connect(tmp_path / "same.db")) as connection:
        assert found == [row for (row,) in connection.execute("SELECT row FROM a ORDER BY row")]
    assert 0 < len(found) < 1500


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_page_costs_only_what_is_on_it_and_noise_raises_nothing(
    made: sqlite3.Connection, tmp_path: Path, rows: list[tuple[object, ...]], seed: int
) -> None:
    made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray((tmp_path / "made.db").read_bytes())
    first, random = root(made, "a"), Random(seed)
    pages = [page for page in range(2, len(content) // 4096) if page != first]
    for page in random.sample(pages, 3):
        content[(page - 1) * 4096 : page * 4096] = random.randbytes(4096)
    (tmp_path / "noise.db").write_bytes(content)

    with closing(Image(tmp_path / "noise.db")) as image:
        walk = Walk()
        found = {(cell.row, *cell.values[1:]) for cell in image.rows(first, walk)}
        for page in range(1, image.count + 1):
            list(image.rows_of(page, Walk()))

    lost = {row for row in rows if row not in found}
    assert not lost or walk.damaged
    assert len(lost) < 600
