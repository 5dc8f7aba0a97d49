"""The application: pages, their JSON twins and the other parts, under one address."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from acoupi.errors import AcoupiError, ConfigurationError, ParameterError
from acoupi.web import exporting, twins
from acoupi.web.asking import Ask
from acoupi.web.pages import Pages
from acoupi.web.parts import METRICS, SENSOR, Access, Subject, WebSettings
from acoupi.web.recent import Recent
from acoupi.web.sensor import Sensor

__all__ = ["make_app"]

logger = logging.getLogger(__name__)

THREADS = 4
"""Most requests handled at the same time; each thread keeps memory."""
STATIC = Path(__file__).parent / "static"
_A_DAY = 86_400


def make_app(
    sensor: Sensor,
    settings: WebSettings,
    *,
    access: Access,
    subject: Subject = SENSOR,
    live: Sequence[BaseRoute] = (),
    media: Sequence[BaseRoute] = (),
    writing: Sequence[BaseRoute] = (),
    folder: Path | None = None,
) -> ASGIApp:
    """Return the application of a sensor's page.

    Parameters
    ----------
    sensor
        The sensor.
    settings
        Settings of the page.
    access
        Controls access.
    subject
        What the pages are about.
    live, media, writing
        Further routes: live data; pictures and sound; changes of the sensor.
    folder
        Folder for exports before they are sent; None: the system's temporary folder.
    """
    recent = Recent(sensor)

    def ask(request: Request) -> Ask:
        return Ask(sensor, request.query_params, request.path_params, recent.timezone())

    pages = Pages(recent, ask, access, subject, has_live=bool(live), has_writing=bool(writing))
    routes: list[BaseRoute] = [
        *twins.routes(ask, subject),
        *exporting.routes(ask, folder),
        *(one for part in (access.routes, live, media, writing) for one in part),
    ]
    if settings.metrics:
        routes.append(Route(METRICS, _metrics_of(sensor)))
    described = Route(f"{twins.API}/openapi.json", _described(lambda: app.routes, subject))
    app = Starlette(
        routes=[*routes, described, *pages.routes(), Mount("/static", _Static(directory=STATIC))],
        middleware=[*access.middleware, Middleware(GZipMiddleware, minimum_size=500)],
        exception_handlers={
            AcoupiError: _told(pages),
            HTTPException: _refused(pages),
            Exception: _failed(pages),
        },
        lifespan=_few_threads,
    )
    return _Prefixed(app, settings.path_prefix.rstrip("/"))


@asynccontextmanager
async def _few_threads(_: Starlette) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def _metrics_of(sensor: Sensor) -> Callable[[Request], Response]:
    def metrics(_: Request) -> Response:
        """Return the state of the sensor in the text format of Prometheus."""
        return PlainTextResponse(sensor.metrics(), media_type="text/plain; version=0.0.4")

    return metrics


def _described(
    routes: Callable[[], Sequence[BaseRoute]], subject: Subject
) -> Callable[[Request], Response]:
    def openapi(_: Request) -> Response:
        """Return this document."""
        return JSONResponse(twins.document(routes(), subject))

    return openapi


class _Prefixed:
    """Serves an application below a path, whether a proxy passes that path on or strips it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._prefix:
            path = scope["path"]
            if path != self._prefix and not path.startswith(f"{self._prefix}/"):
                path = self._prefix + path
            scope = {**scope, "root_path": self._prefix, "path": path}
        await self._app(scope, receive, send)


class _Static(StaticFiles):
    """Files of this version, which is in the address: browsers may cache them."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = f"public, max-age={_A_DAY}"
        return response


# Errors

_AGAIN = {"Retry-After": "5", "Refresh": "5"}
"""Statuses of passing failures, such as a starting sensor: browsers reload the page."""


def _told(pages: Pages) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, AcoupiError)
        status = getattr(error, "status", 503)
        if isinstance(error, ParameterError):
            status = 422
        elif isinstance(error, ConfigurationError):
            status = 409
        logger.warning("%s %s: %s", request.method, request.url.path, error.message)
        is_passing = status == 503 and request.method == "GET"
        return _problem(pages, request, status, error, _AGAIN if is_passing else None)

    return answer


def _refused(pages: Pages) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = AcoupiError(error.detail)
        return _problem(pages, request, error.status_code, told, dict(error.headers or {}))

    return answer


def _failed(pages: Pages) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        logger.error("%s %s", request.method, request.url.path, exc_info=error)
        told = AcoupiError(
            "this cannot be shown.",
            "see the log of the service web",
            why=f"{type(error).__name__} inside acoupi.",
        )
        return _problem(pages, request, 500, told)

    return answer


def _problem(
    pages: Pages,
    request: Request,
    status: int,
    error: AcoupiError,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return what happened, why, and what to try: as JSON below the API, else as a page."""
    if request.scope.get("path", "").removeprefix(pages.base(request)).startswith("/api/"):
        told = {"error": error.message, "why": error.why, "try": error.help}
        return JSONResponse(told, status, headers)
    return pages.problem(request, status, error, headers)
