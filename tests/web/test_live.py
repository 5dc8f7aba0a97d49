"""Watching a sensor through a real server: events, sound, and nothing while nobody watches."""

import asyncio
import base64
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi.audio.live_ring import COLUMNS, SOUND, live_folder
from acoupi.web import live
from acoupi.web.live import Group, LiveFeed, Queue, routes
from acoupi.web.parts import Visitor
from tests.stores import SITE, detection
from tests.web.watched import BINS, HEAD, Browser, Recorder, Sensor, add, served

pytestmark = pytest.mark.integration


class Doorkeeper:
    """Decides who may listen."""

    may_listen = True

    def visitor(self, request: object) -> Visitor:
        del request
        return Visitor(None, "", may_write=False, may_listen=self.may_listen)


class Page:
    """A sensor, its feed, and a server."""

    def __init__(self, sensor: Sensor, home: Path, feed: LiveFeed, port: int) -> None:
        self.sensor, self.home, self.feed, self.port = sensor, home, feed, port
        self.access = Doorkeeper()
        self.opened: list[Browser] = []

    def watch(self, path: str = "/api/v1/live", method: str = "GET") -> Browser:
        self.opened.append(Browser(self.port, path, method))
        return self.opened[-1]

    def mark(self, name: str) -> Path:
        return live_folder(self.home, "web") / name


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    sensor = Sensor(tmp_path)
    sensor.store.store_deployment(SITE)
    feed = LiveFeed(sensor, tmp_path)  # type: ignore[arg-type]
    page = Page(sensor, tmp_path, feed, 0)
    with served(routes(feed, page.access), feed.close) as page.port:  # type: ignore[arg-type]
        yield page
        for browser in page.opened:
            browser.close()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[[str], Recorder]]:
    made: list[Recorder] = []

    def make(name: str) -> Recorder:
        made.append(Recorder(tmp_path, name))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(condition: Callable[[], bool], what: str) -> None:
    waited = threading.Event()
    for _ in range(600):
        if condition():
            return
        waited.wait(0.05)
    pytest.fail(f"{what}: it never was so")


def test_a_detection_is_told_when_it_is_stored(page: Page) -> None:
    browser = page.watch()
    assert browser.answer.getheader("Content-Type", "").startswith("text/event-stream")
    assert browser.answer.getheader("Cache-Control") == "no-store"
    assert browser.next().kind == "picture"
    assert browser.next("now").content == {"ok": True, "alarms": []}

    add(page.sensor, 1, detection(0.8, ("species", "Myotis nattereri", 0.9)))

    assert browser.next("detection").content["species"] == "Myotis nattereri"
    assert browser.next("recording").content["detection_count"] == 1


