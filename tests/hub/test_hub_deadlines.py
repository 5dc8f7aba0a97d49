"""A hub waits for nobody for ever: not for its database, nor for who sends slowly or nothing."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from acoupi.errors import HubUnavailableError
from acoupi.hub import database as databases
from acoupi.hub.database import HubDatabase
from tests.postgres import Postgres

DEADLINE = 60.0


@pytest.fixture
def hub(postgres: Postgres) -> Iterator[HubDatabase]:
    database = HubDatabase(postgres.new_database("deadlines"))
    yield database
    database.close()


@contextmanager
def stopped(process: int) -> Iterator[None]:
    """Stop a process, which still has its connections."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def process_of(hub: HubDatabase) -> int:
    """Return the process of the server that serves the connection that writes."""
    with hub.writing() as connection:
        return int(connection.one("SELECT pg_backend_pid()")[0])


def write(hub: HubDatabase) -> object:
    with hub.writing() as connection:
        return connection.one("SELECT 1")


def test_a_server_that_stops_without_a_word_is_waited_for_no_longer_than_the_deadline(
    hub: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "LONGEST_STATEMENT", 0.3)
    monkeypatch.setattr(databases, "PATIENCE", 1)

    with ThreadPoolExecutor() as pool, stopped(process_of(hub)):
        waiting = pool.submit(write, hub)
        with pytest.raises(HubUnavailableError, match="does not answer") as told:
            waiting.result(DEADLINE)

        assert told.value.why == "the server has not answered for 1.3 s"
        assert pool.submit(write, hub).result(DEADLINE) == (1,)


def test_who_waits_for_the_others_is_told_in_time(
    hub: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "LONGEST_WRITE", 0.1)

    with ThreadPoolExecutor() as pool, hub.writing():
        with pytest.raises(HubUnavailableError, match="does not answer") as told:
            pool.submit(write, hub).result(DEADLINE)

        assert told.value.why == "others have used it for 0.1 s"
