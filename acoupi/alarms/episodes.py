"""Alarms as episodes: each starts and ends once, and each start and end is reported once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from acoupi import data
from acoupi.alarms.facts import Facts
from acoupi.alarms.limits import Alarms
from acoupi.alarms.rules import DEAF_KEYS, RULES, Verdict

__all__ = ["Alarm", "Judged", "judge", "suspect_spans"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One episode of an alarm; its key and its start identify it."""

    key: str
    since: datetime
    detail: str = ""
    """Details when the alarm was raised."""
    raised_on: datetime | None = None
    """When the sensor noticed it."""
    ended_on: datetime | None = None
    """When it was over; None while it is active."""
    is_told: bool = False
    """Whether the message about its start is in the outbox."""
    is_end_told: bool = False
    """Whether the message about its end is in the outbox."""

    @property
    def is_active(self) -> bool:
        """Whether it is not over."""
        return self.ended_on is None

    def message_id(self, what: str, device_id: str) -> UUID:
        """Return the id of the message that it was "raised" or "cleared"."""
        return data.derived_id("alarm", device_id, self.key, self.since.isoformat(), what)


class Judged(NamedTuple):
    """The result of one look at the sensor."""

    changed: list[Alarm]
    """Alarms that were raised or cleared."""
    waiting: dict[str, datetime]
    """Since when a fault has lasted, by the key of an alarm that is not raised yet."""


def judge(
    active: Iterable[Alarm], waiting: Mapping[str, datetime], facts: Facts, limits: Alarms
) -> Judged:
    """Judge the facts by every rule.

    Parameters
    ----------
    active
        The alarms that are not over.
    waiting
        The result of the last look.
    """
    known = {one.key: one for one in active}
    changed: list[Alarm] = []
    now_waiting: dict[str, datetime] = {}
    for rule in RULES:
        alarm = known.get(rule.key)
        verdict = Verdict(False) if rule.key in limits.ignored else rule.judge(facts, limits)
        if alarm is not None:
            if verdict.is_wrong is False:
                changed.append(_ended(alarm, verdict, facts.now))
        elif verdict.is_wrong:
            # A clock that was set back must not keep an alarm waiting.
            since = min(waiting.get(rule.key, facts.now), facts.now)
            if (facts.now - since).total_seconds() >= verdict.lasting_s:
                start = verdict.since or since
                changed.append(Alarm(rule.key, start, verdict.detail, raised_on=facts.now))
            else:
                now_waiting[rule.key] = since
        elif verdict.is_wrong is None and rule.key in waiting:
            now_waiting[rule.key] = waiting[rule.key]
    return Judged(changed, now_waiting)


def _ended(alarm: Alarm, verdict: Verdict, now: datetime) -> Alarm:
    end = verdict.since or now
    return replace(alarm, ended_on=max(alarm.since, end))


def suspect_spans(alarms: Iterable[Alarm], until: datetime) -> list[tuple[datetime, datetime]]:
    """Return when the microphone was deaf by its own trend: in order, without overlap."""
    spans = sorted((one.since, one.ended_on or until) for one in alarms if one.key in DEAF_KEYS)
    joined: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
