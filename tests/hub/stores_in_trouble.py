"""An S3 server behind one that can refuse, or fall silent, as stores do."""

import http.client
import http.server
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.services import DEADLINE

__all__ = ["Front", "Mood", "in_front_of"]

EVERY = frozenset({"GET", "HEAD", "PUT", "DELETE", "POST"})


@dataclass(frozen=True)
class Mood:
    """How a store answers: with a status and a code, or (status 0) not at all."""

    status: int
    code: str = ""
    methods: Collection[str] = EVERY
    after: int = 0
    """Chunks that are still taken."""


@dataclass
class Front:
    """What stands in front of the store."""

    behind: str
    mood: Mood | None = None
    """None: everything is passed on."""
    url: str = ""
    asked: int = 0
    """Requests since its mood changed."""
    put: int = 0
    end: threading.Event = field(default_factory=threading.Event)

    def become(self, mood: Mood | None) -> None:
        """Answer otherwise from now on."""
        self.mood, self.asked, self.put = mood, 0, 0


class Handler(http.server.BaseHTTPRequestHandler):
    """Passes a request on, unless the mood is against it."""

    front: Front
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        front, mood = self.front, self.front.mood
        front.asked += 1
        front.put += self.command == "PUT"
        is_taken = mood is not None and mood.after and front.put <= mood.after
        if mood is None or self.command not in mood.methods or is_taken:
            self._pass_on(body)
        elif mood.status:
            error = f"<Error><Code>{mood.code}</Code><Message>no</Message></Error>".encode()
            self._say(mood.status, {}, error)
        else:
            front.end.wait(DEADLINE)
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _answer  # noqa: N815

    def _pass_on(self, body: bytes) -> None:
        place = urlsplit(self.front.behind)
        there = http.client.HTTPConnection(place.hostname or "", place.port, timeout=DEADLINE)
        try:
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            self._say(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            there.close()

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        left_out = {"transfer-encoding", "connection"}
        left_out |= set() if self.command == "HEAD" else {"content-length"}
        kept = {name: text for name, text in headers.items() if name.lower() not in left_out}
        if self.command != "HEAD":
            kept["Content-Length"] = str(len(body))
        for name, text in kept.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def in_front_of(url: str) -> Iterator[Front]:
    """Stand in front of a store."""
    front = Front(url)
    handler = type("Before", (Handler,), {"front": front})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        front.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield front
        finally:
            front.end.set()
            server.shutdown()
            thread.join(DEADLINE)
