"""Whether the analysis of recordings keeps up with recording."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from acoupi.data import AwareDatetime
from acoupi.deferred import DeferredModel

__all__ = ["FEWEST", "LAST", "Pace", "Progress", "pace_of"]

LAST = 20
"""Number of recordings, and of finished analyses, that are averaged."""
FEWEST = 3
TOLERANCE = 1.05
SLACK = 1.25
"""Factor by which a limit may be exceeded before anything is done: speeds are measured."""


@dataclass(frozen=True)
class Progress:
    """Data from a store about recording and analysis."""

    waiting: int = 0
    """Recordings in the spool that no model has finished yet."""
    oldest_on: datetime | None = None
    """When the first of them started."""
    starts: Sequence[datetime] = ()
    """When the last recordings began, in order."""
    ends: Sequence[tuple[datetime, str]] = ()
    """When the last analyses ended, in order, and by which model."""
    has_begun: bool = False
    """Whether any analysis has begun lately."""
    every: int = 1
    """Every n-th new recording is analysed."""


class Pace(DeferredModel):
    """How long the analysis of a recording takes, and how often one is made."""

    waiting: int
    """Recordings in the spool that are not analysed yet."""
    has_ended: bool = True
    """Whether any analysis has; if not, the first is still at work."""
    seconds_per_analysis: float | None = None
    """Seconds for all models; None: unknown, because nothing has waited."""
    measured: int = 0
    """Number of analyses in that mean."""
    seconds_per_recording: float | None = None
    """Seconds from one recording to the next; None: nothing is being recorded now."""
    recorded_on: AwareDatetime | None = None
    """When this was measured; None if nothing is being recorded."""
    recording_ends: AwareDatetime | None = None
    """When recording ends by the schedule; None: not within a day, or unknown."""
    every: int = 1
    """Every n-th new recording is analysed."""
    policy: str = "none"
    """What is done about a backlog (`acoupi.backlog`)."""
    limit_hours: float | None = None
    """Hours of work that may wait by this policy."""

    @property
    def falls_behind(self) -> bool:
        """Whether more and more recordings wait, and no policy limits them."""
        if self.limit_hours is not None:
            return self.hours_behind > SLACK * self.limit_hours + 0.5
        return self.is_slower

    @property
    def is_slower(self) -> bool:
        """Whether an analysis takes longer than the time from one recording to the next."""
        analysis, recording = self.seconds_per_analysis, self.seconds_per_recording
        return bool(analysis and recording and analysis > recording * TOLERANCE)

    @property
    def hours_behind(self) -> float:
        """Hours that the models need for the waiting recordings; 0 if unknown."""
        return self.waiting * (self.seconds_per_analysis or 0.0) / 3600

    @property
    def hours_behind_then(self) -> float | None:
        """The same at the end of recording; None if unknown."""
        analysis, recording = self.seconds_per_analysis, self.seconds_per_recording
        if None in (analysis, recording, self.recording_ends, self.recorded_on):
            return None
        left = (self.recording_ends - self.recorded_on).total_seconds()  # type: ignore[operator]
        more = 0 if self.policy == "nightly" else left / analysis  # type: ignore[operator]
        waiting = self.waiting + left / (recording * self.every) - more  # type: ignore[operator]
        return max(0.0, waiting * analysis / 3600)  # type: ignore[operator]

    def words(self) -> str:
        """Describe it in a line."""
        return f"{self._policy_in_words()}{self._speed_in_words()}"

    def _policy_in_words(self) -> str:
        if self.every > 1:
            return f"every {_ordinal(self.every)} recording is analysed; "
        told = {"newest_first": "the newest first; ", "nightly": "while nothing is recorded; "}
        return told.get(self.policy, "")

    def _speed_in_words(self) -> str:
        if not self.has_ended:
            return f"the first analysis has not finished yet, {self.waiting} waiting"
        if not self.is_slower:
            judged = "keeps up, " if self.waiting < FEWEST else ""
            return f"{judged}{self.waiting} waiting"
        analysis, recording = self.seconds_per_analysis or 0.0, self.seconds_per_recording or 0.0
        then = self.hours_behind_then
        if then is not None:
            lag = f"{then:.2g} h behind by {self.recording_ends:%H:%M}"
        elif self.every > 1:
            lag = f"{self.hours_behind:.2g} h behind"
        else:
            lag = f"falls behind by {60 * (1 - recording / analysis):.2g} min an hour"
        return (
            f"{analysis:.3g} s per recording, one comes every {recording:.3g} s: "
            f"{lag} ({self.waiting} waiting)"
        )


def pace_of(
    progress: Progress, now: datetime, recording_ends: datetime | None = None
) -> Pace | None:
    """Return the pace of analysis; None if there is no model, or none has started.

    While a recording waits, the model is not idle: the times between the ends of analyses since
    then are their durations. If several models run, each counts.
    """
    if not progress.has_begun:
        return None
    pace = Pace(waiting=progress.waiting, has_ended=bool(progress.ends), every=progress.every)
    every = _mean(progress.starts[-LAST:])
    if every is not None and now - progress.starts[-1] <= timedelta(seconds=3 * every):
        pace.seconds_per_recording = every
        pace.recorded_on, pace.recording_ends = now, recording_ends
    # One may be in work and one just recorded.
    if progress.waiting >= FEWEST and progress.oldest_on is not None:
        busy = [(end, model) for end, model in progress.ends[-LAST:] if end >= progress.oldest_on]
        each = _mean([end for end, _ in busy])
        pace.seconds_per_analysis = each and each * len({model for _, model in busy})
        pace.measured = max(0, len(busy) - 1)
    return pace


def _mean(times: Sequence[datetime]) -> float | None:
    """Return the mean interval between times, seconds; None if there are too few."""
    if len(times) < FEWEST:
        return None
    return (times[-1] - times[0]).total_seconds() / (len(times) - 1)


def _ordinal(number: int) -> str:
    """Return a number as an ordinal.

    Examples
    --------
    >>> _ordinal(2), _ordinal(3), _ordinal(11), _ordinal(21)
    ('2nd', '3rd', '11th', '21st')
    """
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = "th" if number % 100 in (11, 12, 13) else ends.get(number % 10, "th")
    return f"{number}{end}"
