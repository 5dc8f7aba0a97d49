"""Turns heartbeats and alarms of many sensors into a row for each, the worst first.

Messages come from anywhere, including old versions and strangers. A field that is missing or not
valid counts as unknown; no message can make the others unreadable.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any, Literal, NamedTuple

__all__ = ["KEPT", "Fleet", "Group", "Row", "groups_of", "span_words", "values_that_differ"]

MISSED = 3
"""Intervals without a heartbeat after which a sensor is silent."""
INTERVAL = timedelta(hours=1)
"""Interval of a sensor that does not report it and has sent too few heartbeats."""
LONGEST_INTERVAL = timedelta(days=7)
AHEAD = timedelta(minutes=5)
"""A clock that is further ahead is wrong."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""A clock before this was never set."""
DISK_HOURS = 24
"""With fewer hours left, a disk is nearly full; as the alarm `disk_low`."""
COVERAGE_PERCENT = 80
"""Recorded share of planned time below which something is wrong; as the alarm `effort_low`."""
DROP_DB = 10
"""Drop of the noise floor that means a deaf microphone, dB."""
DAY = timedelta(days=1)
ENOUGH = 3
"""Most figures in a median."""
KEPT = 400
"""Newest heartbeats of a sensor whose time and noise floor are used."""
MOST_ALARMS = 50
MOST_SECTIONS = 50
LONGEST_TEXT = 80
LONGEST_STATUS = 300

State = Literal["silent", "unwell", "well"]
_RIGHT = (None, "set", "not set")
"""Words for a clock that is not known to be wrong."""
_ORDER: dict[State, int] = {"silent": 0, "unwell": 1, "well": 2}


@dataclass(frozen=True)
class Row:
    """The state of a sensor; None: it was not sent."""

    sensor: str
    """Its name if the source knows it, else the id of its device."""
    device_id: str | None
    state: State
    reasons: list[str]
    """Why it is silent or unwell."""
    heartbeat_on: datetime | None
    """When its last heartbeat was made, by its own clock."""
    silent_after_s: float
    version: str | None = None
    program: str | None = None
    configuration: str | None = None
    sections: dict[str, str] = field(default_factory=dict)
    """Digest of each section of its settings."""
    recorded_h: float | None = None
    """Detections of the last day."""
    coverage_percent: float | None = None
    """Share of the planned time of that day that was recorded; None also if none was planned."""
    disk_hours_left: float | None = None
    recordings_waiting: float | None = None
    messages_waiting: float | None = None
    noise_floor_dbfs: float | None = None
    noise_floor_change_db: float | None = None
    """Median of the last day less that of the days before it."""
    clock: str | None = None
    """``set``, ``not set``, or the size of its error."""
    alarms: list[str] = field(default_factory=list)
    reported_on: datetime | None = None
    """When the hub last heard from it, by the hub's clock."""

    @property
    def clock_is_wrong(self) -> bool:
        """Whether its times are meaningless."""
        return self.clock not in _RIGHT


class Group(NamedTuple):
    """Sensors that run the same program with the same settings."""

    program: str | None
    configuration: str | None
    versions: list[str]
    sensors: list[str]
    differs_in: list[str]
    """Sections of the settings that differ from the largest group of this program."""


class _Beat(NamedTuple):
    sent_on: datetime
    number: int
    """Of the message, in the order in which they came."""
    content: Mapping[str, Any]

    def figure(self, name: str) -> float | None:
        """Return a metric; None if it was not sent."""
        metrics = self.content.get("metrics")
        for one in metrics if isinstance(metrics, list) else ():
            if isinstance(one, dict) and one.get("name") == name:
                return _number(one.get("value"))
        return None


