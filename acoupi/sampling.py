"""Which recordings are kept as a fair sample, for people to review.

From each group of recordings, those with the smallest hashes are kept (bottom-k): in whatever order
they arrive, each has the same chance. The hash is that of the recording's id, so it does not
depend on the sound, and a sample can be drawn again.
"""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from acoupi import data
from acoupi.heard import species_in

__all__ = ["BINS", "QUIET", "Sampling", "group_of"]

BINS = 10
"""Groups of scores between 0 and 1, of each model and species."""
QUIET = "quiet"
"""Prefix of groups without detections."""


@dataclass(frozen=True)
class Sampling:
    """How large the sample is; by default there is none."""

    size: int = 0
    """Recordings of each model, species and tenth of the score."""
    quiet_per_night: int = 0
    """Recordings of each night in which no model found anything."""
    seed: int = 0
    zone: datetime.tzinfo = datetime.UTC
    """Time zone of the nights, which go from noon to noon."""

    def rank(self, recording_id: UUID) -> int:
        """Return the hash of a recording: from 0 to 2**63, evenly spread."""
        text = f"{self.seed}:{recording_id}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1

    def groups(
        self, recording: data.Recording, outputs: Sequence[data.ModelOutput]
    ) -> Mapping[str, int]:
        """Return the groups that a recording belongs to, and how many are kept of each.

        None if no model has looked for anything in it.
        """
        found = {
            group_of(output.name_model, _species(one), one.detection_score): self.size
            for output in outputs
            for one in output.detections
        }
        if outputs and not found:
            local = recording.created_on.astimezone(self.zone) - datetime.timedelta(hours=12)
            found = {f"{QUIET} {local.date()}": self.quiet_per_night}
        return {group: size for group, size in found.items() if size > 0}


def _species(detection: data.Detection) -> str:
    found = species_in(detection.tags)
    return found.tag.value if found else ""


def group_of(model: str, species: str, score: float) -> str:
    r"""Return the name of the group of a detection.

    Examples
    --------
    >>> group_of("bats", "Myotis nattereri", 0.83), group_of("bats", "", 1.0)
    ('bats\tMyotis nattereri\t8', 'bats\t\t9')
    """
    return f"{model}\t{species}\t{min(BINS - 1, int(score * BINS))}"
