"""The parts of a hub, for everything that serves it."""

from dataclasses import dataclass

from acoupi.hub.audio_store import AudioStore
from acoupi.hub.database import HubDatabase

__all__ = ["Hub"]


@dataclass(frozen=True, slots=True)
class Hub:
    """The parts of a hub that its pages work with."""

    database: HubDatabase
    audio: AudioStore | None = None
    """Where its own sound is kept; None: it keeps none."""
