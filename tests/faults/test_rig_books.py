"""The rig's own judgement: what it calls wrong, on books that were made wrong on purpose."""

import datetime
import sqlite3
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from acoupi import data
from acoupi.audio.counter import count_frames
from acoupi.components import FullModelOutputMessageBuilder, SqliteMessageStore, SqliteStore
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import NO_REASON
from acoupi.testing import make_recording
from tests.rig import part_of_rig

START = datetime.datetime(2026, 6, 1, 20, tzinfo=datetime.UTC)
RATE = 8000


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Any:
    books = part_of_rig("books")
    monkeypatch.setattr(books, "made_on", lambda path: START.timestamp())
    return books


def spans(*states: tuple[EffortState, str]) -> list[EffortSpan]:
    """Ten seconds of each, recordings around them."""
    recorded = (EffortState.RECORDED, "")
    times = [START + datetime.timedelta(seconds=10 * number) for number in range(len(states) + 3)]
    every = [recorded, *states, recorded]
    return [EffortSpan(times[n], times[n + 1], *state) for n, state in enumerate(every)]


OFF = (EffortState.NOT_RUNNING, "the recorder was off")
HOLE = START.timestamp() + 10


@pytest.mark.parametrize(
    ("kind", "what", "after", "state", "false"),
    [
        ("kill", "recording", 0.0, OFF, 0.0),
        ("kill", "recording", 5.0, OFF, 0.7),  # what was not on the disk goes with it
        ("kill", "recording", 15.0, OFF, 10.0),
        ("kill", "detection", 0.0, OFF, 10.0),
        ("power cut", "", 0.0, OFF, 0.0),
        ("disk full", "", 0.0, OFF, 10.0),
        ("disk full", "", 0.0, (EffortState.DISK_FULL, "no room"), 0.0),
        ("freeze", "recording", 0.0, (EffortState.DEVICE_MISSING, "it stopped"), 10.0),
    ],
)
def test_a_reason_counts_as_true_only_where_something_was_done_that_has_it(
    books: Any, kind: str, what: str, after: float, state: tuple[EffortState, str], false: float
) -> None:
    log = [books.Trouble(kind, what, HOLE + after)]

    judged = books.judge(spans(state), log, 2.0)

    assert judged.false == pytest.approx(false)
    assert judged.explained == pytest.approx(10 - false)
    assert judged.recorded == 20
    assert judged.planned == 30
    assert bool(judged.examples) == bool(false)


def test_what_a_slow_disk_had_not_taken_yet_goes_with_the_power(books: Any) -> None:
    log = [
        books.Trouble("disk slow", "", HOLE - 1, HOLE + 5),
        books.Trouble("power cut", "", HOLE + 6),
    ]

    judged = books.judge(spans(OFF), log, 2.0)
    assert judged.false == 0
    assert judged.held_back == pytest.approx(1.7)
    without = books.judge(spans(OFF), log[1:], 2.0)
    assert without.false == pytest.approx(1.7)
    assert without.held_back == 0


def test_what_a_busy_recorder_had_not_stored_goes_with_the_power(books: Any) -> None:
    log = [books.Trouble("power cut", "", HOLE + 6, stored_until=HOLE)]

    judged = books.judge(spans(OFF), log, 2.0)

    assert judged.false == 0
    assert judged.held_back == pytest.approx(1.7)


def test_time_that_nobody_explains_is_unexplained(books: Any) -> None:
    log = [books.Trouble("kill", "recording", HOLE)]

    judged = books.judge(spans((EffortState.NOT_RUNNING, NO_REASON)), log, 2.0)

    assert judged.unexplained == 10
    assert judged.explained == judged.false == 0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A sensor that made one recording, analysed it, kept it and told of it."""
    folder = tmp_path / "data"
    path = folder / "recordings" / "one.wav"
    path.parent.mkdir(parents=True)
    write(path, RATE)
    recording = make_recording(path=path, duration=1, samplerate=RATE, created_on=START)
    output = data.ModelOutput(name_model="faulted", recording=recording)
    store, messages = (
        SqliteStore(folder / "metadata.db"),
        SqliteMessageStore(folder / "messages.db"),
    )
    store.store_deployment(recording.deployment)
    store.store_recording(recording)
    store.begin_analysis(recording, "faulted")
    store.store_model_output(output)
    store.update_recording_path(recording, path)
    message = FullModelOutputMessageBuilder().build_message(output)
    assert message is not None
    messages.store_message(message)
    store.close()
    messages.close()
    return tmp_path


def write(path: Path, frames: int, first: int = 0) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(count_frames(first, frames).tobytes())


def tear(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(
            count_frames(0, RATE // 2).tobytes() + count_frames(RATE, RATE // 2).tobytes()
        )


def forget(home: Path, statement: str, store: str = "metadata.db") -> None:
    with sqlite3.connect(home / "data" / store) as connection:
        connection.execute(statement)
    connection.close()


HARMS: dict[str, Callable[[Path], object]] = {
    "without_file": lambda home: (home / "data/recordings/one.wav").unlink(),
    "without_row": lambda home: write(home / "data/recordings/two.wav", RATE),
    "without_end": lambda home: write(home / "data/recordings/one.wav", RATE - 1),
    "torn": lambda home: tear(home / "data/recordings/one.wav"),
    "misdated": lambda home: forget(home, "UPDATE recording SET created_on_us = 40000000"),
    "untold": lambda home: forget(home, "DELETE FROM message", "messages.db"),
    "stranded": lambda home: forget(home, "UPDATE recording SET state = 'captured'"),
    "lost": lambda home: forget(home, "UPDATE recording SET state = 'lost'"),
    "damaged": lambda home: forget(home, "UPDATE model_output SET recording_row = 99"),
}


@pytest.mark.parametrize("name", HARMS)
def test_each_thing_that_does_not_fit_is_named(books: Any, home: Path, name: str) -> None:
    assert books.audit(home).faults == {}

    HARMS[name](home)

    assert set(books.audit(home).faults) == {name}


def test_a_store_that_no_longer_tells_what_it_told_is_named(books: Any, home: Path) -> None:
    claims = books.Claims.of(home)
    assert claims.broken_in(home) == []

    forget(home, "DELETE FROM model_output")

    assert claims.broken_in(home) == ["1 of output gone"]

    forget(home, "DROP TABLE model_output")

    assert claims.broken_in(home) == ["the stores cannot be read: no such table: model_output"]


def test_an_output_that_is_there_twice_is_named(books: Any, home: Path) -> None:
    forget(
        home,
        "INSERT INTO model_output (id, recording_row, name_model, created_on_us) "
        f"SELECT x'{UUID(int=7).hex}', recording_row, name_model, created_on_us FROM model_output",
    )

    assert set(books.audit(home).faults) == {"doubled", "untold"}


def test_it_is_told_when_the_work_of_before_was_done(books: Any, home: Path) -> None:
    done = round((START.timestamp() + 9) * 1e6)
    forget(home, f"UPDATE analysis SET state = 'done', updated_on_us = {done}")

    assert books.stored_until(home, START.timestamp() + 5) == START.timestamp() + 1
    assert books.stored_until(home, START.timestamp()) is None
    assert books.work_done(home, START.timestamp() + 5) == pytest.approx(4)
    assert books.work_done(home, START.timestamp() + 20) == 0
