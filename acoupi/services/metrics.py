"""The state of a sensor as metrics for Prometheus, in its text format.

At most 60 families, in base units. Every label is bounded: by what acoupi knows (states, faults,
alarms), or by what a person set up (services, models, messengers, folders); never by what was
heard or recorded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.alarms.facts import Facts
from acoupi.alarms.rules import RULES
from acoupi.captures import CLIPPING, OFFSET
from acoupi.services.space_state import DiskState, GivenUpState, SpaceState
from acoupi.stack.pulse import Pulse

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["SensorState", "metrics"]

PREFIX = "acoupi_"
_SHOWN = 100
"""Longest label that comes from a person, characters."""


class SensorState(NamedTuple):
    """Everything that is published about a sensor; None or empty where unknown."""

    facts: Facts
    pulses: Mapping[str, Pulse]
    alarms: Iterable[Alarm] | None
    """Active alarms; None: the sensor does not look for faults."""
    info: Mapping[str, str]
    """Version, program and the id of the device."""
    deployment: data.Deployment | None = None
    last_recording: data.Recording | None = None
    recordings: Mapping[data.RecordingState, int] = {}
    analyses: Mapping[data.AnalysisState, int] = {}
    detections: Mapping[str, int] = {}
    """Detections of each model."""
    messages: Mapping[str, Mapping[Any, int]] = {}
    """Deliveries of each messenger, by their states."""
    disks: Mapping[Path, tuple[float, float]] = {}
    """Free and total bytes where the sensor writes, by folder."""
    clock_error_s: float | None = None
    space: SpaceState | None = None
    """Room by the disk policy; None: there is no policy."""


def metrics(state: SensorState) -> str:
    """Return the metrics as text, as ``/metrics`` and node_exporter's text files have them."""
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415 - only where asked for

    return generate_latest(_Source(lambda: _families(state))).decode()


class _Source:
    """What `generate_latest` takes as a registry."""

    def __init__(self, collect: Callable[[], Iterator["Metric"]]) -> None:
        self.collect = collect


Sample = tuple[Mapping[str, str], float | None]


class _Family(NamedTuple):
    """One family: its name, its help text, and how to find it in the state."""

    name: str
    help: str
    find: Callable[[SensorState], Iterable[Sample]]
    kind: str = "gauge"


def _families(state: SensorState) -> Iterator["Metric"]:
    """Yield the families that have values."""
    from prometheus_client.metrics_core import Metric  # noqa: PLC0415 - as above

    for family in FAMILIES:
        found = Metric(PREFIX + family.name, family.help, family.kind)
        for labels, value in family.find(state):
            if value is not None:
                suffix = "_total" if family.kind == "counter" else ""
                short = {name: text[:_SHOWN] for name, text in labels.items()}
                found.add_sample(found.name + suffix, short, float(value))
        if found.samples:
            yield found


def _one(find: Callable[[SensorState], float | None]) -> Callable[[SensorState], Iterable[Sample]]:
    return lambda state: [({}, find(state))]


def _fact(find: Callable[[Facts], float | None]) -> Callable[[SensorState], Iterable[Sample]]:
    return _one(lambda state: find(state.facts))


def _by(
    label: str, find: Callable[[SensorState], Mapping[Any, float]]
) -> Callable[[SensorState], Iterable[Sample]]:
    return lambda state: [
        ({label: str(getattr(key, "value", key))}, value) for key, value in find(state).items()
    ]


def _heard(find: Callable[[data.MicrophoneHealth], float]) -> Callable[..., Iterable[Sample]]:
    return _fact(lambda facts: find(facts.heard[-1].health) if facts.heard else None)


def _faults(state: SensorState) -> Iterable[Sample]:
    if not state.facts.heard:
        return []
    health = state.facts.heard[-1].health
    found = {
        "silent": health.is_silent,
        "stuck": health.is_stuck and not health.is_silent,
        "clipped": health.clipped_share >= CLIPPING,
        "offset": abs(health.dc_offset) >= OFFSET,
    }
    return [({"kind": kind}, float(is_so)) for kind, is_so in found.items()]


