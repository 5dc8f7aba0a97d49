"""A service that is no worker: it answers "hello" over HTTP. Declared by an entry point."""

import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from acoupi.stack.extra_services import extra_service
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Port, Service

NAME = "hello"
PORT = 8931
ENTRY_POINTS = {"acoupi.services": {NAME: "hello_service:service"}}


def service(settings: Settings) -> Service:
    """Describe it."""
    return extra_service(settings, NAME, "hello_service", port=Port(PORT))


class Handler(BaseHTTPRequestHandler):
    """Says hello, and to what asks for /home, of which."""

    def do_GET(self) -> None:
        body = str(Settings().home) if self.path == "/home" else "hello"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Answer until it is asked to stop."""
    with ThreadingHTTPServer(("", PORT), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        stop.wait()
        server.shutdown()
        thread.join()


def is_well(settings: Settings) -> bool:
    """Whether it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=2) as answer:
            return bool(answer.read() == b"hello")
    except OSError:
        return False
