"""The columns of Camtrap DP in each of its profiles: one table, from which its schemas are made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from acoupi import __version__, data
from acoupi.audio.formats import media_type
from acoupi.exports.format import (
    audio_path,
    file_name,
    in_file,
    one_line,
    scientific_name,
    to_second,
    verified,
)
from acoupi.exports.source import Site
from acoupi.heard import DetectionRow, RecordingRow, Verdict

__all__ = ["TABLES", "Column", "Observation", "Profile", "observations_of", "schema_of"]

Profile = Literal["1.0.2", "acoustic-2025", "pamdp"]
PROFILES: tuple[Profile, ...] = ("1.0.2", "acoustic-2025", "pamdp")
NONE: Mapping[str, Any] = {}
REQUIRED: Mapping[str, Any] = {"required": True}
UNIQUE: Mapping[str, Any] = {"required": True, "unique": True}

_SECONDS = "%Y-%m-%dT%H:%M:%S%z"


@dataclass(frozen=True)
class Observation:
    """A detection as a model reported it, or as a person saw it."""

    row: DetectionRow
    is_human: bool = False

    @property
    def id(self) -> str:
        """Id of the detection; the person's observation has its own."""
        return str(data.derived_id(self.row.id, "verdict") if self.is_human else self.row.id)

    @property
    def species(self) -> str:
        """The scientific name; empty if there is none."""
        return one_line(verified(self.row) if self.is_human else scientific_name(self.row))

    @property
    def kind(self) -> str:
        """``animal`` where the species is known, else ``unknown``."""
        return "animal" if self.species else "unknown"

    @property
    def by(self) -> str:
        """The model, its version and weights; or the person."""
        if self.is_human and self.row.verdict is not None:
            return one_line(self.row.verdict.reviewer)
        made_by = self.row.provenance
        return one_line(made_by.words if made_by else self.row.model)

    @property
    def on(self) -> str:
        """When it was said."""
        verdict = self.row.verdict
        return to_second(
            verdict.given_on if self.is_human and verdict is not None else self.row.analysed_on
        )

    @property
    def probability(self) -> float | None:
        """The model's confidence in the species, else in the detection."""
        if self.is_human:
            return None
        species = self.row.species
        sure = self.row.score if species is None else species.confidence_score
        return sure if 0 <= sure <= 1 else None

    @property
    def comments(self) -> str:
        """What no column holds."""
        if self.is_human and self.row.verdict is not None:
            said = f"verdict: {self.row.verdict.verdict.value}"
            return one_line(f"{said}; {self.row.verdict.note}".removesuffix("; "))
        tags = ", ".join(f"{one.tag.key}={one.tag.value}" for one in self.row.tags)
        return one_line(f"score: {self.row.score:.6f}; tags: {tags}")

    @property
    def tags(self) -> str:
        """Its exact place, which other columns round to seconds, or do not have."""
        low, high = (self.row.box[1], self.row.box[3]) if self.row.box else (None, None)
        found = {
            "startInRecording_s": f"{self.row.start_s:.6f}",
            "endInRecording_s": f"{self.row.end_s:.6f}",
            "frequencyLow_Hz": None if low is None else f"{low:.3f}",
            "frequencyHigh_Hz": None if high is None else f"{high:.3f}",
        }
        return " | ".join(f"{key}:{value}" for key, value in found.items() if value is not None)


def observations_of(row: DetectionRow) -> list[Observation]:
    """Return the model's observation and, as a separate row, a person's."""
    said = row.verdict is not None and row.verdict.verdict is not Verdict.WITHDRAWN
    return [Observation(row), *([Observation(row, is_human=True)] if said else [])]


class Column(NamedTuple):
    """A column of a table in some of the profiles."""

    names: Mapping[Profile, str]
    value: Callable[[Any], Any]
    kind: str = "string"
    constraints: Mapping[str, Any] = NONE


def _column(
    names: str,
    value: Callable[[Any], Any] = lambda _: "",
    kind: str = "string",
    constraints: Mapping[str, Any] = NONE,
) -> Column:
    """Return a column by its name, or by its names in each of the profiles; ``-``: in others."""
    each = names.split() if " " in names else [names] * len(PROFILES)
    named = {profile: name for profile, name in zip(PROFILES, each, strict=True) if name != "-"}
    return Column(named, value, kind, constraints)


