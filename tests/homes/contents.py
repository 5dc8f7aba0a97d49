"""What is in a home after it was taken over: all that was there before, once, and what is new."""

import contextlib
import datetime
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components import SqliteMessageStore, SqliteStore
from tests.homes.archive import Home
from tests.servers import Request

Done = subprocess.CompletedProcess[str]


def acoupi(place: Path, *args: str) -> Done:
    """Run a command of acoupi on a home, as a person would."""
    return subprocess.run(
        [Path(sys.executable).with_name("acoupi"), *args], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=180, check=False, env=environment(place),
    )  # fmt: skip


def environment(place: Path) -> dict[str, str]:
    """The variables of this process, of ours only the home."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("ACOUPI_")}
    return {**ours, "ACOUPI_HOME": str(place), "NO_COLOR": "1"}


def told(place: Path, *args: str) -> Any:
    """What a command says in JSON."""
    done = acoupi(place, *args, "--json")
    assert done.stdout.startswith("{"), done.stderr
    return json.loads(done.stdout)


def ids_of(posts: Iterable[Request]) -> list[UUID]:
    """The ids of the messages that a server was sent, one for each time."""
    return [UUID(one.headers["Idempotency-Key"]) for one in posts]


class Before:
    """What make found in a home when it was cut off.

    Parameters
    ----------
    made
        What it noted.
    """

    def __init__(self, made: Mapping[str, Any]) -> None:
        self.recordings = {UUID(one): state for one, state in made["recordings"].items()}
        self.outputs = {UUID(one) for one in made["outputs"]}
        self.detections = {UUID(one) for one in made["detections"]}
        self.deployment = UUID(made["deployment"])
        self.device = str(made["device"])
        self.clips = {UUID(one) for one in made.get("clips", [])}
        self.parts = {UUID(one) for one in made["parts"]}
        """The recordings that it was cut off in; the store knows nothing of them."""
        self.recorded_s = float(made["recorded_s"])
        self.cut_on = datetime.datetime.fromisoformat(made["cut_on"])
        self._messages = {UUID(one): states for one, states in made["messages"].items()}

    def recorded(self, state: str) -> set[UUID]:
        return {one for one, its in self.recordings.items() if its == state}

    def messages(self, messenger: str, state: str) -> set[UUID]:
        """The messages that "http" or "file" had in a state."""
        return {one for one, its in self._messages.items() if its.get(messenger) == state}


class Contents:
    """What is in a home now.

    Parameters
    ----------
    place
        The home.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    @cached_property
    def waiting(self) -> list[data.Recording]:
        # Before the outputs are asked for: what is analysed meanwhile is in both, not in neither.
        return self._store.get_captured_recordings()

    @cached_property
    def outputs(self) -> list[data.ModelOutput]:
        _ = self.waiting
        return self._store.get_model_outputs()

    @cached_property
    def recordings(self) -> dict[UUID, data.Recording]:
        known = [*self.waiting, *(one.recording for one in self.outputs)]
        return {one.id: one for one in known}

    @property
    def _store(self) -> SqliteStore:
        return SqliteStore(self.place / "data" / "metadata.db")

    def states(self) -> dict[str, int]:
        """How many recordings are in each state; one of which clips are left has lost its file."""
        found = {state.value: count for state, count in self._store.count_recordings().items()}
        found["deleted"] += found.pop("clipped")
        return found

    def clips(self) -> dict[UUID, Path]:
        """The files of the clips."""
        address = f"file:{self.place / 'data' / 'metadata.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
            rows = connection.execute("SELECT clip_id, file_path FROM v_clip").fetchall()
        return {UUID(one): Path(path) for one, path in rows}

    def deliveries(self) -> dict[str, dict[str, int]]:
        """How many messages are in each state, for "http" and "file"."""
        store = SqliteMessageStore(self.place / "data" / "messages.db")
        counts = store.count_deliveries().items()
        return {name.partition(":")[0]: {**states} for name, states in counts}

    def config(self, name: str) -> Any:
        return json.loads((self.place / "config" / name).read_text())

    def written(self) -> list[UUID]:
        """The ids of the messages in the file of messages."""
        lines = (self.place / "data" / "messages.jsonl").read_text().splitlines()
        return [UUID(json.loads(line)["id"]) for line in lines]


def check_unchanged(home: Home, place: Path) -> None:
    """Fail if a home at rest does not hold just what it held when it was cut off."""
    before, now = Before(home.made), Contents(place)
    assert set(now.recordings) == set(before.recordings)
    assert now.states() == {**now.states(), **Counter(before.recordings.values())}
    assert {one.id for one in now.outputs} == before.outputs
    assert {one.id for output in now.outputs for one in output.detections} == before.detections
    for messenger, states in now.deliveries().items():
        assert states == {state: len(before.messages(messenger, state)) for state in states}
    _check_files(before, now)
    assert all(one.path is None or one.path.exists() for one in now.recordings.values())
    _check_identity(before, now)


