"""What a sensor reports to a hub: its deployments and recordings, and all that is known of them.

A report may be sent any number of times, and in any order: everything in it has an id, and a
recording says when it was reported, so that an older state never replaces a newer one.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from acoupi import data
from acoupi.deferred import DeferredModel
from acoupi.effort import PlanFrom
from acoupi.heard import VerdictRow
from acoupi.provenance import Provenance
from acoupi.space import FileClass

__all__ = [
    "PROGRAM",
    "ClipReport",
    "DeploymentReport",
    "GivenUpReport",
    "MessageReport",
    "NoteReport",
    "OutputReport",
    "ProgramReport",
    "RecordingReport",
    "Report",
    "SettingsReport",
    "SoundReport",
    "digest_header",
]

PROGRAM = "[A-Za-z0-9_.]+(:[A-Za-z0-9_]+)?"
"""Pattern of what a program is called: queues of brokers, and who may read them, are named so."""
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(DeferredModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class OutputReport(_Strict):
    """That a model ran on a recording, and what it found."""

    id: UUID
    model: str
    ran_on: AwareDatetime
    provenance: Provenance | None = None
    detections: Sequence[data.Detection] = ()

    @classmethod
    def of(cls, output: data.ModelOutput) -> Self:
        """Return the report of an output."""
        return cls(
            id=output.id,
            model=output.name_model,
            ran_on=output.created_on,
            provenance=output.provenance,
            detections=output.detections,
        )


class ClipReport(_Strict):
    """A clip that is kept in place of the recording; seconds as in `heard.ClipRow`."""

    id: UUID
    name: str
    """Of its file, without folders."""
    start_s: Number
    duration_s: Number
    missing_before_s: Number = 0.0
    missing_after_s: Number = 0.0


class GivenUpReport(_Strict):
    """A file with its sound that was given up for room on a disk."""

    kind: FileClass
    reason: str
    duration_s: Number
    bytes: int
    on: AwareDatetime


class ProgramReport(_Strict):
    """A program and its settings, by which a hub is to analyse recordings."""

    program: str = Field(max_length=200, pattern=f"^{PROGRAM}$")
    """Its module, and its class behind a colon where that is not ``Program``."""
    settings: str
    """JSON: all that its outputs depend on; no secrets, paths or messengers."""
    digest: str
    """Of these settings, as in the ids of outputs."""


class RecordingReport(_Strict):
    """A recording, and all that is known of it at a moment."""

    id: UUID
    deployment: UUID
    reported_on: AwareDatetime
    """When this was all that was known; a report of an earlier moment changes nothing."""
    created_on: AwareDatetime
    duration_s: Number = Field(ge=0)
    samplerate_hz: int = Field(gt=0)
    audio_channels: int | None = None
    time_expansion: Number = Field(default=1.0, gt=0)
    name: str | None = None
    """Of its file, without folders; None: there is none (any more)."""
    state: data.RecordingState
    capture: data.CaptureReport | None = None
    analyses: Sequence[data.Analysis] = ()
    outputs: Sequence[OutputReport] = ()
    clips: Sequence[ClipReport] = ()
    given_up: Sequence[GivenUpReport] = ()
    is_sampled: bool = False
    """Whether it is kept for review."""
    analysed_fraction: Number = Field(default=1.0, ge=0, le=1)
    """Share of the recordings of its span of time that models analyse (`acoupi.backlog`)."""
    analyse: str | None = None
    """Digest of the settings (`Report.programs`) by which the hub is to analyse it; None: not."""


class NoteReport(_Strict):
    """A span for which the sensor noted why it did not record."""

    start: AwareDatetime
    end: AwareDatetime
    state: data.EffortState
    detail: str = ""


class DeploymentReport(_Strict):
    """A deployment, what kept it from recording, when it was to record, and what people said."""

    deployment: data.Deployment
    notes: Sequence[NoteReport] = ()
    whole_hours: Sequence[AwareDatetime] = ()
    """Beginnings of hours: `notes` holds every note that begins in one of them. Others that were
    reported of it before are no longer true; the clock may have been set since."""
    plans: Sequence[PlanFrom] = ()
    verdicts: Sequence[VerdictRow] = ()


class MessageReport(_Strict):
    """A message that the program of the sensor made, or a heartbeat."""

    id: UUID
    message_type: data.MessageType | None = None
    created_on: AwareDatetime
    content: str

    @classmethod
    def of(cls, message: data.Message) -> Self:
        """Return the report of a message; bytes in it that are no text are replaced."""
        text = message.content
        return cls(
            id=message.id,
            message_type=message.message_type,
            created_on=message.created_on,
            content=text if isinstance(text, str) else text.decode(errors="replace"),
        )


class SettingsReport(_Strict):
    """The settings in force, and how far the sensor follows those that the hub offers."""

    program: str
    version: str
    """Of acoupi."""
    configuration: str = ""
    """Digest of the settings of the program, and..."""
    sections: Sequence[str] = ()
    """...of each of its sections, as heartbeats say them."""
    values: dict[str, JsonValue]
    """By dotted name; without secrets, as in the files of the configuration."""
    variables: Sequence[str] = ()
    """Those that hold a setting, which is then not the hub's to decide."""
    in_force: int | None = None
    """Number of the document of the hub whose settings are in force; 0: of none yet; None: the
    sensor does not follow the hub."""
    since: AwareDatetime | None = None
    """When the settings were put in force."""
    target: str | None = None
    """Where its services run, if `acoupi fleet follow` says so from beside them."""
    refused: int = 0
    """Number of a document that the sensor gave up; 0: none."""
    why: str = ""
    """It was given up."""


class Report(_Strict):
    """A part of what a sensor knows; deployments before the recordings made in them."""

    programs: Sequence[ProgramReport] = ()
    deployments: Sequence[DeploymentReport] = ()
    recordings: Sequence[RecordingReport] = ()
    messages: Sequence[MessageReport] = ()
    settings: SettingsReport | None = None


class SoundReport(_Strict):
    """The sound of a recording, or of a clip, that is sent to a hub in chunks."""

    is_clip: bool = False
    format: Literal["wav", "flac"]
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the whole file."""


def digest_header(chunk: bytes) -> str:
    """Return the header ``Content-Digest`` of a chunk (RFC 9530).

    Examples
    --------
    >>> digest_header(b"")
    'sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:'
    """
    return f"sha-256=:{base64.b64encode(hashlib.sha256(chunk).digest()).decode()}:"
