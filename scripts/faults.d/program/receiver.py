"""An HTTP server in a container that writes down what it got, a JSON per line, then says so."""

import hashlib
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 8080


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
        file = os.open(Path("/out/http.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, (json.dumps(got) + "\n").encode())
        os.close(file)
        self.do_OPTIONS()

    def do_OPTIONS(self) -> None:
        """Be there."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
