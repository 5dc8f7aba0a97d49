"""When a frame was captured: the clock of the device, measured against ours.

A block is seen when its last frame has been captured, or later: on a busy
machine a tenth of a second later, and never earlier. So the most punctual
block of every second counts. The slope of a line through those of the last
twenty minutes is the device's true rate, and its place is that of the most
punctual of the last five: a line below all that was seen. It follows a
crystal that warms up.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from statistics import median

__all__ = ["SampleClock"]

_BUCKET_SECONDS = 1.0
_BUCKETS = 1200
_PLACED_BY = 300
"""How many of the newest points say where the line is."""
_STRETCHES = 1000
_PRIOR = (2e-3 / 100e-6) ** 2
"""Seconds²: how much spread of points outweighs the nominal rate (2 ms of noise in a
point, 100 ppm of error in a rate)."""
_LARGEST_DRIFT = 0.01
_RATE_AFTER = 30.0
"""Seconds that a measured rate needs."""


@dataclass(slots=True)
class _Stretch:
    """Frames without a break between them, and when they were."""

    start: int
    """First frame; the line counts from there."""
    points: "deque[tuple[float, float]]" = field(
        default_factory=lambda: deque[tuple[float, float]](maxlen=_BUCKETS)
    )
    """Nominal seconds since `start`, and the time by our clock minus those."""
    bucket: tuple[float, float] | None = None
    """The most punctual of the blocks since the last point."""
    bucket_end: float = 0.0
    line: tuple[float, float] | None = None
    """At `start`, and the drift; None while there is something new."""


class SampleClock:
    """Maps frames of a stream to the monotonic clock, and back.

    One thread adds, others ask.

    Parameters
    ----------
    samplerate
        Nominal, Hz.
    """

    def __init__(self, samplerate: int) -> None:
        self.samplerate = samplerate
        self._lock = threading.Lock()
        self._stretches: list[_Stretch] = []
        self._known_drift = 0.0

    def add(self, frame: int, time: float, *, is_break: bool = False) -> None:
        """Note when a frame was captured, as far as a block knows.

        Parameters
        ----------
        frame
            Later than those before.
        time
            On the clock of `data.monotonic`; late rather than early.
        is_break
            Whether sound was lost just before it.
        """
        with self._lock:
            if is_break or not self._stretches:
                self._begin(frame)
            stretch = self._stretches[-1]
            at = (frame - stretch.start) / self.samplerate
            point = (at, time - at)
            if stretch.bucket is None:
                stretch.bucket, stretch.bucket_end = point, at + _BUCKET_SECONDS
            elif at >= stretch.bucket_end:
                stretch.points.append(stretch.bucket)
                stretch.bucket, stretch.bucket_end = point, at + _BUCKET_SECONDS
                stretch.line = None
            elif point[1] < stretch.bucket[1]:
                stretch.bucket = point
                if len(stretch.points) < _BUCKETS // 100:  # Young: each block tells something.
                    stretch.line = None

    @property
    def is_set(self) -> bool:
        """Whether anything is known yet."""
        return bool(self._stretches)

    @property
    def measured_rate(self) -> float | None:
        """The device's true rate, Hz; None before half a minute without a break was heard."""
        with self._lock:
            if not self._stretches or not self._stretches[-1].points:
                return None
            stretch = self._stretches[-1]
            if stretch.points[-1][0] - stretch.points[0][0] < _RATE_AFTER:
                return None
            return self.samplerate / (1 + self._line(stretch)[1])

    def time_of(self, frame: int) -> float:
        """Return when a frame was or will be captured, on the clock of `data.monotonic`.

        Raises
        ------
        LookupError
            If nothing is known yet.
        """
        with self._lock:
            return self._time_of(self._stretch_of(frame), frame)

    def frame_at(self, time: float) -> int:
        """Return the frame captured at a time of `data.monotonic`; the next one inside a break.

        Negative where the stream was not open yet.

        Raises
        ------
        LookupError
            If nothing is known yet.
        """
        with self._lock:
            stretch = self._stretch_of(0)
            for later in self._stretches[1:]:
                if time < self._time_of(later, later.start):
                    break
                stretch = later
            start, drift = self._line(stretch)
            frame = stretch.start + round((time - start) / (1 + drift) * self.samplerate)
            index = self._stretches.index(stretch)
            if index + 1 < len(self._stretches):
                frame = min(frame, self._stretches[index + 1].start)
            return frame

    def _begin(self, frame: int) -> None:
        if self._stretches:  # The crystal is the same as before.
            self._known_drift = self._line(self._stretches[-1])[1]
        self._stretches.append(_Stretch(frame))
        del self._stretches[:-_STRETCHES]

    def _stretch_of(self, frame: int) -> _Stretch:
        if not self._stretches:
            raise LookupError("no block has come yet")
        found = self._stretches[0]
        for stretch in reversed(self._stretches):
            if stretch.start <= frame:
                return stretch
        return found

    def _time_of(self, stretch: _Stretch, frame: int) -> float:
        start, drift = self._line(stretch)
        return start + (frame - stretch.start) / self.samplerate * (1 + drift)

    def _line(self, stretch: _Stretch) -> tuple[float, float]:
        """Fit the line: least squares with the nominal (or last known) rate as a first guess."""
        if stretch.line is None:
            points = list(stretch.points)
            if len(points) < 3 and stretch.bucket is not None:
                points.append(stretch.bucket)
            stretch.line = _fit(points, self._known_drift)
        return stretch.line


def _fit(points: list[tuple[float, float]], guess: float) -> tuple[float, float]:
    """Return offset and drift of the line below the points.

    Few points: their drift is the guessed one.
    """
    drift = _drift(points, guess) if len(points) >= 10 else guess
    return min(late - drift * at for at, late in points[-_PLACED_BY:]), drift


def _drift(points: list[tuple[float, float]], guess: float) -> float:
    """Return the slope of the points, outliers left out."""
    offset, drift = _least_squares(points, guess)
    for _ in range(2):
        errors = [late - offset - drift * at for at, late in points]
        middle = median(errors)
        spread = median(abs(error - middle) for error in errors)
        limit = 3 * 1.4826 * spread + 1e-5
        good = [p for p, error in zip(points, errors, strict=True) if abs(error - middle) <= limit]
        offset, drift = _least_squares(good, guess)
    return drift


def _least_squares(points: list[tuple[float, float]], guess: float) -> tuple[float, float]:
    count = len(points)
    middle_at = sum(at for at, _ in points) / count
    middle_late = sum(late for _, late in points) / count
    spread = sum((at - middle_at) ** 2 for at, _ in points)
    common = sum((at - middle_at) * (late - middle_late) for at, late in points)
    drift = (common + _PRIOR * guess) / (spread + _PRIOR)
    drift = min(_LARGEST_DRIFT, max(-_LARGEST_DRIFT, drift))
    return middle_late - drift * middle_at, drift
