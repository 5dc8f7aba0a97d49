"""Rows of what was heard as columns, named as in the views of the stores (``docs/stores.md``)."""

import csv
import datetime
from typing import Any, TextIO

from acoupi import data
from acoupi.clock import from_microseconds, to_microseconds
from acoupi.heard import ClipRow, DetectionRow, RecordingRow

__all__ = [
    "DETECTION_COLUMNS",
    "RECORDING_COLUMNS",
    "CsvWriter",
    "Flattener",
    "flat_clip",
    "flat_detection",
    "flat_recording",
    "iso_time",
]

RECORDING_COLUMNS = (
    "recording_id", "deployment_id", "deployment_name", "latitude", "longitude", "start_time",
    "end_time", "duration_s", "samplerate_hz", "recording_state", "file_path", "channel_count",
    "time_expansion", "analysed_fraction",
)  # fmt: skip
DETECTION_COLUMNS = (
    "detection_id", "recording_id", "deployment_id", "deployment_name", "latitude", "longitude",
    "start_time", "end_time", "start_s", "end_s", "low_hz", "high_hz", "score", "prediction_type",
    "species", "species_score", "tags", "samplerate_hz", "recording_state", "file_path",
    "model_name", "model_version", "weights_sha256", "configuration_digest", "acoupi_version",
    "image_id", "output_id", "analysed_time", "clip_path", "start_in_clip_s", "verdict",
    "verdict_species", "reviewer", "verdict_note", "analysed_fraction",
)  # fmt: skip


class CsvWriter:
    """Writes comma-separated values with LF line ends.

    The csv module puts quotation marks around a lone carriage return only where one ends the
    lines, but takes it for the end of a line when it reads.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        writer = csv.writer(self, lineterminator="\r\n")
        self.writerow = writer.writerow
        self.writerows = writer.writerows

    def write(self, line: str) -> int:
        """Write a line that ends in carriage return and line feed; the csv module calls it."""
        return self._file.write(f"{line[:-2]}\n")


def iso_time(time: datetime.datetime) -> str:
    """Return a time in UTC as the views write it.

    Examples
    --------
    >>> iso_time(datetime.datetime(2024, 6, 1, 20, tzinfo=datetime.UTC))
    '2024-06-01T20:00:00.000000Z'
    """
    utc = time if time.tzinfo is datetime.UTC else time.astimezone(datetime.UTC)
    text = utc.isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z"


def flat_recording(row: RecordingRow) -> dict[str, Any]:
    """Return a recording as columns."""
    return {
        "recording_id": str(row.id),
        **_deployment(row.deployment),
        "start_time": iso_time(row.started_on),
        "end_time": iso_time(_after(row.started_on, row.duration_s)),
        "duration_s": row.duration_s,
        **_of_recording(row),
        "channel_count": row.audio_channels,
        "time_expansion": row.time_expansion,
        "analysed_fraction": row.analysed_fraction,
    }


def flat_clip(clip: ClipRow) -> dict[str, Any]:
    """Return a clip of a recording as columns."""
    return {
        "clip_id": str(clip.id),
        "start_s": clip.start_s,
        "duration_s": clip.duration_s,
        "missing_before_s": clip.missing_before_s,
        "missing_after_s": clip.missing_after_s,
        "file_path": str(clip.path),
    }


def flat_detection(row: DetectionRow) -> dict[str, Any]:
    """Return a detection as columns."""
    return Flattener()(row)


class Flattener:
    """Makes columns of detections; what those of one recording share is worked out once."""

    def __init__(self) -> None:
        self._recording: RecordingRow | None = None
        self._start = 0
        self._head: dict[str, Any] = {}
        self._tail: dict[str, Any] = {}
        self._analysed: tuple[object, str] = None, ""

    def __call__(self, row: DetectionRow) -> dict[str, Any]:
        """Return a detection as columns."""
        if row.recording is not self._recording:
            self._recording, self._start = row.recording, to_microseconds(row.recording.started_on)
            self._head = {"recording_id": str(row.recording.id)}
            self._head |= _deployment(row.recording.deployment)
            self._tail = _of_recording(row.recording)
        if row.analysed_on != self._analysed[0]:
            self._analysed = row.analysed_on, iso_time(row.analysed_on)
        low, high = (None, None) if row.box is None else (row.box[1], row.box[3])
        species, made_by, verdict, clip = row.species, row.provenance, row.verdict, row.clip
        return {
            "detection_id": str(row.id),
            **self._head,
            "start_time": self._time(row.start_s),
            "end_time": self._time(row.end_s),
            "start_s": row.start_s,
            "end_s": row.end_s,
            "low_hz": low,
            "high_hz": high,
            "score": row.score,
            "prediction_type": row.kind.value,
            "species": species and species.tag.value,
            "species_score": species and species.confidence_score,
            "tags": "; ".join([f"{one.tag.key}={one.tag.value}" for one in row.tags]) or None,
            **self._tail,
            "model_name": row.model,
            "model_version": made_by and made_by.model_version,
            "weights_sha256": made_by and made_by.weights,
            "configuration_digest": made_by and made_by.configuration,
            "acoupi_version": made_by and made_by.acoupi,
            "image_id": made_by and made_by.image,
            "output_id": str(row.output_id),
            "analysed_time": self._analysed[1],
            "clip_path": clip and str(clip.path),
            "start_in_clip_s": clip and row.start_s - clip.start_s,
            "verdict": verdict and verdict.verdict.value,
            "verdict_species": verdict and verdict.species,
            "reviewer": verdict and verdict.reviewer,
            "verdict_note": (verdict and verdict.note) or None,
            "analysed_fraction": row.recording.analysed_fraction,
        }

    def _time(self, seconds: float) -> str:
        return iso_time(from_microseconds(self._start + round(seconds * 1e6)))


def _deployment(deployment: data.Deployment) -> dict[str, Any]:
    return {
        "deployment_id": str(deployment.id),
        "deployment_name": deployment.name,
        "latitude": deployment.latitude,
        "longitude": deployment.longitude,
    }


def _of_recording(row: RecordingRow) -> dict[str, Any]:
    return {
        "samplerate_hz": row.samplerate_hz,
        "recording_state": row.state.value,
        "file_path": None if row.path is None else str(row.path),
    }


def _after(start: datetime.datetime, seconds: float) -> datetime.datetime:
    return from_microseconds(to_microseconds(start) + round(seconds * 1e6))
