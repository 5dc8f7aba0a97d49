"""WAV files: written, read, and repaired (see `formats`, which also handles FLAC)."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from acoupi.audio import decoding, riff
from acoupi.audio.disk import disk_errors, open_sound
from acoupi.audio.guano import parse_guano
from acoupi.audio.writer import SoundInfo, SoundWriter
from acoupi.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "MAGICS",
    "MEDIA_TYPE",
    "NAME",
    "WavWriter",
    "add_guano",
    "decode",
    "expand_time",
    "fields_of",
    "is_only_a_head",
    "is_whole",
    "narrow",
    "open_writer",
    "put_guano",
    "read_audio",
    "read_guano",
    "read_info",
    "refusal",
    "repair",
]

NAME = "wav"
MEDIA_TYPE = "audio/wav"
MAGICS: tuple[bytes, ...] = riff.MAGICS

DISK_BLOCK = 4096
"""Bytes that a file system keeps together."""
_ORDINARY_BYTES = 0xFFFF_FFFF - 1024 * 1024
"""Most bytes of samples for which 32-bit sizes are certain to suffice."""


class WavWriter(SoundWriter):
    """Writes samples into a new WAV file, block by block; past 4 GiB it becomes an RF64 file.

    Parameters
    ----------
    path
        Final name; no file may have it yet.
    samplerate
        Of the original sound, Hz.
    channels
        At least 1.
    time_expansion
        How many times slower the file plays: its header says
        ``samplerate / time_expansion``.
    guano
        GUANO text of the file until it is finished.
    bits
        Of a sample in the file, 16 or 24.
    sample_bytes
        Size of a sample passed to `write`, 2 or 4; the highest bits are kept.
    frames
        Most that may come: past 4 GiB the header needs room for larger sizes.

    Raises
    ------
    RecordingError
        If the disk refuses: here, in `write` and in `finish`.
    """

    def __init__(
        self,
        path: Path,
        samplerate: int,
        channels: int,
        *,
        time_expansion: float = 1,
        guano: str = "",
        bits: int = 16,
        sample_bytes: int = 2,
        frames: int = 0,
    ) -> None:
        self._bytes = (sample_bytes, bits // 8)
        self._frame_bytes = bits // 8 * channels
        header_rate = max(1, int(samplerate / time_expansion))
        is_large = frames * self._frame_bytes > _ORDINARY_BYTES
        header = riff.pack_header(header_rate, channels, guano, bits=bits, is_large=is_large)
        self._header_bytes = len(header)
        super().__init__(path, header)

    def write(self, block: bytes | memoryview) -> None:
        """Append whole frames: native integers, channels interleaved."""
        rest = memoryview(narrow(block, *self._bytes)).cast("B")
        # After an error, continue at the end of the last whole frame.
        done = self.frames * self._frame_bytes
        with disk_errors(self.path):
            self._file.seek(self._header_bytes + done)
            while rest:
                count = self._file.write(rest) or 0
                done += count
                self.frames = done // self._frame_bytes
                rest = rest[count:]
        self._sync()

    def _complete(self, guano: str | None) -> None:
        layout = riff.read_layout(self._file, self.part)
        riff.set_sizes(self._file, layout, self.frames * self._frame_bytes)
        if guano is not None:
            put_guano(self._file, self.part, guano)


open_writer = WavWriter


def refusal(samplerate: int, channels: int) -> str | None:
    """Return None: it holds any rate and any number of channels."""
    del samplerate, channels
    return None


def narrow(block: bytes | memoryview, given: int, wanted: int) -> bytes | memoryview:
    """Return samples cut to their highest bytes, in the byte order of WAV files.

    Examples
    --------
    >>> list(narrow(bytes([1, 2, 3, 4]), 4, 3))
    [2, 3, 4]
    """
    if given == wanted:
        return block
    import numpy as np  # noqa: PLC0415 - 16 bits do without it

    wide = np.frombuffer(block, dtype="=i4").astype("<i4", copy=False)
    return wide.view(np.uint8).reshape(-1, 4)[:, 4 - wanted :].tobytes()


def read_info(path: Path) -> SoundInfo:
    """Read the header of a WAV file.

    Raises
    ------
    AudioError
        If it is missing, not a WAV file, or shorter than its header says.
    """
    with open_sound(path) as file:
        layout = riff.read_layout(file, path)
    info = _info(layout, path)
    return info if layout.format.is_plain else decoding.read_info(path)


def read_guano(path: Path) -> dict[str, str]:
    """Read the GUANO fields of a WAV file; empty if it has none.

    Raises
    ------
    AudioError
        If it is missing or not a WAV file.
    """
    with open_sound(path) as file:
        return _read_guano(file, riff.read_layout(file, path))


def add_guano(path: Path, guano: str) -> None:
    """Add a GUANO text to a WAV file, or replace the one it has.

    In place: the samples are not touched and no copy is made. The same text
    again changes nothing.

    Raises
    ------
    AudioError
        If it is not a WAV file, or cut off.
    RecordingError
        If the disk refuses.
    """
    with open_sound(path, "r+b") as file, disk_errors(path):
        layout = riff.read_layout(file, path)
        _info(layout, path)
        if layout.guano is not None:
            file.seek(layout.guano.offset)
            if file.read(layout.guano.size).rstrip(b" \0\n") == guano.encode().rstrip():
                return
        riff.put_guano(file, layout, guano)
        os.fsync(file.fileno())


def expand_time(path: Path, samplerate: int, time_expansion: float) -> None:
    """Set the rate of a WAV file to ``samplerate / time_expansion``; its samples stay.

    Raises
    ------
    AudioError
        If it is not a WAV file.
    RecordingError
        If the disk refuses.
    """
    with open_sound(path, "r+b") as file, disk_errors(path):
        layout = riff.read_layout(file, path)
        riff.set_samplerate(file, layout, max(1, int(samplerate / time_expansion)))
        os.fsync(file.fileno())


def read_audio(
    path: Path, start: int, frames: int | None
) -> "tuple[NDArray[np.float32], int] | None":
    """Read the samples of a WAV file; None if they are not plain numbers.

    Raises
    ------
    AudioError
        If it is missing, not a WAV file, or shorter than its header says.
    """
    with open_sound(path) as file:
        return read_samples(file, path, start, frames)


def read_samples(
    file: BinaryIO, name: Path, start: int, frames: int | None
) -> "tuple[NDArray[np.float32], int] | None":
    """Read the samples of an open file, as `read_audio`."""
    layout = riff.read_layout(file, name)
    info = _info(layout, name)
    if not layout.format.is_plain:
        return None
    start = min(start, info.frames)
    count = info.frames - start if frames is None else min(frames, info.frames - start)
    file.seek(layout.samples.offset + start * layout.format.frame_bytes)
    content = file.read(count * layout.format.frame_bytes)
    samples = decode(content, layout.format)
    if riff.holds_low_bits(file, layout):
        samples *= 2 ** (8 * layout.format.sample_bytes - layout.format.bits)
    return samples, info.samplerate


def decode(content: bytes, form: riff.Format) -> "NDArray[np.float32]":
    """Turn the bytes of whole frames into samples in [-1, 1), shape ``(frames, channels)``.

    Bits that fill only a part of their bytes are the highest of them.
    """
    import numpy as np  # noqa: PLC0415 - the recorder does without it

    samples: NDArray[np.float32]
    if form.encoding == riff.FLOAT:
        samples = np.frombuffer(content, dtype=f"<f{form.sample_bytes}").astype(np.float32)
    elif form.sample_bytes == 1:
        samples = (
            np.frombuffer(content, dtype=np.uint8).astype(np.float32) - np.float32(128)
        ) / np.float32(128)
    elif form.sample_bytes == 3:
        wide = np.zeros((len(content) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    else:
        whole = np.frombuffer(content, dtype=f"<i{form.sample_bytes}")
        samples = whole.astype(np.float32) / np.float32(2 ** (8 * form.sample_bytes - 1))
    return samples.reshape(-1, form.channels)


def fields_of(file: BinaryIO, name: Path) -> dict[str, str]:
    """Read the GUANO fields of an open file; empty if it has none."""
    return _read_guano(file, riff.read_layout(file, name))


def put_guano(file: BinaryIO, name: Path, text: str) -> None:
    """Put a GUANO text in an open file."""
    riff.put_guano(file, riff.read_layout(file, name), text)


def is_whole(file: BinaryIO, name: Path) -> bool:
    """Return whether the file was finished, and nothing of it is missing."""
    layout = riff.read_layout(file, name)
    return 0 < layout.samples.size <= _bytes_there(file, layout)


def is_only_a_head(content: bytes) -> bool:
    """Return whether a file that begins so holds no sound: only zeros follow, if any."""
    # The size follows the name of the chunk: 4 bytes more.
    return b"RIFF".startswith(content.rstrip(b"\0")[:4]) and b"data" not in content[:-4]


def repair(file: BinaryIO, name: Path) -> SoundInfo | None:
    """Make the headers match the contents; None if there are none.

    Raises
    ------
    AudioError
        If it is not a WAV file.
    """
    layout = riff.read_layout(file, name)
    there = _bytes_there(file, layout)
    there -= there % layout.format.frame_bytes
    if there <= 0:
        return None
    riff.set_sizes(file, layout, there)
    return _info(riff.read_layout(file, name), name)


def _bytes_there(file: BinaryIO, layout: riff.Layout) -> int:
    """Return how many bytes of samples there are.

    Zeros that end the last block do not count: a power cut leaves them where the length of
    the file was on the disk before its last samples. A block of nothing else was silence.
    """
    begin = layout.samples.offset
    block = max(begin, (layout.file_bytes - 1) // DISK_BLOCK * DISK_BLOCK)
    file.seek(block)
    content = file.read(DISK_BLOCK)
    there = block + len(content.rstrip(b"\0") or content) - begin
    return min(there + -there % layout.format.frame_bytes, layout.file_bytes - begin)


def _info(layout: riff.Layout, path: Path) -> SoundInfo:
    form = layout.format
    if layout.samples.offset + layout.sound_bytes > layout.file_bytes:
        seconds = form.samplerate * form.frame_bytes
        raise AudioError(
            f'"{path.name}" is cut off.',
            "copy or record it again",
            why=f"its header promises {layout.sound_bytes / seconds:.3f} s of sound"
            f" but it holds {layout.available_bytes / seconds:.3f} s.",
        )
    frames = layout.sound_bytes // form.frame_bytes
    return SoundInfo(form.samplerate, form.channels, form.bits, frames)


def _read_guano(file: BinaryIO, layout: riff.Layout) -> dict[str, str]:
    if layout.guano is None:
        return {}
    file.seek(layout.guano.offset)
    return parse_guano(file.read(layout.guano.size))
