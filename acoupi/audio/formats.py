"""Sound files, WAV or FLAC: written so that a crash loses nothing, and read back.

A recording is written under a hidden name (``.NAME.part``), with a GUANO text
that identifies it, and gets its own name once it is complete and on the disk.
So a file with a proper name is complete and describes itself, and what a crash
leaves behind can be repaired (`salvage`).
"""

import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from acoupi import data
from acoupi.audio import flac, wav
from acoupi.audio.disk import disk_errors, find_parts, holding, open_sound, publish
from acoupi.audio.guano import (
    INCOMPLETE,
    INCOMPLETE_DETAIL,
    build_guano,
    recording_of_guano,
    true_samplerate,
)
from acoupi.audio.writer import SoundInfo, SoundWriter
from acoupi.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FileFormat",
    "SoundInfo",
    "SoundWriter",
    "add_guano",
    "find_parts",
    "is_sound_file",
    "open_writer",
    "read_audio",
    "read_guano",
    "read_info",
    "read_recording",
    "salvage",
]

FileFormat = Literal["wav", "flac"]
"""Also the suffix of the file name."""

_WRITERS: dict[str, type[wav.WavWriter] | type[flac.FlacWriter]] = {
    ".wav": wav.WavWriter,
    ".flac": flac.FlacWriter,
}
_CRASHED = "the recorder ended while it was being written"


def is_sound_file(name: str) -> bool:
    """Return whether a file of this name is a complete recording.

    Examples
    --------
    >>> is_sound_file("a.WAV"), is_sound_file("a.flac"), is_sound_file(".a.wav")
    (True, True, False)
    """
    return not name.startswith(".") and Path(name).suffix.lower() in _WRITERS


def open_writer(
    path: Path,
    samplerate: int,
    channels: int,
    *,
    time_expansion: float = 1,
    guano: str = "",
    bits: int = 16,
    sample_bytes: int = 2,
    frames: int = 0,
) -> SoundWriter:
    """Open a new file: FLAC if its name ends in .flac, else WAV (see `wav.WavWriter`)."""
    writer = _WRITERS.get(path.suffix.lower(), wav.WavWriter)
    return writer(
        path,
        samplerate,
        channels,
        time_expansion=time_expansion,
        guano=guano,
        bits=bits,
        sample_bytes=sample_bytes,
        frames=frames,
    )


def read_info(path: Path) -> SoundInfo:
    """Read the header of a file.

    Raises
    ------
    AudioError
        If it is missing, neither WAV nor FLAC, or shorter than its header says.
    """
    info: SoundInfo = _format_of(path).read_info(path)
    return info


def read_guano(path: Path) -> dict[str, str]:
    """Read the GUANO fields of a file; empty if it has none.

    Raises
    ------
    AudioError
        If it is missing, or neither WAV nor FLAC.
    """
    fields: dict[str, str] = _format_of(path).read_guano(path)
    return fields


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
        raise AudioError(
            f'"{path.name}" holds no sound.', "delete the file", why="it has no frames at all."
        )
    return recording_of_guano(
        fields,
        path=path,
        duration=info.frames / samplerate,
        samplerate=samplerate,
        audio_channels=info.channels,
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
    with open_sound(path) as file:
        magic = file.read(4)
    if magic in (b"RIFF", b"RF64") and (found := wav.read_audio(path, start, frames)) is not None:
        return found
    return _read_with_soundfile(path, start, frames)


def _read_with_soundfile(
    path: Path, start: int, frames: int | None
) -> "tuple[NDArray[np.float32], int]":
    try:
        import soundfile  # noqa: PLC0415 - only for other formats than WAV
    except (ImportError, OSError) as error:
        raise AudioError(
            f'cannot read "{path.name}".',
            "pip install soundfile",
            why=f"it is not a plain WAV file, and the soundfile library is missing: {error}",
        ) from error
    try:
        with soundfile.SoundFile(path) as file:
            start = min(start, file.frames)
            wanted = file.frames - start if frames is None else min(frames, file.frames - start)
            file.seek(start)
            samples, samplerate = file.read(wanted, "float32", always_2d=True), file.samplerate
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:
        raise AudioError(
            f'cannot read "{path.name}": it is not a sound file.',
            "give the path of a WAV or FLAC file",
            why=" ".join(str(error).split()),
        ) from error
    if len(samples) < wanted:
        raise AudioError(
            f'"{path.name}" is cut off or damaged.',
            "copy or record it again",
            why=f"of {wanted} frames from frame {start} on, only {len(samples)} can be decoded.",
        )
    return samples, int(samplerate)


def _format_of(path: Path) -> ModuleType:
    """Return the module for a file, by its content rather than its name."""
    with open_sound(path) as file:
        return flac if file.read(4) == flac.MAGIC else wav


def salvage(part: Path) -> Path | None:
    """Repair what a crash left of a recording, and give it its name.

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
    """Repair what the recorder of a published program left in its folder (see `components`)."""
    files = sorted(part.glob("*.wav"))
    text = part / "guano.txt"
    if files and files[0].stat().st_size and _repair(files[0]):
        if text.exists():
            add_guano(files[0], text.read_text(encoding="utf-8"))
        publish(files[0], path)
    shutil.rmtree(part)
    return path if files and path.exists() else None


def _repair(part: Path) -> bool:
    """Make the headers match what is there; return whether there is any sound."""
    kind = _format_of(part)
    with part.open("r+b", buffering=0) as file:
        try:
            if kind.is_whole(file, part):
                return True
            info = kind.repair(file, part)
        except AudioError:
            file.seek(0)
            if _is_only_a_head(file.read(64 * 1024)):
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


def _is_only_a_head(content: bytes) -> bool:
    """Return whether nothing but reserved space, or a part of a header, was written."""
    text = content.rstrip(b"\0")
    magic = text[:4]
    if flac.MAGIC.startswith(magic):
        return len(text) < flac.HEAD_ROOM
    # The size follows the name of the chunk: 4 bytes more.
    return b"RIFF".startswith(magic) and b"data" not in content[:-4]
