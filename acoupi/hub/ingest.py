"""The HTTP service of a hub, for sensors, workers and people with a token.

``POST /v1/reports`` takes one `acoupi.reports.Report` as JSON, which may be compressed by gzip.
It answers 200 once all of it is stored; sending the same again is harmless. With any other
answer nothing is stored: 401 the token is not valid, 403 its owner may not do this, 408 the
request was too slow, 409 something belongs to another sensor, or cannot be stored (a time in
another century), 413 it is too long, 422 it is not a report, 503 the database does not answer (try
again later). Other pages use the same codes (`acoupi.hub.asking`).
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acoupi.errors import AcoupiError
from acoupi.hub.analysis_pages import analysis_routes
from acoupi.hub.asking import RETRY_AFTER, Asked, page, said
from acoupi.hub.audio_pages import audio_routes
from acoupi.hub.fleet_pages import fleet_routes
from acoupi.hub.parts import Hub
from acoupi.hub.reading_pages import reading_routes
from acoupi.hub.taking_in import take_in
from acoupi.hub.tidying import tidying
from acoupi.reports import Report, ReportSequence
from acoupi.web.prompt import PromptHTTP

__all__ = ["make_ingest", "serve", "serving_here"]

AT_ONCE = 200
"""Most requests served at a time; others are told to try later."""
GRACE = 20
"""Seconds for open requests when it stops."""
OPTIONS: dict[str, Any] = {
    "http": PromptHTTP,
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "ws": "none",
    "limit_concurrency": AT_ONCE,
    "timeout_graceful_shutdown": GRACE,
}
"""Options of uvicorn."""


def make_ingest(hub: Hub) -> Starlette:
    """Return the application that accepts reports and sound, and serves what the hub has."""
    parts = (_routes, audio_routes, reading_routes, analysis_routes, fleet_routes)
    return Starlette(routes=[one for part in parts for one in part(hub)])


def serve(
    hub: Hub, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None
) -> None:
    """Serve until a signal stops it; over TLS if given a certificate and its key."""
    with tidying(hub):
        uvicorn.run(
            make_ingest(hub),
            host=host,
            port=port,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            **OPTIONS,
        )


@contextmanager
def serving_here(hub: Hub) -> Iterator[str]:
    """Serve processes on this machine while the block runs; yield the address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(make_ingest(hub), **OPTIONS))
        thread = threading.Thread(target=server.run, args=([listening],), name="ingest")
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _routes(hub: Hub) -> list[Route]:
    async def health(_: Request) -> Response:
        try:
            await run_in_threadpool(_is_there, hub)
        except AcoupiError as error:
            return said(503, error.message, {"Retry-After": RETRY_AFTER})
        return JSONResponse({"well": True})

    return [
        page(hub, "/v1/reports", _take, method="POST", allowed=("sensor",)),
        Route("/v1/health", health),
    ]


def _is_there(hub: Hub) -> None:
    with hub.database.writing() as connection:
        connection.execute("SELECT 1")


def _take(asked: Asked) -> Response:
    report = asked.parsed(Report, "a report")
    sequence = ReportSequence.of(asked.request.headers)
    knows_all = take_in(asked.hub.database, asked.caller.name, report, sequence)
    more = {} if sequence is None else {"again": not knows_all}
    return JSONResponse({"stored": True, **more})
