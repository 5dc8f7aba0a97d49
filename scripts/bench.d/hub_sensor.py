"""What reporting to a hub, with all sound, costs a sensor: memory of the worker that sends.

The demo program under the process target, with an HTTP messenger; then the same with a hub: a real
PostgreSQL and ``acoupi hub serve`` with a folder for sound. It is measured after as many
recordings were kept, or are at the hub, sound and all.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
services = importlib.import_module("services")

import psutil  # noqa: E402

from acoupi.components import SqliteStore  # noqa: E402
from acoupi.components.stores.unsent import sound_standing  # noqa: E402
from acoupi.data import RecordingState  # noqa: E402
from acoupi.hub.database import HubDatabase  # noqa: E402
from acoupi.hub.sensors import add_sensor, make_token  # noqa: E402
from tests.postgres import running_postgres  # noqa: E402
from tests.services import free_port  # noqa: E402

RECORDINGS = 20
LOOKS = 10
LONGEST = 300.0
GOAL = 6.0
"""MiB more with a hub."""
WORKER = "default"
"""It sends messages, reports and sound."""
MEBIBYTE = 2**20

Figures = dict[str, Any]


def run(runs: int) -> Figures:
    """Return the memory of the worker that sends, without a hub and with one."""
    figures: Figures = {}
    for name, hub in (("without a hub", None), ("with a hub", "none"), ("with all sound", "all")):
        found = [_measured(hub) for _ in range(runs)]
        figures[name] = {"memory (PSS)": {"value": round(median(found), 1), "unit": "MiB"}}
    before = figures["without a hub"]["memory (PSS)"]["value"]
    more = figures["with all sound"]["memory (PSS)"]["value"] - before
    figures["more with a hub"] = {
        "memory (PSS)": {"value": round(more, 1), "unit": "MiB", "goal": GOAL}
    }
    return figures


def _measured(audio: str | None) -> float:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="acoupi-bench-")))
        hub = None if audio is None else stack.enter_context(_hub(folder))
        home = stack.enter_context(_sensor(folder / "home", hub and {**hub, "audio": audio}))
        if audio == "all":
            services.wait_for(lambda: _has_sent(home), "sound at the hub", LONGEST)
        else:
            services.wait_for(lambda: _has_kept(home), "recordings", LONGEST)
        return median(_pss(home) for _ in range(LOOKS)) / MEBIBYTE


def _pss(home: Path) -> float:
    time.sleep(1)
    processes = services.processes_of(home, WORKER)
    return float(sum(one.memory_full_info().pss for one in processes))


def _has_kept(home: Path) -> bool:
    store = SqliteStore(home / "data" / "metadata.db")
    counts = store.count_recordings()
    store.close()
    return counts[RecordingState.KEPT] + counts[RecordingState.DELETED] >= RECORDINGS


def _has_sent(home: Path) -> bool:
    standing = sound_standing(home / "data" / "metadata.db")
    return standing is not None and standing.sent_on is not None and _has_kept(home)


@contextmanager
def _sensor(home: Path, hub: dict[str, str] | None) -> Iterator[Path]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        services.acoupi(
            home,
            *("setup", "--program", "acoupi.programs.demo", "--target", "process", "--no-prompt"),
            *("--recording.interval", "3", "--recording.duration", "2"),
            *("--messaging.http.base_url", f"http://127.0.0.1:{server.server_port}/"),
        )
        if hub is not None:
            section = json.dumps({**hub, "interval_seconds": 5})
            services.acoupi(home, "config", "set", "--apply", "--json", "sensor.hub", section)
        try:
            services.acoupi(home, "deployment", "start", "--name", "bench",
                            "--latitude", "51.5", "--longitude", "0")  # fmt: skip
            services.wait_for(lambda: services.is_ready(home, WORKER), "the worker")
            yield home
        finally:
            services.acoupi(home, "deployment", "stop")
            server.shutdown()


class _Taking(BaseHTTPRequestHandler):
    """Takes every message."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _hub(folder: Path) -> Iterator[dict[str, str]]:
    with running_postgres() as postgres:
        database, port = postgres.new_database("hub"), free_port()
        hub = HubDatabase(database)
        add_sensor(hub, "bench")
        token = make_token(hub, "bench")
        hub.close()
        (folder / "sound").mkdir()
        command = [str(Path(sys.executable).with_name("acoupi")), "hub", "serve"]
        command += ["--port", str(port), "--audio", str(folder / "sound")]
        environment = {**os.environ, "ACOUPI_HUB_DATABASE": database}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                services.wait_for(lambda: _listens(process.pid, port), "the hub")
                yield {"url": f"http://127.0.0.1:{port}", "token": token}
            finally:
                process.terminate()
                process.wait(60)


def _listens(pid: int, port: int) -> bool:
    return any(
        one.laddr.port == port and one.status == psutil.CONN_LISTEN
        for one in psutil.Process(pid).net_connections()
    )