def _messages(state: SensorState) -> Iterable[Sample]:
    return [
        ({"messenger": name, "state": kind}, count)
        for name, counts in state.messages.items()
        for kind, count in counts.items()
    ]


def _active(state: SensorState) -> Iterable[Sample]:
    if state.alarms is None:
        return []
    active = {alarm.key for alarm in state.alarms}
    return [({"alarm": rule.key}, float(rule.key in active)) for rule in RULES]


def _of_services(find: Callable[[Pulse], float | None]) -> Callable[..., Iterable[Sample]]:
    return lambda state: [({"service": name}, find(one)) for name, one in state.pulses.items()]


def _up(state: SensorState) -> Iterable[Sample]:
    return [({"service": name}, float(name not in state.facts.down)) for name in state.pulses]


def _tasks(state: SensorState) -> Iterable[Sample]:
    return [
        ({"service": name, "result": result}, count)
        for name, one in state.pulses.items()
        for result, count in (("done", one.done), ("failed", one.failed))
    ]


def _disks(number: int) -> Callable[[SensorState], Iterable[Sample]]:
    return lambda state: [({"folder": str(at)}, sizes[number]) for at, sizes in state.disks.items()]


def _space_of_disks(find: Callable[[DiskState], float | None]) -> Callable[..., Iterable[Sample]]:
    return lambda state: [
        ({"folder": str(one.folder)}, find(one))
        for one in (state.space.disks if state.space else ())
    ]


def _given_up(find: Callable[[GivenUpState], float]) -> Callable[..., Iterable[Sample]]:
    def samples(state: SensorState) -> Iterable[Sample]:
        given_up = state.space.given_up if state.space else {}
        return [({"class": kind.value}, find(one)) for kind, one in given_up.items()]

    return samples


