"""Conversion between objects and rows."""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.heard_tables import provenances
from acoupi.components.stores.values import (
    as_id,
    as_path_text,
    from_microseconds,
    from_path_text,
    from_real,
    to_microseconds,
)

__all__ = [
    "deployment_of",
    "deployment_values",
    "insert_detections",
    "load_detections",
    "load_outputs",
    "load_recordings",
    "recording_values",
    "tags_of",
]

Row = tuple[Any, ...]


def deployment_values(deployment: data.Deployment) -> dict[str, Any]:
    """Return the parameters of the statements that write a deployment."""
    ended_on = deployment.ended_on
    return {
        "id": deployment.id.bytes,
        "name": deployment.name,
        "latitude": deployment.latitude,
        "longitude": deployment.longitude,
        "started_on": to_microseconds(deployment.started_on),
        "ended_on": None if ended_on is None else to_microseconds(ended_on),
    }


def recording_values(recording: data.Recording, deployment: data.Deployment) -> dict[str, Any]:
    """Return the parameters of the statement that writes a recording."""
    return {
        "id": recording.id.bytes,
        "deployment": deployment.id.bytes,
        "path": None if recording.path is None else as_path_text(recording.path),
        "created_on": to_microseconds(recording.created_on),
        "duration": recording.duration,
        "samplerate": recording.samplerate,
        "audio_channels": recording.audio_channels,
        "time_expansion": recording.time_expansion,
    }


def deployment_of(row: Row) -> data.Deployment:
    """Return the deployment of the columns id to ended_on."""
    id_, name, latitude, longitude, started_on, ended_on = row
    return data.Deployment(
        id=as_id(id_),
        name=name,
        latitude=latitude,
        longitude=longitude,
        started_on=from_microseconds(started_on),
        ended_on=None if ended_on is None else from_microseconds(ended_on),
    )


def load_recordings(
    connection: sqlite3.Connection, statement: str, values: Mapping[str, Any]
) -> dict[int, data.Recording]:
    """Return the recordings of a query by their row, in its order.

    Recordings of one deployment share its object.
    """
    recordings: dict[int, data.Recording] = {}
    deployments: dict[bytes, data.Deployment] = {}
    for columns in connection.execute(statement, values):
        row, id_, path, created_on, duration, samplerate, channels, expansion = columns[:8]
        deployment = deployments.get(columns[8])
        if deployment is None:
            deployment = deployments[columns[8]] = deployment_of(columns[8:])
        recordings[row] = data.Recording(
            id=as_id(id_),
            path=from_path_text(path),
            created_on=from_microseconds(created_on),
            duration=duration,
            samplerate=samplerate,
            audio_channels=channels,
            time_expansion=expansion,
            deployment=deployment,
        )
    return recordings


def load_outputs(
    connection: sqlite3.Connection,
    outputs: Iterable[Row],
    recordings: Mapping[int, data.Recording] | None = None,
) -> list[tuple[int, data.ModelOutput]]:
    """Return outputs with all their detections, each with the row of its recording.

    Parameters
    ----------
    outputs
        Rows of (row, id, recording_row, name_model, created_on_us, provenance_row).
    recordings
        Recordings by row; None to load them.
    """
    outputs = list(outputs)
    if not outputs:
        return []
    if recordings is None:
        needed = json.dumps(sorted({output[2] for output in outputs}))
        recordings = load_recordings(connection, sql.RECORDINGS_BY_ROW, {"rows": needed})
    known = provenances(connection)
    rows = {"rows": json.dumps([output[0] for output in outputs])}
    tags = tags_of(connection.execute(sql.TAGS_OF_OUTPUTS, rows))
    detections: dict[int, list[data.Detection]] = defaultdict(list)
    for columns in connection.execute(sql.DETECTIONS_OF_OUTPUTS, rows):
        detections[columns[1]].append(_detection(columns, tags))
    return [
        (
            recording_row,
            data.ModelOutput(
                id=as_id(id_),
                name_model=name_model,
                recording=recordings[recording_row],
                detections=detections[row],
                created_on=from_microseconds(created_on),
                provenance=known.get(provenance_row),
            ),
        )
        for row, id_, recording_row, name_model, created_on, provenance_row in outputs
    ]


