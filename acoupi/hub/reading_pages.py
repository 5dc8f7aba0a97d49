"""The HTTP endpoints through which people read a hub, and give verdicts.

``POST /v1/read/METHOD`` calls a method of the `Reader`, with its arguments as JSON. The answer is
one line of JSON; if the method yields rows, many lines, the last of which marks the end
(`acoupi.door.wire.Answer`). A stream that stops without it is incomplete.
``POST /v1/verdicts`` stores a verdict in the name of its sender.
"""

import contextlib
import zlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from inspect import signature
from itertools import islice
from threading import BoundedSemaphore
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acoupi.door.wire import Answer, TooLargeError, Trouble, arguments_of, pack, parse
from acoupi.errors import AcoupiError, HubError
from acoupi.exports.remote import MOST_ANSWER, READING, READING_VERSION, Call, NewVerdict
from acoupi.heard import VerdictRow
from acoupi.hub.asking import RETRY_AFTER, Asked, RefusedError, page, said
from acoupi.hub.database import LONGEST_STATEMENT
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.room import rooms_of
from acoupi.hub.rounded_places import rounded_places
from acoupi.hub.verdicts import put_verdict
from acoupi.web.prompt import PromptStream

__all__ = ["reading_routes"]

LONGEST_STREAM = 3600.0
"""Seconds for a client to read all rows; the database keeps its old state meanwhile."""
ROWS = 500
"""Rows in one line of an answer."""
STREAMS = 16
"""Most streams at a time; each has a connection to the database."""

METHODS = frozenset({
    "analyses",
    "capture",
    "count_detections",
    "count_given_up",
    "count_recordings",
    "detection",
    "detections",
    "detections_in",
    "get_deployments",
    "get_effort",
    "get_given_up",
    "get_grouped_effort",
    "get_models",
    "get_tags",
    "ids_of_detections",
    "ids_of_recordings",
    "recording",
    "recordings",
    "species",
    "verdicts",
})  # fmt: skip
_Lines = Generator[bytes, None, None]
_HEADERS = {READING: READING_VERSION}


def reading_routes(hub: Hub) -> list[Route]:
    """Return the endpoints for reading."""
    reader = HubReader(hub.database, LONGEST_STATEMENT)
    streams = BoundedSemaphore(STREAMS)

    def read(asked: Asked) -> Response:
        return _read(reader, streams, asked)

    return [
        page(hub, "/v1/read/{method}", read, method="POST", allowed=("reader",)),
        page(hub, "/v1/room", _room, allowed=("operator",)),
        page(hub, "/v1/verdicts", _judge, method="POST", allowed=("reviewer",)),
    ]


def _read(reader: HubReader, streams: BoundedSemaphore, asked: Asked) -> Response:
    name = asked.request.path_params["method"]
    if name not in METHODS:
        raise RefusedError(404, f'there is nothing to read called "{name}".')
    shown = rounded_places if asked.caller.scope == "reader" else _as_it_is
    try:
        result = _made(reader, name, asked.body)
        if not isinstance(result, Iterator):
            return Response(_line(Answer(result=shown(result))), headers=_HEADERS)
        lines, headers = _lines(result, shown), _HEADERS
        if "gzip" in asked.request.headers.get("accept-encoding", ""):
            lines, headers = _packed(lines), _HEADERS | {"Content-Encoding": "gzip"}
        return _streamed(lines, headers, streams)
    except (ValueError, OverflowError) as error:
        raise RefusedError(422, f"these arguments are not valid: {_first_line(error)}.") from error


def _made(reader: HubReader, name: str, body: bytes) -> Any:
    """Call a method with the arguments in JSON; return its result."""
    method = getattr(reader, name)
    arguments = arguments_of(getattr(HubReader, name), parse(body, Call).arguments)
    try:
        signature(method).bind(**arguments)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return method(**arguments)


def _streamed(lines: _Lines, headers: Mapping[str, str], streams: BoundedSemaphore) -> Response:
    if not streams.acquire(blocking=False):
        why = f"{STREAMS} other requests are being answered; ask again later."
        return said(503, why, {"Retry-After": RETRY_AFTER})
    try:
        first = next(lines)  # errors in the request show up here
    except BaseException:
        streams.release()
        raise

    def end() -> None:
        lines.close()
        streams.release()

    return PromptStream(_all(first, lines), 200, headers, longest=LONGEST_STREAM, end=end)


def _as_it_is(value: Any) -> Any:
    return value


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _line(answer: Answer) -> bytes:
    try:
        return pack(answer, MOST_ANSWER) + b"\n"
    except TooLargeError as error:
        raise HubError(
            "the answer is longer than a hub sends at once.",
            "ask for less: --from, --to, --deployment",
            why=f"{error}.",
        ) from error


def _lines(rows: Iterator[Any], shown: Callable[[Any], Any]) -> _Lines:
    """Yield lines of some rows each; the last one is marked as the last."""
    is_first, has_more = True, True
    while has_more:
        try:
            some = [shown(row) for row in islice(rows, ROWS)]
            has_more = len(some) == ROWS
            yield _line(Answer(result=some, more=has_more))
        except AcoupiError as error:
            if is_first:
                raise
            yield _line(Answer(error=Trouble(message=error.message, why=error.why)))
            return
        is_first = False


def _packed(lines: _Lines) -> _Lines:
    """Yield compressed lines: rows have much in common."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    with contextlib.closing(lines):
        for line in lines:
            yield packer.compress(line) + packer.flush(zlib.Z_SYNC_FLUSH)
        yield packer.flush()


async def _all(first: bytes, lines: _Lines) -> AsyncIterator[bytes]:
    line: bytes | None = first
    while line is not None:
        yield line
        line = await run_in_threadpool(next, lines, None)


def _room(asked: Asked) -> Response:
    return Response(
        _line(Answer(result=rooms_of(asked.hub.database, LONGEST_STATEMENT))), headers=_HEADERS
    )


def _judge(asked: Asked) -> Response:
    new = asked.parsed(NewVerdict, "a verdict")
    verdict = VerdictRow(**dict(new), reviewer=asked.caller.name)
    if not put_verdict(asked.hub.database, verdict):
        raise RefusedError(404, "the hub has no such detection or recording.")
    return JSONResponse({"reviewer": verdict.reviewer}, headers=_HEADERS)
