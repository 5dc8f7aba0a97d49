"""Collects the facts that alarms judge, from the stores, the pulses, the disk and the board."""

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from acoupi import clock, data
from acoupi.alarms.facts import Facts, Heard
from acoupi.alarms.floors import DAYS, floor_limit, hour_floor, hour_of, known_days
from acoupi.alarms.limits import Alarms
from acoupi.backlog import Backlog
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.components.stores.healings import told_by
from acoupi.devices.board import board_temperature, has_low_voltage
from acoupi.devices.clock import is_clock_synchronised
from acoupi.effort import CapturePlan, EffortHistory, PlanFrom, gap_now, horizon
from acoupi.programs.effort_facts import effort_facts
from acoupi.services.entries import ClockSteps
from acoupi.services.pulses import count_restarts, last_pulses, not_working
from acoupi.space import existing
from acoupi.stack.pulse import Pulse

__all__ = ["FactFinder", "Notes", "hours_until_full"]

logger = logging.getLogger(__name__)

Notes = Mapping[str, Any]
T = TypeVar("T")
UNKNOWN: dict[str, Any] = {}

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_GAP_SEEN = timedelta(minutes=15)
_EFFORT_PAUSE = 30
"""A day's effort is added up again only after this many times the time that it took."""
_STEP = 10.0
"""Seconds of a clock step that counts; time servers correct less now and then."""


