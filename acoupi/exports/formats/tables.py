"""Plain tables for R, Python and spreadsheets."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from acoupi.exports.flat import (
    DETECTION_COLUMNS,
    RECORDING_COLUMNS,
    CsvWriter,
    Flattener,
    flat_clip,
    flat_recording,
    iso_time,
)
from acoupi.exports.format import write_table, written
from acoupi.exports.source import Source
from acoupi.heard import RecordingRow

__all__ = ["Csv"]

DEPLOYMENT_COLUMNS = (
    "deployment_id", "deployment_name", "latitude", "longitude", "start_time", "end_time",
    "has_ended",
)  # fmt: skip
CLIP_COLUMNS = (
    "recording_id", "start_time", "clip_id", "start_s", "duration_s", "missing_before_s",
    "missing_after_s", "file_path",
)  # fmt: skip
VERDICT_COLUMNS = (
    "recording_id", "detection_id", "verdict", "species", "reviewer", "note", "given_time",
)  # fmt: skip


@dataclass(frozen=True)
class Csv:
    """Every column of every row; see ``docs/stores.md`` for their meaning."""

    name: ClassVar[str] = "csv"
    purpose: ClassVar[str] = "R, Python, spreadsheets"
    needs_coordinates: ClassVar[bool] = False

    def write(self, source: Source, folder: Path) -> None:
        """Write tables of detections, recordings, clips, deployments and verdicts."""
        detections = map(Flattener(), source.detections())
        write_table(folder / "detections.csv", DETECTION_COLUMNS, _values(detections))
        with written(folder / "clips.csv") as file:
            clips = CsvWriter(file)
            clips.writerow(CLIP_COLUMNS)
            recordings = map(flat_recording, _with_clips(source, clips))
            write_table(folder / "recordings.csv", RECORDING_COLUMNS, _values(recordings))
        write_table(folder / "deployments.csv", DEPLOYMENT_COLUMNS, _deployments(source))
        write_table(folder / "verdicts.csv", VERDICT_COLUMNS, _verdicts(source))


def _values(rows: Iterable[Mapping[str, Any]]) -> Iterable[Any]:
    return (row.values() for row in rows)


def _deployments(source: Source) -> Iterable[list[Any]]:
    for site in source.sites:
        one = site.deployment
        times = iso_time(one.started_on), iso_time(site.ended_on)
        yield [one.id, one.name, one.latitude, one.longitude, *times, str(not site.is_open).lower()]


def _with_clips(source: Source, clips: CsvWriter) -> Iterator[RecordingRow]:
    """Yield the recordings, and write the clips of each."""
    for row in source.all_recordings():
        for one in row.clips:
            start = iso_time(row.as_clip(one).started_on)
            clips.writerow([row.id, start, *flat_clip(one).values()])
        yield row


def _verdicts(source: Source) -> Iterable[list[Any]]:
    for one in source.verdicts():
        ids = one.recording_id, one.detection_id
        said = one.verdict.value, one.species, one.reviewer, one.note
        yield [*ids, *said, iso_time(one.given_on)]
