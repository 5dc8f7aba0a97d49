"""The service ``web``: serves the page until asked to stop."""

import asyncio
import errno
import logging
import secrets
import socket
import threading
from pathlib import Path

import uvicorn

from acoupi.config.page_keys import read_keys
from acoupi.config.sensor import load_sensor
from acoupi.config.web import LISTEN_HERE, Web
from acoupi.door.folders import door_folder
from acoupi.errors import DeviceError
from acoupi.opening import read_text
from acoupi.stack.doors import WEB
from acoupi.stack.settings import Settings
from acoupi.stack.web import check_reach, is_contained, keys_file
from acoupi.web.access import ALIVE, PageAccess
from acoupi.web.app import make_app
from acoupi.web.asking import zone_named
from acoupi.web.door_sensor import DoorSensor
from acoupi.web.live import LiveFeed
from acoupi.web.live import routes as live_routes
from acoupi.web.media import routes as media_routes
from acoupi.web.prompt import PromptHTTP
from acoupi.web.recent import Recent
from acoupi.web.writing import routes as writing_routes
from acoupi.writing import PRIVATE, write_atomic

__all__ = ["is_well", "run", "signing_key"]

logger = logging.getLogger(__name__)

EVERYWHERE = "0.0.0.0"  # noqa: S104 - within a container, which publishes it where it should be
PATIENCE = 3.0
"""Seconds for the answer of this page to itself, and for open answers at the end."""
AT_ONCE = 100
"""Connections."""
LOOK_EVERY = 5.0
"""Seconds between two checks that the page is still served."""
TICK = 2.0
"""Seconds between two checks whether to stop."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve the page until asked to stop.

    Raises
    ------
    ConfigurationError
        If it would be open to the world and nobody could log in.
    DeviceError
        If its port is taken.
    """
    web: Web = load_sensor(settings).web
    check_reach(web, has_keys=read_keys(keys_file(settings)) is not None)
    sensor = DoorSensor(door_folder(settings.home / "run", WEB))
    feed = LiveFeed(sensor, settings.home)
    with _listening(_host(settings, web), web.port) as listener:
        server = _Server(_config(settings, web, sensor, feed))
        # In a thread: the signals are those of this service.
        serving = threading.Thread(target=server.run, args=([listener],), name="page")
        serving.start()
        logger.info("The page is at http://%s:%d%s/", web.host, web.port, web.path_prefix)
        while serving.is_alive() and not stop.is_set():
            stop.wait(LOOK_EVERY)
        feed.close()
        server.should_exit = True
        serving.join()


def _config(settings: Settings, web: Web, sensor: DoorSensor, feed: LiveFeed) -> uvicorn.Config:
    access = PageAccess(
        web,
        keys_file(settings),
        signing=signing_key(_own_folder(settings) / "sessions.key"),
        set_password=sensor.set_password,
    )
    cache, recent = _cache(settings), Recent(sensor)
    app = make_app(
        sensor,
        web,
        access=access,
        live=live_routes(feed, access),
        media=media_routes(sensor, cache / "media", lambda: zone_named(recent.timezone())),
        writing=writing_routes(sensor, access),
        folder=cache,
    )
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=PromptHTTP,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(web.trusted_proxy),
        forwarded_allow_ips=web.trusted_proxy or None,
        limit_concurrency=AT_ONCE,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=int(PATIENCE),
    )


class _Server(uvicorn.Server):
    """Wakes up every other second while there are no requests, not ten times a second."""

    async def main_loop(self) -> None:
        """Wait until it should stop."""
        while not await self.on_tick(0):
            await asyncio.sleep(TICK)


def _cache(settings: Settings) -> Path:
    """Return the folder for temporary files of this service."""
    folder = _own_folder(settings) / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _own_folder(settings: Settings) -> Path:
    """Return the part of ``run/`` that belongs to this service."""
    run = settings.run_dir
    return run if run.name == WEB else run / WEB


def signing_key(path: Path) -> str:
    """Return the key that signs sessions across restarts; it is made if needed."""
    try:
        found = read_text(path, 200)
    except OSError:
        found = ""
    if len(found) < 64:
        found = secrets.token_hex(32)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, found, PRIVATE)
    return found


def _host(settings: Settings, web: Web) -> str:
    """Return where to listen: in a container, the engine publishes the configured address."""
    return EVERYWHERE if is_contained(settings) else web.host


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        raise DeviceError(
            f"the page cannot be served at {host}:{port}.",
            f"acoupi setup --sensor.web.port {port + 1}",
            why="another program listens on that port."
            if taken
            else f"the system refuses it: {error.strerror}.",
        ) from error
    return listener


def is_well(settings: Settings) -> bool:
    """Return whether the page answers."""
    web: Web = load_sensor(settings).web
    host = _host(settings, web)
    here = LISTEN_HERE if host == EVERYWHERE else "::1" if host == "::" else host
    request = f"GET {web.path_prefix}{ALIVE} HTTP/1.1\r\nHost: {here}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((here, web.port), PATIENCE) as connection:
            connection.sendall(request.encode())
            return connection.recv(12) == b"HTTP/1.1 204"
    except OSError:
        return False
