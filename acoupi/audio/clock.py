"""When a frame was captured: the clock of the device, measured against ours.

A block arrives when its last frame has been captured, or later: by one period
of the driver, or on a busy machine by a tenth of a second. A reader that wakes
late also finds part of the next block, so the earliest blocks come in bursts.
But when nothing disturbs them, blocks arrive with a constant delay, to a tenth
of a millisecond. Therefore only the most punctual block of each second is used,
and the fit is the line on which most of those of the last twenty minutes lie:
the middle of the narrowest band that holds a seventh of them (a least quantile
of squares: Rousseeuw, "Least median of squares regression", 1984), its slope
refined by least squares over the points in the band. While there are few
points, the nominal rate counts as well. What remains is a constant: the latency
of the device.

The fit changes as more blocks arrive; times already given out do not. The line
that callers see (`time_of`, `frame_at`) is fixed up to the last frame that was
asked about or held. From there it bends towards the fit, by at most 500 ppm, as
a kernel slews its clock. So times only increase, and recordings that are
consecutive in frames are consecutive in time: each begins when the previous one
ends, at the rate of the line there. Steps of the system clock have no effect
here.
"""

import threading
from bisect import bisect_right
from collections import deque
from statistics import median
from typing import NamedTuple

__all__ = ["LOSS_SECONDS", "SampleClock"]

LOSS_SECONDS = 0.15
"""Smallest silent loss of a driver that can be noticed, seconds. It must exceed one driver
period: arrivals can shift by that much for good when the driver is polled at another moment."""
_LOSS_PROOF = 15
"""Consecutive points that must be late by that much."""

_BUCKET_SECONDS = 1.0
_BUCKETS = 1200
_KNOTS = 2000
_LEAST_NOISE = 1e-4
_CRYSTAL = 50e-6
"""Typical deviation of a sample rate from the nominal one."""
_SHARE = 0.15
"""Share of the points that lie on the line even on a machine that is busy most of the time."""
_FEW = 8
_STEPS = [
    sign * ppm * 1e-6 for ppm in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) for sign in (1, -1)
]
"""Step from one drift that is tried to the next."""
_LARGEST_DRIFT = 2000e-6
_RATE_AFTER = 30.0
"""Seconds of sound needed to measure the rate."""
_BEND = 500e-6
"""Most that the line bends towards the fit."""
_BEND_SECONDS = 20.0
"""Least time it takes to reach the fit, seconds."""

Point = tuple[float, float]
"""Nominal seconds since frame 0, and the time by our clock minus those."""


class _Knot(NamedTuple):
    """A frame after which a second takes 1 + drift seconds."""

    frame: int
    time: float
    drift: float


