"""Optional methods of a store about which files are kept."""

from abc import ABC
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from acoupi import data
from acoupi.backlog import Backlog
from acoupi.clips import Clip, ClipSettings, Stretch
from acoupi.sampling import Sampling
from acoupi.space import FileClass, GivenUp, HubAudio, SpacePolicy

__all__ = ["FileKeeping"]


class FileKeeping(ABC):  # noqa: B024 - nothing of it must be there
    """The part of `types.Store` about the sample, room, backlogs and clips.

    A store of a published program has none of it: then nothing is kept or given up beside what
    the saving filters say.
    """

    # The sample that is kept for review (see `acoupi.sampling`). A store without one keeps none.

    sampling: Sampling = Sampling()
    """How large the sample is; the sensor's settings are put here. It is not stored."""

    def sample_recording(
        self, recording: data.Recording, outputs: Sequence[data.ModelOutput]
    ) -> bool:
        """Put a recording into the sample where it belongs there; return whether it is in it.

        Another one may be displaced by it.
        """
        return False

    def note_kept_for_sample(  # noqa: B027 - optional
        self, recording: data.Recording, path: Path
    ) -> None:
        """Note that only the sample keeps this file."""

    def get_displaced_recordings(self) -> list[tuple[data.Recording, Path]]:
        """Return the recordings that only the sample kept, and no longer keeps, with their files.

        Each until `forget_displaced` is called for it.
        """
        return []

    def forget_displaced(  # noqa: B027 - optional
        self, recording: data.Recording
    ) -> None:
        """Note that the file of a displaced recording is gone."""

    # The room on disks (see `acoupi.space`). A store without it gives nothing up.

    can_give_up: ClassVar[bool] = False
    """Whether the store can tell which files may be deleted when a disk fills."""
    space: SpacePolicy | None = None
    """What is done about room; the sensor's settings are put here, as above. None: nothing."""

    def count_given_up(
        self,
        deployment: data.Deployment | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> dict[FileClass, GivenUp]:
        """Return deletions for lack of room, of recordings that started in [since, until)."""
        return {}

    # Sound that a hub is to get (see `acoupi.components.stores.unsent`). Without it, none is owed.

    hub_audio: HubAudio = "none"
    """The recordings whose sound the hub gets; set from the sensor's settings, as above."""

    def is_owed_to_hub(self, recording: data.Recording) -> bool:
        """Return whether the hub should get the file of a recording, and does not have it yet."""
        return False

    def note_kept_for_hub(self, recording: data.Recording) -> None:  # noqa: B027 - optional
        """Note that a file is kept only until the hub has it."""

    def get_recordings_at_hub(self) -> list[tuple[data.Recording, Path]]:
        """Return recordings that were kept only for the hub, and need not be any more."""
        return []

    # Recordings that models are spared (see `acoupi.backlog`). A store without it leaves out none.

    can_leave_out: ClassVar[bool] = False
    """Whether the store can."""
    backlog: Backlog = Backlog()
    """What is done about a backlog; the sensor's settings are put here, as above."""

    # Clips that are kept in place of files (see `acoupi.clips`). A store without them keeps none.

    can_clip: ClassVar[bool] = False
    """Whether the store has what follows."""
    clips: ClipSettings = ClipSettings()
    """How much is kept around a detection; the sensor's settings are put here, as above."""

    def get_stream(self, stream_id: UUID, frames: Stretch) -> list[data.Recording]:
        """Return the recordings that have some of these frames, the earliest first.

        Each comes with the report of its capture; also those that have no file any more.
        """
        return []

    def put_clip(self, clip: Clip) -> None:  # noqa: B027 - optional
        """Note that a clip is in its file; the same again changes nothing."""

    def get_clipped(self, stream_id: UUID, frames: Stretch) -> list[Stretch]:
        """Return which of these frames (and which beside them) clips hold, in order."""
        return []

    def get_given_up(
        self, deployment: data.Deployment, since: datetime, until: datetime
    ) -> tuple[float, float]:
        """Return how much sound of deleted files there was, and how much of it clips hold.

        Seconds, of the recordings of a deployment that began in [since, until).
        """
        return 0.0, 0.0

    def is_clip(self, path: Path) -> bool:
        """Return whether this is the file of a clip."""
        return False
