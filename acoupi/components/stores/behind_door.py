"""How the metadata store behaves behind a door."""

from acoupi import data
from acoupi.components.stores.interruptions import parent_process
from acoupi.components.stores.rules import begun
from acoupi.door.client import through_door
from acoupi.errors import MetadataStoreError

__all__ = ["metadata_door"]


def _first_attempt(recording: data.Recording, name_model: str) -> data.Analysis:
    return begun(None, recording.id, name_model)


metadata_door = through_door(
    "metadata",
    MetadataStoreError,
    deferred=("store_model_output", "store_model_outputs", "end_analysis"),
    offline={
        "begin_analysis": _first_attempt,
        "get_recordings": lambda ids: [],
        "get_recording_model_outputs": lambda recording: [],
    },
    caller=parent_process,
)
"""Lets a detection run while nobody answers: as if it were the first, and nothing else known."""
