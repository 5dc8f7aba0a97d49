"""The status a sensor reports, from what its stores know."""

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acoupi import data
from acoupi.clock import shown_in_utc
from acoupi.components import types
from acoupi.components.stores.healings import told_by
from acoupi.devices.clock import is_clock_synchronised
from acoupi.effort import gap_now, horizon
from acoupi.programs.effort_facts import effort_facts
from acoupi.space import SpacePolicy, free_bytes, hours_left, measured_rate

__all__ = ["HEALTHY", "StatusReport"]

HEALTHY = "OK"
_NEWS = {
    "recordings_lost": "recordings were lost",
    "analyses_failed": "recordings could not be analysed",
    "messages_given_up": "messages were given up",
    "messages_expired": "messages had become too old to be sent",
}
LONGEST_ANSWER = 120
LONGEST_WAIT = datetime.timedelta(minutes=15)
EFFORT_PAUSE = 100
"""The effort of a day is not added up again before this many times as long as that took."""
DAY = datetime.timedelta(days=1)
AROUND = datetime.timedelta(minutes=10)
"""Recordings that began before a day may reach into it."""


class StatusReport:
    """Returns ``OK``, or what is wrong.

    Faults are:

    - the microphone is missing, or the disk full;
    - a disk that should be mounted is not;
    - nothing was recorded since the last report, although recording was planned;
    - a recording has waited for more than 15 minutes;
    - the last recording is silent, or the microphone stuck;
    - a database was damaged, and the file that was set aside is still there;
    - a server refuses everything from the sensor, as with an expired token;
    - since the last report, recordings were lost or could not be analysed, or
      messages were given up or had become too old to be sent. For the first report of a
      process, the last one is in the newest heartbeat of the message store, and without any
      everything in the stores is new.

    Stores without counts are skipped.

    Parameters
    ----------
    store
        Store of the recordings.
    message_store
        Store of the messages; None if there is none.
    conditions
        All of them hold when recordings should be made.
    messengers
        Names of the current messengers; the store also remembers former ones,
        which no longer count. None: all that it remembers.
    """

    def __init__(
        self,
        store: types.Store,
        message_store: types.MessageStore | None = None,
        conditions: Sequence[types.RecordingCondition] = (),
        *,
        messengers: Sequence[str] | None = None,
    ) -> None:
        self._store = store
        self._message_store = message_store
        self._conditions = conditions
        self._messengers = messengers
        self._told: dict[str, float] | None = None
        """Counts at the last report, by their metric; None before the first of this process."""
        self._recorded: int | None = None
        """Number of recordings at the last report; None if none should have been made then."""
        self._effort: dict[str, Any] = {}
        self._effort_due = -math.inf

    def __call__(self) -> str:
        """Return ``OK``, or what is wrong, in words."""
        faults = [
            self._gap(),
            self._no_room(),
            self._nothing_recorded(),
            self._waiting_for_long(),
            self._deaf(),
            self._barred(),
            "; ".join(told_by(self._store, self._message_store)),
            *self._news(),
        ]
        return "; ".join(fault for fault in faults if fault) or HEALTHY

    def _no_room(self) -> str | None:
        space = self._space
        if space is None:
            return None
        for folder in dict.fromkeys((space.recordings, space.spool)):
            if mount := space.missing_mount(folder):
                return f"no disk is mounted at {mount}"
            if free_bytes(folder) < space.needed_to_record:
                return f"only the reserve is left on the disk of {folder}"
        return None

    def microphone_metrics(self) -> list[Callable[[], data.Metric | None]]:
        """Return the levels of the last recording as metrics; None where they are not known."""
        return [
            self._level("microphone_rms", "dBFS", lambda health: health.rms_dbfs),
            self._level("microphone_peak", "dBFS", lambda health: health.peak_dbfs),
            self._level("microphone_noise_floor", "dBFS", lambda health: health.noise_floor_dbfs),
            self._level("microphone_clipping", "%", lambda health: health.clipped_share * 100),
        ]

    def _level(
        self, name: str, unit: str, value: Callable[[data.MicrophoneHealth], float]
    ) -> Callable[[], data.Metric | None]:
        def measure() -> data.Metric | None:
            recording, health = self._last_health()
            if recording is None or health is None:
                return None
            captured_on = recording.created_on
            return data.Metric(name=name, value=value(health), unit=unit, captured_on=captured_on)

        measure.__name__ = name
        return measure

    def _last_health(self) -> tuple[data.Recording | None, data.MicrophoneHealth | None]:
        recording = _ask(self._store, "get_last_recording", None)
        report = None if recording is None else recording.capture
        return recording, None if report is None else report.health

    def _deaf(self) -> str | None:
        _, health = self._last_health()
        if health is None or not (health.is_silent or health.is_stuck):
            return None
        return f"the microphone is {', '.join(health.faults())}"

    def _barred(self) -> str | None:
        refusals = _ask(self._message_store, "get_refusals", [])
        return "; ".join(
            f"{each.messenger} has refused everything from the sensor since "
            f"{each.since:%Y-%m-%d %H:%M} UTC: {each.error[:LONGEST_ANSWER]}"
            for each in refusals
            if self._sends(each.messenger)
        )

    def metrics(self) -> list[Callable[[], data.Metric]]:
        """Return the counts as metrics: waiting, and failed for good."""
        return [
            _metric("recordings_waiting", self.count_waiting),
            _metric("recordings_lost", self.count_lost),
            _metric("analyses_failed", self.count_failed),
            _metric("messages_waiting", self.count_unsent),
            _metric("messages_given_up", self.count_dead),
            _metric("messages_expired", self.count_expired),
        ]

    def space_metrics(self) -> list[Callable[[], data.Metric | None]]:
        """Return the disk policy's figures as metrics; None if there is no policy."""
        return [
            _known_metric("disk_hours_left", "h", self._hours_left),
            _known_metric("given_up", "bytes", self._given_up),
        ]

    def _hours_left(self) -> float | None:
        space = self._space
        if space is None:
            return None
        rate = measured_rate(_ask(self._store, "get_newest", []))
        there = [one for one in (space.spool, space.recordings) if not space.missing_mount(one)]
        return hours_left(min(map(free_bytes, there or [space.spool])), space, rate)

    def _given_up(self) -> float | None:
        if self._space is None:
            return None
        return float(sum(one.bytes for one in _ask(self._store, "count_given_up", {}).values()))

    def fleet_metrics(self) -> list[Callable[[], data.Metric | None]]:
        """Return what a fleet is judged by: the effort of the last day, and the clock."""
        return [
            _known_metric("effort_recorded", "s", self._recorded_of_day),
            _known_metric("effort_planned", "s", lambda: self._effort.get("planned_s")),
            _known_metric("clock_set", "yes", _clock_is_set),
        ]

    def _recorded_of_day(self) -> float | None:
        begun = data.monotonic()
        if begun >= self._effort_due:
            self._effort = self._effort_of_day()
            self._effort_due = begun + EFFORT_PAUSE * (data.monotonic() - begun)
        return self._effort.get("recorded_s")

    def _effort_of_day(self) -> dict[str, Any]:
        """Return what the last day was used for; nothing where that is not known."""
        deployments = _ask(self._store, "get_deployments", [])
        ask = getattr(self._store, "get_grouped_effort", None)
        if not deployments or deployments[-1].ended_on is not None or ask is None:
            return {}
        now = data.utc_now()
        since = max(deployments[-1].started_on, now - DAY)
        history = ask(deployments[-1], since - AROUND, now, (since, now))
        if history is None or not history.plans:
            return {}
        return effort_facts(history, horizon(history, now), now, since)

    @property
    def _space(self) -> SpacePolicy | None:
        return getattr(self._store, "space", None)  # published stores may have none

    def count_waiting(self) -> int:
        """Return the number of recordings waiting in the spool."""
        return self._recordings().get(data.RecordingState.CAPTURED, 0)

    def count_lost(self) -> int:
        """Return the number of lost recordings."""
        return self._recordings().get(data.RecordingState.LOST, 0)

    def count_failed(self) -> int:
        """Return how often a model failed on a recording for good."""
        return int(_ask(self._store, "count_analyses", {}).get(data.AnalysisState.FAILED, 0))

    def count_unsent(self) -> int:
        """Return the number of pending deliveries; with two messengers, two for each message."""
        return sum(
            states.get("pending", 0)
            for name, states in self._deliveries().items()
            if self._sends(name)
        )

    def count_dead(self) -> int:
        """Return the number of deliveries given up."""
        return self._count("dead")

    def count_expired(self) -> int:
        """Return the number of deliveries that had become too old."""
        return self._count("expired")

    def _count(self, state: str) -> int:
        return sum(states.get(state, 0) for states in self._deliveries().values())

    def _recordings(self) -> dict[data.RecordingState, int]:
        counts: dict[data.RecordingState, int] = _ask(self._store, "count_recordings", {})
        return counts

    def _deliveries(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = _ask(self._message_store, "count_deliveries", {})
        return counts

    def _sends(self, messenger: str) -> bool:
        return self._messengers is None or messenger in self._messengers

    def _news(self) -> list[str]:
        counts = {
            "recordings_lost": self.count_lost(),
            "analyses_failed": self.count_failed(),
            "messages_given_up": self.count_dead(),
            "messages_expired": self.count_expired(),
        }
        told = self._told_before(counts) if self._told is None else self._told
        self._told = dict(counts)
        new = {name: int(count - told[name]) for name, count in counts.items()}
        return [f"{count} {_NEWS[name]}" for name, count in new.items() if count > 0]

    def _told_before(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Return the counts in the last heartbeat; one that it lacks is taken as told."""
        find = getattr(self._message_store, "get_newest_message", None)
        heartbeat = None if find is None else find(data.MessageType.HEARTBEAT)
        if heartbeat is None:
            return dict.fromkeys(counts, 0)
        try:
            metrics = json.loads(heartbeat.content)["metrics"]
            said = {one["name"]: float(one["value"]) for one in metrics}
        except (LookupError, TypeError, ValueError):  # a program may write its own
            said = {}
        return {**counts, **{name: said[name] for name in counts if name in said}}

    def _nothing_recorded(self) -> str | None:
        before, self._recorded = self._recorded, None
        counts = self._recordings()
        deployments = _ask(self._store, "get_deployments", [])
        if deployments and deployments[-1].ended_on is not None:
            return None  # what waits is still processed and sent
        if not counts or not all(each.should_record() for each in self._conditions):
            return None
        self._recorded = sum(counts.values())
        return "nothing was recorded since the last report" if before == self._recorded else None

    def _gap(self) -> str | None:
        now, deployments = data.utc_now(), _ask(self._store, "get_deployments", [])
        if not deployments or deployments[-1].ended_on is not None:
            return None
        history = self._store.get_effort(deployments[-1], now - LONGEST_WAIT, now)
        gap = None if history is None else gap_now(history, now)
        if gap is None:
            return None
        what = gap.state.value.replace("_", " ")
        return f"{what} since {shown_in_utc(gap.start)} UTC: {gap.detail}"

    def _waiting_for_long(self) -> str | None:
        ask = getattr(self._store, "get_captured_recordings", None)
        oldest = ask(limit=1) if ask is not None else []
        if not oldest:
            return None
        waited = data.utc_now() - oldest[0].created_on
        if waited < LONGEST_WAIT + datetime.timedelta(seconds=oldest[0].duration):
            return None
        minutes = int(waited.total_seconds() // 60)
        return f"{self.count_waiting()} recordings are waiting, the oldest for {minutes} minutes"


def _ask(store: object, name: str, otherwise: Any) -> Any:
    method = getattr(store, name, None)
    return method() if method is not None else otherwise


def _known_metric(
    name: str, unit: str, find: Callable[[], float | None]
) -> Callable[[], data.Metric | None]:
    def measure() -> data.Metric | None:
        value = find()
        return None if value is None else data.Metric(name=name, value=value, unit=unit)

    measure.__name__ = name
    return measure


def _clock_is_set() -> float | None:
    known = is_clock_synchronised()
    return None if known is None else float(known)


def _metric(name: str, count: Callable[[], int]) -> Callable[[], data.Metric]:
    def measure() -> data.Metric:
        return data.Metric(name=name, value=count(), unit="count")

    measure.__name__ = name
    return measure
