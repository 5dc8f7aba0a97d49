"""Rows of what was heard as JSON: the columns of `acoupi.exports.flat`, with their types."""

from typing_extensions import TypedDict

__all__ = ["Detection", "Recording"]


class _OfRecording(TypedDict):
    recording_id: str
    deployment_id: str
    deployment_name: str
    latitude: float | None
    longitude: float | None
    start_time: str
    """ISO 8601, in UTC."""
    end_time: str
    samplerate_hz: int
    recording_state: str
    """captured: waits for its analysis; kept; clipped: only its clips were kept; deleted, by the
    saving filters or for lack of room; lost."""
    file_path: str | None
    """Path on the sensor; None: there is no file."""
    analysed_fraction: float
    """Share of the recordings of its span of time that models analyse: count each detection as
    1 / fraction."""


class Recording(_OfRecording):
    """A recording, whether its file is still there or not."""

    duration_s: float
    channel_count: int | None
    time_expansion: float
    """How many times slower the stored file plays."""
    detection_count: int | None


class Detection(_OfRecording):
    """A detection; its times are those of the sound itself, not of its recording."""

    detection_id: str
    start_s: float
    """Seconds from the first frame of the recording."""
    end_s: float
    low_hz: float | None
    """None: it has no box."""
    high_hz: float | None
    score: float
    prediction_type: str
    species: str | None
    """The most likely species; without species tags, the most likely tag."""
    species_score: float | None
    tags: str | None
    """All tags, ``KEY=VALUE`` separated by ``; ``."""
    model_name: str
    model_version: str | None
    weights_sha256: str | None
    configuration_digest: str | None
    acoupi_version: str | None
    image_id: str | None
    output_id: str
    analysed_time: str
    clip_path: str | None
    """Path on the sensor of the clip that holds it, if only clips were kept."""
    start_in_clip_s: float | None
    verdict: str | None
    """right, wrong, other, unsure, withdrawn; None: not reviewed."""
    verdict_species: str | None
    reviewer: str | None
    verdict_note: str | None
