"""What a person is to review next."""

from collections import defaultdict
from dataclasses import replace
from itertools import islice, zip_longest
from uuid import UUID

from acoupi import data
from acoupi.exports.reader import Reader
from acoupi.heard import DetectionRow, Filters, RecordingRow, Verdict
from acoupi.sampling import QUIET, Sampling, group_of

__all__ = ["Clip", "clips_of_sample", "newest_clips"]

Clip = DetectionRow | RecordingRow
"""A detection, or a recording in which nothing was found."""

WITH_FILE = frozenset({data.RecordingState.CAPTURED, data.RecordingState.KEPT})
WITH_SOUND = WITH_FILE | {data.RecordingState.CLIPPED}


def newest_clips(reader: Reader, filters: Filters, limit: int) -> list[Clip]:
    """Return detections that have a file, the newest first; unless asked otherwise, unreviewed."""
    rows = reader.detections(_open(filters), newest_first=True)
    return list(islice((row for row in rows if row.recording.path or row.clip), limit))


def clips_of_sample(reader: Reader, filters: Filters, limit: int) -> list[Clip]:
    """Return the unreviewed part of the sample, in an order that allows stopping anywhere.

    One of each model, species and tenth of the score, and one recording without detections
    (unless the filters are about detections); then the next of each. Of a recording with
    several detections of a kind, the first.
    """
    groups: defaultdict[str, dict[UUID, Clip]] = defaultdict(dict)
    sampled = replace(filters, are_sampled=True)
    for row in reader.detections(_open(sampled)):
        name = group_of(row.model, row.species.tag.value if row.species else "", row.score)
        groups[name].setdefault(row.recording.id, row)
    if not filters.are_about_detections:
        groups[QUIET].update(_quiet(reader, sampled))
    rank = Sampling().rank
    in_order = [[found[id_] for id_ in sorted(found, key=rank)] for found in groups.values()]
    every = (clip for one_each in zip_longest(*in_order) for clip in one_each if clip is not None)
    return list(islice(every, limit))


def _open(filters: Filters) -> Filters:
    return replace(
        filters,
        states=filters.states or WITH_SOUND,
        verdicts=filters.verdicts or frozenset({None}),
    )


def _quiet(reader: Reader, sampled: Filters) -> dict[UUID, Clip]:
    said = {
        one.recording_id: one.verdict
        for one in reader.verdicts(sampled)
        if one.detection_id is None
    }
    rows = reader.recordings(replace(sampled, states=sampled.states or WITH_FILE))
    return {
        row.id: row
        for row in rows
        if row.detections == 0 and said.get(row.id, Verdict.WITHDRAWN) is Verdict.WITHDRAWN
    }
