"""A real HTTP server or MQTT broker that writes what it gets into a file, a JSON per line."""

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

OUT = Path("/out")


class Handler(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        more, id_ = self.headers.get("Authorization"), self.headers.get("Idempotency-Key")
        note("http", body.decode(), more, id_)
        self.send_response(200)
        self.end_headers()

    do_OPTIONS = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def note(name: str, content: str, more: str | None = None, id_: str | None = None) -> None:
    """Write down one message."""
    with (OUT / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps({"content": content, "more": more, "id": id_}) + "\n")


def mqtt() -> None:
    """Run mosquitto, and a client that listens to everything."""
    Path("/tmp/mosquitto.conf").write_text("listener 1883\nallow_anonymous true\n")
    broker = subprocess.Popen(["/usr/sbin/mosquitto", "-c", "/tmp/mosquitto.conf"])
    while broker.poll() is None:
        listen = ["mosquitto_sub", "-h", "127.0.0.1", "-t", "#", "-F", "%t %p"]
        with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as client:
            for line in client.stdout or ():
                topic, _, payload = line.strip().partition(" ")
                note("mqtt", payload, topic)
        time.sleep(0.1)


HOSTILE: dict[int, tuple[bytes, bytes, float]] = {
    9001: (b"HTTP/1.1 200 OK\r\nX: ", b"a", 0.2),
    9002: (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    9003: (b"HTTP/1.1 200 OK\r\n", b"X-a: aaaa\r\n", 0),
    9004: (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", b"x", 0.2),
    9005: (b"", b"", 1),
    9011: (b"\x20\x7f\x00\x00\x7c", b"\x00", 0.2),
    9012: (b"\x20\xff\xff\xff\x7f", b"x" * 65536, 0),
    9013: (b"\x20\x03\x00\x00\x00", b"\xd0\x00", 0),
    9014: (b"", b"", 1),
}
"""What a server answers at each port, what it says then without an end, and how often."""


class Hostile(BaseRequestHandler):
    """Never ends."""

    def handle(self) -> None:
        port = self.server.server_address[1]
        first, again, pause = HOSTILE[port]
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        with suppress(OSError):
            self.request.recv(4096)
            self.request.sendall(first)
            while True:
                self.request.sendall(again)
                time.sleep(pause)


def hostile() -> None:
    """Answer at all these ports, and say when."""
    for port in HOSTILE:
        server = ThreadingTCPServer(("", port), Hostile)
        threading.Thread(target=server.serve_forever).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "mqtt":
        mqtt()
    elif sys.argv[1] == "hostile":
        hostile()
    else:
        ThreadingHTTPServer(("", 8080), Handler).serve_forever()
