"""Live data of the sensor: one stream of events for each tab, and sound.

However many people watch, the recorder's ring is read once and the sensor is queried once, and
neither while nobody watches. Each viewer has its own queue: a slow one gets the current state in
place of missed events, and nobody waits for anybody.
"""

import asyncio
import base64
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from acoupi import clock
from acoupi.audio.live_ring import (
    COLUMNS,
    SOUND,
    Entry,
    RingReader,
    find_ring,
    levels_in,
    live_folder,
    touch_mark,
)
from acoupi.web.news import Event, News
from acoupi.web.parts import Access
from acoupi.web.remote import ENDLESS, wav_head
from acoupi.web.sensor import Sensor

__all__ = ["LiveFeed", "routes"]

logger = logging.getLogger(__name__)

MOST_VIEWERS = 20
"""Most viewers of events, and most listeners."""
LONGEST_SECONDS = 600.0
"""Seconds after which a stream ends; the browser reconnects, which checks its rights again."""
HEARTBEAT_SECONDS = 10.0
READ_SECONDS = 0.1
TOUCH_SECONDS = 2.0
ASK_SECONDS = 0.5
STATE_EVERY = 6
"""The sensor's state is queried once for this many queries of recordings."""
GONE_SECONDS = 3.0
"""Seconds without a new column after which a live picture is over."""
SOUND_PATIENCE = 5.0
"""Longest wait of a listener for sound from the recorder, seconds."""
MOST_QUEUED, MOST_SOUNDS_QUEUED = 200, 40
"""Longest queues of a viewer, and of a listener (4 s)."""
STUCK_SECONDS = 30.0
"""A viewer who takes nothing any more is sent away so long after his stream should have ended."""
WEB = "web"
Head = dict[str, Any]
"""The recorder's description of a ring."""

_NO_CACHE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_PICTURE = ("samplerate", "low_hz", "high_hz", "columns_per_second", "lowest_db", "step_db", "bins")


def routes(feed: "LiveFeed", access: Access) -> list[Route]:
    """Return the routes of live data."""

    def live(_: Request) -> Response:
        """Return events (SSE): picture, columns, detection, recording, now, problem, beat."""
        return feed.events()

    def live_audio(request: Request) -> Response:
        """Return live sound as an endless WAV file; ultrasound ten times lower."""
        if not access.visitor(request).may_listen:
            return _refusal(403, "you may not listen to the microphone.", "log in")
        return feed.sound()

    return [Route("/api/v1/live", live), Route("/api/v1/live/audio", live_audio)]


