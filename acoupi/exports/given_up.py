"""Recorded time without sound: it was analysed, and its file given up."""

from collections.abc import Iterator

from acoupi.clock import to_microseconds
from acoupi.data import Deployment, EffortSpan, EffortState, RecordingState
from acoupi.exports.reader import Reader
from acoupi.heard import Filters, RecordingRow

__all__ = ["GivenUp"]

_GONE = frozenset({RecordingState.DELETED, RecordingState.CLIPPED})


class GivenUp:
    """Tells of spans, one after the other, how much of them neither a file nor a clip holds.

    Parameters
    ----------
    reader
        Where the recordings are.
    deployment
        The spans are of this one.
    """

    def __init__(self, reader: Reader, deployment: Deployment) -> None:
        chosen = Filters(deployments=frozenset({deployment.id}), states=_GONE)
        self._rows = reader.recordings(chosen)
        self._here: list[RecordingRow] = []
        """Those that reach into the present span, or begin after it."""

    def within(self, span: EffortSpan) -> int:
        """Return microseconds; of a span that follows all those before."""
        start, end = to_microseconds(span.start), to_microseconds(span.end)
        self._here = [one for one in self._here if _end(one) > start]
        while not self._here or to_microseconds(self._here[-1].started_on) < end:
            row = next(self._rows, None)
            if row is None:
                break
            if _end(row) > start:
                self._here.append(row)
        if span.state is not EffortState.RECORDED:
            return 0
        return sum(last - first for row in self._here for first, last in _gone(row, start, end))


def _end(row: RecordingRow) -> int:
    return to_microseconds(row.started_on) + round(row.duration_s * 1e6)


def _gone(row: RecordingRow, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the gaps between the clips of a recording, within these times."""
    began = to_microseconds(row.started_on)
    first, last = max(began, start), min(_end(row), end)
    for clip in row.clips:
        kept = began + round(clip.start_s * 1e6)
        if first < min(kept, last):
            yield first, min(kept, last)
        first = max(first, began + round(clip.end_s * 1e6))
    if first < last:
        yield first, last
