"""An HTTP server in a container that writes down what it got, a JSON per line, then says so.

One at a time: whatever it acknowledges is on its disk.
"""

import hashlib
import json
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

PORT = 8080
LINES = Path("/out/http.jsonl")


def write(line: bytes) -> None:
    """Have a line on the disk, or nothing of it."""
    file = os.open(LINES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    size = os.fstat(file).st_size
    try:
        if os.write(file, line) < len(line):
            os.ftruncate(file, size)
            raise OSError("the disk is full")
        os.fsync(file)
        folder = os.open(LINES.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    finally:
        os.close(file)


class Handler(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        """Write it down, then acknowledge."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        got = {
            "id": self.headers.get("Idempotency-Key", ""),
            "time": time.time(),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        try:
            write((json.dumps(got) + "\n").encode())
        except OSError:
            self.send_error(503)
            return
        self.do_OPTIONS()

    def do_OPTIONS(self) -> None:
        """Be there."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    HTTPServer(("", PORT), Handler).serve_forever()
