"""What was heard: rows of recordings and detections, and filters of them.

Units are seconds, hertz and UTC; times inside a recording count from its first frame, in the
original sound. They are read through `acoupi.exports.Reader`.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Literal
from uuid import UUID

from acoupi import data
from acoupi.provenance import Provenance

__all__ = [
    "SPECIES_KEYS",
    "By",
    "ClipRow",
    "Delivery",
    "DetectionRow",
    "Filters",
    "MessageRow",
    "RecordingFile",
    "RecordingRow",
    "SpeciesRow",
    "Verdict",
    "VerdictRow",
    "species_in",
]

By = Literal["quarter", "species", "deployment"]
"""How counts are grouped; a quarter is 15 minutes of UTC, which fits the hours of any zone."""

SPECIES_KEYS = ("species", "scientific_name", "scientificName", "dwc:scientificName")
"""Keys of tags that models name species by."""


class Verdict(str, Enum):
    """A person's verdict on a detection, or on a recording without one."""

    RIGHT = "right"
    WRONG = "wrong"
    OTHER = "other"
    """It is another species, which the verdict may name."""
    UNSURE = "unsure"
    WITHDRAWN = "withdrawn"
    """An earlier verdict is withdrawn: the detection counts as not reviewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters of rows: all given ones must hold; None lets everything pass.

    A recording passes if at least one of its detections passes the filters of detections (model,
    species, tag, score, verdict).
    """

    since: datetime.datetime | None = None
    """Aware; earliest start of the recording or detection."""
    until: datetime.datetime | None = None
    """Aware; the recording or detection starts before it."""
    deployments: frozenset[UUID] | None = None
    models: frozenset[str] | None = None
    species: frozenset[str] | None = None
    """One of its tags has one of these values, whatever the key of the tag."""
    tags: frozenset[data.Tag] | None = None
    """It has one of these tags. With `species`, too, one of either."""
    min_score: float | None = None
    """Lowest score of the detection, 0 to 1."""
    states: frozenset[data.RecordingState] | None = None
    """States of the recording."""
    verdicts: frozenset[Verdict | None] | None = None
    """The latest verdict; None (or WITHDRAWN) among them means not reviewed."""
    are_sampled: bool = False
    """Only recordings in the sample that is kept for review (`acoupi.sampling`)."""

    @property
    def are_about_detections(self) -> bool:
        """Whether a recording without a detection cannot pass."""
        of_detections = (self.models, self.species, self.tags, self.min_score, self.verdicts)
        return any(one is not None for one in of_detections)


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A file with a part of a recording's sound, which may begin before it and end after it."""

    id: UUID
    path: Path
    start_s: float
    """Seconds from the first frame of the recording; negative: before it."""
    duration_s: float
    missing_before_s: float = 0.0
    """Seconds before it that should be in it but were not recorded; likewise after it."""
    missing_after_s: float = 0.0

    @property
    def end_s(self) -> float:
        """Seconds from the first frame of the recording."""
        return self.start_s + self.duration_s


_A_FRAME_S = 1e-6
"""Difference that counts as the same time: less than a frame, seconds."""


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A recording, whether its file is still there or not."""

    id: UUID
    deployment: data.Deployment
    started_on: datetime.datetime
    duration_s: float
    samplerate_hz: int
    audio_channels: int | None
    time_expansion: float
    """How many times slower the stored file plays."""
    path: Path | None
    """None: there is no file (any more); see `state`."""
    state: data.RecordingState
    detections: int | None = None
    """Number of detections; None if they were not counted."""
    clips: tuple[ClipRow, ...] = ()
    """Clips that are kept after its file was deleted, in order."""
    analysed_fraction: float = 1.0
    """Share of the recordings of its span of time that models analyse (`acoupi.backlog`)."""

    @property
    def ended_on(self) -> datetime.datetime:
        """When it ended."""
        return self.started_on + datetime.timedelta(seconds=self.duration_s)

    def as_clip(self, clip: ClipRow) -> "RecordingRow":
        """Return one of its clips as a recording of its own."""
        began = self.started_on + datetime.timedelta(seconds=clip.start_s)
        return replace(
            self, id=clip.id, started_on=began, duration_s=clip.duration_s, path=clip.path,
            detections=None, clips=(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordingFile:
    """The file of a recording, as it can be read now."""

    name: str
    """Without folders."""
    size: int
    """Bytes."""
    media_type: str
    samplerate_hz: int


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A person's verdict on a detection or a whole recording."""

    recording_id: UUID
    detection_id: UUID | None
    """None: the verdict is about the whole recording."""
    verdict: Verdict
    species: str | None
    """The right species, if it is another one."""
    reviewer: str
    note: str
    given_on: datetime.datetime


