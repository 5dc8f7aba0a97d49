"""Fixtures of the contracts: the stores in this process, and through a door."""

from collections.abc import Iterator

import pytest

from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.testing import InMemoryMessageStore, InMemoryStore
from tests.doors import Doors


@pytest.fixture
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with Doors(tmp_path_factory.mktemp("doors")) as made:
        yield made


@pytest.fixture(params=["sqlite", "door"])
def store(request: pytest.FixtureRequest) -> SqliteStore:
    kept = InMemoryStore()
    if request.param == "sqlite":
        return kept
    doors: Doors = request.getfixturevalue("doors")
    return doors.store(kept)


@pytest.fixture(params=["sqlite", "door"])
def message_store(request: pytest.FixtureRequest) -> SqliteMessageStore:
    kept = InMemoryMessageStore()
    if request.param == "sqlite":
        return kept
    doors: Doors = request.getfixturevalue("doors")
    return doors.message_store(kept)
