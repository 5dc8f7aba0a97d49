"""A real HTTP server or MQTT broker that writes what it gets into a file, a JSON per line."""

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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


if __name__ == "__main__":
    if sys.argv[1] == "mqtt":
        mqtt()
    else:
        ThreadingHTTPServer(("", 8080), Handler).serve_forever()
