"""Clips as recordings of their own, for formats in which a row belongs to a file."""

import datetime
from collections.abc import Iterable, Iterator
from uuid import UUID

from acoupi.heard import DetectionRow, RecordingRow

__all__ = ["in_files"]

_Found = tuple[RecordingRow, list[DetectionRow]]
_MARGIN = datetime.timedelta(seconds=1)
"""Recordings of one stream follow each other by the rate of the microphone, which is not exact."""


def in_files(rows: Iterable[_Found]) -> Iterator[_Found]:
    """Yield what is in each file: a recording as it is, a clip with its own start and times.

    A clip with sound of several recordings comes once, with what was found in all of them. A
    detection of a clipped recording that is in no clip stays with the recording, which has no
    file.

    Parameters
    ----------
    rows
        Recordings with their detections, in order of time.
    """
    clips: dict[UUID, _Found] = {}
    for recording, found in rows:
        for id_, (sound, _) in list(clips.items()):
            if sound.ended_on + _MARGIN < recording.started_on:
                yield clips.pop(id_)
        for clip in recording.clips:
            clips.setdefault(clip.id, (recording.as_clip(clip), []))
        rest = []
        for row in found:
            if row.clip is None:
                rest.append(row)
            else:
                sound, own = clips[row.clip.id]
                own.append(row.in_clip(row.clip, sound))
        if rest or not recording.clips:
            yield recording, rest
    yield from clips.values()