def test_the_picture_follows_the_recorder(page: Page, recorder: Callable[[str], Recorder]) -> None:
    browser = page.watch()
    assert browser.next("picture").content == {}
    until(page.mark(COLUMNS).exists, "the recorder is told that somebody watches")
    assert not page.mark(SOUND).exists()

    ring = recorder(COLUMNS)

    assert browser.next("picture").content == HEAD
    numbers: list[int] = []
    for _ in range(5):
        content = browser.next("columns").content
        assert (content["rms_dbfs"], content["peak_dbfs"]) == (-40, -20)
        columns = base64.b64decode(content["columns"])
        assert columns[:BINS] == bytes(range(BINS))
        numbers += range(content["number"] - len(columns) // BINS + 1, content["number"] + 1)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    ring.close()
    assert browser.next("picture").content == {}


def test_who_comes_later_is_told_what_the_others_know(page: Page) -> None:
    add(page.sensor, 1, detection(0.8))
    first = page.watch()
    first.next("now")

    second = page.watch()

    found = [second.next().kind for _ in range(4)]
    assert found == ["picture", "recording", "detection", "now"]
    first.close()


def test_however_many_watch_the_sensor_is_asked_once(page: Page) -> None:
    page.sensor.permits = threading.Semaphore(1)
    many = [page.watch() for _ in range(5)]
    for one in many:
        one.next("now")
    add(page.sensor, 1)

    page.sensor.permits.release()

    for one in many:
        assert one.next("recording").content["detection_count"] == 0
    page.sensor.permits.release(1000)


def test_nothing_runs_any_more_once_the_last_has_gone(page: Page) -> None:
    first, second = page.watch(), page.watch()
    first.next("now")
    second.next("now")
    (task,) = [page.feed._viewers._task]
    assert task is not None

    first.close()
    second.close()

    until(task.done, "the source ends")
    assert page.feed._viewers._task is None
    assert page.feed._columns.head is None


def test_one_too_many_is_told_so_and_comes_in_when_another_leaves(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_VIEWERS", 2)
    first, second = page.watch(), page.watch()
    first.next()
    second.next()

    third = page.watch()
    assert third.answer.status == 503
    assert third.answer.getheader("Retry-After") == "10"
    first.close()

    def comes_in() -> bool:
        again = page.watch()
        status = again.answer.status
        again.close()
        return status == 200

    until(comes_in, "there is room again")


def test_a_stream_ends_after_some_time_so_that_a_browser_must_ask_again(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LONGEST_SECONDS", 0.0)
    browser = page.watch()

    assert browser.answer.status == 200
    assert browser.rest() == ["picture"]


def test_only_the_head_is_asked_for(page: Page) -> None:
    browser = page.watch(method="HEAD")

    assert browser.answer.status == 200
    assert browser.answer.read() == b""


def test_a_source_that_fails_ends_the_streams_and_is_begun_again(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    page.sensor.now = None  # type: ignore[method-assign, assignment]
    browser = page.watch()

    assert browser.rest() == ["picture"]
    assert "can no longer be shown" in caplog.text
    del page.sensor.now
    again = page.watch()
    assert again.next("now").content["ok"]


# --- sound -----------------------------------------------------------------------------------


def test_sound_is_a_wav_file_that_ends_with_the_sound(
    page: Page, recorder: Callable[[str], Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SOUND_PATIENCE", 60.0)
    monkeypatch.setattr(live, "GONE_SECONDS", 60.0)
    ring = recorder(SOUND)
    browser = page.watch("/api/v1/live/audio")

    assert browser.answer.getheader("Content-Type") == "audio/wav"
    head = browser.answer.read(44)
    assert struct.unpack_from("<4s4x4s", head) == (b"RIFF", b"WAVE")
    assert struct.unpack_from("<HHI", head, 20) == (1, 1, 48_000)
    assert browser.answer.read(20_000) == b"\1\2" * 10_000
    assert page.mark(SOUND).exists()
    ring.close()
    monkeypatch.setattr(live, "GONE_SECONDS", 0.0)
    assert len(browser.answer.read()) % 2 == 0


def test_where_there_is_nothing_to_hear_the_answer_says_so(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SOUND_PATIENCE", 0.2)
    browser = page.watch("/api/v1/live/audio")

    assert browser.answer.status == 503
    assert b"nothing to hear" in browser.answer.read()


def test_who_may_not_listen_is_refused_and_the_recorder_is_not_told(page: Page) -> None:
    page.access.may_listen = False
    browser = page.watch("/api/v1/live/audio")

    assert browser.answer.status == 403
    assert not page.mark(SOUND).exists()


# --- what waits for a viewer ------------------------------------------------------------------


def test_who_is_too_slow_gets_the_present_state_in_place_of_what_was_missed() -> None:
    queue = Queue(3)
    for number in range(4):
        queue.put(str(number).encode(), lambda: [b"now"])
    queue.put(b"4", lambda: [b"now"])

    assert list(queue._waiting) == [b"now", b"4"]


def test_who_takes_nothing_any_more_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(live, "STUCK_SECONDS", 0.05)
    began: list[str] = []

    async def rest() -> None:
        await asyncio.Event().wait()

    async def contents(queue: Queue) -> AsyncIterator[bytes]:
        yield b"first"
        async for content in queue.contents(60):
            yield content

    async def send(message: Any) -> None:
        began.append(message["type"])
        if message["type"] == "http.response.body":
            await rest()

    async def watch() -> Group:
        group = Group(rest, 10)
        stream = live._Stream(group, contents, "text/plain")
        await stream({"type": "http", "method": "GET"}, rest, send)
        return group

    group = asyncio.run(watch())

    assert began == ["http.response.start", "http.response.body"]
    assert not group._queues


def test_news_of_one_kind_reaches_the_page_under_its_name() -> None:
    def told(content: bytes) -> Any:
        return content.decode().splitlines()

    assert told(live._framed("now", {"text": "a\nb"}))[:2] == [
        "event: now",
        'data: {"text": "a\\nb"}',
    ]
