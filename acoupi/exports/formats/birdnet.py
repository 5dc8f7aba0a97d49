"""The table that BirdNET-Analyzer writes and its tools read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from acoupi.exports.format import (
    file_name,
    in_file,
    label_of,
    one_line,
    scientific_name,
    write_table,
)
from acoupi.exports.source import Source
from acoupi.heard import DetectionRow

__all__ = ["BirdNet"]

COLUMNS = ("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File")


@dataclass(frozen=True)
class BirdNet:
    """One row for each detection."""

    name: ClassVar[str] = "birdnet"
    purpose: ClassVar[str] = "tools around BirdNET-Analyzer"
    needs_coordinates: ClassVar[bool] = False

    def write(self, source: Source, folder: Path) -> None:
        """Write ``BirdNET_CombinedTable.csv``."""
        rows = (_values(row) for _, found in source.files() for row in found)
        write_table(folder / "BirdNET_CombinedTable.csv", COLUMNS, map(list, rows))


def _values(row: DetectionRow) -> Iterator[Any]:
    start, _, end, _ = in_file(row)
    yield from (f"{start:.6f}", f"{end:.6f}", one_line(scientific_name(row)), label_of(row))
    path = row.recording.path
    yield f"{row.species.confidence_score if row.species else row.score:.6f}"
    yield one_line(file_name(row.recording) if path is None else str(path))
