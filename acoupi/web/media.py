"""Pictures and sound of recordings.

The files come through the door of the sensor, in pieces. Sound that is slower is the same samples
under another rate, so a part of a WAV file is sent as it is; formats that browsers do not play,
and pictures, are made by a separate process (`acoupi.web.making`).
"""

import datetime
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from acoupi.audio import riff
from acoupi.errors import AcoupiError, AudioError, ParameterError, RecordingFileError
from acoupi.heard import RecordingFile, RecordingRow
from acoupi.web.making import Workshop
from acoupi.web.ranges import range_of
from acoupi.web.remote import Read, opened, wav_head
from acoupi.web.sensor import Files

__all__ = ["routes"]

LONGEST_PICTURE_S, SHORTEST_S = 60.0, 0.01
MOST_SLOWER = 100.0
PIECE = 256 * 1024
RETRY_AFTER = "2"
_PLAYED_BYTES = 4
"""Most bytes of a sample that browsers play."""
_KEEP = {"Cache-Control": "private, max-age=3600"}


def routes(
    sensor: Files, cache: Path, zone: Callable[[], datetime.tzinfo] = lambda: datetime.UTC
) -> list[Route]:
    """Return the routes of pictures and sound.

    Parameters
    ----------
    sensor
        The sensor.
    cache
        Folder for what is made.
    zone
        Returns the time zone of pictures; it may block.
    """
    media = _Media(sensor, Workshop(cache), zone)
    at = "/api/v1/recordings/{id:uuid}"
    return [
        Route(f"{at}/{name}", _answering(answer))
        for name, answer in (
            ("picture.png", media.picture),
            ("audio.wav", media.audio),
            ("file", media.file),
        )
    ]


_Box = tuple[float, float, float, float]


