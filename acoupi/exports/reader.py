"""The interface for reading what was heard, from any store."""

import datetime
from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

from acoupi import data
from acoupi.effort import EffortHistory
from acoupi.heard import (
    By,
    DetectionRow,
    Filters,
    MessageRow,
    RecordingRow,
    SpeciesRow,
    VerdictRow,
)

__all__ = ["MessageReader", "Reader"]


class Reader(Protocol):
    """Reads what a sensor heard, and changes nothing.

    Exports, reviews, pages and the effort report stand on it. `SqliteReader` (of
    `acoupi.components.stores`) reads the stores of a sensor, running or not.

    Rows come as a stream: memory does not grow with their number, and each stream sees the
    store as it was when it began. Do not write between two rows of one stream. The order is by
    the time of the recording, then by the start of the detection within it; the oldest first
    unless asked otherwise.

    Paging is by key: `after` is the id of the last row that was seen. Pages stay whole while new
    rows arrive.

    Raises
    ------
    MetadataStoreError
        From every method: the store is damaged, or cannot be opened.
    """

    def close(self) -> None:
        """Let go of the store."""

    # Lists

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""

    def get_models(self) -> list[str]:
        """Return the names of the models that have analysed anything, sorted."""

    def get_tags(self) -> list[data.Tag]:
        """Return every tag that a model ever gave, sorted."""

    # Rows

    def recordings(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[RecordingRow]:
        """Yield recordings, with the number of all their detections.

        Parameters
        ----------
        after
            Id of the recording that was read last; an unknown one ends the stream at once.
        limit
            At most this many; None: all.
        """

    def detections(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[DetectionRow]:
        """Yield detections, each with its recording; those of one recording share it.

        Parameters
        ----------
        after
            Id of the detection that was read last; an unknown one ends the stream at once.
        limit
            At most this many; None: all.
        """

    def verdicts(self, filters: Filters) -> Iterator[VerdictRow]:
        """Yield every verdict on the detections that pass, withdrawn ones too, in their order."""

    def count_recordings(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of recordings by what they have in common.

        The keys: of "quarter", quarters of an hour since 1970 (UTC); of "deployment", ids as
        text; of "species", tag values, each recording once for every species in it.
        """

    def count_detections(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of detections; the keys are those of `count_recordings`.

        By species, each counts once, for its most likely one (`heard.species_in`); "" stands
        for those without a tag.
        """

    def species(self, filters: Filters) -> list[SpeciesRow]:
        """Return a summary of each species, the most frequent first, then by name.

        Each detection counts once, for its most likely species.
        """

    # One of them

    def ids_of_recordings(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so (hexadecimal digits, hyphens or not), at most `limit`."""

    def ids_of_detections(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so (hexadecimal digits, hyphens or not), at most `limit`."""

    def recording(self, id_: UUID) -> RecordingRow | None:
        """Return a recording; None if there is none with that id."""

    def detection(self, id_: UUID) -> DetectionRow | None:
        """Return a detection; None if there is none with that id."""

    def detections_in(self, recording_id: UUID) -> list[DetectionRow]:
        """Return all detections in a recording, in order of their start."""

    def capture(self, recording_id: UUID) -> data.CaptureReport | None:
        """Return how a recording was captured; None where that is not known."""

    def analyses(self, recording_id: UUID) -> list[data.Analysis]:
        """Return what each model has done with a recording."""

    # Effort

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return the facts about a deployment, or a part of it; None if it is not stored."""


class MessageReader(Protocol):
    """Reads what was made of it for others, and changes nothing.

    Raises
    ------
    MessageStoreError
        From every method: the store is damaged, or cannot be opened.
    """

    def messages_about(self, output_id: UUID, since: datetime.datetime) -> list[MessageRow]:
        """Return the messages made from an output of a model, with their deliveries.

        Looked for among those of the day after `since`, the time when the model ran.
        """
