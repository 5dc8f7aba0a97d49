"""Rows of what was heard as columns, named as in the views of the stores (``docs/stores.md``)."""

import datetime
from collections.abc import Mapping
from typing import Any

from acoupi import data
from acoupi.clock import from_microseconds, to_microseconds
from acoupi.heard import DetectionRow, RecordingRow

__all__ = ["Flat", "flat_detection", "flat_recording", "iso_time"]

Flat = Mapping[str, Any]
"""A row: text, numbers, or None, by the name of the column."""


def iso_time(time: datetime.datetime) -> str:
    """Return a time in UTC as the views write it.

    Examples
    --------
    >>> iso_time(datetime.datetime(2024, 6, 1, 20, tzinfo=datetime.UTC))
    '2024-06-01T20:00:00.000000Z'
    """
    return f"{time.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


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
    }


def flat_detection(row: DetectionRow) -> dict[str, Any]:
    """Return a detection as columns."""
    low, high = (None, None) if row.box is None else (row.box[1], row.box[3])
    species, made_by, verdict = row.species, row.provenance, row.verdict
    start = row.recording.started_on
    return {
        "detection_id": str(row.id),
        "recording_id": str(row.recording.id),
        **_deployment(row.recording.deployment),
        "start_time": iso_time(_after(start, row.start_s)),
        "end_time": iso_time(_after(start, row.end_s)),
        "start_s": row.start_s,
        "end_s": row.end_s,
        "low_hz": low,
        "high_hz": high,
        "score": row.score,
        "prediction_type": row.kind.value,
        "species": species and species.tag.value,
        "species_score": species and species.confidence_score,
        "tags": "; ".join(f"{one.tag.key}={one.tag.value}" for one in row.tags) or None,
        **_of_recording(row.recording),
        "model_name": row.model,
        "model_version": made_by and made_by.model_version,
        "weights_sha256": made_by and made_by.weights,
        "configuration_digest": made_by and made_by.configuration,
        "acoupi_version": made_by and made_by.acoupi,
        "image_id": made_by and made_by.image,
        "output_id": str(row.output_id),
        "analysed_time": iso_time(row.analysed_on),
        "verdict": verdict and verdict.verdict.value,
        "verdict_species": verdict and verdict.species,
        "reviewer": verdict and verdict.reviewer,
    }


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