class _Sensor:
    """The messages of one device."""

    def __init__(self) -> None:
        self.floors: dict[datetime, float | None] = {}
        """Noise floor of each heartbeat, by when it was made; of those with a right clock."""
        self.newest: _Beat | None = None
        """The newest heartbeat with a right clock."""
        self.wrong: _Beat | None = None
        """The last one whose clock was wrong."""
        self.alarms: dict[str, tuple[datetime, bool]] = {}
        """Start of each alarm, and whether it is over."""
        self.is_offline: bool | None = None
        """Whether it is online by the broker; None: unknown."""

    def put(self, beat: _Beat, now: datetime) -> None:
        if not EARLIEST <= beat.sent_on <= now + AHEAD:
            self.wrong = beat
            return
        if self.newest is None or beat.sent_on >= self.newest.sent_on:
            self.newest = beat
        self.floors[beat.sent_on] = beat.figure("microphone_noise_floor")
        if len(self.floors) > 2 * KEPT:
            self.floors = {time: self.floors[time] for time in sorted(self.floors)[-KEPT:]}

    def put_alarm(self, name: str, since: datetime, *, is_over: bool) -> None:
        if name in self.alarms or len(self.alarms) < MOST_ALARMS:
            self.alarms[name] = max((since, is_over), self.alarms.get(name, (since, is_over)))

    def last(self) -> _Beat | None:
        """Return the newest heartbeat.

        A heartbeat with a wrong clock only counts if none with a right clock came after it.
        """
        if self.wrong is None or (self.newest and self.newest.number > self.wrong.number):
            return self.newest
        return self.wrong


class Fleet:
    """The sensors that have sent messages.

    Parameters
    ----------
    now
        When it is judged.
    silent_after
        A sensor without a heartbeat for longer is silent; None: three of its own intervals.
    judges_effort
        Whether a small recorded share of the last day counts as a fault; not if the services were
        just restarted.
    """

    def __init__(
        self,
        now: datetime,
        silent_after: timedelta | None = None,
        *,
        judges_effort: bool = True,
    ) -> None:
        self._now, self._silent_after = now, silent_after
        self._judges_effort = judges_effort
        self._sensors: dict[tuple[str, str], _Sensor] = {}
        self._expected: set[str] = set()
        self._told: dict[str, dict[str, Any]] = {}
        self._reported: dict[str, datetime] = {}
        self._count = 0

    def expect(self, name: str) -> None:
        """Note a sensor that should send heartbeats."""
        self._expected.add(name)

    def report(self, name: str, on: datetime) -> None:
        """Note the last contact with a sensor, by the local clock: it is not silent."""
        self._reported[name] = on

    def tell(self, name: str, *, sections: object, **told: str | None) -> None:
        """Note what a sensor reports beside heartbeats: version, program, configuration.

        A heartbeat's own data take precedence.
        """
        self._told[name] = {**told, "sections": dict(_sections(sections))}

    def put(self, content: object, *, name: str = "", created_on: datetime | None = None) -> bool:
        """Take a message in; return whether it was a heartbeat or an alarm.

        Parameters
        ----------
        content
            Contents of the message: the parsed JSON.
        name
            Name of the sensor, if the source knows it.
        created_on
            When it was made, if the message itself does not tell.
        """
        self._count += 1
        if not isinstance(content, dict):
            return False
        device = _text(content.get("device_id")) or ""
        if isinstance(content.get("alarm"), str) and content.get("state") in ("raised", "cleared"):
            since = _time(content.get("since"))
            if since is not None:
                self._of(name, device).put_alarm(
                    content["alarm"][:LONGEST_TEXT], since, is_over=content["state"] == "cleared"
                )
            return since is not None
        sent_on = _time(content.get("sent_on")) or created_on
        if sent_on is None or "device_id" not in content or "status" not in content:
            return False
        self._of(name, device).put(_Beat(sent_on, self._count, content), self._now)
        return True

    def put_presence(self, device: str, *, is_offline: bool) -> None:
        """Note whether a sensor is connected, by the broker."""
        self._of("", device[:LONGEST_TEXT]).is_offline = is_offline

    def _of(self, name: str, device: str) -> _Sensor:
        return self._sensors.setdefault((name, device), _Sensor())

    def rows(self) -> list[Row]:
        """Return a row for each sensor: the silent first, then the worst."""
        return sorted(self._rows(), key=self._badness)

    def _badness(self, row: Row) -> tuple[Any, ...]:
        silence = self._now - (row.heartbeat_on or row.reported_on or EARLIEST)
        first = -silence.total_seconds() if row.state == "silent" else -len(row.reasons)
        return _ORDER[row.state], first, row.sensor, row.device_id or ""

    def _rows(self) -> Iterator[Row]:
        names = Counter(name for name, _ in self._sensors)
        for (name, device), sensor in self._sensors.items():
            shown = name or device or "(without an id)"
            if name and names[name] > 1:
                shown = f"{name} ({device or 'without an id'})"
            reported_on = self._reported.get(name) if names[name] == 1 else None
            yield self._completed(name, self._row(shown, device or None, sensor, reported_on))
        for name in self._expected - set(names):
            yield self._completed(name, self._row_without_messages(name))

    def _row_without_messages(self, name: str) -> Row:
        limit = self._silent_after or MISSED * INTERVAL
        on = self._reported.get(name)
        reasons = ["it has not sent a heartbeat yet"]
        if on is not None:
            reasons = [f"no contact for {span_words(self._now - on)}"]
            reasons *= self._now - on > limit
        state: State = "silent" if reasons else "well"
        return Row(name, None, state, reasons, None, limit.total_seconds(), reported_on=on)

    def _completed(self, name: str, row: Row) -> Row:
        told = self._told.get(name, {})
        lacking = {what: value for what, value in told.items() if not getattr(row, what)}
        return replace(row, **lacking)

    def _row(
        self, shown: str, device: str | None, sensor: _Sensor, reported_on: datetime | None
    ) -> Row:
        last = sensor.last()
        alarms = sorted(name for name, (_, is_over) in sensor.alarms.items() if not is_over)
        limit = self._silent_after or MISSED * _interval(sensor, last)
        is_silent, why = _silence(sensor, last, self._now, limit, reported_on)
        known: dict[str, Any] = {"alarms": alarms, "reported_on": reported_on}
        alarm_words = [f"alarm {name}" for name in alarms]
        if last is None:
            why += alarm_words
            state: State = "silent" if is_silent else "unwell" if why else "well"
            return Row(shown, device, state, why, None, limit.total_seconds(), **known)
        recorded, planned = last.figure("effort_recorded"), last.figure("effort_planned")
        known |= {
            "version": _text(last.content.get("version")),
            "program": _text(last.content.get("program")),
            "configuration": _text(last.content.get("configuration")),
            "sections": dict(_sections(last.content.get("sections"))),
            "recorded_h": None if recorded is None else recorded / 3600,
            "coverage_percent": _percent(recorded, planned),
            "disk_hours_left": last.figure("disk_hours_left"),
            "recordings_waiting": last.figure("recordings_waiting"),
            "messages_waiting": last.figure("messages_waiting"),
            "noise_floor_dbfs": last.figure("microphone_noise_floor"),
            "noise_floor_change_db": _change(sensor, last),
            "clock": _clock(last, self._now),
        }
        judged = known if self._judges_effort else known | {"coverage_percent": None}
        why += [*_faults(last, judged), *alarm_words]
        state = "silent" if is_silent else "unwell" if why else "well"
        return Row(shown, device, state, why, last.sent_on, limit.total_seconds(), **known)


