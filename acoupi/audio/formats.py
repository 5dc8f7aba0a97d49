"""Sound files: written so that a crash loses nothing, and read back.

A format is a module with the functions of `SoundFormat`; those of `FORMATS` are
known to recorders, to the configuration and to recovery.

A recording is written under a hidden name (``.NAME.part``), with a GUANO text
that identifies it, and gets its own name once it is complete and on the disk.
So a file with a proper name is complete and describes itself, and what a crash
leaves behind can be repaired (`salvage`).
"""

import itertools
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, Unpack

from acoupi import data
from acoupi.audio import decoding, flac, wav
from acoupi.audio.disk import cut_at_hole, disk_errors, find_parts, holding, open_sound, publish
from acoupi.audio.guano import (
    INCOMPLETE,
    INCOMPLETE_DETAIL,
    build_guano,
    recording_of_guano,
    true_samplerate,
)
from acoupi.audio.writer import SoundInfo, SoundWriter, WriterOptions
from acoupi.errors import AudioError
from acoupi.opening import is_file, read_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FORMATS",
    "FileFormat",
    "SoundFormat",
    "SoundInfo",
    "SoundWriter",
    "add_guano",
    "endings",
    "find_parts",
    "format_named",
    "is_sound_file",
    "media_type",
    "no_sound",
    "open_writer",
    "read_audio",
    "read_guano",
    "read_info",
    "read_recording",
    "read_samples",
    "salvage",
]


class SoundFormat(Protocol):
    """What a module does for a file format, from the first byte to what a crash left.

    Where a file is given open, its name is for error messages. Each function raises
    `AudioError` if the file is not of the format.
    """

    NAME: str
    """As users call it, and the suffix of its files."""
    MEDIA_TYPE: str
    """What browsers and catalogues call its files."""
    MAGICS: tuple[bytes, ...]
    """The four bytes that its files begin with."""

    def open_writer(
        self, path: Path, samplerate: int, channels: int, **options: Unpack[WriterOptions]
    ) -> SoundWriter:
        """Begin a new file; see `wav.WavWriter` for the parameters."""

    def refusal(self, samplerate: int, channels: int) -> str | None:
        """Return why a file cannot have this rate (Hz) or so many channels; None if it can."""

    def read_info(self, path: Path, /) -> SoundInfo:
        """Read the header; raise if the file is shorter than it says."""

    def read_audio(
        self, path: Path, start: int, frames: int | None, /
    ) -> "tuple[NDArray[np.float32], int] | None":
        """Read samples, as `read_audio` below; None leaves it to the soundfile library."""

    def read_guano(self, path: Path, /) -> dict[str, str]:
        """Read the GUANO fields; empty if there are none."""

    def add_guano(self, path: Path, guano: str, /) -> None:
        """Put a GUANO text in a complete file, or in place of the one it has."""

    def is_whole(self, file: BinaryIO, name: Path, /) -> bool:
        """Return whether the file was finished, and nothing of it is missing."""

    def is_only_a_head(self, content: bytes, /) -> bool:
        """Return whether a file that begins so holds no sound: only zeros follow, if any."""

    def repair(self, file: BinaryIO, name: Path, /) -> SoundInfo | None:
        """Make the headers match the contents; None if there are none."""

    def fields_of(self, file: BinaryIO, name: Path, /) -> dict[str, str]:
        """Read the GUANO fields of an open file."""

    def put_guano(self, file: BinaryIO, name: Path, text: str, /) -> object:
        """Put a GUANO text in an open file."""


def _formats(*kinds: SoundFormat) -> tuple[SoundFormat, ...]:
    return kinds  # type checkers compare a module with the protocol where it is an argument


FORMATS = _formats(wav, flac)
"""The first is the default, and what a file of another name is written as."""

if TYPE_CHECKING:
    FileFormat = str
else:
    FileFormat = Literal[tuple(kind.NAME for kind in FORMATS)]
"""Also the suffix of the files."""

