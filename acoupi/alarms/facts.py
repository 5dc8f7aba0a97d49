"""What the rules judge: facts about the sensor at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from acoupi import data
from acoupi.captures import MicrophoneHealth

__all__ = ["Facts", "Heard"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a recording tells about the microphone."""

    start: datetime
    duration: float
    """Seconds."""
    bytes_per_second: float
    health: MicrophoneHealth

    @property
    def floor(self) -> float:
        """Its noise floor, dB re full scale."""
        return self.health.noise_floor_dbfs


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts at one moment; None where unknown."""

    now: datetime
    cannot_record: str | None = None
    """What prevents recording now; "" if nothing does."""
    missing_s: float | None = None
    """Seconds since the first planned moment that was missed after the last recording; 0: none."""
    planned_s: float | None = None
    """Planned time of the last 24 hours, seconds, without refused conditions."""
    recorded_s: float = 0
    """Recorded time of it, seconds."""
    effort: Mapping[data.EffortState, float] = field(default_factory=dict)
    """Effort of the last 24 hours of the deployment, seconds by state."""
    heard: tuple[Heard, ...] = ()
    """The last recordings that were measured, oldest first."""
    floor_limit: float | None = None
    """Below this noise floor, dB re full scale, the microphone is deaf; None: no verdict yet."""
    floor_days: int = 0
    """Number of the last ten days with a known noise floor, at any hour."""
    free_bytes: float | None = None
    disk_hours: float | None = None
    """Hours until the disk is full at the current rate; infinite if it is not filling."""
    oldest_message_s: float | None = None
    """Age of the oldest message that waits, seconds; 0: none waits."""
    oldest_recording_s: float | None = None
    """Age of the oldest recording that is not analysed, seconds; 0: none waits."""
    longest_wait_hours: float = 0.0
    """Hours that a recording may wait by the backlog policy; 0: no limit."""
    clock_is_set: bool | None = None
    clock_steps: tuple[float, ...] = ()
    """Steps of a clock that had been set before, within the last hour, seconds."""
    set_aside: tuple[str, ...] = ()
    """Damaged databases that a person has not moved away yet."""
    restarts: Mapping[str, int] = field(default_factory=dict)
    """How often each service was restarted within the last hour."""
    down: Mapping[str, str] = field(default_factory=dict)
    """Services that do not work now, and why."""
    temperature_celsius: float | None = None
    has_low_voltage: bool | None = None
