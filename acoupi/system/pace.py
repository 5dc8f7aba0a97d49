"""Whether the analysis of recordings keeps up with recording."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel

__all__ = ["Pace", "pace_of"]

LAST = 20
"""How many recordings, and how many ends of analyses, are looked at."""
FEWEST = 3
TOLERANCE = 1.05

Row = tuple[datetime, bool, bool, datetime | None]


class Pace(BaseModel):
    """How long the analysis of a recording takes, and how often one comes."""

    waiting: int
    """Recordings in the spool that are not analysed yet."""
    has_ended: bool = True
    """Whether any analysis has; if not, the first is still at work."""
    seconds_per_analysis: float | None = None
    """None: not known, because nothing has waited."""
    seconds_per_recording: float | None = None
    """None: nothing is being recorded now."""

    @property
    def falls_behind(self) -> bool:
        """Whether more and more recordings wait."""
        analysis, recording = self.seconds_per_analysis, self.seconds_per_recording
        return bool(analysis and recording and analysis > recording * TOLERANCE)

    def words(self) -> str:
        """Describe it in a line."""
        if not self.has_ended:
            return f"the first has not ended yet, {self.waiting} waiting"
        if not self.falls_behind:
            judged = "keeps up, " if self.waiting < FEWEST else ""
            return f"{judged}{self.waiting} waiting"
        analysis, recording = self.seconds_per_analysis or 0.0, self.seconds_per_recording or 0.0
        lag = 60 * (1 - recording / analysis)
        return (
            f"{analysis:.3g} s per recording, one comes every {recording:.3g} s: "
            f"falls behind by {lag:.2g} min an hour ({self.waiting} waiting)"
        )


def pace_of(rows: Sequence[Row], now: datetime) -> Pace | None:
    """Return the pace of analysis; None if there is no model, or none has begun.

    While a recording waits, the model is not idle: the times between the ends of analyses
    since then are what each took.

    Parameters
    ----------
    rows
        As `SqliteStore.get_pace` returns them.
    """
    if not any(has_begun for _, _, has_begun, _ in rows):
        return None
    ends = sorted(end for *_, end in rows if end is not None)[-LAST:]
    waiting = [start for start, is_in_spool, _, end in rows if is_in_spool and end is None]
    pace = Pace(waiting=len(waiting), has_ended=bool(ends))
    starts = [start for start, *_ in rows][-LAST:]
    every = _mean(starts)
    if every is not None and now - starts[-1] <= timedelta(seconds=3 * every):
        pace.seconds_per_recording = every
    # One may be in work and one just recorded.
    if len(waiting) >= FEWEST:
        pace.seconds_per_analysis = _mean([end for end in ends if end >= waiting[0]])
    return pace


def _mean(times: Sequence[datetime]) -> float | None:
    """Return the mean seconds from one time to the next; None if there are too few."""
    if len(times) < FEWEST:
        return None
    return (times[-1] - times[0]).total_seconds() / (len(times) - 1)
