"""``play``, ``picture`` and ``copy``, of recordings and of detections."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acoupi.cli.heard import Heard, file_of
from acoupi.cli.output import done, say, warn, working
from acoupi.errors import AcoupiError, ParameterError, RecordingFileError
from acoupi.home import expanded

if TYPE_CHECKING:
    from acoupi.heard import DetectionRow, RecordingRow

__all__ = [
    "LONGEST_PICTURE_S",
    "IdsAndFolder",
    "Output",
    "Slow",
    "copy",
    "draw",
    "files_of",
    "in_its_file",
    "inline_picture",
    "parted",
    "picture",
    "play",
    "shown_with",
]

SHORTEST_PICTURE_S, LONGEST_PICTURE_S = 0.01, 60.0

Slow = Annotated[
    float, typer.Option(min=0.1, max=100, metavar="TIMES", help="How many times slower.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The PNG file.")]
IdsAndFolder = Annotated[
    list[str], typer.Argument(metavar="[ID]... DIR", help="The ids, and the folder to copy to.")
]


def play(row: "RecordingRow", slow: float, part: tuple[float, float]) -> None:
    """Play a part of a recording, `slow` times slower."""
    from acoupi.audio.listening import play as play_file

    path, rate = file_of(row), row.samplerate_hz
    start, end = (round(seconds * rate) for seconds in part)
    if slow == 1 and rate > 100_000:
        warn("bats and other ultrasound can be heard with --slow 10.")
    with working(f"Playing {(end - start) / rate * slow:.1f} s"):
        play_file(path, start=start, frames=max(1, end - start), rate=rate / slow)


def files_of(row: "RecordingRow") -> Sequence["RecordingRow"]:
    """Return a recording, or its clips as recordings if the whole file is gone."""
    return [row.as_clip(one) for one in row.clips] or [row]


def in_its_file(row: "DetectionRow") -> "DetectionRow":
    """Return a detection, relative to the clip that holds it if the whole file is gone."""
    return row if row.clip is None else row.in_clip(row.clip)


def shown_with(heard: Heard, row: "DetectionRow | RecordingRow") -> Sequence["DetectionRow"]:
    """Return the detections in a recording, or in the recording of a detection."""
    clip, recording = getattr(row, "clip", None), getattr(row, "recording", row)
    others = heard.reader.detections_in(recording.id)
    return others if clip is None else [one.in_clip(clip) for one in others]


def draw(
    heard: Heard,
    row: "RecordingRow",
    detections: Sequence["DetectionRow"],
    part: tuple[float, float],
    output: Path,
) -> None:
    """Write the spectrogram of a part of a recording, and list the boxes in it.

    Raises
    ------
    ParameterError
        If the name is not that of a picture, or the file exists.
    """
    from acoupi.writing import disk_error

    if output.suffix.lower() != ".png":
        raise ParameterError(
            str(output),
            f'the picture cannot be "{output}".',
            f"-o {output.with_suffix('.png')}",
            why="it is a PNG file.",
        )
    content, shown = picture(heard, row, detections, part)
    try:
        with output.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        raise ParameterError(
            str(output),
            f'"{output}" already exists.',
            f"rm {output}   (or use another name)",
            why="files are not overwritten.",
        ) from error
    except OSError as error:
        output.unlink(missing_ok=True)
        raise disk_error("write", output, error) from error
    start, end = drawn(part)
    done(f"{output}: {start:g} to {end:g} s of {row.duration_s:g} s, times in {heard.zone_name}.")
    for number, one in enumerate(shown, 1):
        name = one.species.tag.value if one.species else "without a tag"
        label = number if one.box else "-"
        say(f"  {label}  {name}, {one.score:.2f}, {one.start_s:.3f} to {one.end_s:.3f} s")


def drawn(part: tuple[float, float]) -> tuple[float, float]:
    """Return the part of a recording that a picture shows, seconds."""
    start = part[0]
    return start, max(start + SHORTEST_PICTURE_S, min(part[1], start + LONGEST_PICTURE_S))


def picture(
    heard: Heard,
    row: "RecordingRow",
    detections: Sequence["DetectionRow"],
    part: tuple[float, float],
) -> tuple[bytes, list["DetectionRow"]]:
    """Return a PNG of a part of a recording, and the detections in the order of its boxes."""
    from acoupi.exports.pictures import Box, spectrogram

    path = file_of(row)
    start, end = drawn(part)
    shown = [one for one in detections if one.end_s > start and one.start_s < end]
    shown.sort(key=lambda one: one.box is None)
    boxes = [
        Box(low_hz=low, high_hz=high, start_s=first, end_s=last)
        for first, low, last, high in (one.box for one in shown if one.box)
    ]
    local = row.started_on.astimezone(heard.zone)
    return spectrogram(path, row.samplerate_hz, (start, end), boxes, local), shown


def inline_picture(png: bytes, environ: Mapping[str, str]) -> str | None:
    """Return the sequence that shows a picture in this terminal; None if it cannot show any.

    Uses the protocols of kitty (also ghostty) and iTerm2 (also WezTerm).
    """
    text = b64encode(png).decode()
    program = environ.get("TERM_PROGRAM", "")
    if program in {"iTerm.app", "WezTerm"}:
        return f"\x1b]1337;File=inline=1;size={len(png)}:{text}\a"
    if "kitty" not in environ.get("TERM", "") and program != "ghostty":
        return None
    parts = [text[first : first + 4096] for first in range(0, len(text), 4096)]
    last = len(parts) - 1
    return "".join(
        f"\x1b_G{'' if number else 'a=T,f=100,'}m={int(number < last)};{part}\x1b\\"
        for number, part in enumerate(parts)
    )


def parted(words: Sequence[str]) -> tuple[Sequence[str], Path]:
    """Return the ids and the folder of a command line."""
    return words[:-1], expanded(words[-1])


def copy(heard: Heard, rows: Iterable["RecordingRow"], folder: Path, *, named: bool) -> None:
    """Copy files with their sidecars; report how many had no file.

    Parameters
    ----------
    named
        Whether the user gave ids; then a recording without a file is an error.
    """
    from acoupi.exports.clipped import in_files
    from acoupi.exports.copies import copy_recording

    copied, without = 0, 0
    with working("Copying"):
        for row, found in in_files((one, heard.reader.detections_in(one.id)) for one in rows):
            if row.clips:
                continue  # it is in none of the clips
            if row.path is None and not named:
                without += 1
                continue
            try:
                copy_recording(row, found, file_of(heard.with_file(row)), folder)
            except RecordingFileError:
                if named:
                    raise
                without += 1
                continue
            copied += 1
    if not copied and not without:
        raise AcoupiError(
            "there is no recording to copy.",
            "acoupi recordings list",
            why="none matches the filters.",
        )
    done(f"{copied} recordings are in {folder}, each with a .json file of its data.")
    if without:
        warn(f"{without} more no longer have a file; for their data: acoupi recordings list")