class FactFinder:
    """Collects the facts about a sensor.

    Anything that cannot be read is logged and stays unknown, so no rule judges it.

    Parameters
    ----------
    store
        The store of recordings; facts that a published one lacks stay unknown.
    message_store
        The message store, or None.
    alarms
        Keeps the usual noise floors; None: they are unknown.
    limits
        The limits of the alarms.
    run_dirs, services
        The folders of the services' pulses (`pulses.last_pulses`), and their names.
    folders
        Folders whose disks must have room.
    messengers
        Names of the current messengers.
    plan
        The program's plan, in case its recorder has never stored one.
    learns
        Whether to store the usual noise floors; only one process does.
    """

    def __init__(
        self,
        store: Any,
        message_store: Any,
        alarms: SqliteAlarmStore | None,
        limits: Alarms,
        *,
        run_dirs: Sequence[Path],
        services: Sequence[str],
        folders: Sequence[Path],
        messengers: Sequence[str] = (),
        plan: CapturePlan | None = None,
        learns: bool = True,
    ) -> None:
        self._store = store
        self._message_store = message_store
        self._alarms = alarms
        self._limits = limits
        self._run_dirs = run_dirs
        self._services = services
        self._folders = folders
        self._messengers = messengers
        self._plan = plan
        self._learns = learns
        self._effort: dict[str, Any] = {}
        self._effort_due = 0.0
        self._clock_steps = ClockSteps()
        self._was_set: bool | None = None

    def __call__(self, notes: Notes) -> tuple[Facts, dict[str, Any]]:
        """Return the facts, and what to remember for next time."""
        now = clock.utc_now()
        deployment = _tried(self._deployment, None, "the deployment")
        free = _tried(self._free_bytes, None, "the disk")
        samples = _free_samples(notes.get("free", []), free, now)
        pulses = self.pulses()
        begun = None if deployment is None else deployment.started_on
        starts = count_restarts(notes.get("starts", {}), pulses.values(), now, begun)
        is_set = is_clock_synchronised()
        steps = self._steps(notes.get("steps", []), now, is_set)
        facts = Facts(
            now=now,
            free_bytes=free,
            disk_hours=hours_until_full(samples, free, now),
            oldest_message_s=_tried(lambda: self._oldest_message(now), None, "the messages"),
            oldest_recording_s=_tried(lambda: self._oldest_recording(now), None, "the spool"),
            longest_wait_hours=getattr(self._store, "backlog", Backlog()).longest_wait_hours,
            clock_is_set=is_set,
            clock_steps=tuple(seconds for _, seconds in steps),
            set_aside=told_by(self._store, self._message_store),
            down=not_working(pulses, now),
            restarts={name: len(one["times"]) for name, one in starts.items()},
            temperature_celsius=board_temperature(),
            has_low_voltage=has_low_voltage(),
            **_tried(lambda: self._of_sound(deployment, now), UNKNOWN, "the recordings"),
            **_tried(lambda: self._of_effort(deployment, now), UNKNOWN, "the effort"),
        )
        return facts, {"free": samples, "starts": starts, "steps": steps}

    def pulses(self) -> dict[str, Pulse]:
        """Return the last pulse of each service that is visible here."""
        return last_pulses(self._run_dirs, self._services)

    def _steps(
        self, noted: Iterable[Sequence[Any]], now: datetime, is_set: bool | None
    ) -> list[list[Any]]:
        """Return the steps of the clock within the last hour, except the one that first set it."""
        steps = [
            [time, seconds]
            for time, seconds in noted
            if timedelta(0) <= now - datetime.fromisoformat(time) < _HOUR
        ]
        step, was_set = self._clock_steps.stepped(), self._was_set
        self._was_set = is_set
        if abs(step) >= _STEP and was_set is not False:
            steps.append([now.isoformat(), round(step, 1)])
        return steps

    def _deployment(self) -> data.Deployment | None:
        known = self._store.get_deployments()
        return known[-1] if known and known[-1].ended_on is None else None

    def _free_bytes(self) -> float:
        return min(shutil.disk_usage(existing(folder)).free for folder in self._folders)

    def _oldest_message(self, now: datetime) -> float | None:
        ask = getattr(self._message_store, "get_oldest_waiting", None)
        if ask is None or not self._messengers:
            return None
        return _age(ask(self._messengers), now)

    def _oldest_recording(self, now: datetime) -> float | None:
        ask = getattr(self._store, "get_captured_recordings", None)
        if ask is None:
            return None
        waiting = ask(limit=1)
        return _age(waiting[0].created_on if waiting else None, now)

    # The microphone

    def _of_sound(self, deployment: data.Deployment | None, now: datetime) -> dict[str, Any]:
        if deployment is None or not hasattr(self._store, "get_heard"):
            return {}
        first = deployment.started_on
        heard = self._store.get_heard(
            max(first, now - _DAY), now, limit=self._limits.microphone_times
        )
        if self._alarms is None:
            return {"heard": tuple(heard)}
        if self._learns:
            self._note_floors(self._alarms, first, now)
        since = max(first, now - timedelta(days=DAYS + 1))
        floors = self._alarms.get_floors(hour_of(since))
        last = heard[-1].start if heard else now
        return {
            "heard": tuple(heard),
            "floor_limit": floor_limit(floors, last, self._limits.noise_floor_drop_db),
            "floor_days": known_days(floors, now),
        }

    def _note_floors(self, alarms: SqliteAlarmStore, first: datetime, now: datetime) -> None:
        """Store the noise floor of each past hour, unless the microphone was suspect."""
        oldest = hour_of(max(first, now - timedelta(days=DAYS)))
        known = alarms.get_floors(oldest)
        start = known[-1].hour + _HOUR if known else oldest
        if start >= hour_of(now):
            return
        suspect = alarms.get_suspect(start, now)
        heard: list[Heard] = self._store.get_heard(start, hour_of(now))
        by_hour: dict[datetime, list[float]] = {}
        for one in heard:
            if not any(begin <= one.start < end for begin, end in suspect):
                by_hour.setdefault(hour_of(one.start), []).append(one.floor)
        floors = [hour_floor(hour, levels) for hour, levels in sorted(by_hour.items())]
        if floors:
            alarms.put_floors(floors, oldest - _DAY)

    # The effort

    def _of_effort(self, deployment: data.Deployment | None, now: datetime) -> dict[str, Any]:
        if deployment is None:
            return {"cannot_record": "", "missing_s": 0.0}
        recent = self._with_plan(self._store.get_effort(deployment, now - _GAP_SEEN, now))
        if recent is None:
            return {}
        gap = gap_now(recent, now)
        why = "" if gap is None else f"{gap.state.value.replace('_', ' ')}: {gap.detail}"
        begun = clock.monotonic()
        if begun >= self._effort_due:
            self._effort = self._of_day(deployment, now, horizon(recent, now))
            self._effort_due = begun + _EFFORT_PAUSE * (clock.monotonic() - begun)
        return {"cannot_record": why, **self._effort}

    def _of_day(
        self, deployment: data.Deployment, now: datetime, until: datetime
    ) -> dict[str, Any]:
        """Return the effort of the last 24 hours; adding it up can take long."""
        since = max(deployment.started_on, now - _DAY)
        around = timedelta(minutes=10)
        history = self._with_plan(
            self._store.get_grouped_effort(deployment, since - around, now, (since, now))
        )
        return {} if history is None else effort_facts(history, until, now, since)

    def _with_plan(self, history: EffortHistory | None) -> EffortHistory | None:
        if history is None or history.plans or self._plan is None:
            return history
        plans = (PlanFrom(history.deployment.started_on, self._plan),)
        return EffortHistory(history.deployment, history.captured, history.notes, plans)


def hours_until_full(
    samples: Sequence[Sequence[float]], free: float | None, now: datetime
) -> float | None:
    """Return when the disk will be full at the rate of the last day; None if unknown.

    Parameters
    ----------
    samples
        Times (seconds since 1970) and free bytes, oldest first, of the last day.
    free
        Free bytes now.
    """
    if free is None or not samples:
        return None
    begin, before = samples[0]
    hours = (now.timestamp() - begin) / 3600
    if hours < 1:
        return None
    return free / ((before - free) / hours) if free < before else float("inf")


def _free_samples(
    samples: Iterable[Sequence[float]], free: float | None, now: datetime
) -> list[list[float]]:
    """Return the samples of the last day, one an hour."""
    time = now.timestamp()
    kept = [list(one) for one in samples if time - 86_400 <= one[0] <= time]
    if free is not None and (not kept or time - kept[-1][0] >= 3600):
        kept.append([time, free])
    return kept


def _age(time: datetime | None, now: datetime) -> float:
    return 0.0 if time is None else max(0.0, (now - time).total_seconds())


def _tried(find: Callable[[], T], otherwise: T, what: str) -> T:
    try:
        return find()
    except Exception:
        logger.exception("Cannot read %s to look for faults", what)
        return otherwise
