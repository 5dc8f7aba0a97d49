"""Sound that spans several files.

Recordings of one stream know which of its frames they hold, so they are joined
by frame, not by time: the result is the stream, to the sample.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acoupi import data
from acoupi.audio.formats import read_audio, read_recording
from acoupi.clock import shown_in_utc
from acoupi.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Span", "capture_of", "read_frames", "read_span"]


@dataclass(frozen=True)
class Span:
    """A stretch of one stream."""

    samples: "NDArray[np.float32]"
    """Shape ``(frames, channels)``, in [-1, 1); silence where no file has them."""
    samplerate: int
    """Samplerate of the original sound, Hz."""
    first_frame: int
    """First frame, counted in the stream."""
    missing: list[data.Overrun]
    """Frames of the stream that no file holds, or that were lost while recording."""


def read_span(
    recordings: Iterable[data.Recording | Path],
    start: datetime.datetime,
    end: datetime.datetime,
) -> Span:
    """Read the sound between two times, from as many files as needed.

    Parameters
    ----------
    recordings
        Where to look, in any order: recordings, or files with GUANO metadata.
        Those outside the span are ignored.
    start, end
        Aware, `end` not included.

    Raises
    ------
    AudioError
        If nothing was recorded then, the files are not of one stream (the
        microphone was opened again in between), or one cannot be read.
    """
    if end <= start:
        raise ValueError("the end must be after the start")
    found = [
        recording
        for recording in map(_described, recordings)
        if recording.created_on < end and start < _end_of(recording)
    ]
    if not found:
        raise AudioError(
            f"nothing was recorded from {shown_in_utc(start)} to {shown_in_utc(end)} UTC.",
            "for recorded times: acoupi effort",
        )
    _require_one_stream(found)
    found.sort(key=lambda recording: capture_of(recording).first_frame)
    # Times apply within one file; between files, frames do.
    anchor = max((r for r in found if r.created_on <= start), key=_start_of, default=found[0])
    first = _frame_at(anchor, start)
    return read_frames(found, first, first + round((end - start).total_seconds() * _rate(anchor)))


def read_frames(found: Sequence[data.Recording], first: int, last: int) -> Span:
    """Read frames of a stream, the last not included.

    Parameters
    ----------
    found
        Recordings of the stream with files, the earliest first.

    Raises
    ------
    AudioError
        If one cannot be read.
    """
    import numpy as np  # noqa: PLC0415 - only where sound is read

    samplerate = found[0].samplerate
    samples = np.zeros((last - first, found[0].audio_channels or 1), dtype=np.float32)
    missing: list[data.Overrun] = []
    position = first
    for recording in found:
        report = capture_of(recording)
        begin = max(position, report.first_frame)
        stop = min(last, report.first_frame + report.frames)
        if stop <= begin:
            continue
        if begin > position:
            missing.append(data.Overrun(position, begin - position))
        path = recording.path
        assert path is not None
        got, _ = read_audio(path, start=begin - report.first_frame, frames=stop - begin)
        samples[begin - first : begin - first + len(got)] = got
        missing += [o for o in report.overruns if o.frame < stop and begin < o.frame + o.frames]
        position = stop
    if position < last:
        missing.append(data.Overrun(position, last - position))
    return Span(samples, samplerate, first, missing)


def _described(recording: data.Recording | Path) -> data.Recording:
    if isinstance(recording, Path):
        return read_recording(recording)
    if recording.path is not None and recording.capture is None:
        return read_recording(recording.path)
    return recording


def _require_one_stream(found: Sequence[data.Recording]) -> None:
    for recording in found:
        if recording.path is None:
            raise AudioError(
                f"the file of recording {recording.id} no longer exists.",
                "ask for another time",
            )
        capture_of(recording)
    if len({capture_of(recording).stream_id for recording in found}) > 1:
        raise AudioError(
            "cannot join recordings of several streams.",
            "ask for a span before or after the interruption: acoupi effort",
            why="the microphone was reopened between them.",
        )


def capture_of(recording: data.Recording) -> data.CaptureReport:
    """Return the frames of its stream that a recording contains.

    Raises
    ------
    AudioError
        If that is not known.
    """
    if recording.capture is None:
        name = recording.path.name if recording.path else recording.id
        raise AudioError(
            f'cannot tell which frames "{name}" holds.',
            "give recordings of this sensor's own recorder",
            why="they are not in its metadata.",
        )
    return recording.capture


def _rate(recording: data.Recording) -> float:
    return capture_of(recording).samplerate_measured or recording.samplerate


def _start_of(recording: data.Recording) -> datetime.datetime:
    return recording.created_on


def _end_of(recording: data.Recording) -> datetime.datetime:
    return recording.created_on + datetime.timedelta(seconds=recording.duration)


def _frame_at(recording: data.Recording, time: datetime.datetime) -> int:
    seconds = (time - recording.created_on).total_seconds()
    return capture_of(recording).first_frame + round(seconds * _rate(recording))
