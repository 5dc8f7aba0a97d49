"""Finds the facts that alarms judge: from the stores, the pulses, the disk and the board."""

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
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.devices.board import board_temperature, has_low_voltage
from acoupi.devices.clock import is_clock_synchronised
from acoupi.effort import CapturePlan, EffortHistory, PlanFrom, gap_now, horizon, ledger
from acoupi.stack.pulse import Pulse, read_pulse

__all__ = ["FactFinder", "count_restarts", "effort_facts", "hours_until_full"]

logger = logging.getLogger(__name__)

Notes = Mapping[str, Any]
T = TypeVar("T")
UNKNOWN: dict[str, Any] = {}

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_GAP_SEEN = timedelta(minutes=15)
_NOT_MISSED = (
    data.EffortState.RECORDED,
    data.EffortState.OFF_SCHEDULE,
    data.EffortState.CONDITION_REFUSED,
)


class FactFinder:
    """Finds the facts about a sensor.

    What cannot be read is logged, and not known: no rule judges it.

    Parameters
    ----------
    store
        Of the recordings; what a published one does not know stays unknown.
    message_store
        Of the messages; None: there is none.
    alarms
        Keeps the usual noise floors.
    limits
        What counts as wrong.
    run_dir, services
        Where the services have their pulses, and their names.
    folders
        Where the disk must have room.
    messengers
        Names of the current messengers.
    plan
        Of the program, in case its recorder has never stored it.
    """

    def __init__(
        self,
        store: Any,
        message_store: Any,
        alarms: SqliteAlarmStore,
        limits: Alarms,
        *,
        run_dir: Path,
        services: Sequence[str],
        folders: Sequence[Path],
        messengers: Sequence[str] = (),
        plan: CapturePlan | None = None,
    ) -> None:
        self._store = store
        self._message_store = message_store
        self._alarms = alarms
        self._limits = limits
        self._run_dir = run_dir
        self._services = services
        self._folders = folders
        self._messengers = messengers
        self._plan = plan

    def __call__(self, notes: Notes) -> tuple[Facts, dict[str, Any]]:
        """Return the facts, and what to remember for the next time."""
        now = clock.utc_now()
        deployment = _tried(self._deployment, None, "the deployment")
        free = _tried(self._free_bytes, None, "the disk")
        samples = _free_samples(notes.get("free", []), free, now)
        pulses = [read_pulse(self._run_dir, name) for name in self._services]
        starts = count_restarts(
            notes.get("starts", {}),
            [one for one in pulses if one is not None],
            now,
            None if deployment is None else deployment.started_on,
        )
        facts = Facts(
            now=now,
            free_bytes=free,
            disk_hours=hours_until_full(samples, free, now),
            oldest_message_s=_tried(lambda: self._oldest_message(now), None, "the messages"),
            oldest_recording_s=_tried(lambda: self._oldest_recording(now), None, "the spool"),
            clock_is_set=is_clock_synchronised(),
            restarts={name: len(one["times"]) for name, one in starts.items()},
            temperature_celsius=board_temperature(),
            has_low_voltage=has_low_voltage(),
            **_tried(lambda: self._of_sound(deployment, now), UNKNOWN, "the recordings"),
            **_tried(lambda: self._of_effort(deployment, now), UNKNOWN, "the effort"),
        )
        return facts, {"free": samples, "starts": starts}

    def _deployment(self) -> data.Deployment | None:
        known = self._store.get_deployments()
        return known[-1] if known and known[-1].ended_on is None else None

    def _free_bytes(self) -> float:
        return min(shutil.disk_usage(_existing(folder)).free for folder in self._folders)

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
        self._note_floors(first, now)
        since = max(first, now - timedelta(days=DAYS + 1))
        floors = self._alarms.get_floors(hour_of(since))
        last = heard[-1].start if heard else now
        return {
            "heard": tuple(heard),
            "floor_limit": floor_limit(floors, last, self._limits.noise_floor_drop_db),
            "floor_days": known_days(floors, now),
        }

    def _note_floors(self, first: datetime, now: datetime) -> None:
        """Store the noise floor of each hour that is over, unless the microphone was suspect."""
        oldest = hour_of(max(first, now - timedelta(days=DAYS)))
        known = self._alarms.get_floors(oldest)
        start = known[-1].hour + _HOUR if known else oldest
        if start >= hour_of(now):
            return
        suspect = self._alarms.get_suspect(start, now)
        heard: list[Heard] = self._store.get_heard(start, hour_of(now))
        by_hour: dict[datetime, list[float]] = {}
        for one in heard:
            if not any(begin <= one.start < end for begin, end in suspect):
                by_hour.setdefault(hour_of(one.start), []).append(one.floor)
        floors = [hour_floor(hour, levels) for hour, levels in sorted(by_hour.items())]
        if floors:
            self._alarms.put_floors(floors, oldest - _DAY)

    # The effort

    def _of_effort(self, deployment: data.Deployment | None, now: datetime) -> dict[str, Any]:
        if deployment is None:
            return {"cannot_record": "", "missing_s": 0.0}
        since = max(deployment.started_on, now - _DAY)
        around = timedelta(minutes=10)
        recent = self._with_plan(self._store.get_effort(deployment, now - _GAP_SEEN, now))
        history = self._with_plan(
            self._store.get_grouped_effort(deployment, since - around, now, (since, now))
        )
        if recent is None or history is None:
            return {}
        gap = gap_now(recent, now)
        why = "" if gap is None else f"{gap.state.value.replace('_', ' ')}: {gap.detail}"
        return {"cannot_record": why, **effort_facts(history, horizon(recent, now), now, since)}

    def _with_plan(self, history: EffortHistory | None) -> EffortHistory | None:
        if history is None or history.plans or self._plan is None:
            return history
        plans = (PlanFrom(history.deployment.started_on, self._plan),)
        return EffortHistory(history.deployment, history.captured, history.notes, plans)