def _silence(
    sensor: _Sensor,
    last: _Beat | None,
    now: datetime,
    limit: timedelta,
    reported_on: datetime | None,
) -> tuple[bool, list[str]]:
    """Return whether a sensor counts as silent, and why.

    Any contact with the hub is a sign of life, even without heartbeats.
    """
    if sensor.is_offline:
        return True, ["the broker reports it as offline"]
    # If it is connected, or has an alarm, its first heartbeat may still be to come. With a wrong
    # clock, its silence cannot be judged.
    is_dated = last is not None and last.sent_on >= EARLIEST
    ago = now - last.sent_on if last is not None and is_dated else timedelta()
    why = [f"no heartbeat for {span_words(ago)}"] if ago > limit else []
    if reported_on is None:
        return bool(why), why
    if now - reported_on > limit:
        return True, why or [f"no contact for {span_words(now - reported_on)}"]
    return False, [f"{one}, although it reports" for one in why]


def _faults(last: _Beat, known: Mapping[str, Any]) -> Iterator[str]:
    status = _text(last.content.get("status"), LONGEST_STATUS)
    if status and status != "OK":
        yield status
    if known["clock"] not in _RIGHT:
        yield f"its clock is wrong: {known['clock']}"
    hours, coverage = known["disk_hours_left"], known["coverage_percent"]
    has_policy_at_work = bool(last.figure("given_up"))  # it deletes files before the disk is full
    if hours is not None and hours < DISK_HOURS and not has_policy_at_work:
        yield f"its disk is full in {hours:.0f} h"
    if coverage is not None and coverage < COVERAGE_PERCENT:
        yield f"{coverage:.0f} % of the planned time was recorded"
    change = known["noise_floor_change_db"]
    if change is not None and change <= -DROP_DB:
        yield f"its microphone hears {-change:.0f} dB less than on earlier days"


