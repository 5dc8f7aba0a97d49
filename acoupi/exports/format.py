"""What a format of exports is, and what several share: tables of text."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TextIO

from acoupi.exports.flat import CsvWriter
from acoupi.exports.source import Source
from acoupi.heard import SPECIES_KEYS, DetectionRow, RecordingRow, Verdict

__all__ = [
    "Format",
    "audio_path",
    "bare",
    "file_for",
    "file_name",
    "in_file",
    "is_reviewed",
    "label_of",
    "one_line",
    "scientific_name",
    "to_second",
    "verified",
    "write_table",
    "written",
]

_LONGEST_NAME = 150


class Format(Protocol):
    """An export format. Its fields are its options."""

    name: ClassVar[str]
    """What it is called on the command line."""
    purpose: ClassVar[str]
    """Which tools read it, in a few words."""
    needs_coordinates: ClassVar[bool]
    """Whether it cannot describe a deployment without coordinates."""

    def write(self, source: Source, folder: Path) -> None:
        """Write its files into a folder that holds those of effort and calibration already.

        Rows are written as they are read: memory does not grow with their number. The same
        source gives the same bytes.
        """


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """Open a new text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write comma-separated values with a head, as they are read."""
    with written(path) as file:
        writer = CsvWriter(file)
        writer.writerow(columns)
        writer.writerows(rows)


def file_name(row: RecordingRow) -> str:
    """Return the name of a recording's file; if it has none, one made from its time."""
    if row.path is not None:
        return row.path.name
    return f"{row.started_on:%Y%m%d_%H%M%S}_{str(row.id)[:8]}.wav"


def audio_path(row: RecordingRow) -> str:
    """Return where the file of a recording is in an export that holds the files.

    Signs that paths in data packages cannot hold are written as in addresses (``%09``).
    """
    safe = "".join(
        one if one.isprintable() and one not in "%~" else "".join(f"%{b:02X}" for b in _bytes(one))
        for one in file_name(row)
    )
    return "audio/" + safe.replace("..", "%2E%2E")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def file_for(folder: Path, row: RecordingRow, suffix: str) -> Path:
    """Return a name in a folder that is like that of a recording, and is not taken."""
    stem = Path(one_line(file_name(row))).stem.encode()[:_LONGEST_NAME].decode(errors="ignore")
    path = folder / f"{row.started_on:%Y-%m-%d}" / f"{stem}{suffix}"
    return path.with_name(f"{stem}-{row.id}{suffix}") if path.exists() else path


def in_file(row: DetectionRow) -> tuple[float, float, float, float]:
    """Return start (s), low (Hz), end (s), high (Hz) as another tool sees them in the file.

    A time-expanded file plays slower than the original sound: its times are longer and its
    frequencies lower. A detection without a box is the whole recording.
    """
    recording = row.recording
    start, low, end, high = row.box or (0, 0, recording.duration_s, recording.samplerate_hz / 2)
    slower = recording.time_expansion
    return start * slower, low / slower, end * slower, high / slower


def one_line(text: str) -> str:
    r"""Return a text without tabs, line breaks and other control characters.

    Examples
    --------
    >>> one_line("Old\toak\r\n(left)")
    'Old oak (left)'
    """
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def bare(text: str) -> str:
    """Return a text for tables that know no quotation marks: on one line, and without them."""
    return one_line(text).replace('"', "'")


def scientific_name(row: DetectionRow) -> str:
    """Return the species that a model named; empty if none of its tags names one."""
    found = row.species
    return found.tag.value if found is not None and found.tag.key in SPECIES_KEYS else ""


def label_of(row: DetectionRow) -> str:
    """Return what to call a detection: its surest species or tag, on one line."""
    return one_line(row.species.tag.value) if row.species else row.kind.value


def verified(row: DetectionRow) -> str:
    """Return the species that a person found it to be; empty if none did."""
    said = row.verdict
    if said is None or said.verdict not in (Verdict.RIGHT, Verdict.OTHER):
        return ""
    return scientific_name(row) if said.verdict is Verdict.RIGHT else said.species or ""


def is_reviewed(row: DetectionRow) -> bool:
    """Whether the last verdict on it stands."""
    return row.verdict is not None and row.verdict.verdict is not Verdict.WITHDRAWN


def to_second(time: datetime.datetime, *, up: bool = False) -> str:
    """Return a time as formats write it that know no fractions, earlier or (`up`) later.

    Examples
    --------
    >>> time = datetime.datetime(2024, 6, 1, 20, 0, 0, 250000, datetime.UTC)
    >>> to_second(time), to_second(time, up=True)
    ('2024-06-01T20:00:00Z', '2024-06-01T20:00:01Z')
    """
    if up and time.microsecond:
        time += datetime.timedelta(seconds=1)
    text = time.astimezone(datetime.UTC).isoformat(timespec="seconds")
    return text.removesuffix("+00:00") + "Z"
