"""Servers in the test's own process: one that notes what it is sent, and some that misbehave.

All listen on the loopback, and end with their ``with`` block.
"""

import base64
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.services import DEADLINE

# --- HTTP ---


@dataclass(frozen=True)
class Request:
    """What a server was sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HTTPSink:
    """A real HTTP server that notes what it gets.

    Parameters
    ----------
    status
        What it answers a POST.
    answer
        With what text.
    headers
        And with what headers.
    options_status
        What it answers an OPTIONS request; None: as it answers a POST.
    token, credentials
        Who is let in: the bearer of the token; "user:password". Others get 401.
    tls
        Speak TLS with this context.
    stall
        Read the request and answer only when the server ends.
    hang_up
        Read the request and close the connection.
    drip
        Send the answer's text a byte at a time, for ever.
    """

    status: int = 200
    answer: str = "thank you"
    headers: dict[str, str] = field(default_factory=dict)
    options_status: int | None = None
    token: str | None = None
    credentials: str | None = None
    tls: ssl.SSLContext | None = None
    stall: bool = False
    hang_up: bool = False
    drip: bool = False
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    """How many there have been."""
    open: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.ended = threading.Event()
        self._server = _QuietServer(("127.0.0.1", self.port), _Handler)
        self._server.sink = self
        if self.tls:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        for channel in self.open:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join(DEADLINE)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://localhost:{self.port}/in"

    @property
    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def is_allowed(self, headers: dict[str, str]) -> bool:
        given = headers.get("Authorization")
        if self.token:
            return given == f"Bearer {self.token}"
        if self.credentials:
            return given == f"Basic {base64.b64encode(self.credentials.encode()).decode()}"
        return True


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    sink: HTTPSink

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of these tests hang up on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = DEADLINE
    server: _QuietServer

    @property
    def sink(self) -> HTTPSink:
        return self.server.sink

    def setup(self) -> None:
        self.sink.connections += 1
        self.sink.open.append(self.request)
        super().setup()

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        self._answer(self.sink.status)

    def do_GET(self) -> None:
        self._answer(self.sink.status)

    def do_OPTIONS(self) -> None:
        self._answer(self.sink.options_status or self.sink.status)

    def _answer(self, status: int) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers)
        self.sink.requests.append(Request(self.command, self.path, headers, body))
        if self.sink.stall:
            self.sink.ended.wait(DEADLINE)
        if self.sink.stall or self.sink.hang_up:
            self.close_connection = True
            return
        self.send_response_only(status if self.sink.is_allowed(headers) else 401)
        for name, value in self.sink.headers.items():
            self.send_header(name, value)
        if self.sink.drip:
            self._drip()
            return
        answer = self.sink.answer.encode()
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _drip(self) -> None:
        self.close_connection = True
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with suppress(OSError):
            while not self.sink.ended.wait(0.02):
                self.wfile.write(b".")


# --- servers that misbehave ---


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


@contextmanager
def endless_server(first: bytes | Callable[[bytes], bytes], again: bytes) -> Iterator[int]:
    """A port whose server answers what it is asked with `first`, and then `again` for ever."""
    ended = threading.Event()

    def serve(channel: socket.socket) -> None:
        with channel, suppress(OSError):
            asked = channel.recv(65_536)
            channel.sendall(first(asked) if callable(first) else first)
            while not ended.wait(0.02):
                channel.sendall(again)

    def accept() -> None:
        with suppress(OSError):
            while True:
                channel, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(channel,), daemon=True))
                threads[-1].start()

    threads = [threading.Thread(target=accept, daemon=True)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads[0].start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(DEADLINE)


class ScriptedBroker:
    """An MQTT broker of few words, for what mosquitto cannot be made to do.

    Parameters
    ----------
    speaks
        Versions of MQTT that it knows: 4 is 3.1.1, 5 is 5. Another gets
        CONNACK 1 (unacceptable protocol version), in the words of 3.1.1.
    acknowledges
        Whether it acknowledges what is published.
    hangs_up_on_publish
        Whether it closes the connection instead.
    puback_code
        Reason code of its acknowledgements (MQTT 5).
    farewell
        What it sends before it hangs up.
    resets
        How many CONNECTs, of the first, it answers by hanging up, as a bad link does.
    bars_wills
        Whether it refuses a CONNECT with a last will as not authorised (MQTT 5).
    most_bytes
        The largest packet that it takes, by its own word (MQTT 5).
    """

    def __init__(
        self,
        speaks: tuple[int, ...] = (4, 5),
        acknowledges: bool = True,
        hangs_up_on_publish: bool = False,
        puback_code: int = 0,
        farewell: bytes = b"",
        resets: int = 0,
        bars_wills: bool = False,
        most_bytes: int | None = None,
    ) -> None:
        self.most_bytes = most_bytes
        self.bars_wills = bars_wills
        self.resets = resets
        self.speaks = speaks
        self.acknowledges = acknowledges
        self.hangs_up_on_publish = hangs_up_on_publish
        self.puback_code = puback_code
        self.farewell = farewell
        self.connects: list[tuple[int, str]] = []
        """Version and client id of each CONNECT."""
        self.published: list[bytes] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for channel in [self._listener, *self._open]:
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(DEADLINE)
        for channel in [self._listener, *self._open]:
            channel.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                channel, _ = self._listener.accept()
                self._open.append(channel)
                thread = threading.Thread(target=self._serve, args=(channel,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, channel: socket.socket) -> None:
        version = 4
        with suppress(OSError, EOFError), channel.makefile("rb") as stream:
            while True:
                kind, body = _read_packet(stream)
                if kind == 0x10:
                    version = body[6]
                    properties = 1 + body[10] if version == 5 else 0
                    self.connects.append((version, _text_at(body, 10 + properties)))
                    if not self._let_in(channel, version, has_will=bool(body[7] & 0x04)):
                        break
                elif kind == 0x30:
                    topic_end = 2 + struct.unpack("!H", body[:2])[0]
                    self.published.append(body)
                    if self.hangs_up_on_publish:
                        channel.sendall(self.farewell)
                        break
                    number = body[topic_end : topic_end + 2]
                    if self.acknowledges and version == 5:
                        channel.sendall(b"\x40\x03" + number + bytes([self.puback_code]))
                    elif self.acknowledges:
                        channel.sendall(b"\x40\x02" + number)
                elif kind == 0xC0:
                    channel.sendall(b"\xd0\x00")
                elif kind == 0xE0:
                    break
        with suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)

    def _let_in(self, channel: socket.socket, version: int, has_will: bool) -> bool:
        """Answer a CONNECT; return whether the client may stay."""
        if len(self.connects) <= self.resets:
            return False
        if version not in self.speaks:
            channel.sendall(b"\x20\x02\x00\x01")
            return False
        if self.bars_wills and has_will:
            channel.sendall(b"\x20\x03\x00\x87\x00")
            return False
        if version == 5 and self.most_bytes is not None:
            channel.sendall(b"\x20\x08\x00\x00\x05\x27" + struct.pack("!I", self.most_bytes))
            return True
        channel.sendall(b"\x20\x03\x00\x00\x00" if version == 5 else b"\x20\x02\x00\x00")
        return True


def _read_packet(stream: Any) -> tuple[int, bytes]:
    first = stream.read(1)
    if not first:
        raise EOFError
    length, shift = 0, 0
    while True:
        byte = stream.read(1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    return first[0] & 0xF0, stream.read(length)


def _text_at(body: bytes, start: int) -> str:
    (length,) = struct.unpack("!H", body[start : start + 2])
    return body[start + 2 : start + 2 + length].decode()
