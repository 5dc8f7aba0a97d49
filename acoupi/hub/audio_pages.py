"""The HTTP endpoints through which sound reaches a hub, and is read from it.

A sensor offers a sound by ``POST /v1/audio/ID``, where ID is that of the recording, or of the
clip: its format, its bytes and its SHA-256 (`acoupi.reports.SoundReport`). The answer is 200 once
the hub has it, else 202 with ``received``, the bytes that it has so far. The rest is
sent by ``PUT /v1/audio/ID/SHA256/START``, in chunks that each have a ``Content-Digest``; any chunk
may be sent again. A last ``POST`` makes the hub check the whole.

``GET /v1/audio/ID``, with ``Range``, gives it to workers of a program that is to analyse it, and to
people who may hear it.
"""

from collections.abc import Iterator
from itertools import chain
from uuid import UUID

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from acoupi.errors import ParameterError
from acoupi.hub.asking import Asked, RefusedError, page, said
from acoupi.hub.audio import find_sound, has_job, put_chunk, read_audio, take_sound
from acoupi.hub.parts import Hub
from acoupi.reports import SoundReport, digest_header
from acoupi.web.prompt import PromptStream
from acoupi.web.ranges import range_of

__all__ = ["audio_routes"]

LONGEST_PAUSE, SLOWEST = 60.0, 5_000
"""Seconds, and bytes a second: a client that reads sound more slowly is cut off."""
SOUND = "/v1/audio/{sound:uuid}"


def audio_routes(hub: Hub) -> list[Route]:
    """Return the pages of sound."""
    chunks = SOUND + "/{sha256:str}/{start:count}"
    return [
        page(hub, SOUND, _offer, method="POST", allowed=("sensor",)),
        page(hub, chunks, _chunk, method="PUT", allowed=("sensor",)),
        page(hub, SOUND, _hear, allowed=("worker", "reviewer")),
    ]


def _offer(asked: Asked) -> Response:
    offered = asked.parsed(SoundReport, "a description of sound")
    received = take_sound(asked.hub, asked.caller.row, _sound(asked), offered)
    if received is None:
        return JSONResponse({"stored": True})
    return JSONResponse({"stored": False, "received": received}, 202)


def _chunk(asked: Asked) -> Response:
    parts, said_digest = asked.request.path_params, asked.request.headers.get("content-digest")
    if not _is_digest(parts["sha256"]):
        raise RefusedError(422, f"{parts['sha256']} is no SHA-256 of a sound.")
    if not asked.body or said_digest != digest_header(asked.body):
        raise RefusedError(
            422,
            f"the chunk does not match its digest: {len(asked.body)} bytes with "
            f"{digest_header(asked.body)} arrived, and Content-Digest is {said_digest}.",
        )
    sensor, sha256, start = asked.caller.row, parts["sha256"], parts["start"]
    put_chunk(asked.hub, sensor, _sound(asked), sha256, start, asked.body)
    return JSONResponse({"stored": True})


def _hear(asked: Asked) -> Response:
    if asked.caller.kind == "worker" and not has_job(asked.hub, asked.caller.scope, _sound(asked)):
        raise RefusedError(404, f"{asked.caller.name} has no job that needs this sound.")
    sound = find_sound(asked.hub, _sound(asked))
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{sound.sha256.hex()}"'}
    try:
        wanted = range_of(asked.request.headers.get("range", ""), sound.size)
    except ParameterError as error:
        return said(416, error.message, {"Content-Range": f"bytes */{sound.size}"})
    start, end = wanted or (0, sound.size)
    headers["Content-Length"] = str(end - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{sound.size}"
    content = _begun(read_audio(asked.hub, _sound(asked), start, end))
    return PromptStream(
        content,
        206 if wanted else 200,
        headers,
        f"audio/{sound.format}",
        longest=LONGEST_PAUSE + (end - start) / SLOWEST,
    )


def _begun(content: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first piece before answering, so that a failure becomes an error response."""
    return chain([next(content, b"")], content)


def _sound(asked: Asked) -> UUID:
    sound = asked.request.path_params["sound"]
    assert isinstance(sound, UUID)
    return sound


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
