"""The objects that a sensor records, detects and reports.

Units and frames of reference
-----------------------------
Time is in seconds and frequency in hertz. Times inside a recording count
from its first frame and, like its duration and samplerate, describe the
*original* sound, even where the stored file is time-expanded. Every datetime
is aware; inside the sensor it is UTC.
"""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4, uuid5

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, field_validator

from acoupi.captures import (
    CLIPPING,
    LOWEST_DBFS,
    OFFSET,
    BootClock,
    CaptureReport,
    IncompleteReason,
    MicrophoneHealth,
    Overrun,
)
from acoupi.clock import assume_utc, from_microseconds, monotonic, to_microseconds, utc_now
from acoupi.deferred import DeferredModel
from acoupi.provenance import Provenance

__all__ = [
    "CLIPPING",
    "LOWEST_DBFS",
    "OFFSET",
    "Analysis",
    "AnalysisState",
    "AwareDatetime",
    "BootClock",
    "BoundingBox",
    "CaptureReport",
    "Deployment",
    "Detection",
    "DeviceInfo",
    "EffortSpan",
    "EffortState",
    "EventDetection",
    "IncompleteReason",
    "Message",
    "MessageType",
    "Metric",
    "MicrophoneHealth",
    "ModelOutput",
    "ModelOutputInfo",
    "Overrun",
    "PredictedTag",
    "PredictionType",
    "PresenceDetection",
    "Provenance",
    "Recording",
    "RecordingState",
    "Response",
    "ResponseStatus",
    "SequenceDetection",
    "Tag",
    "TimeInterval",
    "derived_id",
    "from_microseconds",
    "monotonic",
    "to_microseconds",
    "utc_now",
]


_NAMESPACE = UUID("7b0cf52e-0b6b-5d3f-9c59-1a3c0f8d4e11")


def derived_id(*parts: object) -> UUID:
    """Return the id derived from these parts (UUID version 5, RFC 9562).

    Computing the same thing again gives the same id, so storing it twice changes nothing.

    Examples
    --------
    >>> derived_id("recording", "model") == derived_id("recording", "model")
    True
    >>> derived_id("a", "b") == derived_id("ab")
    False
    """
    return uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts))


UTCAssumed = Annotated[AwareDatetime, BeforeValidator(assume_utc)]
"""An aware datetime; one given without a zone is taken as UTC."""


class TimeInterval(DeferredModel):
    """A span between two local times of day; start after end wraps past midnight."""

    start: datetime.time
    end: datetime.time


class DeviceInfo(DeferredModel):
    """Description of the board."""

    id: str
    """Unique id of the device; empty when it cannot be read."""


class Deployment(DeferredModel):
    """A sensor at a place, from its start to its end."""

    id: UUID = Field(default_factory=uuid4)
    """UUID of the deployment."""
    name: str
    """Name of the site."""
    latitude: float | None = None
    """Degrees north, WGS 84, -90 to 90; None when unknown."""
    longitude: float | None = None
    """Degrees east, WGS 84, -180 to 180; None when unknown."""
    started_on: UTCAssumed = Field(default_factory=utc_now)
    """When it started."""
    ended_on: UTCAssumed | None = None
    """None while the deployment is active."""

    @field_validator("latitude")
    @classmethod
    def validate_latitude(cls, value: float | None) -> float | None:
        """Refuse coordinates that are out of range."""
        if value is not None and not -90 <= value <= 90:
            raise ValueError("latitude must be between -90 and 90 degrees")
        return value

    @field_validator("longitude")
    @classmethod
    def validate_longitude(cls, value: float | None) -> float | None:
        """Refuse coordinates that are out of range."""
        if value is not None and not -180 <= value <= 180:
            raise ValueError("longitude must be between -180 and 180 degrees")
        return value


