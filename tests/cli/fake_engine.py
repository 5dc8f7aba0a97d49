"""The API of a Docker engine on a socket: containers of one project, as a test wants them."""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from acoupi.bundles.rendering import Manifest
from acoupi.clock import utc_now
from acoupi.stack.pulse import PulseFile
from acoupi.system import Settings
from acoupi.targets.containers import SERVICE_LABEL

SAID = ["it began", "Error: the model is broken.", "it ended"]


class FakeEngine:
    """What the engine says of the containers of a home.

    Parameters
    ----------
    home
        Where their pulses are.
    """

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        self.looks: list[dict[str, str]] = []
        """State of each service, look by look; the last one stays. Those left out are ready."""
        self.restarts: dict[str, int] = {}
        self.interrupts = False
        """Whether somebody presses Ctrl-C when it is asked."""
        self.is_up = False

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return the containers by their service, each with a pulse to match."""
        if self.interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        manifest = Manifest.read(self.settings.manifest_file)
        if manifest is None or not self.is_up:
            return {}
        names = ["redis", *(one.name for one in manifest.services)]
        look = self.looks.pop(0) if len(self.looks) > 1 else next(iter(self.looks), {})
        states = {name: look.get(name, "ready") for name in names}
        return {
            name: self._container(name, state)
            for name, state in states.items()
            if state != "stopped"
        }

    def _container(self, name: str, state: str) -> dict[str, Any]:
        file = PulseFile(self.settings.run_dir, name)
        began = file.pulse.started_on.isoformat().replace("+00:00", "000Z")
        if state == "ready" and name != "redis":
            file.pulse = replace(file.pulse, state="ready", started_on=utc_now())
            file.write()
        else:
            file.path.unlink(missing_ok=True)
        return {
            "Id": name,
            "Config": {"Tty": True, "Labels": {SERVICE_LABEL: name}},
            "Image": "sensor",
            "RestartCount": self.restarts.get(name, 0),
            "State": {
                "Running": True,
                "Restarting": state == "restarting",
                "StartedAt": began,
                "ExitCode": 0,
            },
        }


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    engine: FakeEngine
    found: dict[str, dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].split("/")
        if path[1] == "_ping" or path[-1] == "_ping":
            return self.answer(b"OK")
        if path[-1] == "version":
            return self.answer({"ApiVersion": "1.43", "MinAPIVersion": "1.24"})
        if path[-2:] == ["containers", "json"]:
            self.server.found = self.server.engine.containers()
            return self.answer([{"Id": name} for name in self.server.found])
        if path[-1] == "logs":
            return self.answer("".join(f"{line}\n" for line in SAID).encode())
        return self.answer(self.server.found[path[-2]])

    def answer(self, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *words: object) -> None:
        del words


@contextmanager
def engine_on_a_socket(home: Path) -> Iterator[tuple[FakeEngine, str]]:
    """Serve a fake engine; give it, and what DOCKER_HOST must be to reach it."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))  # tmp_path is too long for a socket
    server = _Server(str(folder / "docker.sock"), _Handler)
    server.engine, server.found = FakeEngine(home), {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.engine, f"unix://{folder}/docker.sock"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        shutil.rmtree(folder)