LONGEST_TEXT = 1 << 20
"""Bytes of a GUANO text."""
_CRASHED = "the recorder stopped while it was being written"


def is_sound_file(name: str) -> bool:
    """Return whether a file of this name is a complete recording.

    Examples
    --------
    >>> is_sound_file("a.WAV"), is_sound_file("a.flac"), is_sound_file(".a.wav")
    (True, True, False)
    """
    return not name.startswith(".") and format_named(Path(name).suffix[1:].lower()) is not None


def media_type(name: str) -> str:
    """Return the media type of a file of this name.

    Examples
    --------
    >>> media_type("a.WAV"), media_type("a.mp3")
    ('audio/wav', 'audio/x-unknown')
    """
    kind = format_named(Path(name).suffix[1:].lower())
    return kind.MEDIA_TYPE if kind else "audio/x-unknown"


def endings() -> str:
    """Return how the names of recordings end, in words."""
    return " or ".join(f".{kind.NAME}" for kind in FORMATS)


def format_named(name: str) -> SoundFormat | None:
    """Return the format of a name, "wav" for example, or None."""
    return next((kind for kind in FORMATS if name == kind.NAME), None)


def open_writer(
    path: Path, samplerate: int, channels: int, **options: Unpack[WriterOptions]
) -> SoundWriter:
    """Begin a new file, of the format that its name ends in, else WAV (see `wav.WavWriter`)."""
    kind = format_named(path.suffix[1:].lower()) or FORMATS[0]
    return kind.open_writer(path, samplerate, channels, **options)


def read_info(path: Path) -> SoundInfo:
    """Read the header of a file.

    Raises
    ------
    AudioError
        If it is missing, not sound, or shorter than its header says.
    """
    if _known_format(path) is None:
        with suppress(AudioError):
            return decoding.read_info(path)
    return _format_of(path).read_info(path)


def read_guano(path: Path) -> dict[str, str]:
    """Read the GUANO fields of a file; empty if it has none.

    Raises
    ------
    AudioError
        If it is missing, or neither WAV nor FLAC.
    """
    return _format_of(path).read_guano(path)


def add_guano(path: Path, guano: str) -> None:
    """Add a GUANO text to a file, or replace the one it has; the samples stay.

    Adding the same text again changes nothing.

    Raises
    ------
    AudioError
        If it is neither WAV nor FLAC, or cut off.
    RecordingError
        If the disk refuses.
    """
    _format_of(path).add_guano(path, guano)


def read_recording(path: Path) -> data.Recording:
    """Rebuild a recording from its file, with its true length.

    Raises
    ------
    AudioError
        If the file is incomplete, or does not say which recording it is.
    """
    info, fields = read_info(path), read_guano(path)
    samplerate = true_samplerate(fields, info.samplerate)
    if not info.frames:
        raise no_sound(path)
    return recording_of_guano(
        fields,
        path=path,
        duration=info.frames / samplerate,
        samplerate=samplerate,
        audio_channels=info.channels,
    )


def no_sound(path: Path) -> AudioError:
    """Return the error about a file with a header and nothing behind it."""
    return AudioError(
        f'"{path.name}" holds no sound.',
        "copy it again from its source",
        why="it has no frames at all.",
    )


def read_audio(
    path: Path, *, start: int = 0, frames: int | None = None
) -> "tuple[NDArray[np.float32], int]":
    """Read the samples of a file.

    Parameters
    ----------
    path
        WAV; or FLAC and whatever else the soundfile library reads.
    start
        First frame.
    frames
        How many at most; None means all that follow.

    Returns
    -------
    samples
        Shape ``(frames, channels)``, in [-1, 1).
    samplerate
        Of the *file*, Hz. A time-expanded recording plays slower than the
        original sound: for its rate use `Recording.samplerate`.

    Raises
    ------
    AudioError
        If it is missing, is not sound, or is shorter than its header says.
    """
    kind = _known_format(path)
    if kind is not None and (found := kind.read_audio(path, start, frames)) is not None:
        return found
    return decoding.read_audio(path, start, frames)


