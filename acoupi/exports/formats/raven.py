"""Selection tables of Raven Pro and Raven Lite (Cornell Lab of Ornithology)."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from acoupi.exports.format import bare, file_for, in_file, label_of, written
from acoupi.exports.source import Source
from acoupi.heard import DetectionRow, RecordingRow

__all__ = ["Raven"]

COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)",
    "High Freq (Hz)", "Begin Path", "File Offset (s)", "Species", "Score", "Model", "Verdict",
    "Detection ID",
)  # fmt: skip
SUFFIX = ".selections.txt"


@dataclass(frozen=True)
class Raven:
    """A table for each recording, and one for all of them opened together."""

    name: ClassVar[str] = "raven"
    purpose: ClassVar[str] = "Raven Pro, Raven Lite, opensoundscape"
    needs_coordinates: ClassVar[bool] = False

    def write(self, source: Source, folder: Path) -> None:
        """Write ``all.selections.txt`` and ``files/DAY/NAME.selections.txt``.

        In the first, times count from the beginning of the first recording, as Raven counts
        when it opens all the recordings of the table in this order.
        """
        before, number = 0.0, 0
        with written(folder / f"all{SUFFIX}") as file:
            everything = _table(file)
            for recording, rows in source.files():
                own = file_for(folder / "files", recording, SUFFIX)
                with written(own) as own_file:
                    one = _table(own_file)
                    for place, row in enumerate(rows, 1):
                        one.writerow([place, *_values(row, 0.0)])
                        number += 1
                        everything.writerow([number, *_values(row, before)])
                before += recording.duration_s * recording.time_expansion


def _table(file: Any) -> Any:
    writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE,
                        quotechar=None)  # fmt: skip
    writer.writerow(COLUMNS)
    return writer


def _values(row: DetectionRow, before: float) -> Iterator[Any]:
    start, low, end, high = in_file(row)
    yield from ("Spectrogram 1", 1, f"{before + start:.6f}", f"{before + end:.6f}")
    yield from (f"{low:.3f}", f"{high:.3f}", _path(row.recording), f"{start:.6f}")
    verdict = row.verdict.verdict.value if row.verdict else ""
    yield from (bare(label_of(row)), f"{row.score:.6f}", bare(row.model), verdict, row.id)


def _path(row: RecordingRow) -> str:
    return "" if row.path is None else bare(str(row.path))
