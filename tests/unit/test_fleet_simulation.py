"""The fleet simulation: its accounts, its plan of outages, its links."""

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.services import DEADLINE

FLEET = Path(__file__).parents[2] / "scripts" / "fleet.d"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fleet_{name}", FLEET / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


accounting = load("accounting")
links = load("links")


def created(n: int, state: str = "acknowledged") -> Any:
    return accounting.Created(f"id-{n}", 100.0 + n, f"digest-{n}", state)


def arrival(n: int, delay: float = 1.0, **changes: str) -> Any:
    fields = {"id": f"id-{n}", "digest": f"digest-{n}"} | changes
    return accounting.Arrival("sensor", "http", time=100.0 + n + delay, **fields)


def account(*arguments: Any, **options: Any) -> Any:
    return accounting.account(*arguments, **options)


# --- accounts ---


def test_what_arrived_once_is_complete() -> None:
    tally = account([created(1), created(2)], [arrival(2), arrival(1)])

    assert (tally.created, tally.delivered, tally.repeats) == (2, 2, 0)
    assert tally.is_complete


@pytest.mark.parametrize(
    ("state", "what"), [("acknowledged", "lost"), ("dead", "given_up"), ("pending", "waiting")]
)
def test_what_never_arrived_is_named_by_what_the_sensor_believes(state: str, what: str) -> None:
    tally = account([created(1), created(2, state)], [arrival(1)])

    assert (tally.delivered, getattr(tally, what)) == (1, 1)
    assert tally.lost + tally.given_up + tally.waiting == 1
    assert not tally.is_complete


def test_what_comes_again_under_its_id_is_a_repeat_and_no_fault() -> None:
    tally = account([created(1)], [arrival(1), arrival(1, delay=9), arrival(1, delay=5)])

    assert (tally.delivered, tally.repeats, tally.doubled) == (1, 2, 0)
    assert tally.delays == [1.0]
    assert tally.is_complete


@pytest.mark.parametrize("id_", ["", "id-2"])
def test_what_comes_again_under_another_id_or_none_is_counted_twice(id_: str) -> None:
    tally = account([created(1), created(2)], [arrival(1), arrival(1, id=id_), arrival(2)])

    assert tally.doubled == 1
    assert not tally.is_complete


def test_what_comes_without_an_id_is_known_by_its_content() -> None:
    tally = account([created(1)], [arrival(1, id="")])

    assert tally.is_complete


def test_what_was_altered_on_the_way_is_a_fault() -> None:
    tally = account([created(1)], [arrival(1, digest="else")])

    assert (tally.delivered, tally.altered) == (1, 1)
    assert not tally.is_complete


def test_what_no_store_knows_is_a_fault() -> None:
    tally = account([created(1)], [arrival(1), arrival(7)])

    assert tally.unknown == 1
    assert not tally.is_complete


def test_a_sensor_that_made_nothing_is_not_complete() -> None:
    assert not account([], []).is_complete


def test_late_is_what_took_longer_than_that() -> None:
    tally = account([created(1), created(2)], [arrival(1, 60), arrival(2, 60.1)], late_after=60)

    assert tally.late == 1


def test_tallies_add_up_to_one_of_all() -> None:
    total = account([created(1)], [arrival(1, 3)]) + account([created(2)], [])

    figures = total.figures()

    assert (figures["created"], figures["delivered"], figures["lost"]) == (2, 1, 1)
    assert (figures["delay_p50_s"], figures["delay_max_s"]) == (3.0, 3.0)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 11)]

    assert [accounting.percentile(values, share) for share in (0, 50, 95, 100)] == [1, 5, 10, 10]


# --- plans ---


@pytest.mark.parametrize(("seconds", "share"), [(30, 0.5), (600, 0.3), (60, 0.9)])
def test_outages_take_their_share_of_the_time_and_are_of_every_kind(
    seconds: float, share: float
) -> None:
    outages = links.plan_outages("1 sensor-01", seconds, share)

    assert sum(one.end - one.start for one in outages) == pytest.approx(seconds * share)
    assert {one.kind for one in outages} == set(links.KINDS)
    edges = [0.0, *(edge for one in outages for edge in (one.start, one.end)), seconds]
    assert edges == sorted(edges)


