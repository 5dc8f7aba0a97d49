"""Cutting clips out of recordings of one stream, sample for sample, whatever files they are in."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from acoupi import data
from acoupi.audio.formats import open_writer, read_guano, read_info
from acoupi.audio.guano import (
    CLIP_OF,
    MISSING_AFTER,
    MISSING_BEFORE,
    build_guano,
    guano_of_recording,
)
from acoupi.audio.spans import capture_of, read_frames
from acoupi.clips import Clip, Piece, true_time

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["cut_clip", "describe_clip"]

_OWN = ("Acoupi|", "GUANO|", "Length")
"""Metadata that belongs only to a single recording."""


def describe_clip(
    recordings: Sequence[data.Recording], piece: Piece, folder: Path
) -> tuple[Clip, data.Recording]:
    """Describe a clip that begins in the first of some recordings, and ends in the last of them.

    Returns
    -------
    Clip
        Its file is still to be made, in the folder.
    Recording
        The same, described as every recording is.
    """
    head = recordings[0]
    rate, stream_id = head.samplerate, capture_of(head).stream_id
    starts = {one.id: (piece.first - capture_of(one).first_frame) / rate for one in recordings}
    id_ = data.derived_id("clip", stream_id, piece.first, piece.last)
    suffix = head.path.suffix if head.path is not None else ".wav"
    path = folder / f"{id_}{suffix}"
    clip = Clip(
        id=id_,
        path=path,
        stream_id=stream_id,
        first_frame=piece.first,
        frames=piece.last - piece.first,
        samplerate=rate,
        missing_before_s=piece.missing_before / rate,
        missing_after_s=piece.missing_after / rate,
        parts=starts,
    )
    described = head.model_copy(
        update={
            "id": id_,
            "path": path,
            "duration": clip.frames / rate,
            "created_on": head.created_on + true_time(head, starts[head.id]),
            "capture": _report(recordings, piece),
        }
    )
    return clip, described


def _report(recordings: Sequence[data.Recording], piece: Piece) -> data.CaptureReport:
    """Return how a clip was captured: like its recordings, with the sound lost within it."""
    reports = [capture_of(one) for one in recordings]
    ends = [
        (max(one.frame, piece.first), min(one.frame + one.frames, piece.last))
        for report in reports
        for one in report.overruns
    ]
    lost = [data.Overrun(first, last - first) for first, last in ends if first < last]
    return reports[0].model_copy(
        update={
            "first_frame": piece.first,
            "frames": piece.last - piece.first,
            "overruns": lost,
            "gap_before_frames": 0,
            "incomplete": None,
            "incomplete_detail": "",
            "health": None,
        }
    )


def cut_clip(recordings: Sequence[data.Recording], clip: Clip, described: data.Recording) -> None:
    """Write the file of a clip, with metadata like those of the recordings.

    Parameters
    ----------
    recordings
        Those that it has sound of, the earliest first.
    clip, described
        As `describe_clip` returns them.

    Raises
    ------
    AudioError
        If a recording cannot be read, or the file is there already.
    RecordingError
        If the disk refuses.
    """
    source = recordings[0].path
    assert source is not None
    bits = 16 if read_info(source).bits <= 16 else 24
    guano = build_guano(_fields(read_guano(source), recordings, clip, described))
    with open_writer(
        clip.path, described.samplerate, described.audio_channels or 1,
        time_expansion=described.time_expansion, guano=guano, bits=bits, sample_bytes=4,
        frames=clip.frames,
    ) as writer:  # fmt: skip
        for block in _blocks(recordings, clip):
            writer.write(block)
        writer.finish()


def _fields(
    source: Mapping[str, str],
    recordings: Sequence[data.Recording],
    clip: Clip,
    described: data.Recording,
) -> dict[str, str]:
    told = {key: text for key, text in source.items() if not key.startswith(_OWN)}
    fields = {**told, **guano_of_recording(described, serial=source.get("Serial", ""))}
    fields[CLIP_OF] = " ".join(str(one.id) for one in recordings)
    missing = {MISSING_BEFORE: clip.missing_before_s, MISSING_AFTER: clip.missing_after_s}
    fields |= {name: f"{seconds:.6f}" for name, seconds in missing.items() if seconds}
    return fields


def _blocks(recordings: Sequence[data.Recording], clip: Clip) -> Iterator[bytes]:
    """Yield the samples as 32-bit integers: exact, 24 bits are the most that they have."""
    end = clip.first_frame + clip.frames
    for first in range(clip.first_frame, end, clip.samplerate):
        span = read_frames(recordings, first, min(end, first + clip.samplerate))
        yield _whole(span.samples)


def _whole(samples: "NDArray[np.float32]") -> bytes:
    import numpy as np  # noqa: PLC0415 - only where sound is cut

    full = 2.0**31
    return np.clip(samples.astype(np.float64) * full, -full, full - 1).astype("=i4").tobytes()