def effort_facts(
    history: EffortHistory, until: datetime, now: datetime, since: datetime
) -> dict[str, float]:
    """Return planned and recorded seconds of a period, and since when something is missing.

    Parameters
    ----------
    until
        What can be accounted for; the recording in progress is not stored yet.
    """
    planned = recorded = 0.0
    missed: datetime | None = None
    for span in ledger(history, until, since=since, until=until):
        if span.state is data.EffortState.RECORDED:
            recorded += span.duration
            missed = None
        elif span.state not in _NOT_MISSED:
            planned += span.duration
            missed = missed or span.start
    pauses = sum(one.pauses for one in history.captured) / 1e6
    recorded = max(0.0, recorded - pauses)
    return {
        "planned_s": planned + recorded,
        "recorded_s": recorded,
        "missing_s": 0.0 if missed is None else max(0.0, (now - missed).total_seconds()),
    }


def hours_until_full(
    samples: Sequence[Sequence[float]], free: float | None, now: datetime
) -> float | None:
    """Return when the disk is full, at the pace of the last day; None if it is not known.

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


def count_restarts(
    noted: Mapping[str, Any], pulses: Iterable[Pulse], now: datetime, begun: datetime | None
) -> dict[str, Any]:
    """Return when each service was restarted within the last hour.

    Parameters
    ----------
    noted
        What this returned at the last look.
    begun
        When the deployment began: what ended before was stopped on purpose.
    """
    found = {}
    for pulse in pulses:
        before = noted.get(pulse.name)
        times = [
            time
            for time in (before or {}).get("times", [])
            if timedelta(0) <= now - datetime.fromisoformat(time) < _HOUR
        ]
        started = pulse.started_on.isoformat()
        if before is not None and before["started"] != started:
            was = datetime.fromisoformat(before["started"])
            if begun is None or begun <= was:
                times += [now.isoformat()] * max(1, pulse.restarts - before["restarts"])
        found[pulse.name] = {"started": started, "restarts": pulse.restarts, "times": times}
    return found


def _age(time: datetime | None, now: datetime) -> float:
    return 0.0 if time is None else max(0.0, (now - time).total_seconds())


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())


def _tried(find: Callable[[], T], otherwise: T, what: str) -> T:
    try:
        return find()
    except Exception:
        logger.exception("Cannot read %s to look for faults", what)
        return otherwise