def test_the_seed_decides_the_outages() -> None:
    plans = [links.plan_outages(seed, 600, 0.3) for seed in ("1 a", "1 a", "1 b")]

    assert plans[0] == plans[1] != plans[2]
    assert links.plan_outages("1 a", 600, 0) == []


# --- links ---

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Client]]


def through_a_link(story: Callable[[Any, Connect, list[bytes]], Awaitable[None]]) -> None:
    """Run a story with a link to a server that answers ``ok`` and notes what it is sent."""
    heard: list[bytes] = []
    answering: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(writer)
        with contextlib.suppress(ConnectionResetError):
            while line := await reader.readline():
                heard.append(line)
                writer.write(b"ok\n")
        writer.close()
        answering.discard(writer)

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        link = links.Link({"http": server.sockets[0].getsockname()[1]})
        await link.up()
        clients: list[asyncio.StreamWriter] = []

        async def connect() -> Client:
            client = await asyncio.open_connection("127.0.0.1", link.ports["http"])
            clients.append(client[1])
            return client

        try:
            await story(link, connect, heard)
        finally:
            await link.close()
            server.close()
            for client in clients:
                client.close()
                with contextlib.suppress(ConnectionError):
                    await client.wait_closed()
            await until(lambda: not answering)

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


async def say(client: Client, line: bytes) -> None:
    client[1].write(line)
    await client[1].drain()


async def until(claim: Callable[[], bool]) -> None:
    while not claim():
        await asyncio.sleep(0.005)


async def is_reset(client: Client) -> bool:
    try:
        return await client[0].read() == b""
    except ConnectionResetError:
        return True


def test_a_link_that_is_up_carries_both_ways() -> None:
    async def story(link: Any, connect: Connect, heard: list[bytes]) -> None:
        client = await connect()
        await say(client, b"one\n")
        assert await client[0].readline() == b"ok\n"
        client[1].close()

    through_a_link(story)


def test_a_link_that_refuses_cuts_what_is_open_and_lets_nobody_in() -> None:
    async def story(link: Any, connect: Connect, heard: list[bytes]) -> None:
        client = await connect()
        await say(client, b"one\n")
        await client[0].readline()

        await link.down("refused")

        assert await is_reset(client)
        with pytest.raises(ConnectionRefusedError):
            await connect()
        await link.up()
        again = await connect()
        await say(again, b"two\n")
        assert await again[0].readline() == b"ok\n"

    through_a_link(story)


def test_a_frozen_link_delivers_when_it_is_back() -> None:
    async def story(link: Any, connect: Connect, heard: list[bytes]) -> None:
        client = await connect()
        await link.down("frozen")
        await say(client, b"one\n")
        answer = asyncio.create_task(client[0].readline())
        await asyncio.wait({answer}, timeout=0.05)
        assert (answer.done(), heard) == (False, [])

        await link.up()

        await until(lambda: heard == [b"one\n"])
        assert await answer == b"ok\n"

    through_a_link(story)


def test_a_link_without_answers_delivers_and_is_cut() -> None:
    async def story(link: Any, connect: Connect, heard: list[bytes]) -> None:
        await link.down("unanswered")
        client = await connect()
        await say(client, b"one\n")
        await until(lambda: heard == [b"one\n"])

        await link.up()

        assert await is_reset(client)

    through_a_link(story)


def test_a_link_that_drops_delivers_nothing_and_is_cut() -> None:
    async def story(link: Any, connect: Connect, heard: list[bytes]) -> None:
        client = await connect()
        await say(client, b"one\n")
        await client[0].readline()
        await link.down("dropped")
        await say(client, b"two\n")
        end = asyncio.create_task(is_reset(client))
        await asyncio.wait({end}, timeout=0.05)
        assert not end.done()

        await link.up()

        assert await end
        assert heard == [b"one\n"]

    through_a_link(story)


def test_a_link_follows_its_plan_and_is_up_in_the_end() -> None:
    async def story(link: Any, connect: Connect, heard: list[bytes]) -> None:
        outages = [links.Outage(n / 50, (n + 0.5) / 50, kind) for n, kind in enumerate(links.KINDS)]

        await link.follow(outages)

        assert link.kind is None
        assert link.seconds_down > 0
        client = await connect()
        await say(client, b"one\n")
        assert await client[0].readline() == b"ok\n"

    through_a_link(story)