def read_samples(
    file: BinaryIO, name: Path, *, start: int = 0, frames: int | None = None
) -> "tuple[NDArray[np.float32], int]":
    """Read the samples of an open file, as `read_audio`.

    Parameters
    ----------
    file
        It need not be on a disk of this machine.
    name
        For messages.

    Raises
    ------
    AudioError
        As `read_audio`.
    """
    file.seek(0)
    is_wav = file.read(4) in wav.MAGICS
    file.seek(0)
    if is_wav and (found := wav.read_samples(file, name, start, frames)) is not None:
        return found
    file.seek(0)
    return decoding.read_samples(file, name, start, frames)


def _known_format(path: Path) -> SoundFormat | None:
    """Return the format of a file by its contents; None if it is not supported."""
    with open_sound(path) as file:
        magic = file.read(4)
    return next((kind for kind in FORMATS if magic in kind.MAGICS), None)


def _format_of(path: Path) -> SoundFormat:
    """Return the format of a file; the default, which reports the error, if it is not supported."""
    return _known_format(path) or FORMATS[0]


def salvage(part: Path) -> Path | None:
    """Repair the rest of a recording after a crash, and give it its name.

    Parameters
    ----------
    part
        One of `find_parts`.

    Returns
    -------
    Path or None
        The complete file; its GUANO text says that the recording is incomplete.
        None if it is still being written (nothing is touched), or if there was
        no sound in it (it is removed).

    Raises
    ------
    AudioError
        If it is not a recording of acoupi, or another file has its name.
    RecordingError
        If the disk refuses.
    """
    path = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
    with disk_errors(path), holding(part) as is_ours:
        if not is_ours:
            return None
        return _salvage_folder(part, path) if part.is_dir() else _salvage_file(part, path)


def _salvage_file(part: Path, path: Path) -> Path | None:
    if part.stat().st_size == 0:
        part.unlink()
        return None
    if path.exists() and path.samefile(part):
        publish(part, path)  # It already has its final name; only the hidden one was left.
        return path
    if not _repair(part):
        part.unlink()
        return None
    publish(part, path)
    return path


def _salvage_folder(part: Path, path: Path) -> Path | None:
    """Repair what the recorder of a published program left in its folder (see `components`).

    The GUANO text is that of the first file; others are published beside it, by number.
    """
    text = part / "guano.txt"
    published: list[Path] = []
    for file in sorted(part.glob("*.wav")):
        if not file.stat().st_size or not _repair(file):
            continue
        place = path
        if not published and is_file(text):
            add_guano(file, _text_of(text, part.parent))
        else:
            numbered = (path.with_stem(f"{path.stem}_{n}") for n in itertools.count(2))
            place = next(one for one in itertools.chain([path], numbered) if not one.exists())
        publish(file, place)
        published.append(place)
    shutil.rmtree(part)
    return published[0] if published else None


def _text_of(path: Path, spool: Path) -> str:
    return read_bytes(path, LONGEST_TEXT, beneath=spool).decode(errors="replace")


def _repair(part: Path) -> bool:
    """Make the headers match the contents; return whether there is any sound."""
    kind = _format_of(part)
    with open_sound(part, "r+b") as file:
        try:
            cut_at_hole(file)
            if kind.is_whole(file, part):
                return True
            info = kind.repair(file, part)
        except AudioError:
            file.seek(0)
            # Space was set aside and nothing arrived, or not even all of our header.
            content = file.read(64 * 1024)
            if any(one.is_only_a_head(content) for one in FORMATS):
                return False
            raise
        if info is None:
            return False
        if fields := kind.fields_of(file, part):
            rate = true_samplerate(fields, info.samplerate)
            fields["Length"] = repr(round(info.frames / rate, 9))
            if INCOMPLETE not in fields:
                fields[INCOMPLETE] = data.IncompleteReason.CRASHED.value
                fields[INCOMPLETE_DETAIL] = _CRASHED
            kind.put_guano(file, part, build_guano(fields))
        os.fsync(file.fileno())
    return True