def load_detections(connection: sqlite3.Connection, found: Iterable[Row]) -> list[data.Detection]:
    """Return the detections of these rows with their tags."""
    found = list(found)
    rows = {"rows": json.dumps([columns[0] for columns in found])}
    tags = tags_of(connection.execute(sql.TAGS_OF_DETECTIONS, rows))
    return [_detection(columns, tags) for columns in found]


def insert_detections(
    connection: sqlite3.Connection, output_row: int, detections: Iterable[data.Detection]
) -> None:
    """Write detections and their tags for an output that has none yet."""
    first: int = connection.execute(sql.NEXT_DETECTION_ROW).fetchone()[0]
    tag_rows: dict[data.Tag, int] = {}
    detection_rows: list[Row] = []
    predicted_tags: list[Row] = []
    for row, detection in enumerate(detections, start=first):
        detection_rows.append((row, *_detection_values(detection, output_row)))
        for position, predicted in enumerate(detection.tags):
            tag_row = tag_rows.get(predicted.tag)
            if tag_row is None:
                tag_row = tag_rows[predicted.tag] = _tag_row(connection, predicted.tag)
            predicted_tags.append((row, position, tag_row, predicted.confidence_score))
    connection.executemany(sql.INSERT_DETECTION, detection_rows)
    connection.executemany(sql.INSERT_PREDICTED_TAG, predicted_tags)


def _detection_values(detection: data.Detection, output_row: int) -> Row:
    box = detection.location
    return (
        detection.id.bytes,
        output_row,
        detection.prediction_type.value,
        *((None,) * 5 if box is None else (box.type, *box.coordinates)),
        detection.detection_score,
    )


def _detection(columns: Row, tags: Mapping[int, list[data.PredictedTag]]) -> data.Detection:
    row, _, id_, prediction_type, location_type, *sides, score = columns
    location = None
    # Earlier versions also stored sides that are no numbers: such a box says nothing.
    if location_type is not None and all(map(math.isfinite, map(from_real, sides))):
        start, low, end, high = sides
        location = data.BoundingBox(type=location_type, coordinates=(start, low, end, high))
    return data.Detection(
        id=as_id(id_),
        prediction_type=data.PredictionType(prediction_type),
        location=location,
        detection_score=score,
        tags=tags.get(row, []),
    )


def tags_of(rows: Iterable[Row]) -> dict[int, list[data.PredictedTag]]:
    """Return the tags of (detection_row, key, value, confidence), by the row of the detection."""
    tags: dict[int, list[data.PredictedTag]] = defaultdict(list)
    known: dict[tuple[str, str], data.Tag] = {}
    for detection_row, key, value, confidence in rows:
        tag = known.get((key, value))
        if tag is None:
            tag = known[key, value] = data.Tag(key, value)
        tags[detection_row].append(data.PredictedTag(tag, from_real(confidence)))
    return tags


def _tag_row(connection: sqlite3.Connection, tag: data.Tag) -> int:
    known = connection.execute(sql.ROW_OF_TAG, (tag.key, tag.value)).fetchone()
    if known is not None:
        return int(known[0])
    inserted = connection.execute(sql.INSERT_TAG, (tag.key, tag.value)).lastrowid
    assert inserted is not None
    return inserted


def model_output_info(columns: Row) -> data.ModelOutputInfo:
    """Return the record of a model run from the columns row to created_on_us."""
    _, id_, _, name_model, created_on, _ = columns
    return data.ModelOutputInfo(
        id=as_id(id_), name_model=name_model, created_on=from_microseconds(created_on)
    )


def analysis_of(recording_id: UUID, row: Row) -> data.Analysis:
    """Return the analysis of the columns name_model to updated_on_us."""
    name_model, state, attempts, error, updated_on = row
    return data.Analysis(
        recording_id=recording_id,
        name_model=name_model,
        state=data.AnalysisState(state),
        attempts=attempts,
        error=error,
        updated_on=from_microseconds(updated_on),
    )