def _interval(sensor: _Sensor, last: _Beat | None) -> timedelta:
    """Return the time between two heartbeats: as reported by the sensor, or as measured."""
    said = None if last is None else _number(last.content.get("interval_s"))
    times = sorted(sensor.floors)
    gaps = [(after - one).total_seconds() for one, after in pairwise(times)]
    if said is None or said <= 0:
        said = median(gaps) if len(gaps) >= ENOUGH else INTERVAL.total_seconds()
    return timedelta(seconds=min(max(said, 1.0), LONGEST_INTERVAL.total_seconds()))


def _change(sensor: _Sensor, last: _Beat) -> float | None:
    """Return by how much the noise floor rose, dB; over whole days, as it changes with the hour."""
    known = [
        (last.sent_on - sent_on, floor)
        for sent_on, floor in sensor.floors.items()
        if floor is not None
    ]
    recent = [floor for age, floor in known if timedelta() <= age < DAY]
    before = [floor for age, floor in known if DAY <= age < 10 * DAY]
    if min(len(recent), len(before)) < ENOUGH:
        return None
    return median(recent) - median(before)


def _sections(said: object) -> Iterator[tuple[str, str]]:
    for one in said[:MOST_SECTIONS] if isinstance(said, list) else ():
        if isinstance(one, str) and "=" in one:
            name, _, digest = one[:LONGEST_TEXT].partition("=")
            yield name, digest


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _clock(last: _Beat, now: datetime) -> str | None:
    if last.sent_on > now + AHEAD:
        return f"{span_words(last.sent_on - now)} ahead"
    if last.sent_on < EARLIEST:
        return f"in the year {last.sent_on.year}"
    is_set = last.figure("clock_set")
    return None if is_set is None else "set" if is_set else "not set"


def groups_of(rows: list[Row]) -> list[Group]:
    """Return which sensors run which configuration, the largest group first.

    Sensors that do not report it are one group, the last.
    """
    found: dict[tuple[str | None, str | None], list[Row]] = {}
    for row in rows:
        found.setdefault((row.program, row.configuration), []).append(row)
    ordered = sorted(
        found.items(), key=lambda one: (one[0][1] is None, -len(one[1]), *map(str, one[0]))
    )
    usual: dict[str | None, dict[str, str]] = {}
    groups = []
    for (program, configuration), of in ordered:
        sections = of[0].sections
        others = usual.setdefault(program, sections)
        versions = sorted({row.version for row in of if row.version})
        names = sorted(row.sensor for row in of)
        known = sections.keys() | others.keys() if sections and others else ()
        differs = sorted(name for name in known if sections.get(name) != others.get(name))
        groups.append(Group(program, configuration, versions, names, differs))
    return groups


def values_that_differ(
    groups: list[Group], values: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, tuple[Any, Any]]]:
    """Return for each group the settings that differ from the largest group of its program.

    Parameters
    ----------
    groups
        The result of `groups_of`.
    values
        Settings by dotted name, for sensors where they are known.

    Returns
    -------
    list
        For each group the value there, and that of the largest group, by name of the setting.
        Only of sections that differ; None: it is not set.
    """
    usual: dict[str | None, Mapping[str, Any]] = {}
    found = []
    for group in groups:
        own = next((values[one] for one in group.sensors if one in values), {})
        others = usual.setdefault(group.program, own)
        names = sorted(own.keys() | others.keys()) if own and others else []
        found.append(
            {
                name: (own.get(name), others.get(name))
                for name in names
                if name.partition(".")[0] in group.differs_in and own.get(name) != others.get(name)
            }
        )
    return found


def span_words(span: timedelta) -> str:
    """Return a span of time in its largest unit.

    Examples
    --------
    >>> span_words(timedelta(hours=50)), span_words(timedelta(minutes=90))
    ('2 d', '1 h')
    """
    seconds = max(0.0, span.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _text(value: object, most: int = LONGEST_TEXT) -> str | None:
    return value[:most] if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
