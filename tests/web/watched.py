"""A sensor that is watched: real stores, a real server, and a client that reads its events."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from acoupi import data
from acoupi.audio.live_ring import COLUMNS, RingWriter, column_of, live_folder
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.errors import AcoupiError
from acoupi.heard import RecordingFile
from acoupi.stack.settings import Settings
from acoupi.system.page_files import RecordingFiles
from tests.services import DEADLINE
from tests.stores import output, recording

BINS = 256
HEAD = {
    "samplerate": 384_000,
    "low_hz": 1500.0,
    "high_hz": 192_000.0,
    "columns_per_second": 20,
    "lowest_db": -120.0,
    "step_db": 0.5,
    "bins": BINS,
}


class Sensor:
    """A sensor of which only the stores and the files are real.

    Parameters
    ----------
    home
        Where they are, in ``data/``.
    """

    def __init__(self, home: Path) -> None:
        self.data = home / "data"
        path = self.data / "metadata.db"
        self.store = SqliteStore(path)
        self._reader = SqliteReader(path)
        self._files = RecordingFiles(Settings(home=home), lambda: self._reader)
        self.pieces: list[int] = []
        """Lengths of the pieces of files that were asked for."""
        self.now_: dict[str, Any] = {"time": "1", "ok": True, "alarms": []}
        self.error: AcoupiError | None = None
        self.permits: threading.Semaphore | None = None
        """How often it may be asked; None: as often as somebody likes."""

    @property
    def reader(self) -> SqliteReader:
        if self.permits is not None:
            self.permits.acquire(timeout=60)
        if self.error is not None:
            raise self.error
        return self._reader

    def now(self) -> dict[str, Any]:
        return self.now_

    def find_file(self, recording_id: UUID, clip_id: UUID | None = None) -> RecordingFile:
        return self._files.find(recording_id, clip_id)

    def read_file(
        self, recording_id: UUID, offset: int, length: int, clip_id: UUID | None = None
    ) -> bytes:
        self.pieces.append(length)
        return self._files.read(recording_id, offset, length, clip_id)


def add(sensor: Sensor, seconds: float, *detections: data.Detection) -> data.Recording:
    one = recording(f"{seconds}.wav", seconds)
    sensor.store.store_recording(one)
    if detections:
        sensor.store.store_model_output(output(one, *detections))
    return one


def served(routes: Sequence[BaseRoute], end: Any = lambda: None) -> AbstractContextManager[int]:
    """Serve routes; see `serving`."""
    return serving(Starlette(routes=routes), end)


@contextmanager
def serving(app: Any, end: Any = lambda: None) -> Iterator[int]:
    """Serve with uvicorn; yield the port. `end` is called before the server is stopped."""
    config = uvicorn.Config(
        app, port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=3
    )
    server = uvicorn.Server(config)
    sockets = [config.bind_socket()]
    sockets[0].listen(64)  # who connects before the thread runs waits
    thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
    thread.start()
    try:
        yield sockets[0].getsockname()[1]
    finally:
        end()
        server.should_exit = True
        thread.join(DEADLINE)
        sockets[0].close()
        assert not thread.is_alive(), "the server does not stop"


class Told(NamedTuple):
    kind: str
    content: dict[str, Any]


class Browser:
    """Reads a stream, and gives up after some time."""

    def __init__(self, port: int, path: str, method: str = "GET") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        self._connection.request(method, path)
        self.answer = self._connection.getresponse()

    def next(self, *kinds: str) -> Told:
        """Return the next event of these kinds (of any)."""
        kind = None
        while line := self.answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind is not None and (not kinds or kind in kinds):
                return Told(kind, json.loads(value))
        raise EOFError

    def rest(self) -> list[str]:
        """Return the kinds of all events until the stream ends."""
        kinds: list[str] = []
        with suppress(EOFError):
            while True:
                kinds.append(self.next().kind)
        return kinds

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


class Recorder:
    """Writes rings, as the recorder would; a thread writes until it is closed."""

    def __init__(self, home: Path, name: str) -> None:
        content = column_of(-40, -20, bytes(range(BINS))) if name == COLUMNS else b"\1\2" * 2304
        head = HEAD if name == COLUMNS else {"samplerate": 48_000, "division": 10}
        path = live_folder(home, "recording") / name
        self._ring = RingWriter(path, head, content_bytes=len(content), slots=64)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(content,), daemon=True)
        self._thread.start()

    def _write(self, content: bytes) -> None:
        number = 0
        while not self._closing.wait(0.05):
            number += 1
            self._ring.write(1000 + number / 20, content)

    def close(self) -> None:
        self._closing.set()
        self._thread.join(DEADLINE)
        self._ring.close()