@dataclass(frozen=True, slots=True)
class DetectionRow:
    """A detection in a recording, and how it was made."""

    id: UUID
    recording: RecordingRow
    output_id: UUID
    model: str
    analysed_on: datetime.datetime
    provenance: Provenance | None
    """None: it was found before provenance was stored."""
    kind: data.PredictionType
    box: tuple[float, float, float, float] | None
    """Start (s), low (Hz), end (s), high (Hz); None: the whole recording."""
    score: float
    tags: tuple[data.PredictedTag, ...]
    verdict: VerdictRow | None = None
    """The latest verdict; None: not reviewed."""

    @property
    def start_s(self) -> float:
        """Seconds from the first frame of the recording."""
        return 0.0 if self.box is None else self.box[0]

    @property
    def end_s(self) -> float:
        """Seconds from the first frame of the recording."""
        return self.recording.duration_s if self.box is None else self.box[2]

    @property
    def started_on(self) -> datetime.datetime:
        """When it starts."""
        return self.recording.started_on + datetime.timedelta(seconds=self.start_s)

    @property
    def ended_on(self) -> datetime.datetime:
        """When it ends."""
        return self.recording.started_on + datetime.timedelta(seconds=self.end_s)

    @property
    def clip(self) -> ClipRow | None:
        """The clip that holds all of it; None: there is none, or the whole file exists."""
        if not self.recording.clips:
            return None
        end = min(self.end_s, self.recording.duration_s)
        return next(
            (
                one
                for one in self.recording.clips
                if one.start_s <= self.start_s + _A_FRAME_S and end <= one.end_s + _A_FRAME_S
            ),
            None,
        )

    def in_clip(self, clip: ClipRow, sound: RecordingRow | None = None) -> "DetectionRow":
        """Return it with times relative to a clip of its recording.

        `sound` is the clip as a recording, if it is known already.
        """
        whole = self.recording
        start, low, end, high = self.box or (0.0, 0.0, whole.duration_s, whole.samplerate_hz / 2)
        moved = (start - clip.start_s, low, end - clip.start_s, high)
        return replace(self, recording=sound or whole.as_clip(clip), box=moved)

    @property
    def species(self) -> data.PredictedTag | None:
        """The most likely species; without species tags, the most likely tag. None: no tags."""
        return species_in(self.tags)


@dataclass(frozen=True, slots=True)
class SpeciesRow:
    """A summary of one species."""

    name: str
    """"": detections without a tag."""
    detections: int
    first_on: datetime.datetime
    last_on: datetime.datetime
    best: UUID | None
    """The detection with the highest score among those with a file; None: no file is left."""


def species_in(tags: Iterable[data.PredictedTag]) -> data.PredictedTag | None:
    """Return the surest tag that names a species, else the surest tag; None if there is none.

    Examples
    --------
    >>> event = data.PredictedTag(data.Tag("event", "call"), 0.9)
    >>> species = data.PredictedTag(data.Tag("species", "Myotis nattereri"), 0.7)
    >>> species_in([event, species]).tag.value, species_in([event]).tag.value
    ('Myotis nattereri', 'call')
    """
    return max(
        tags, key=lambda one: (one.tag.key in SPECIES_KEYS, one.confidence_score), default=None
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of a message by one messenger."""

    messenger: str
    state: Literal["pending", "acknowledged", "dead", "expired"]
    attempts: int
    last_error: str | None
    updated_on: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message of the sensor, and its deliveries."""

    id: UUID
    message_type: data.MessageType | None
    created_on: datetime.datetime
    content: str
    deliveries: tuple[Delivery, ...]
