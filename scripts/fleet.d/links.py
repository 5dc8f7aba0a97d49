"""Links that drop: a small TCP proxy for each sensor, with a seeded plan of outages."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["KINDS", "Link", "Outage", "plan_outages"]

KINDS = ("refused", "frozen", "unanswered", "dropped")
"""What an outage is like:

refused
    Connections are reset, new ones refused.
frozen
    Nothing passes; what was sent arrives, late, when the link is back.
unanswered
    What is sent arrives, but no answer: the sensor must send again.
dropped
    Connections are accepted and everything on them vanishes.
"""

LONGEST_USUAL = 20.0
"""Mean length of an outage where there is room for all kinds, seconds."""
_NOW = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Outage:
    """A time without a link, seconds from the beginning."""

    start: float
    end: float
    kind: str


def plan_outages(seed: str, seconds: float, share: float) -> list[Outage]:
    """Return outages of all kinds that take `share` of the time, the same for the same seed."""
    down = seconds * share
    if down <= 0:
        return []
    chance = random.Random(seed)
    mean = min(LONGEST_USUAL, down / len(KINDS))
    count = round(down / mean)
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += chance.sample(KINDS, len(KINDS))
    lengths = _parts(chance, down, count)
    gaps = _parts(chance, seconds - down, count + 1)
    outages, now = [], 0.0
    for gap, length, kind in zip(gaps, lengths, kinds, strict=False):
        outages.append(Outage(now + gap, now + gap + length, kind))
        now += gap + length
    return outages


def _parts(chance: random.Random, whole: float, count: int) -> list[float]:
    weights = [chance.uniform(0.3, 1.7) for _ in range(count)]
    return [whole * weight / sum(weights) for weight in weights]


class Link:
    """The way from one sensor to its servers.

    Parameters
    ----------
    servers
        Their ports on this machine, by transport.
    """

    def __init__(self, servers: Mapping[str, int]) -> None:
        self._places = {name: _bound(0) for name in servers}
        # Bound and never listening: they keep the port while connections are refused.
        self.ports = {name: place.getsockname()[1] for name, place in self._places.items()}
        self.kind: str | None = None
        """Of the outage that goes on; None: the link is up."""
        self.seconds_down = 0.0
        self._servers = servers
        self._listeners: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    async def up(self) -> None:
        """Let everything pass again."""
        if self.kind in ("unanswered", "dropped"):
            self._cut()  # parts of their streams are missing
        self.kind = None
        self._passing.set()
        if not self._listeners:
            for name, port in self.ports.items():
                await self._listen(name, port)

    async def down(self, kind: str) -> None:
        """Begin an outage."""
        self.kind = kind
        if kind == "frozen":
            self._passing.clear()
        if kind == "refused":
            self._stop_listening()
            self._cut()

    async def follow(self, outages: list[Outage]) -> None:
        """Go up and down as planned, from now on."""
        begun = time.monotonic()
        try:
            for outage in outages:
                await asyncio.sleep(begun + outage.start - time.monotonic())
                fell = time.monotonic()
                await self.down(outage.kind)
                await asyncio.sleep(begun + outage.end - time.monotonic())
                self.seconds_down += time.monotonic() - fell
                await self.up()
        finally:
            await self.up()

    async def close(self) -> None:
        """End all connections and give the ports back."""
        self._stop_listening()
        self._cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for place in self._places.values():
            place.close()

    async def _listen(self, name: str, port: int) -> None:
        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._join(reader, writer, self._servers[name]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            with suppress(OSError, asyncio.CancelledError):
                await task

        listener = _bound(port)
        self._listeners.append(await asyncio.start_server(connect, sock=listener))

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _cut(self) -> None:
        """Reset all connections."""
        for writer in list(self._open):
            with suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _NOW
                )
            writer.transport.abort()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: int
    ) -> None:
        """Carry a connection to its server and back until either side ends it."""
        self._open.add(writer)
        far_writer = None
        try:
            await self._passing.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server)
            self._open.add(far_writer)
            await asyncio.gather(
                self._carry(reader, far_writer, is_answer=False),
                self._carry(far_reader, writer, is_answer=True),
            )
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    self._open.discard(each)
                    each.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                await self._passing.wait()
                if self.kind == "dropped" or (self.kind == "unanswered" and is_answer):
                    continue
                writer.write(chunk)
                await writer.drain()
        await self._passing.wait()
        writer.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
