"""Whether an update is good, judged only by what has arrived since the switch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from acoupi.targets import ServiceStatus

__all__ = ["Facts", "Verdict", "judge"]


MOST_RESTARTS = 3
"""A service that has ended so often since the switch has failed."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a sensor some time after the switch."""

    services: Sequence[ServiceStatus]
    recordings: int
    """Recordings by the new recorder."""
    silent: int
    """How many of those are silent."""
    was_silent: bool
    """Whether the last recording before the switch was silent, too."""
    analyses: int
    """Successful analyses by the new model."""
    needs_analysis: bool
    """Whether a service of this sensor analyses."""


class Verdict(NamedTuple):
    """The conclusion from the facts."""

    is_good: bool | None
    """None: not known yet."""
    why: str
    """What is missing, or wrong."""


def judge(facts: Facts, *, is_last: bool) -> Verdict:
    """Return whether an update is good.

    Parameters
    ----------
    is_last
        Whether time is up, so that anything still missing counts against it.
    """
    for one in facts.services:
        if one.restarts >= MOST_RESTARTS:
            return Verdict(False, f'"{one.name}" ends again and again')
    missing = _missing(facts)
    if missing is None:
        return Verdict(True, "")
    outcome: Literal[False] | None = False if is_last else None
    return Verdict(outcome, missing)


def _missing(facts: Facts) -> str | None:
    unwell = [f'"{one.name}": {_words(one)}' for one in facts.services if not one.is_well]
    if unwell:
        return f"not every service is well: {'; '.join(unwell)}"
    failing = [f'"{one.name}": {one.last_error}' for one in facts.services if one.last_error]
    because = f" ({'; '.join(failing)})" if failing else ""
    if not facts.recordings:
        return f"no recording was made{because}"
    if facts.silent == facts.recordings and not facts.was_silent:
        return "the recordings are silent, and were not before the update"
    if facts.needs_analysis and not facts.analyses:
        return f"no recording was analysed{because}"
    return None


def _words(one: ServiceStatus) -> str:
    if one.health == "unhealthy" and one.state == "ready":
        return "the engine reports it as unhealthy"
    return one.message or one.last_error or f"it is {one.state}"