FAMILIES = (
    _Family("build_info", "Version of acoupi, program and device.", lambda s: [(s.info, 1)]),
    _Family(
        "state_timestamp_seconds",
        "When these metrics were collected, seconds since 1970.",
        _fact(lambda f: f.now.timestamp()),
    ),
    _Family(
        "deployment_start_timestamp_seconds",
        "When the running deployment began, seconds since 1970.",
        _one(lambda s: s.deployment.started_on.timestamp() if s.deployment else None),
    ),
    # Effort
    _Family(
        "effort_seconds",
        "How the last 24 hours of the deployment were spent.",
        _by("state", lambda s: s.facts.effort),
    ),
    _Family(
        "planned_seconds",
        "Planned recording time in the last 24 hours.",
        _fact(lambda f: f.planned_s),
    ),
    _Family(
        "missing_seconds",
        "Time since the first planned moment after the last recording that was missed.",
        _fact(lambda f: f.missing_s),
    ),
    _Family(
        "recording_possible",
        "1: nothing prevents the recorder from recording.",
        _fact(lambda f: None if f.cannot_record is None else float(not f.cannot_record)),
    ),
    _Family(
        "last_recording_timestamp_seconds",
        "When the last recording began, seconds since 1970.",
        _one(lambda s: s.last_recording.created_on.timestamp() if s.last_recording else None),
    ),
    _Family(
        "recordings",
        "Recordings in the store.",
        _by("state", lambda s: s.recordings),
    ),
    # Analysis
    _Family("analyses", "Analyses of recordings by models.", _by("state", lambda s: s.analyses)),
    _Family(
        "oldest_recording_seconds",
        "Age of the oldest recording that waits for analysis; 0: none waits.",
        _fact(lambda f: f.oldest_recording_s),
    ),
    _Family(
        "detections",
        "Detections that each model has reported.",
        _by("model", lambda s: s.detections),
        "counter",
    ),
    # Messages
    _Family("messages", "Messages of each messenger.", _messages),
    _Family(
        "oldest_message_seconds",
        "Age of the oldest message that waits; 0: none waits.",
        _fact(lambda f: f.oldest_message_s),
    ),
    # The microphone
    _Family(
        "microphone_level_dbfs",
        "Level (root mean square) of the last recording, dB re full scale.",
        _heard(lambda h: h.rms_dbfs),
    ),
    _Family(
        "microphone_peak_dbfs",
        "Largest sample of the last recording, dB re full scale.",
        _heard(lambda h: h.peak_dbfs),
    ),
    _Family(
        "microphone_noise_floor_dbfs",
        "Level of the quietest moments of the last recording, dB re full scale.",
        _heard(lambda h: h.noise_floor_dbfs),
    ),
    _Family(
        "microphone_noise_floor_limit_dbfs",
        "Noise floor below which the microphone counts as deaf at this hour.",
        _fact(lambda f: f.floor_limit),
    ),
    _Family(
        "microphone_clipped_ratio",
        "Share of the samples of the last recording at full scale.",
        _heard(lambda h: h.clipped_share),
    ),
    _Family(
        "microphone_offset_ratio",
        "DC offset of the last recording, full scale being 1.",
        _heard(lambda h: h.dc_offset),
    ),
    _Family("microphone_fault", "1: the last recording shows this fault.", _faults),
    # The clock
    _Family(
        "clock_synchronised",
        "1: a time server or GPS has set the clock.",
        _fact(lambda f: None if f.clock_is_set is None else float(f.clock_is_set)),
    ),
    _Family(
        "clock_error_seconds",
        "Largest error of the clock by its own estimate.",
        _one(lambda s: s.clock_error_s),
    ),
    _Family(
        "clock_steps_last_hour",
        "Steps of the clock after it had been right, in the last hour; counted while alarms are "
        "on.",
        _one(lambda s: None if s.alarms is None else len(s.facts.clock_steps)),
    ),
    # The board
    _Family("disk_free_bytes", "Free space where the sensor writes.", _disks(0)),
    _Family("disk_size_bytes", "Size of the disk where the sensor writes.", _disks(1)),
    _Family(
        "disk_full_in_seconds",
        "Time until the disk is full at the current rate; +Inf: it is not filling.",
        _fact(lambda f: None if f.disk_hours is None else 3600 * f.disk_hours),
    ),
    _Family(
        "disk_reserve_bytes",
        "Free space that recordings never use, where sensor.disk is on.",
        _space_of_disks(lambda one: one.reserve_bytes),
    ),
    _Family(
        "disk_left_seconds",
        "Recording time until only the reserve is free, if nothing is deleted.",
        _space_of_disks(lambda one: None if one.hours_left is None else 3600 * one.hours_left),
    ),
    _Family(
        "given_up_recordings",
        "Recordings whose sound was given up for lack of room, by reason.",
        _given_up(lambda one: one.recordings),
        "counter",
    ),
    _Family(
        "given_up_bytes",
        "Bytes of sound that were given up for lack of room, by reason.",
        _given_up(lambda one: one.bytes),
        "counter",
    ),
    _Family(
        "temperature_celsius", "Temperature of the board.", _fact(lambda f: f.temperature_celsius)
    ),
    _Family(
        "supply_voltage_low",
        "1: a Raspberry Pi reports too low a supply voltage.",
        _fact(lambda f: None if f.has_low_voltage is None else float(f.has_low_voltage)),
    ),
    # The services
    _Family("service_up", "1: the service works.", _up),
    _Family(
        "service_start_timestamp_seconds",
        "When the service was started, seconds since 1970.",
        _of_services(lambda one: one.started_on.timestamp()),
    ),
    _Family(
        "service_pulse_timestamp_seconds",
        "When the service last showed that it is alive, seconds since 1970.",
        _of_services(lambda one: one.pulse_on.timestamp()),
    ),
    _Family(
        "service_restarts_last_hour",
        "Restarts of the service in the last hour; counted while alarms are on.",
        _by("service", lambda s: {} if s.alarms is None else s.facts.restarts),
    ),
    _Family(
        "service_tasks",
        "Tasks since the service was started; of beat, messages.",
        _tasks,
        "counter",
    ),
    _Family("alarm_active", "1: the alarm is active.", _active),
)
"""Names of everything that is published; dashboards may use only these."""