class LiveFeed:
    """The state that all viewers share.

    Parameters
    ----------
    sensor
        Queries the sensor for news.
    home
        Where the recorder writes its rings.
    """

    def __init__(self, sensor: Sensor, home: Path) -> None:
        self._sensor = sensor
        self._news = News(sensor)
        self._columns = RingFeed(home, COLUMNS)
        self._sound = RingFeed(home, SOUND)
        self._viewers = Group(self._watch, MOST_QUEUED)
        self._listeners = Group(self._listen, MOST_SOUNDS_QUEUED)
        self._picture: dict[str, Any] = {}

    def close(self) -> None:
        """End all streams, and accept no more; from any thread."""
        self._viewers.close()
        self._listeners.close()

    def events(self) -> Response:
        """Return the stream of another viewer."""
        return _Stream(self._viewers, self._told, "text/event-stream")

    def sound(self) -> Response:
        """Return the sound for another listener."""
        return _Stream(self._listeners, self._heard, "audio/wav")

    # --- events ------------------------------------------------------------------------------

    async def _told(self, queue: "Queue") -> AsyncIterator[bytes]:
        yield b"".join((b"retry: 3000\n\n", *self._snapshot()))
        async for content in queue.contents(HEARTBEAT_SECONDS):
            yield content or _framed("beat", {})

    def _snapshot(self) -> list[bytes]:
        """Return the current state for a new viewer."""
        return [_framed("picture", self._picture), *map(_event, self._news.recent())]

    async def _watch(self) -> None:
        """Send events to everybody, while somebody is watching."""
        self._news = News(self._sensor)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._columns.run(self._show))
            tasks.create_task(self._ask(self._news))

    async def _ask(self, news: News) -> None:
        number = 0
        while True:
            found = await run_in_threadpool(news.heard)
            if number % STATE_EVERY == 0:
                found += await run_in_threadpool(news.state)
            for event in found:
                self._tell(_event(event))
            number += 1
            await asyncio.sleep(ASK_SECONDS)

    def _show(self, head: Head | None, entries: Sequence[Entry]) -> None:
        picture = {name: head.get(name) for name in _PICTURE} if head else {}
        if picture != self._picture:
            self._picture = picture
            self._tell(_framed("picture", picture))
        if entries:
            self._tell(_columns(entries))

    def _tell(self, content: bytes) -> None:
        self._viewers.tell(content, self._snapshot)

    # --- sound -------------------------------------------------------------------------------

    async def _heard(self, queue: "Queue") -> AsyncIterator[bytes]:
        """Yield the head of a file once there is sound, then the sound, until it ends."""
        head: Head | None = None
        async for content in queue.contents(SOUND_PATIENCE):
            if not content or self._sound.head is None:
                return
            if head is None:
                head = self._sound.head
                yield wav_head(int(head["samplerate"]), 1, 2, ENDLESS)
            yield content

    async def _listen(self) -> None:
        """Pass on live sound, while somebody is listening."""
        before: Head | None = None

        def pass_on(head: Head | None, entries: Sequence[Entry]) -> None:
            nonlocal before
            if before is not None and head != before:
                self._listeners.end()
            before = head
            self._listeners.tell(b"".join(one.content for one in entries), list)

        await self._sound.run(pass_on)


class RingFeed:
    """Reads a ring of the recorder for all viewers, and tells the recorder that it is wanted.

    Parameters
    ----------
    home
        Where it is.
    name
        Of the ring.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._mark = live_folder(home, WEB) / name
        self._can_tell = True
        self._ring = RingReader(lambda: find_ring(home, name, WEB))
        self.head: Head | None = None
        """The recorder's description of it; None: there is nothing to show."""

    async def run(self, show: Callable[[Head | None, Sequence[Entry]], None]) -> None:
        """Call `show` with the head of the ring and what is new, until this is cancelled."""
        touched = came = clock.monotonic() - GONE_SECONDS
        heard = clock.monotonic()
        try:
            while True:
                now = clock.monotonic()
                if now - touched >= TOUCH_SECONDS:
                    touched = now
                    await run_in_threadpool(self._touch)
                entries = self._ring.read()
                came = now if entries else came
                self.head = self._ring.head if now - came < GONE_SECONDS else None
                show(self.head, entries)
                heard = now if entries or self._ring.head is None else heard
                if now - heard >= GONE_SECONDS:
                    self._ring.close()  # there may be another
                await asyncio.sleep(READ_SECONDS)
        finally:
            self._ring.close()
            self.head = None

    def _touch(self) -> None:
        try:
            touch_mark(self._mark)
            self._can_tell = True
        except OSError as error:
            if self._can_tell:
                logger.warning("The recorder cannot be told that somebody watches: %s", error)
            self._can_tell = False


