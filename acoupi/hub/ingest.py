"""Where sensors report to: HTTP, with a token for each of them.

``POST /v1/reports`` takes one `acoupi.reports.Report` as JSON, which may be compressed by gzip.
It answers 200 once all of it is stored; sending the same again is harmless. Anything else leaves
nothing stored: 401 the token is not valid, 409 something belongs to another sensor, 413 it is
too long, 422 it is not a report, 503 the database does not answer (try again later).
"""

import zlib
from collections.abc import Callable

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acoupi.errors import AcoupiError, HubError, HubUnavailableError
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import sensor_of_token
from acoupi.hub.taking_in import take_in
from acoupi.reports import Report

__all__ = ["LONGEST_REPORT", "make_ingest", "serve"]

LONGEST_REPORT = 16 * 2**20
"""Bytes of a report, compressed or not."""
AT_ONCE = 200
"""Requests that are served at a time; more are told to come back."""
GRACE = 20
"""Seconds for requests that are being answered when it is to end."""
RETRY_AFTER = "60"
"""Seconds after which a sensor is to try again."""


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


def make_ingest(database: HubDatabase) -> Starlette:
    """Return the application that takes in reports."""

    async def reports(request: Request) -> Response:
        return await _answered(request, lambda sensor, body: _take(database, sensor, body))

    async def _answered(request: Request, take: Callable[[str, bytes], None]) -> Response:
        try:
            sensor = await run_in_threadpool(_sensor_of, database, request)
            body = await _body(request)
            await run_in_threadpool(take, sensor, body)
        except _RefusedError as error:
            return _said(error.status, str(error))
        except HubUnavailableError as error:
            return _said(503, error.message, {"Retry-After": RETRY_AFTER})
        except HubError as error:
            return _said(409, error.message)
        return JSONResponse({"stored": True})

    async def health(_: Request) -> Response:
        try:
            await run_in_threadpool(_is_there, database)
        except AcoupiError as error:
            return _said(503, error.message, {"Retry-After": RETRY_AFTER})
        return JSONResponse({"well": True})

    return Starlette(
        routes=[
            Route("/v1/reports", reports, methods=["POST"]),
            Route("/v1/health", health),
        ]
    )


def serve(database: HubDatabase, host: str, port: int) -> None:
    """Serve until a signal ends it."""
    uvicorn.run(
        make_ingest(database),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=GRACE,
    )


def _said(status: int, what: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": what}, status, headers)


def _is_there(database: HubDatabase) -> None:
    with database.writing() as connection:
        connection.execute("SELECT 1")


def _sensor_of(database: HubDatabase, request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    sensor = sensor_of_token(database, token) if kind.lower() == "bearer" and token else None
    if sensor is None:
        raise _RefusedError(401, "this token is not valid: ask for one by acoupi hub add-sensor.")
    return sensor


async def _body(request: Request) -> bytes:
    """Return what was sent, without its compression; no more than the longest report."""
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > LONGEST_REPORT:
            raise _too_long()
        parts.append(part)
    body = b"".join(parts)
    if request.headers.get("content-encoding") != "gzip":
        return body
    try:
        reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        plain = reader.decompress(body, LONGEST_REPORT)
    except zlib.error as error:
        raise _RefusedError(422, f"the report is not compressed as it says: {error}.") from error
    if reader.unconsumed_tail:
        raise _too_long()
    return plain


def _too_long() -> _RefusedError:
    return _RefusedError(413, f"a report has at most {LONGEST_REPORT} bytes.")


def _take(database: HubDatabase, sensor: str, body: bytes) -> None:
    try:
        report = Report.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the report"
        raise _RefusedError(422, f"this is not a report: {place}: {first['msg']}.") from error
    take_in(database, sensor, report)