def schema_of(table: str, profile: Profile) -> dict[str, Any]:
    """Return the Table Schema of a table, made from its columns."""
    fields = []
    for column in TABLES[table]:
        if profile in column.names:
            field: dict[str, Any] = {"name": column.names[profile], "type": column.kind}
            if column.kind == "datetime":
                field["format"] = _SECONDS
            if column.constraints:
                field["constraints"] = dict(column.constraints)
            fields.append(field)
    keys = {"deployments": "deploymentID", "media": "mediaID", "observations": "observationID"}
    found: dict[str, Any] = {"fields": fields, "missingValues": [""], "primaryKey": keys[table]}
    if table != "deployments":
        found["foreignKeys"] = [_key("deploymentID", "deployments")]
    if table == "observations":
        found["foreignKeys"].append(_key("mediaID", "media"))
    return found


def _key(field: str, table: str) -> Any:
    return {"fields": field, "reference": {"resource": table, "fields": field}}


def _site(read: Callable[[data.Deployment], Any]) -> Callable[[Site], Any]:
    return lambda site: read(site.deployment)


def _started(site: Site) -> str:
    return to_second(site.deployment.started_on)


def _ended(site: Site) -> str:
    return to_second(site.ended_on, up=True)


def _site_comments(site: Site) -> str:
    told = [f"acoupi {__version__}"]
    if site.schedule:
        told.append(f"schedule: {site.schedule}")
    if site.is_open:
        told.append("the deployment has not ended: its end is the last known second")
    total = site.effort.total
    if total.left_out:
        share = f"{100 * total.analysed / total.recorded:.3f} %"
        told.append(f"{share} of what was recorded is analysed: analysedFraction in effort.csv")
    return "; ".join(told)


def _has_clock_issues(site: Site) -> str:
    unknown = site.effort.total.microseconds[data.EffortState.CLOCK_UNKNOWN]
    return "true" if unknown or site.effort.unsynchronised else "false"


def _type(row: RecordingRow) -> str:
    return media_type(file_name(row))


def _media_comments(row: RecordingRow) -> str:
    told = [f"{row.duration_s:.6f} s", f"{row.samplerate_hz} Hz", f"{row.audio_channels} channels"]
    if row.time_expansion != 1:
        told.append(f"time-expanded {row.time_expansion:g} times")
    return ", ".join(told)


def _row(read: Callable[[DetectionRow], Any]) -> Callable[[Observation], Any]:
    return lambda one: read(one.row)


def _has_file(row: DetectionRow) -> bool:
    return row.recording.path is not None


