"""Shows live sound of the open microphone while somebody watches: a thread of the recorder.

It only copies from the ring of a stream, as a reader who is late does, so the recorder never
waits for it, and whatever fails in it ends the picture and not a recording.
"""

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from acoupi.audio.live_ring import MarkWatch
from acoupi.audio.pool import StreamPool, streams
from acoupi.audio.stream import CaptureStream

if TYPE_CHECKING:
    from acoupi.audio.live_views import View

__all__ = ["LiveThread"]

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Seconds between checks for viewers, while there are none."""
TICK_SECONDS = 0.05


class LiveThread(threading.Thread):
    """Writes the rings of `acoupi.audio.live_ring` while their marks are fresh.

    Parameters
    ----------
    marks
        The mark of each ring that may be written, by the path of the ring.
    pool
        The streams of this process.
    """

    def __init__(self, marks: Mapping[Path, Path], pool: StreamPool = streams) -> None:
        super().__init__(name="live", daemon=True)
        self._pool = pool
        self._marks = {ring: MarkWatch(mark) for ring, mark in marks.items()}
        self._views: dict[Path, View] = {}
        self._broken: set[Path] = set()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Check for viewers, and show what they watch, until `stop` is called."""
        for ring in self._marks:
            with suppress(OSError):
                ring.unlink()  # of an earlier process
        while not self._stopping.wait(TICK_SECONDS if self._views else LOOK_SECONDS):
            self.tick()
        for ring in self._marks:
            self._close(ring)

    def stop(self) -> None:
        """End the thread, without waiting for it."""
        self._stopping.set()

    def tick(self) -> None:
        """Look at the marks once, and show what came since the last look."""
        stream: CaptureStream | None = None
        for ring, mark in self._marks.items():
            if not mark.is_fresh():
                self._close(ring)
                self._broken.discard(ring)
            elif ring not in self._broken:
                stream = stream or self._pool.newest()
                try:
                    self._show(ring, stream)
                except Exception:
                    logger.exception("%s can no longer be written for its viewers.", ring.name)
                    self._broken.add(ring)
                    self._close(ring)

    def _show(self, ring: Path, stream: CaptureStream | None) -> None:
        view = self._views.get(ring)
        if view is not None and view.stream is not stream:
            self._close(ring)
            view = None
        if stream is None:
            return
        if view is None:
            # numpy is only imported once somebody watches.
            from acoupi.audio.live_views import make_view  # noqa: PLC0415

            view = self._views[ring] = make_view(stream, ring)
        view.show()

    def _close(self, ring: Path) -> None:
        if view := self._views.pop(ring, None):
            view.close()