class Recording(DeferredModel):
    """A recording, and the path of its file."""

    path: Path | None = Field(None, repr=True)
    """The file; None if there is none, or no longer."""
    duration: float = Field(repr=False)
    """Length of the original sound, seconds, greater than 0."""
    samplerate: int = Field(repr=False)
    """Frames per second of the original sound, Hz, greater than 0."""
    audio_channels: int | None = Field(default=1, repr=False)
    """Number of channels; None when unknown."""
    time_expansion: float = Field(default=1, repr=False, gt=0)
    """How many times slower the stored file plays: its header has samplerate / time_expansion."""
    deployment: Deployment = Field(repr=False)
    """The deployment of the sensor: where, and from when to when."""
    created_on: AwareDatetime = Field(default_factory=utc_now, repr=False)
    """When its first frame was captured."""
    id: UUID = Field(default_factory=uuid4, repr=True)
    """UUID of the recording."""
    capture: CaptureReport | None = Field(default=None, exclude=True, repr=False)
    """How it was captured; only for the recorder and the store. Never sent."""

    def __eq__(self, other: object) -> bool:
        """Compare without the capture report, which is never sent."""
        if not isinstance(other, Recording):
            return NotImplemented
        return {**self.__dict__, "capture": None} == {**other.__dict__, "capture": None}

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def lost_frames(self) -> list[tuple[int, int]]:
        """Where its file has silence in place of sound that was lost while recording.

        First lost frame and first frame after it, counted in the file, oldest
        first. Empty if nothing was lost, or it is unknown how it was captured.
        """
        report = self.capture
        if report is None:
            return []
        begins = ((one.frame - report.first_frame, one.frames) for one in report.overruns)
        cut = ((max(0, begin), min(report.frames, begin + count)) for begin, count in begins)
        return sorted((begin, end) for begin, end in cut if begin < end)

    @property
    def lost_parts(self) -> list[tuple[float, float]]:
        """The same in seconds of the original sound from its first frame."""
        rate = self.samplerate
        return [(begin / rate, end / rate) for begin, end in self.lost_frames]

    @field_validator("audio_channels")
    @classmethod
    def validate_audio_channels(cls, value: int | None) -> int | None:
        """Refuse a recording without channels."""
        if value is not None and value <= 0:
            raise ValueError("audio_channels must be greater than 0")
        return value

    @field_validator("duration")
    @classmethod
    def validate_duration(cls, value: float) -> float:
        """Refuse an empty recording."""
        if value <= 0:
            raise ValueError("duration must be greater than 0 seconds")
        return value

    @field_validator("samplerate")
    @classmethod
    def validate_samplerate(cls, value: int) -> int:
        """Refuse an impossible rate."""
        if value <= 0:
            raise ValueError("samplerate must be greater than 0 Hz")
        return value


class EffortState(str, Enum):
    """How a second of a deployment was spent; every second is exactly one of these."""

    RECORDED = "recorded"
    """It was recorded, even if the file was deleted later."""
    OFF_SCHEDULE = "off_schedule"
    """The program did not plan to record."""
    CONDITION_REFUSED = "condition_refused"
    """It was planned, but a recording condition did not hold."""
    DEVICE_MISSING = "device_missing"
    """The microphone was missing or delivered nothing."""
    OVERRUN = "overrun"
    """The microphone delivered sound that was lost before it reached a file."""
    DISK_FULL = "disk_full"
    """The disk was full or could not be written to."""
    NOT_RUNNING = "not_running"
    """The recorder did not run: no power, a crash, a restart."""
    CLOCK_UNKNOWN = "clock_unknown"
    """The clock was wrong or stepped, so it is unknown what happened then."""


NO_POWER = "the recorder left no trace until the board was started again: no power, or a bad disk"
SET_BACK = "the clock was set back while the recorder was off"


@dataclass(frozen=True, slots=True)
class EffortSpan:
    """A period and its state."""

    start: datetime.datetime
    """Aware."""
    end: datetime.datetime
    """Aware; the first moment after it."""
    state: EffortState
    detail: str = ""
    """The reason, for people; empty when the state says it all."""
    clock: BootClock | None = field(default=None, compare=False, repr=False)
    """Clock reading by which it was noted; None if unknown."""
    analysed_fraction: float = 1.0
    """For recorded spans: the share of recordings that models analyse (`acoupi.backlog`)."""

    @property
    def duration(self) -> float:
        """Its length, seconds."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True, slots=True)
class Tag:
    """A label: a kind of property (key), such as species, and its value."""

    key: str
    """The kind of property, such as species."""
    value: str
    """Its value."""

    def __post_init__(self) -> None:
        """Convert what models return, such as numpy's strings and numbers, to plain text."""
        if type(self.key) is not str:
            object.__setattr__(self, "key", str(self.key))
        if type(self.value) is not str:
            object.__setattr__(self, "value", str(self.value))