class SampleClock:
    """Maps frames of a stream to the monotonic clock, and back.

    One thread adds observations, others ask for times.

    Parameters
    ----------
    samplerate
        Nominal, Hz.
    """

    def __init__(self, samplerate: int) -> None:
        self.samplerate = samplerate
        self._lock = threading.Lock()
        self._points: deque[Point] = deque(maxlen=_BUCKETS)
        self._bucket: Point | None = None
        """The most punctual of the blocks since the last point."""
        self._bucket_end = 0.0
        self._first: int | None = None
        self._newest = 0
        self._new_points = 0
        self._usual = 0.0
        """How late the most punctual block of a second usually is."""
        self._drift = 0.0
        """Last known drift: the first guess after a break."""
        self._knots: list[_Knot] = []
        self._told = 0
        """Up to this frame the line is fixed."""
        self._behind: list[float] = []
        self._was_punctual = False

    def add(self, frame: int, time: float, *, is_break: bool = False) -> float:
        """Note when a frame was captured, as far as the arrival of a block tells.

        Parameters
        ----------
        frame
            Must increase from call to call.
        time
            On the clock of `data.monotonic`; late rather than early.
        is_break
            Whether sound was lost just before it.

        Returns
        -------
        float
            Seconds of sound that the driver must have lost without reporting it:
            for 15 s every block was late by that much, starting at once. Nearly
            always 0. The frame is then counted as coming after the loss: do not
            add the loss again.
        """
        with self._lock:
            if is_break:
                self._begin_anew(frame, time)
            if self._first is None:
                self._first = self._told = frame
            self._newest = frame
            at = frame / self.samplerate
            point = (at, time - at)
            if self._bucket is None:
                self._bucket, self._bucket_end = point, at + _BUCKET_SECONDS
            elif at >= self._bucket_end:
                lost = self._close_bucket(self._bucket)
                self._bucket, self._bucket_end = point, at + _BUCKET_SECONDS
                if lost:
                    self._bucket = None
                return lost
            elif point[1] < self._bucket[1]:
                self._bucket = point
            return 0.0

    def restart(self, frame: int, time: float) -> None:
        """Start again at a frame, at any time, even an earlier one."""
        with self._lock:
            self._forget_points()
            at = frame / self.samplerate
            self._bucket, self._bucket_end = (at, time - at), at + _BUCKET_SECONDS
            self._first = self._newest = self._told = frame
            self._put(_Knot(frame, time, self._drift))

    def hold(self, frame: int) -> None:
        """Fix the time that was given for a future frame."""
        with self._lock:
            self._told = max(self._told, frame)

    @property
    def is_set(self) -> bool:
        """Whether anything is known yet."""
        return self._first is not None

    @property
    def measured_rate(self) -> float | None:
        """Measured sample rate, Hz; None until half a minute was captured without a break."""
        with self._lock:
            if not self._points or self._points[-1][0] - self._points[0][0] < _RATE_AFTER:
                return None
            return self.samplerate / (1 + self._fit()[1])

    def steer(self) -> None:
        """Bend the line towards the latest fit; call it while no times are requested."""
        with self._lock:
            self._steer()

    def time_of(self, frame: int) -> float:
        """Return when a frame was or will be captured, on the clock of `data.monotonic`.

        Raises
        ------
        LookupError
            If nothing is known yet.
        """
        with self._lock:
            self._steer()
            if frame <= self._newest:
                self._told = max(self._told, frame)
            return self._time_at(frame)

    def expect(self, frame: int) -> float | None:
        """Return the time that the next block would show if it is as late as usual.

        None if nothing is known.
        """
        with self._lock:
            if self._first is None:
                return None
            if not self._knots:
                self._steer()
            return self._time_at(frame) + self._usual

    def frame_at(self, time: float) -> int:
        """Return the frame captured at a time of `data.monotonic`.

        Negative where the stream was not open yet.

        Raises
        ------
        LookupError
            If nothing is known yet.
        """
        with self._lock:
            self._steer()
            index = len(self._knots) - 1
            while index > 0 and self._knots[index].time > time:
                index -= 1
            knot = self._knots[index]
            frame = knot.frame + round((time - knot.time) / (1 + knot.drift) * self.samplerate)
            if index + 1 < len(self._knots):
                frame = min(frame, self._knots[index + 1].frame)
            if frame <= self._newest:
                self._told = max(self._told, frame)
            return frame

    # -- observations -------------------------------------------------------

    def _begin_anew(self, frame: int, time: float) -> None:
        """Continue after a break: the crystal is the same, the delay may not be."""
        if self._first is None:
            return
        self._steer()
        self._drift = self._fit()[1]
        self._forget_points()
        self._put(_Knot(frame, max(time, self._time_at(frame)), self._drift))
        self._told = max(self._told, frame)

    def _forget_points(self) -> None:
        self._points.clear()
        self._bucket = None
        self._new_points = 0
        self._behind, self._was_punctual = [], False

    def _close_bucket(self, point: Point) -> float:
        """Take the most punctual block of a second; return what must have been lost before it."""
        self._points.append(point)
        self._new_points += 1
        if not self._knots:
            return 0.0
        at, late = point
        behind = late + at - self._time_at(round(at * self.samplerate)) - self._usual
        if behind < LOSS_SECONDS / 2:
            self._behind, self._was_punctual = [], True
        elif behind < LOSS_SECONDS or not (self._behind or self._was_punctual):
            # Later and later: that is a slower rate, not a loss.
            self._behind, self._was_punctual = [], False
        else:
            self._behind.append(behind)
        if len(self._behind) < _LOSS_PROOF:
            return 0.0
        lost = median(self._behind)
        for _ in self._behind:
            self._points.pop()
        self._behind = []
        return lost

    # -- times for callers --------------------------------------------------------

    def _steer(self) -> None:
        """Bend the line towards the fit, from the last frame whose time was given out."""
        if self._first is None:
            raise LookupError("no block has come yet")
        if not self._knots:
            offset, drift = self._fit()
            time = offset + self._first / self.samplerate * (1 + drift)
            self._put(_Knot(self._first, time, drift))
            return
        if self._behind or self._new_points < max(1, min(10, len(self._points) // 6)):
            return
        self._new_points = 0
        if len(self._points) < 3:
            return
        offset, drift = self._fit()
        self._drift = drift
        self._usual = median(late - offset - drift * at for at, late in self._points)
        start = self._told
        now = self._time_at(start)
        error = offset + start / self.samplerate * (1 + drift) - now
        seconds = max(_BEND_SECONDS, abs(error) / _BEND)
        self._put(_Knot(start, now, drift + error / seconds))
        end = start + round(seconds * self.samplerate)
        self._put(_Knot(end, self._time_at(end), drift))

    def _put(self, knot: _Knot) -> None:
        """Add a knot, replacing those at its frame and after."""
        while self._knots and self._knots[-1].frame >= knot.frame:
            self._knots.pop()
        self._knots.append(knot)
        del self._knots[:-_KNOTS]

    def _time_at(self, frame: int) -> float:
        index = bisect_right(self._knots, frame, key=lambda knot: knot.frame) - 1
        knot = self._knots[max(0, index)]
        return knot.time + (frame - knot.frame) / self.samplerate * (1 + knot.drift)

    def _fit(self) -> tuple[float, float]:
        points = list(self._points)
        if len(points) < 3 and self._bucket is not None:
            points.append(self._bucket)
        return _fit(points, self._drift)


def _fit(points: list[Point], guess: float) -> tuple[float, float]:
    """Return offset and drift of the line that most points lie on.

    If they are few and close together, the guessed drift is used.
    """
    if not points:
        return 0.0, guess
    if len(points) < _FEW:
        return median(late - guess * at for at, late in points), guess
    span, drift = points[-1][0] - points[0][0], guess
    if span >= _RATE_AFTER:
        drift, width = _drift(points, guess)
        # While the band is wider than a crystal's error, the measured rate says little.
        sureness = (span * _CRYSTAL / width) ** 4
        drift = guess + (drift - guess) * sureness / (sureness + 1)
        drift = min(_LARGEST_DRIFT, max(-_LARGEST_DRIFT, drift))
    width, low = _narrowest(points, drift)
    return low + width / 2, drift


def _drift(points: list[Point], guess: float) -> tuple[float, float]:
    """Return the slope of the narrowest band, and its width."""

    def score(step: float) -> float:
        width = max(_narrowest(points, guess + step)[0], _LEAST_NOISE)
        return width * (1 + abs(step) / _CRYSTAL)

    drift = guess + min(_STEPS, key=score)
    width = _LEAST_NOISE
    for share in (2, 1):
        width, low = _narrowest(points, drift)
        width = max(width, _LEAST_NOISE)
        inside = (low - share * width, low + (1 + share) * width)
        good = [(at, late) for at, late in points if inside[0] <= late - drift * at <= inside[1]]
        drift = _least_squares(good, drift)
    return drift, width


def _narrowest(points: list[Point], drift: float) -> tuple[float, float]:
    """Return width and lower edge of the narrowest band of this slope with enough points."""
    errors = sorted(late - drift * at for at, late in points)
    count = max(3, round(len(errors) * _SHARE))
    return min((high - low, low) for low, high in zip(errors, errors[count - 1 :], strict=False))


def _least_squares(points: list[Point], otherwise: float) -> float:
    """Return the slope of the line closest to points."""
    count = len(points)
    middle_at = sum(at for at, _ in points) / count
    middle_late = sum(late for _, late in points) / count
    spread = sum((at - middle_at) ** 2 for at, _ in points)
    if not spread:
        return otherwise
    return sum((at - middle_at) * (late - middle_late) for at, late in points) / spread
