"""The servers of the fleet: a real MQTT broker with a consumer, and an HTTP server."""

import hashlib
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paho.mqtt.client as mqtt
from accounting import Arrival

__all__ = ["TOPIC", "digest", "free_port", "http_server", "mqtt_broker"]

TOPIC = "fleet"
DEADLINE = 20.0
Note = Callable[[Arrival], None]

CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
"""


def digest(content: bytes) -> str:
    """Return what tells contents apart."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def http_server(note: Note) -> Iterator[int]:
    """Take messages on ``/SENSOR`` and give the port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sensor, message = self.path.strip("/"), self.headers.get("Idempotency-Key", "")
            note(Arrival(sensor, "http", message, time.time(), digest(body)))
            self._answer()

        def do_OPTIONS(self) -> None:
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """Say nothing: links that drop are the point."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@contextmanager
def mqtt_broker(folder: Path, note: Note) -> Iterator[int]:
    """Run mosquitto with a consumer of ``fleet/SENSOR``, and give the port."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SystemExit(
            "Error: there is no MQTT broker.\n  Why: mosquitto is not installed.\n"
            "  Try: apt-get install mosquitto"
        )
    folder.mkdir()
    port = free_port()
    # Told to change to another user, it could not read its own files.
    user = "user root\n" if os.geteuid() == 0 else ""
    (folder / "mosquitto.conf").write_text(CONFIGURATION.format(port=port) + user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log
        )
    try:
        with _consumer(port, note):
            yield port
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    """Return a port below those that the kernel hands out, so that no client gets it meanwhile."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def _consumer(port: int, note: Note) -> Iterator[None]:
    ready = threading.Event()

    def take(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        _, _, sensor = message.topic.partition("/")
        properties = dict(getattr(message.properties, "UserProperty", []))
        id_ = properties.get("message_id", "")
        note(Arrival(sensor, "mqtt", id_, time.time(), digest(message.payload)))

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(f"{TOPIC}/+", qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = take
    end = time.monotonic() + DEADLINE
    while True:
        try:
            client.connect("127.0.0.1", port)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    client.loop_start()
    try:
        if not ready.wait(DEADLINE):
            raise SystemExit("Error: the MQTT broker does not answer.")
        yield
    finally:
        client.disconnect()
        client.loop_stop()
