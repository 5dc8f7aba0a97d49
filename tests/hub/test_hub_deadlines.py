"""A hub waits for nobody for ever: not for its database, nor for who sends slowly or nothing."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from acoupi.errors import HubUnavailableError
from acoupi.hub import database as databases
from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import serving_here
from acoupi.hub.parts import Hub
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.web import prompt
from tests.services import DEADLINE


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
    with ThreadPoolExecutor() as pool, stopped(process_of(hub)):
        with monkeypatch.context() as hurried:
            hurried.setattr(databases, "PATIENCE", 0.5 - databases.LONGEST_STATEMENT)
            with pytest.raises(HubUnavailableError, match="does not answer") as told:
                pool.submit(write, hub).result(DEADLINE)
        assert told.value.why == "the server has not answered for 0.5 s"

        assert pool.submit(write, hub).result(DEADLINE) == (1,)  # by another connection


def test_who_waits_for_the_others_is_told_in_time(
    hub: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "LONGEST_WRITE", 0.1)

    with ThreadPoolExecutor() as pool, hub.writing():
        with pytest.raises(HubUnavailableError, match="does not answer") as told:
            pool.submit(write, hub).result(DEADLINE)

        assert told.value.why == "others have held it for 0.1 s"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """Connect as somebody who writes the bytes of a request themselves."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE) as line:
        yield line


def answer(line: socket.socket) -> bytes:
    """Return all that comes until the other side closes the connection."""
    return b"".join(iter(lambda: line.recv(4096), b""))


@pytest.mark.parametrize("said", [b"", b"GET /v1/health HTTP/1.1\r\nHost: hub\r\nX-Slow: "])
def test_a_connection_on_which_no_request_comes_is_closed(
    hub: HubDatabase, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(prompt, "LONGEST_HEAD", 0.2)

    with serving_here(Hub(hub)) as url, connected(url) as line:
        line.sendall(said)
        assert answer(line) == b""


def test_a_connection_on_which_no_further_request_comes_is_closed(
    hub: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "LONGEST_HEAD", 3.0)

    with serving_here(Hub(hub)) as url, connected(url) as line:
        line.sendall(b"GET /v1/health HTTP/1.1\r\nHost: hub\r\n\r\nGET /v1/he")
        assert answer(line).endswith(b'{"well":true}')


def test_what_is_sent_too_slowly_is_refused(
    hub: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "LONGEST_BODY", 0.2)
    add_sensor(hub, "oak-1")
    head = f"""POST /v1/reports HTTP/1.1
Host: hub
Authorization: Bearer {make_token(hub, "oak-1")}
Content-Length: 100

{{"""

    with serving_here(Hub(hub)) as url, connected(url) as line:
        line.sendall(head.replace("\n", "\r\n").encode())
        told = answer(line)

    assert told.startswith(b"HTTP/1.1 408 ")
    assert b"too slowly" in told


def test_an_answer_that_nobody_takes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    stream = prompt.PromptStream(
        iter([b"sound"]), 200, {}, longest=0.2, end=lambda: ended.append(True)
    )

    async def nothing(*_: object) -> None:
        await asyncio.Event().wait()

    async def take() -> None:
        async with asyncio.timeout(DEADLINE):
            await stream({"type": "http"}, nothing, nothing)  # type: ignore[arg-type]

    asyncio.run(take())
    assert ended == [True]
