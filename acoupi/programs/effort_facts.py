"""What a period was used for, added up."""

from datetime import datetime
from typing import Any

from acoupi import data
from acoupi.effort import EffortHistory, ledger

__all__ = ["effort_facts"]

NOT_MISSED = (
    data.EffortState.RECORDED,
    data.EffortState.OFF_SCHEDULE,
    data.EffortState.CONDITION_REFUSED,
)


def effort_facts(
    history: EffortHistory, until: datetime, now: datetime, since: datetime
) -> dict[str, Any]:
    """Return what a period was used for, and since when something is missing.

    Parameters
    ----------
    until
        What can be accounted for; the recording in progress is not stored yet.
    """
    effort = dict.fromkeys(data.EffortState, 0.0)
    missed: datetime | None = None
    for span in ledger(history, until, since=since, until=until):
        effort[span.state] += span.duration
        if span.state is data.EffortState.RECORDED:
            missed = None
        elif span.state not in NOT_MISSED:
            missed = missed or span.start
    pauses = sum(one.pauses for one in history.captured) / 1e6
    pauses = min(pauses, effort[data.EffortState.RECORDED])
    effort[data.EffortState.RECORDED] -= pauses
    effort[data.EffortState.OFF_SCHEDULE] += pauses
    lost = sum(seconds for state, seconds in effort.items() if state not in NOT_MISSED)
    return {
        "planned_s": lost + effort[data.EffortState.RECORDED],
        "recorded_s": effort[data.EffortState.RECORDED],
        "effort": effort,
        "missing_s": 0.0 if missed is None else max(0.0, (now - missed).total_seconds()),
    }