@dataclass(frozen=True, slots=True)
class PredictedTag:
    """A label from a model, and its confidence (0 to 1; other finite scores are kept).

    A score becomes a plain ``float`` that JSON can hold: one that is not a number
    (NaN) counts as 0, an infinite one as 0 or 1.

    Raises
    ------
    TypeError, ValueError
        If the score cannot be read as a number at all.
    """

    tag: Tag
    """The label."""
    confidence_score: float = 1
    """The model's confidence in it, 0 to 1."""

    def __post_init__(self) -> None:
        """Make the score a plain, finite number."""
        score = self.confidence_score
        if type(score) is not float or not math.isfinite(score):
            object.__setattr__(self, "confidence_score", _finite(float(score)))


def _finite(score: float) -> float:
    if math.isfinite(score):
        return score
    return 1.0 if score > 0 else 0.0  # NaN is not above 0


class BoundingBox(DeferredModel):
    """A rectangle in the spectrogram of a recording."""

    model_config = ConfigDict(frozen=True)

    type: str = "BoundingBox"
    """Always BoundingBox."""
    coordinates: tuple[float, float, float, float]
    """Start (s), low (Hz), end (s), high (Hz)."""

    @field_validator("coordinates")
    @classmethod
    def validate_coordinates(
        cls, value: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Refuse an empty box, and sides that are not finite numbers."""
        if not all(map(math.isfinite, value)):
            raise ValueError("the sides of a box must be finite numbers")
        start_time, low_freq, end_time, high_freq = value
        if end_time <= start_time:
            raise ValueError("the end time must be after the start time")
        if high_freq <= low_freq:
            raise ValueError("the high frequency must be above the low frequency")
        return value

    @classmethod
    def from_coordinates(
        cls, start_time: float, low_freq: float, end_time: float, high_freq: float
    ) -> "BoundingBox":
        """Make a box from its sides: seconds and hertz."""
        return cls(coordinates=(start_time, low_freq, end_time, high_freq))


class PredictionType(str, Enum):
    """What a detection claims about its region."""

    PRESENCE = "presence"
    """One or more targets are in it."""
    SEQUENCE = "sequence"
    """It holds exactly one sequence of sounds."""
    EVENT = "event"
    """It holds exactly one sound."""


class Detection(DeferredModel):
    """A stretch of a recording in which a model found something."""

    model_config = ConfigDict(frozen=True)

    id: UUID = Field(default_factory=uuid4)
    """UUID of the detection."""
    prediction_type: PredictionType = PredictionType.PRESENCE
    """What it claims about its region: see `PredictionType`."""
    location: BoundingBox | None = None
    """Where in the recording; None means the whole of it."""
    detection_score: float = 1
    """The model's confidence that something is there, 0 to 1."""
    tags: list[PredictedTag] = Field(default_factory=list)
    """The model's labels for it; may be empty."""

    @field_validator("detection_score")
    @classmethod
    def validate_score(cls, value: float) -> float:
        """Refuse a score outside 0 to 1."""
        if not 0 <= value <= 1:
            raise ValueError("detection_score must be between 0 and 1")
        return value

    def _key(self) -> tuple[object, ...]:
        return (
            self.id,
            self.prediction_type,
            self.location,
            self.detection_score,
            frozenset(self.tags),
        )

    def __eq__(self, other: object) -> bool:
        """Compare without regard to the order of tags."""
        return isinstance(other, Detection) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class PresenceDetection(Detection):
    """One or more targets are in the region."""

    prediction_type: PredictionType = Field(default=PredictionType.PRESENCE, init=False, repr=False)


class SequenceDetection(Detection):
    """The region holds exactly one sequence of sounds."""

    prediction_type: PredictionType = Field(default=PredictionType.SEQUENCE, init=False, repr=False)


class EventDetection(Detection):
    """The region holds exactly one sound."""

    prediction_type: PredictionType = Field(default=PredictionType.EVENT, init=False, repr=False)


class ModelOutput(DeferredModel):
    """All that one model found in one recording."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    id: UUID = Field(default_factory=uuid4)
    """UUID of the model's run on the recording."""
    name_model: str
    """Name of the model."""
    recording: Recording
    """The recording that it was run on."""
    detections: Sequence[Detection] = Field(default_factory=list)
    """All detections, or those to send; may be empty."""
    created_on: AwareDatetime = Field(default_factory=utc_now)
    """When the model ran."""
    provenance: Provenance | None = None
    """Which model, weights and settings made it; the detection task fills it in."""
    analysed_fraction: float | None = None
    """Share of the recordings around it that are analysed; None: all. Sent, and not stored."""

    def __eq__(self, other: object) -> bool:
        """Compare without regard to the order of detections."""
        return (
            isinstance(other, ModelOutput)
            and (self.id, self.name_model, self.recording, self.created_on)
            == (other.id, other.name_model, other.recording, other.created_on)
            and frozenset(self.detections) == frozenset(other.detections)
        )

    def __hash__(self) -> int:
        return hash((self.id, self.name_model, self.created_on))


class ModelOutputInfo(DeferredModel):
    """A run of a model, without its detections."""

    id: UUID = Field(default_factory=uuid4)
    name_model: str
    created_on: AwareDatetime = Field(default_factory=utc_now)


class RecordingState(str, Enum):
    """State of a recording."""

    CAPTURED = "captured"
    """Its file is complete and waits in the spool."""
    KEPT = "kept"
    """Its file was moved to where recordings are kept."""
    CLIPPED = "clipped"
    """Its file was deleted, and clips hold some of its sound (see `acoupi.clips`)."""
    DELETED = "deleted"
    """Its file was deleted, by the saving filters or for lack of room on the disk."""
    LOST = "lost"
    """Its file disappeared; acoupi did not delete it."""


class AnalysisState(str, Enum):
    """State of the analysis of a recording by a model."""

    RUNNING = "running"
    RETRY = "retry"
    """It failed, and will be tried again."""
    DONE = "done"
    SKIPPED = "skipped"
    """A processing filter refused the recording."""
    FAILED = "failed"
    """It failed as often as allowed, and will not be tried again."""
    LEFT_OUT = "left_out"
    """It was never started: the backlog policy skipped this recording."""
    HUB = "hub"
    """It is left to the hub, to which the sensor sends the sound."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (AnalysisState.RUNNING, AnalysisState.RETRY)


class Analysis(DeferredModel):
    """The state of one recording with one model."""

    recording_id: UUID
    name_model: str
    state: AnalysisState
    attempts: int = 0
    """How often the model was started on it."""
    error: str | None = None
    """The last error; for a skipped one, the reason."""
    updated_on: AwareDatetime = Field(default_factory=utc_now)
    analysed_fraction: float = 1.0
    """Share of the recordings around this one that are analysed, as known at its start."""


class MessageType(str, Enum):
    """Subject of a message."""

    DEPLOYMENT = "deployment"
    RECORDING = "recording"
    DETECTION = "detection"
    SUMMARY = "summary"
    HEARTBEAT = "heartbeat"
    ALARM = "alarm"


class Message(DeferredModel):
    """A message to a server."""

    id: UUID = Field(default_factory=uuid4)
    content: str | bytes
    created_on: AwareDatetime = Field(default_factory=utc_now)
    message_type: MessageType | None = None


class ResponseStatus(IntEnum):
    """Result of an attempt to send a message."""

    SUCCESS = 0
    FAILED = 1
    ERROR = 2
    TIMEOUT = 3


LONGEST_PAUSE = 86_400.0
"""Longest pause that a server may ask for, seconds; quotas are often daily."""


class Response(DeferredModel):
    """Answer of a server to a message."""

    status: ResponseStatus
    message: Message
    content: str | None = None
    received_on: AwareDatetime = Field(default_factory=utc_now)
    is_access_refused: bool = False
    """The server refuses the sensor (credentials, address); the message may be fine."""
    is_unsent: bool = False
    """Nothing of the message reached the server: the link is down."""
    retry_after: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Pause that the server asks for, seconds; None: none was given."""

    @property
    def pause_end(self) -> datetime.datetime | None:
        """End of the pause, at most a day ahead; None: no pause."""
        if self.retry_after is None or self.status is ResponseStatus.SUCCESS:
            return None
        return utc_now() + datetime.timedelta(seconds=min(self.retry_after, LONGEST_PAUSE))


class Metric(DeferredModel):
    """A measurement of the device at a given time."""

    name: str
    """What was measured."""
    value: float
    """The figure."""
    captured_on: datetime.datetime = Field(default_factory=utc_now)
    """When it was measured."""
    unit: str
    """Unit of the value."""
