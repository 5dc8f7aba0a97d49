"""The table that Kaleidoscope Pro (Wildlife Acoustics) reads its identifications from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from acoupi.exports.format import (
    file_name,
    in_file,
    label_of,
    one_line,
    verified,
    write_table,
)
from acoupi.exports.source import Source
from acoupi.heard import DetectionRow

__all__ = ["Kaleidoscope"]

COLUMNS = (
    "INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "TOP1MATCH", "TOP1DIST", "MANUAL ID",
)  # fmt: skip


@dataclass(frozen=True)
class Kaleidoscope:
    """One row for each detection.

    ``TOP1DIST`` is a distance in Kaleidoscope, 0 being the surest: here 1 minus the score.
    """

    name: ClassVar[str] = "kaleidoscope"
    purpose: ClassVar[str] = "Kaleidoscope Pro"
    needs_coordinates: ClassVar[bool] = False

    def write(self, source: Source, folder: Path) -> None:
        """Write ``id.csv``."""
        rows = (_values(row) for _, found in source.files() for row in found)
        write_table(folder / "id.csv", COLUMNS, map(list, rows))


def _values(row: DetectionRow) -> Iterator[Any]:
    start, _, end, _ = in_file(row)
    path = row.recording.path
    yield "" if path is None else one_line(str(path.parent))
    yield ""
    yield one_line(file_name(row.recording))
    yield from (f"{start:.6f}", f"{end - start:.6f}", label_of(row), f"{1 - row.score:.6f}")
    yield one_line(verified(row))
