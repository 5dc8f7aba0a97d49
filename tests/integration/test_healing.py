"""A running sensor with a store that is damaged under it: it records on, and heals the store."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from acoupi.audio.formats import read_recording
from acoupi.components import SqliteStore
from acoupi.components.stores.healings import Healing, healings_of
from tests.services import eventually

ACOUPI = Path(sys.executable).with_name("acoupi")
SETUP = [
    *("--program", "acoupi.programs.demo", "--target", "process", "--no-prompt"),
    *("--recording.duration", "1", "--recording.interval", "1"),
]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Board:
    """A sensor of the demo program, as processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "data" / "metadata.db"
        self.environ = os.environ | {"ACOUPI_HOME": str(home)}

    def run(self, *args: str, code: int = 0) -> str:
        done = subprocess.run(
            [str(ACOUPI), *args], env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def damage(self) -> None:
        """Put noise on most pages, and into the journal, while all processes use them."""
        noise = random.Random(14)
        for path, first in ((self.path, 4096), (self.path.with_name("metadata.db-wal"), 0)):
            if path.exists():
                with path.open("r+b") as file:
                    file.seek(first)
                    file.write(noise.randbytes(max(0, path.stat().st_size - first)))

    def healed(self) -> list[Healing]:
        return [one for one in healings_of(self.path) if one.finished_on is not None]

    def stored(self) -> set[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return {row[0].hex() for row in connection.execute("SELECT id FROM recording")}


@pytest.fixture
def board(home: Path) -> Iterator[Board]:
    board = Board(home)
    board.run("setup", *SETUP)
    yield board
    board.run("workers", "stop")


def test_a_running_sensor_heals_a_store_and_loses_no_recording(board: Board) -> None:
    board.run("deployment", "start", "--name", "Oak", "--no-check")
    before = SqliteStore(board.path)
    eventually(lambda: len(board.stored()) >= 5, "the first recordings")
    [oak] = before.get_deployments()
    before.close()

    board.damage()

    eventually(lambda: len(board.healed()) == 1, "healing", 150)
    then = board.stored()
    eventually(lambda: len(board.stored() - then) >= 3, "new recordings")
    assert "was set aside" in board.run("deployment", "status", code=3)
    assert "was set aside" in board.run("stores", code=3)
    board.run("deployment", "stop")

    with closing(sqlite3.connect(board.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    [ended] = SqliteStore(board.path).get_deployments()
    assert (ended.id, ended.name) == (oak.id, "Oak")
    board.run("task", "run", "recovery_task")
    files = [read_recording(path).id.hex for path in (board.home / "data").rglob("2*.wav")]
    assert files
    assert set(files) <= board.stored()
    sent = (board.home / "data" / "messages.jsonl").read_text().splitlines()
    ids = [json.loads(line)["id"] for line in sent]
    assert len(ids) == len(set(ids))