class Part(NamedTuple):
    """A part of a recording, seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class _Media:
    sensor: Files
    workshop: Workshop
    zone: Callable[[], datetime.tzinfo]

    async def picture(self, request: Request) -> Response:
        """Return a spectrogram (PNG), with axes and a box around each detection.

        ``start`` and ``end``: seconds of the recording; at most a minute. ``clip``: the id of one
        of its clips, in place of it.
        """
        file, row, read = await run_in_threadpool(self._found, request)
        part = _part_of(request, row, LONGEST_PICTURE_S)
        boxes, title = await run_in_threadpool(self._drawn, request, row, part)
        order = {
            "what": "picture",
            "id": str(row.id),
            "name": file.name,
            "size": file.size,
            "samplerate": row.samplerate_hz,
            "start": part.start,
            "end": part.end,
            "boxes": boxes,
            "title": title.isoformat(),
        }
        path = await self.workshop.made(order, ".png", read)
        return FileResponse(path, media_type="image/png", headers=_KEEP)

    async def audio(self, request: Request) -> Response:
        """Return the sound of a part (WAV), ``slow`` times slower, or a range of it.

        ``start`` and ``end``: seconds of the recording. ``slow``: 1 to 100; 10 lowers 45 kHz to
        4.5 kHz. ``clip``: the id of one of its clips, in place of it.
        """
        file, row, read = await run_in_threadpool(self._found, request)
        part, slow = _part_of(request, row), _number(request, "slow", 1.0)
        if not 1 <= slow <= MOST_SLOWER:
            raise _wrong("slow", f"{slow:g}", f"it is 1 to {MOST_SLOWER:g}.")
        first, last = (round(seconds * row.samplerate_hz) for seconds in part)
        rate = max(1, round(row.samplerate_hz / slow))
        content = await run_in_threadpool(_slower, file, read, first, last, rate)
        if content is not None:
            return _ranged(request, *content, "audio/wav", _KEEP)
        order = {
            "what": "sound",
            "id": str(row.id),
            "name": file.name,
            "size": file.size,
            "samplerate": row.samplerate_hz,
            "first": first,
            "last": last,
            "rate": rate,
        }
        path = await self.workshop.made(order, ".wav", read)
        return FileResponse(path, media_type="audio/wav", headers=_KEEP)

    async def file(self, request: Request) -> Response:
        """Return the file of a recording as it was stored, or a range of it, to be saved.

        ``clip``: the id of one of its clips, in place of it.
        """
        id_, clip_id = _ids(request)
        file = await run_in_threadpool(self.sensor.find_file, id_, clip_id)
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{quote(file.name)}"}
        read = partial(self.sensor.read_file, id_, clip_id=clip_id)
        return _ranged(request, read, file.size, file.media_type, headers)

    def _found(self, request: Request) -> tuple[RecordingFile, RecordingRow, Read]:
        """Return the requested file, the recording (or clip), and its reader."""
        id_, clip_id = _ids(request)
        file, row = self.sensor.find_file(id_, clip_id), self.sensor.reader.recording(id_)
        if row is None:
            raise RecordingFileError(
                "there is no recording with that id.", "acoupi recordings list"
            )
        clips = [row.as_clip(one) for one in row.clips if one.id == clip_id]
        read = partial(self.sensor.read_file, id_, clip_id=clip_id)
        return file, clips[0] if clips else row, read

    def _drawn(
        self, request: Request, row: RecordingRow, part: Part
    ) -> tuple[list[_Box], datetime.datetime]:
        """Return the boxes in a picture, and when the recording (or clip) began."""
        id_, clip_id = _ids(request)
        found = self.sensor.reader.detections_in(id_)
        if clip_id is not None:
            found = [
                one.in_clip(clip, row)
                for one in found
                for clip in one.recording.clips
                if clip.id == clip_id
            ]
        boxes = [
            (start, low, end, high)
            for start, low, end, high in (one.box for one in found if one.box)
            if start < part.end and end > part.start
        ]
        return boxes, row.started_on.astimezone(self.zone())


def _slower(
    file: RecordingFile, read: Read, first: int, last: int, rate: int
) -> tuple[Read, int] | None:
    """Return a WAV file of some frames of another, and its size; None: it cannot be made so."""
    if file.media_type != "audio/wav":
        return None
    layout = riff.read_layout(opened(read, file.size), Path(file.name))
    form = layout.format
    if not form.is_plain or form.sample_bytes > _PLAYED_BYTES:
        return None
    frames = layout.available_bytes // form.frame_bytes
    first, last = min(first, frames), min(last, frames)
    begin, size = (
        layout.samples.offset + first * form.frame_bytes,
        (last - first) * form.frame_bytes,
    )
    head = wav_head(rate, form.channels, form.sample_bytes, size, encoding=form.encoding)

    def piece(offset: int, length: int) -> bytes:
        if offset < len(head):
            return head[offset : offset + length]
        return read(begin + offset - len(head), min(length, len(head) + size - offset))

    return piece, len(head) + size


# --- the request ----------------------------------------------------------------------


def _part_of(request: Request, row: RecordingRow, longest: float = math.inf) -> Part:
    """Return the part of a recording that is asked for; its end may be cut."""
    start, end = _number(request, "start", 0.0), _number(request, "end", math.inf)
    if start >= row.duration_s or end <= start:
        asked = f"{start:g} to {end:g} s"
        raise _wrong("start", asked, f"the recording has {row.duration_s:g} s.")
    return Part(start, max(start + SHORTEST_S, min(end, start + longest, row.duration_s)))


def _ids(request: Request) -> tuple[UUID, UUID | None]:
    """Return the recording, and the clip of it, that are asked for."""
    text = request.query_params.get("clip") or ""
    try:
        return request.path_params["id"], UUID(text) if text else None
    except ValueError as error:
        raise _wrong("clip", text, "it is the id of a clip.") from error


def _number(request: Request, name: str, usual: float) -> float:
    text = request.query_params.get(name) or ""
    try:
        value = float(text) if text else usual
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise _wrong(name, text, "it is a number, 0 or more.")
    return value


def _wrong(name: str, text: str, why: str) -> ParameterError:
    return ParameterError(text, f'{name} cannot be "{text}".', f"{name}=1", why=why)


# --- answers ---------------------------------------------------------------------------------


def _answering(
    answer: Callable[[Request], Awaitable[Response]],
) -> Callable[..., Awaitable[Response]]:
    """Return an endpoint that answers errors with the right status."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except AcoupiError as error:
            return _told(error, _status(error))

    endpoint.__doc__ = answer.__doc__
    return endpoint


def _status(error: AcoupiError) -> int:
    if isinstance(error, RecordingFileError):
        return error.status
    unfit = isinstance(error, ParameterError | AudioError)
    return 422 if unfit else 503


def _told(error: AcoupiError, status: int, headers: dict[str, str] | None = None) -> Response:
    told = {"error": error.message, "why": error.why, "try": error.help}
    headers = {"Retry-After": RETRY_AFTER} if status == 503 else headers or {}
    return JSONResponse(told, status, {**headers, "Cache-Control": "no-store"})


def _ranged(
    request: Request, read: Read, size: int, media_type: str, headers: dict[str, str]
) -> Response:
    """Return a file, or the range of it that is asked for."""
    try:
        wanted = range_of(request.headers.get("Range", ""), size)
    except ParameterError as error:
        return _told(error, 416, {"Content-Range": f"bytes */{size}"})
    first, end = wanted or (0, size)
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - first)}
    status = 200
    if wanted:
        status, headers["Content-Range"] = 206, f"bytes {first}-{end - 1}/{size}"
    if request.method == "HEAD":
        return Response(status_code=status, media_type=media_type, headers=headers)
    return StreamingResponse(_pieces(read, first, end), status, headers, media_type)


async def _pieces(read: Read, first: int, end: int) -> AsyncIterator[bytes]:
    while first < end:
        piece = await run_in_threadpool(read, first, min(PIECE, end - first))
        if not piece:
            return
        first += len(piece)
        yield piece