def check_nothing_lost(home: Home, place: Path, posted: list[UUID]) -> None:
    """Fail if something was lost or doubled by a home that was taken over, and works on.

    Parameters
    ----------
    home
        As it was.
    place
        Where it is; nothing runs there any more.
    posted
        The ids of the messages that its server was sent meanwhile, once for each time.
    """
    before, now = Before(home.made), Contents(place)
    _check_recordings(before, now)
    _check_messages(before, now, posted)
    _check_identity(before, now)
    assert home.common["token"] in (place / "config" / "secrets.env").read_text()


def _check_files(before: Before, now: Contents) -> None:
    for one in before.recorded("kept"):
        path = now.recordings[one].path
        assert path is not None, one
        assert path.exists(), one
    assert not [one for one in before.recorded("deleted") if now.recordings[one].path]
    clips = now.clips()
    assert before.clips <= set(clips)
    assert all(path.stat().st_size > 44 for path in clips.values())
    files = " ".join(path.name for path in (now.place / "data" / "spool").iterdir())
    assert not [one for one in before.parts if one not in now.recordings and str(one) not in files]


def _check_recordings(before: Before, now: Contents) -> None:
    assert set(before.recordings) <= set(now.recordings)
    assert sum(now.states().values()) == len(now.recordings)
    new = set(now.recordings) - set(before.recordings) - before.parts
    assert not [one for one in new if now.recordings[one].created_on < before.cut_on]
    _check_files(before, now)
    outputs = Counter(one.id for one in now.outputs)
    detections = Counter(one.id for output in now.outputs for one in output.detections)
    assert before.outputs <= set(outputs)
    assert before.detections <= set(detections)
    assert set(outputs.values()) | set(detections.values()) == {1}
    analysed = Counter(one.recording.id for one in now.outputs)
    assert {analysed[one] for one in before.recordings} == {1}
    assert {one.deployment.id for one in now.recordings.values()} == {before.deployment}


def _check_messages(before: Before, now: Contents, posted: list[UUID]) -> None:
    sent = Counter(posted)
    assert before.messages("http", "pending") <= set(sent)
    assert not before.messages("http", "acknowledged") & set(sent)
    assert set(sent.values()) == {1}
    written = Counter(now.written())
    assert before.messages("file", "acknowledged") <= set(written)
    assert set(written.values()) == {1}
    assert _something_new_was_sent(before, now)
    for messenger, states in now.deliveries().items():
        assert states["dead"] == len(before.messages(messenger, "dead"))


def _something_new_was_sent(before: Before, now: Contents) -> bool:
    """Whether each messenger has delivered more than all that it had, or had to send."""
    return all(
        states["acknowledged"]
        > len(before.messages(name, "acknowledged") | before.messages(name, "pending"))
        for name, states in now.deliveries().items()
    )


def _check_identity(before: Before, now: Contents) -> None:
    assert UUID(now.config("deployment.json")["id"]) == before.deployment
    assert now.config("deployment.json")["ended_on"] is None
    assert now.config("device.json")["id"] == before.device


def effort_until_cut(home: Home, place: Path) -> dict[str, float]:
    """What the seconds until the cut were used for, by what acoupi says."""
    found = told(place, "effort", "--to", home.made["cut_on"])
    return {**found["states_s"], "total": found["total_s"]}


def check_effort(home: Home, place: Path, before: Mapping[str, float]) -> None:
    """Fail if a second of before is told otherwise now, but for what was recovered."""
    after = effort_until_cut(home, place)
    known = Before(home.made)
    old = [one for one in Contents(place).recordings.values() if one.created_on < known.cut_on]
    recovered = sum(one.duration for one in old if one.id not in known.recordings)
    assert round(before["recorded"] - known.recorded_s, 3) == 0
    assert round(after["recorded"] - before["recorded"] - recovered, 3) == 0
    assert after["total"] == before["total"]


def is_taken_over(home: Home, place: Path, posted: Callable[[], list[UUID]]) -> bool:
    """Whether all that waited was done, and something new, too.

    Not what it was cut off in: a recovery pass a minute or two later adopts that.
    """
    before = Before(home.made)
    if not before.messages("http", "pending") <= set(posted()):
        return False
    now = Contents(place)
    if not _something_new_was_sent(before, now):
        return False
    analysed = {one.recording.id: one.recording for one in now.outputs}
    return set(before.recordings) <= set(analysed) and any(
        one.created_on > before.cut_on for one in analysed.values()
    )