TABLES: Mapping[str, Sequence[Column]] = {
    "deployments": (
        _column("deploymentID", _site(lambda one: one.id), constraints=UNIQUE),
        _column("locationID"),
        _column("locationName", _site(lambda one: one.name)),
        _column("latitude", _site(lambda one: one.latitude), "number", REQUIRED),
        _column("longitude", _site(lambda one: one.longitude), "number", REQUIRED),
        _column("coordinateUncertainty", kind="integer"),
        _column("deploymentStart", _started, "datetime", REQUIRED),
        _column("deploymentEnd", _ended, "datetime", REQUIRED),
        _column("setupBy"),
        _column("cameraID deviceID recorderID"),
        _column("cameraModel deviceModel -"),
        _column("- - recorderModel", lambda _: f"acoupi {__version__}", constraints=REQUIRED),
        _column("- devicePlatform -"),
        _column("cameraDelay deviceDelay -", kind="integer"),
        _column("cameraHeight deviceHeight recorderHeight", kind="number"),
        _column("cameraDepth deviceDepth -", kind="number"),
        _column("cameraTilt deviceTilt -", kind="integer"),
        _column("cameraHeading deviceHeading -", kind="integer"),
        _column("- dutyCycle -", lambda site: site.schedule),
        _column("- - recorderConfiguration", lambda site: site.schedule or "unknown",
                constraints=REQUIRED),
        _column("detectionDistance detectionDistance -", kind="number"),
        _column("timestampIssues timestampIssues -", _has_clock_issues, "boolean"),
        _column("baitUse baitUse -", kind="boolean"),
        _column("featureType featureType -"),
        _column("habitat"),
        _column("deploymentGroups"),
        _column("deploymentTags deploymentTags -"),
        _column("deploymentComments", _site_comments),
    ),
    "media": (
        _column("mediaID", lambda row: row.id, constraints=UNIQUE),
        _column("deploymentID", lambda row: row.deployment.id, constraints=REQUIRED),
        _column("captureMethod"),
        _column("timestamp", lambda row: to_second(row.started_on), "datetime", REQUIRED),
        _column("filePath", audio_path, constraints=REQUIRED),
        _column("filePublic filePublic -", lambda _: "false", "boolean", REQUIRED),
        _column("fileName", file_name),
        _column("fileMediatype", _type, constraints=REQUIRED),
        _column("- samplingFrequency sampleRate", lambda row: row.samplerate_hz, "integer"),
        _column("- bitDepth bitDepth", kind="integer"),
        _column("- gain -", kind="number"),
        _column("- channels numChannels", lambda row: row.audio_channels, "integer"),
        _column("- mediaDuration -", lambda row: f"{row.duration_s:.6f}"),
        _column("- - fileLength", lambda row: f"{row.duration_s:.6f}", "number"),
        _column("exifData exifData -", kind="any"),
        _column("favorite", kind="boolean"),
        _column("mediaComments", _media_comments),
    ),
    "observations": (
        _column("observationID", lambda one: one.id, constraints=UNIQUE),
        _column("deploymentID", _row(lambda row: row.recording.deployment.id),
                constraints=REQUIRED),
        _column("mediaID", _row(lambda row: row.recording.id if _has_file(row) else "")),
        _column("eventID", _row(lambda row: row.recording.id)),
        _column("- - observationType", lambda one: one.kind, constraints=REQUIRED),
        _column("- - scientificName", lambda one: one.species),
        _column("eventStart eventStart -", _row(lambda row: to_second(row.started_on)),
                "datetime", REQUIRED),
        _column("eventEnd eventEnd -", _row(lambda row: to_second(row.ended_on, up=True)),
                "datetime", REQUIRED),
        _column("- - eventStart", _row(lambda row: f"{in_file(row)[0]:.6f}"), "number", REQUIRED),
        _column("- - eventEnd", _row(lambda row: f"{in_file(row)[2]:.6f}"), "number", REQUIRED),
        _column("observationLevel observationLevel -",
                _row(lambda row: "media" if _has_file(row) else "event"), constraints=REQUIRED),
        _column("observationType observationType -", lambda one: one.kind, constraints=REQUIRED),
        _column("cameraSetupType deviceSetupType -"),
        _column("scientificName scientificName -", lambda one: one.species),
        _column("count count -", kind="integer"),
        _column("lifeStage lifeStage -"),
        _column("sex sex -"),
        _column("behavior behavior -"),
        _column("individualID individualID -"),
        _column("individualPositionRadius individualPositionRadius -", kind="number"),
        _column("individualPositionAngle individualPositionAngle -", kind="number"),
        _column("individualSpeed individualSpeed -", kind="number"),
        _column("bboxX bboxX -", kind="number"),
        _column("bboxY bboxY -", kind="number"),
        _column("bboxWidth bboxWidth -", kind="number"),
        _column("bboxHeight bboxHeight -", kind="number"),
        _column("- frequencyLow -", _row(lambda row: row.box and row.box[1]), "number"),
        _column("- frequencyHigh -", _row(lambda row: row.box and row.box[3]), "number"),
        _column("classificationMethod", lambda one: "human" if one.is_human else "machine"),
        _column("classifiedBy", lambda one: one.by),
        _column("classificationTimestamp", lambda one: one.on, "datetime"),
        _column("classificationProbability", lambda one: one.probability, "number"),
        _column("observationTags observationTags -", lambda one: one.tags),
        _column("observationComments", lambda one: one.comments),
    ),
}  # fmt: skip
"""Every column that a profile has, in its order: also those that a sensor cannot fill."""
