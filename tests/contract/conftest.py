"""Fixtures of the contracts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components.stores import SqliteStore
from tests.stores import STORES, Clock, Store


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = STORES[request.param](tmp_path)
    yield store
    if isinstance(store, SqliteStore):
        store.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    clock = Clock()
    monkeypatch.setattr(data, "utc_now", lambda: clock.now)
    return clock
