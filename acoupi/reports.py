"""The reports of a sensor to a hub: deployments, recordings, and all data about them.

A report may be sent any number of times, and in any order: everything in it has an id, and a
recording has the time of its report, so that an older state never replaces a newer one.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, Self
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
    "ReportSequence",
    "SettingsReport",
    "SoundReport",
    "digest_header",
]

PROGRAM = "[A-Za-z0-9_.]+(:[A-Za-z0-9_]+)?"
"""Pattern of program names, from which queues and users at a broker are named."""
Number = Annotated[float, Field(allow_inf_nan=False)]


_STAMP, _AFTER = "acoupi-report", "acoupi-report-after"
_NUMBER = re.compile("[0-9]{1,18}")


class _Strict(DeferredModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class OutputReport(_Strict):
    """A run of a model on a recording, and its detections."""

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
    """Name of its file, without folders."""
    start_s: Number
    duration_s: Number
    missing_before_s: Number = 0.0
    missing_after_s: Number = 0.0


class GivenUpReport(_Strict):
    """A file of its sound that was deleted for lack of room."""

    kind: FileClass
    reason: str
    duration_s: Number
    bytes: int
    on: AwareDatetime


class ProgramReport(_Strict):
    """A program and its settings, for the analysis of recordings at a hub."""

    program: str = Field(max_length=200, pattern=f"^{PROGRAM}$")
    """Its module, and its class behind a colon where that is not ``Program``."""
    settings: str
    """JSON: all that its outputs depend on; no secrets, paths or messengers."""
    digest: str
    """Digest of these settings, as in the ids of outputs."""


class RecordingReport(_Strict):
    """A recording, and all data about it at a moment."""

    id: UUID
    deployment: UUID
    reported_on: AwareDatetime
    """The time of this state; a report of an earlier state changes nothing."""
    created_on: AwareDatetime
    duration_s: Number = Field(ge=0)
    samplerate_hz: int = Field(gt=0)
    audio_channels: int | None = None
    time_expansion: Number = Field(default=1.0, gt=0)
    name: str | None = None
    """Name of its file, without folders; None: there is none (any more)."""
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
    """Digest of the settings (`Report.programs`) for analysis at the hub; None: no analysis."""


class NoteReport(_Strict):
    """A span with the reason why nothing was recorded."""

    start: AwareDatetime
    end: AwareDatetime
    state: data.EffortState
    detail: str = ""


class DeploymentReport(_Strict):
    """A deployment, with its effort notes, its plans, and people's verdicts."""

    deployment: data.Deployment
    notes: Sequence[NoteReport] = ()
    whole_hours: Sequence[AwareDatetime] = ()
    """Starts of hours: `notes` holds every note that starts in one of them. Notes of these hours in
    earlier reports are obsolete; the clock may have been set since."""
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
    """...of each of its sections, as in heartbeats."""
    values: dict[str, JsonValue]
    """By dotted name; without secrets, as in the files of the configuration."""
    variables: Sequence[str] = ()
    """Variables that hold a setting, which the hub then cannot decide."""
    in_force: int | None = None
    """Number of the document of the hub whose settings are in force; 0: of none yet; None: the
    sensor does not follow the hub."""
    since: AwareDatetime | None = None
    """When the settings came into force."""
    target: str | None = None
    """Its target, if `acoupi fleet follow` runs beside its services."""
    refused: int = 0
    """Number of a document that the sensor rejected; 0: none."""
    why: str = ""
    """Why it was rejected."""


class Report(_Strict):
    """A part of a sensor's data; deployments come before their recordings."""

    programs: Sequence[ProgramReport] = ()
    deployments: Sequence[DeploymentReport] = ()
    recordings: Sequence[RecordingReport] = ()
    messages: Sequence[MessageReport] = ()
    settings: SettingsReport | None = None


class ReportSequence(NamedTuple):
    """Which of the reports of a sensor one is, by the sensor's own clock.

    It travels as headers, which an older hub leaves alone.
    """

    stamp_us: int
    """Greater than that of every earlier report of the same store."""
    after_us: int | None
    """Of the last one that the hub acknowledged; None: of none."""

    def headers(self) -> dict[str, str]:
        """Return them as headers of HTTP."""
        after = {} if self.after_us is None else {_AFTER: str(self.after_us)}
        return {_STAMP: str(self.stamp_us), **after}

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        """Return what headers say; None if they are of an older sensor, or nothing readable.

        Examples
        --------
        >>> ReportSequence.of({"acoupi-report": "12", "acoupi-report-after": "11"})
        ReportSequence(stamp_us=12, after_us=11)
        """
        stamp, after = headers.get(_STAMP), headers.get(_AFTER)
        numbers = [one for one in (stamp, after) if one is not None]
        if stamp is None or not all(map(_NUMBER.fullmatch, numbers)):
            return None
        return cls(int(stamp), None if after is None else int(after))


class SoundReport(_Strict):
    """The sound of a recording, or of a clip, that is sent to a hub in chunks."""

    is_clip: bool = False
    format: str = Field(pattern="^[a-z0-9]{1,16}$")
    """Also the end of the names of such files."""
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the whole file."""


def digest_header(chunk: bytes) -> str:
    """Return the header ``Content-Digest`` of a chunk (RFC 9530).

    Examples
    --------
    >>> digest_header(b"")
    'sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:'
    """
    return f"sha-256=:{base64.b64encode(hashlib.sha256(chunk).digest()).decode()}:"
