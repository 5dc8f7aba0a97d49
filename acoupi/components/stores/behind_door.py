"""How the metadata store behaves behind a door."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores.database import Database
from acoupi.components.stores.interruptions import parent_process
from acoupi.components.stores.rules import begun
from acoupi.door.client import through_door
from acoupi.errors import MetadataStoreError

__all__ = ["MOST_DETECTIONS", "MOST_OF_ONE", "metadata_door"]

MOST_OF_ONE = 100
"""Outputs, and analyses, of one recording that a door accepts."""
MOST_DETECTIONS = 10_000
"""Most detections of a recording that a door accepts; the manager of its file reads them all."""

_OUTPUTS = """
    SELECT (SELECT count(*) FROM detection WHERE output_row = o.row)
    FROM model_output o JOIN recording r ON r.row = o.recording_row
    WHERE r.id = :recording AND o.id <> :own
    LIMIT :most
"""
_ANALYSES = """
    SELECT 0 FROM analysis a JOIN recording r ON r.row = a.recording_row
    WHERE r.id = :recording AND a.name_model <> :own
    LIMIT :most
"""


def _first_attempt(recording: data.Recording, name_model: str) -> data.Analysis:
    return begun(None, recording.id, name_model)


def _check(store: Any, method: str, arguments: Mapping[str, Any]) -> None:
    """Refuse what would make the results of one recording too many to be read.

    Raises
    ------
    MetadataStoreError
        Naming the recording.
    """
    database: Database = store._database  # noqa: SLF001 - of the same room
    if method in ("begin_analysis", "begin_newest_analysis"):
        recording: data.Recording = arguments["recording"]
        _check_number(database, _ANALYSES, recording.id, arguments["name_model"])
    elif method == "end_analysis":
        analysis: data.Analysis = arguments["analysis"]
        _check_number(database, _ANALYSES, analysis.recording_id, analysis.name_model)
    elif method == "store_model_output":
        output: data.ModelOutput = arguments["model_output"]
        new = len(output.detections)
        _check_number(database, _OUTPUTS, output.recording.id, output.id.bytes, new)


def _check_number(
    database: Database, statement: str, recording: UUID, own: str | bytes, new: int = 0
) -> None:
    values = {"recording": recording.bytes, "own": own, "most": MOST_OF_ONE}
    with database.reading() as connection:
        others = [number for (number,) in connection.execute(statement, values)]
    detections = sum(others) + new
    if len(others) >= MOST_OF_ONE or detections > MOST_DETECTIONS:
        raise MetadataStoreError(
            f"the door accepts no more results for the recording {recording}.",
            "make the model report less: acoupi config set detections.threshold 0.5",
            why=f"it has {len(others)} others of at most {MOST_OF_ONE}, and would have "
            f"{detections} detections of at most {MOST_DETECTIONS}.",
        )


metadata_door = through_door(
    "metadata",
    MetadataStoreError,
    deferred=("store_model_output", "store_model_outputs", "end_analysis"),
    offline={
        "begin_analysis": _first_attempt,
        "begin_newest_analysis": lambda recording, name_model: (
            recording,
            _first_attempt(recording, name_model),
        ),
        "get_recordings": lambda ids: [],
        "get_recording_model_outputs": lambda recording: [],
    },
    caller=parent_process,
    check=_check,
)
"""Lets a detection run while nothing answers, as if it were the first."""
