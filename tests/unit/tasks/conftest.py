"""A sensor of fakes around a real store."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.components import SqliteStore, types
from acoupi.testing import (
    FakeRecorder,
    InMemoryMessageStore,
    InMemoryStore,
    make_recording,
    make_wav,
)
from tests.faulty import Faulty


class Crash(BaseException):
    """The process dies: not an Exception, so that nothing catches it."""


class PublishedMessageStore(types.MessageStore):
    """A message store as published programs have them: three methods, any messenger counts."""

    def __init__(self) -> None:
        self.messages: dict[object, data.Message] = {}
        self.responses: list[data.Response] = []

    def get_unsent_messages(
        self,
        limit: int | None = None,
        order: Literal["oldest_first", "newest_first"] = "oldest_first",
    ) -> list[data.Message]:
        sent = {r.message.id for r in self.responses if r.status is data.ResponseStatus.SUCCESS}
        waiting = [m for m in self.messages.values() if m.id not in sent]
        waiting.sort(key=lambda m: m.created_on, reverse=order == "newest_first")
        return waiting[:limit]

    def store_message(self, message: data.Message) -> None:
        self.messages.setdefault(message.id, message)

    def store_response(self, response: data.Response) -> None:
        self.responses.append(response)


@pytest.fixture
def store() -> Faulty:
    return Faulty(InMemoryStore())


@pytest.fixture(params=[PublishedMessageStore, InMemoryMessageStore])
def messages(request: pytest.FixtureRequest) -> Faulty:
    return Faulty(request.param())


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def recorder(spool: Path) -> FakeRecorder:
    return FakeRecorder(spool)


@pytest.fixture
def capture(store: SqliteStore, spool: Path) -> Callable[..., data.Recording]:
    """Store a recording that began so many minutes after 2024-08-01 20:00, with its file."""

    def make(minute: int = 0, *, pitch: float | None = None, described: bool = True):
        start = datetime.datetime(2024, 8, 1, 20, tzinfo=datetime.UTC)
        recording = make_recording(
            created_on=start + datetime.timedelta(minutes=minute),
            deployment=store.get_current_deployment(),
        )
        name = f"{recording.created_on:%Y%m%d_%H%M%S}_{recording.id}.wav"
        recording.path = make_wav(spool / name, frequency=pitch or 500 + 13 * minute)
        if described:
            formats.add_guano(recording.path, build_guano(guano_of_recording(recording)))
        store.store_recording(recording)
        return recording

    return make
