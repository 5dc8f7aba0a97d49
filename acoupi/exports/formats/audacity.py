"""Label tracks of Audacity."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from acoupi.exports.format import bare, file_for, in_file, label_of, written
from acoupi.exports.source import Source
from acoupi.heard import DetectionRow

__all__ = ["Audacity"]


@dataclass(frozen=True)
class Audacity:
    """A label track for each recording.

    Audacity knows two kinds of label, and readers of one refuse the other. So a file holds one
    kind only; of a detection without frequencies, the box is the whole band.
    """

    name: ClassVar[str] = "audacity"
    purpose: ClassVar[str] = "Audacity"
    needs_coordinates: ClassVar[bool] = False

    boxes: bool = False
    """With frequencies."""

    def write(self, source: Source, folder: Path) -> None:
        """Write ``labels/DAY/NAME.txt``."""
        for recording, rows in source.files():
            with written(file_for(folder / "labels", recording, ".txt")) as file:
                file.writelines(line for row in rows for line in self._lines(row))

    def _lines(self, row: DetectionRow) -> Iterator[str]:
        start, low, end, high = in_file(row)
        yield f"{start:.6f}\t{end:.6f}\t{bare(label_of(row))}\n"
        if self.boxes:
            yield f"\\\t{low:.6f}\t{high:.6f}\n"