class Queue:
    """The queue of one viewer.

    Parameters
    ----------
    most
        Entries.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._until = clock.monotonic() + LONGEST_SECONDS
        self.is_closed = False

    def put(self, content: bytes, instead: Callable[[], Sequence[bytes]]) -> None:
        """Add new entries; if the queue is full, replace them all by `instead`."""
        self._waiting.append(content)
        if len(self._waiting) > self._most:
            self._waiting = deque(instead())
        self._came.set()

    def close(self) -> None:
        """End the stream of the viewer."""
        self.is_closed = True
        self._came.set()

    async def contents(self, patience: float) -> AsyncIterator[bytes]:
        """Yield new entries; b"" if there were none for this many seconds."""
        while not self.is_closed and clock.monotonic() < self._until:
            if not self._waiting:
                self._came.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._came.wait(), patience)
            content = b"".join(self._waiting)
            self._waiting.clear()
            if not self.is_closed:
                yield content


class Group:
    """The users of one source, which runs while there are any.

    Parameters
    ----------
    source
        Tells the group what is new, until it is cancelled.
    most_queued
        For each of them.
    """

    def __init__(self, source: Callable[[], Coroutine[Any, Any, None]], most_queued: int) -> None:
        self._source, self._most_queued = source, most_queued
        self._queues: set[Queue] = set()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    @contextmanager
    def joined(self) -> Iterator[Queue | None]:
        """Yield a queue for another viewer; None if there are too many."""
        if self._is_closed or len(self._queues) >= MOST_VIEWERS:
            yield None
            return
        queue = Queue(self._most_queued)
        self._queues.add(queue)
        if self._task is None or self._task.done():
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._run())
        try:
            yield queue
        finally:
            self._queues.discard(queue)
            if not self._queues and self._task is not None:
                self._task.cancel()
                self._task = None

    def tell(self, content: bytes, instead: Callable[[], Sequence[bytes]]) -> None:
        """Send new entries to everybody; see `Queue.put`."""
        if content:
            for queue in self._queues:
                queue.put(content, instead)

    def close(self) -> None:
        """End all streams, and accept no more viewers; from any thread."""
        self._is_closed = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """End all streams; browsers may ask again."""
        for queue in self._queues:
            queue.close()

    async def _run(self) -> None:
        try:
            await self._source()
        except Exception:
            logger.exception("Live data can no longer be shown.")
            self.end()


class _Stream(StreamingResponse):
    """The stream of one of a group, who leaves it whatever ends the connection."""

    def __init__(
        self, group: Group, make: Callable[[Queue], AsyncIterator[bytes]], media_type: str
    ) -> None:
        super().__init__(iter(()), media_type=media_type, headers=_NO_CACHE)
        self._group, self._make = group, make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._group.joined() as queue:
            if answer := await self._instead(scope["method"], queue):
                await answer(scope, receive, send)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_SECONDS + STUCK_SECONDS):
                    await super().__call__(scope, receive, send)

    async def _instead(self, method: str, queue: Queue | None) -> Response | None:
        """Return the response in place of the stream; None if it starts."""
        if queue is None:
            why = f"{MOST_VIEWERS} are watching already, or the page is being restarted."
            return _refusal(503, "you cannot watch now.", "close another tab", why)
        if method == "HEAD":
            return Response(headers=self.headers)
        contents = self._make(queue)
        try:
            # There is no response before there is something to send.
            self.body_iterator = _after(await anext(contents), contents)
        except StopAsyncIteration:
            why = "the microphone is closed, or the sensor is not recording."
            return _refusal(503, "there is nothing to hear now.", "acoupi status", why)
        return None


async def _after(first: bytes, contents: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for content in contents:
        yield content


def _refusal(status: int, what: str, attempt: str, why: str | None = None) -> JSONResponse:
    headers = {"Retry-After": "10"} if status == 503 else None
    return JSONResponse({"error": what, "why": why, "try": attempt}, status, headers)


def _event(event: Event) -> bytes:
    return _framed(event.kind, event.content)


def _framed(kind: str, content: Mapping[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(content, default=str)}\n\n".encode()


def _columns(entries: Sequence[Entry]) -> bytes:
    """Return columns of the picture, with the loudest levels in them."""
    rms, peaks, levels = zip(*(levels_in(one.content) for one in entries), strict=True)
    content = {
        "number": entries[-1].number,
        "time": entries[-1].time,
        "rms_dbfs": round(max(rms), 1),
        "peak_dbfs": round(max(peaks), 1),
        "columns": base64.b64encode(b"".join(levels)).decode(),
    }
    return _framed("columns", content)
