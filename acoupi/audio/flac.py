"""FLAC files: half the size of WAV files, sample for sample the same.

The layout is that of RFC 9639: STREAMINFO, a Vorbis comment ``GUANO`` with the
whole text (the GUANO specification does not mention FLAC; every tool shows a
comment), padding for what is known only at the end, then frames of `BLOCK`
samples. libFLAC encodes and decodes, through the soundfile library; mutagen
reads and builds the head. The head is written by us, so that it is on the disk
before the first sample and can be changed in place.
"""

import bisect
import io
import os
import shutil
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from acoupi import __version__
from acoupi.audio import decoding
from acoupi.audio.disk import disk_errors, open_sound
from acoupi.audio.guano import parse_guano
from acoupi.audio.riff import write_all, write_at
from acoupi.audio.sources import SAMPLE_BYTES
from acoupi.audio.writer import SoundInfo, SoundWriter
from acoupi.errors import AudioError, RecordingError
from acoupi.opening import open_file

__all__ = [
    "HEAD_ROOM",
    "MAGICS",
    "MAX_CHANNELS",
    "MAX_SAMPLERATE",
    "MEDIA_TYPE",
    "NAME",
    "FlacWriter",
    "add_guano",
    "can_hold_rate",
    "fields_of",
    "is_only_a_head",
    "is_whole",
    "open_writer",
    "put_guano",
    "read_audio",
    "read_guano",
    "read_info",
    "refusal",
    "repair",
]

NAME = "flac"
MEDIA_TYPE = "audio/flac"
MAGIC = b"fLaC"
MAGICS: tuple[bytes, ...] = (MAGIC,)
MAX_CHANNELS = 8
MAX_SAMPLERATE = 655_350
"""Hz. Above 65,535 Hz only multiples of 10 Hz (a frame header can hold no other)."""

BLOCK = 4096
"""Samples per channel in a frame: the most a crash costs beside what was not yet written."""
HEAD_ROOM = 8192
"""Size of a new head, bytes: comments, and padding for a text that grows until the end."""
_INFO_OFFSET = len(MAGIC) + 4
_INFO_END = _INFO_OFFSET + 34
_PAGE = 4096
"""Bytes that reach the disk together."""
_LAST = 0x80
_KEY = "GUANO"


def can_hold_rate(samplerate: int) -> bool:
    """Return whether FLAC has this rate.

    Examples
    --------
    >>> can_hold_rate(384_000), can_hold_rate(44_101), can_hold_rate(192_001), can_hold_rate(10**6)
    (True, True, False, False)
    """
    return samplerate <= 0xFFFF or (samplerate <= MAX_SAMPLERATE and samplerate % 10 == 0)


def refusal(samplerate: int, channels: int) -> str | None:
    """Return why a file cannot have this rate (Hz) or so many channels; None if it can."""
    if channels > MAX_CHANNELS:
        return f"FLAC has at most {MAX_CHANNELS} channels, not {channels}."
    if not can_hold_rate(samplerate):
        return (
            f"FLAC has rates up to {MAX_SAMPLERATE} Hz, and above 65535 Hz only"
            f" multiples of 10 Hz; the file would have {samplerate} Hz."
        )
    return None


class FlacWriter(SoundWriter):
    """Writes samples into a new FLAC file, block by block.

    Parameters
    ----------
    path, samplerate, channels, time_expansion, guano, bits, sample_bytes
        As for `WavWriter`.
    frames
        Ignored: FLAC has no limit that matters here.

    Raises
    ------
    RecordingError
        If the disk refuses, or FLAC cannot hold the sample rate.
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
        del frames
        self._info = SoundInfo(max(1, int(samplerate / time_expansion)), channels, bits, 0)
        info = bytes([_LAST, 0, 0, 34]) + _pack_info(self._info)
        head = _with_guano(MAGIC + info, guano, path)
        super().__init__(path, head)
        self._type = "int16" if sample_bytes == SAMPLE_BYTES else "int32"
        self._sink = _Sink(self._file, len(head))
        try:
            self._encoder: Any = _open_encoder(self._sink, self._info, path)
        except BaseException:
            self.discard()
            raise
        self._frame_bytes = sample_bytes * channels

    def write(self, block: bytes | memoryview) -> None:
        """Append whole frames: native integers, channels interleaved."""
        import soundfile  # noqa: PLC0415 - only for FLAC

        if self._encoder is not None:
            try:
                self._encoder.buffer_write(block, self._type)
            except (soundfile.SoundFileError, AssertionError) as error:
                self._sink.error = self._sink.error or OSError(str(error))
        if self._sink.error is not None:
            self._give_up()
            with disk_errors(self.path):
                raise self._sink.error
        self.frames += len(block) // self._frame_bytes
        self._sync()

    def _complete(self, guano: str | None) -> None:
        if self._encoder is not None:
            self._close_encoder()
            if self._sink.error is not None:
                raise self._sink.error
            write_at(self._file, _INFO_OFFSET, bytes(self._sink.head[_INFO_OFFSET:_INFO_END]))
        if guano is not None:
            put_guano(self._file, self.part, guano)

    def _give_up(self) -> None:
        """Keep the frames that are whole: after an error the encoder cannot continue."""
        if self._encoder is None:
            return
        self._close_encoder()
        self.frames = 0
        with suppress(OSError):
            self._file.truncate(self._sink.end)
            frames = self._sink.blocks * BLOCK
            write_at(self._file, _INFO_OFFSET, _pack_info(replace(self._info, frames=frames)))
            self.frames = frames

    def _close_encoder(self) -> None:
        import soundfile  # noqa: PLC0415

        encoder, self._encoder = self._encoder, None
        try:
            encoder.close()
        except soundfile.SoundFileError as error:
            self._sink.error = self._sink.error or OSError(str(error))

    def leave(self) -> None:
        """Close the file as it is."""
        self._sink.is_over = True
        super().leave()


class _Sink:
    """Where libFLAC writes: its frames go behind our head, its own head is kept aside.

    It is called from C, so it never raises.
    """

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.head = bytearray()
        self.error: OSError | None = None
        self.is_over = False
        self.end = start
        """Where the last whole frame ends, bytes."""
        self.blocks = 0
        """How many frames were written; libFLAC writes each in one call."""
        self._file = file
        self._position = 0
        self._offset: int | None = None
        """From a position in libFLAC's file to that in ours; None until its head is complete."""

    def write(self, block: bytes) -> int:
        """Return how much was taken: all, or nothing after an error."""
        if self.is_over or self.error is not None:
            return 0
        if self._offset is None and _read_head(io.BytesIO(self.head)) is not None:
            self._offset = self.end - len(self.head)
        try:
            if self._offset is None or self._position < len(self.head):
                self.head[self._position : self._position + len(block)] = block
            else:
                self._file.seek(self._offset + self._position)
                write_all(self._file.write, block)
                self.blocks += 1
                self.end += len(block)
        except OSError as error:
            self.error = error
            return 0
        self._position += len(block)
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek within what libFLAC sees as its file."""
        end = len(self.head) if self._offset is None else self.end - self._offset
        base = {os.SEEK_CUR: self._position, os.SEEK_END: end}.get(whence, 0)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, _: int) -> bytes:
        """Return nothing; the library expects a file that can be read."""
        return b""


def _open_encoder(sink: _Sink, info: SoundInfo, path: Path) -> Any:
    try:
        import soundfile  # noqa: PLC0415 - only for FLAC

        return soundfile.SoundFile(
            sink,
            "w",
            samplerate=info.samplerate,
            channels=info.channels,
            format="FLAC",
            subtype=f"PCM_{info.bits}",
        )
    except (ImportError, OSError, RuntimeError) as error:
        raise RecordingError(
            f'cannot write "{path.name}".',
            "acoupi config set recording.file_format wav",
            why=f"{info.channels} channels of {info.bits} bits at {info.samplerate} Hz cannot"
            f" be encoded as FLAC: {error}",
        ) from error


# The head: everything before the first frame


open_writer = FlacWriter


def read_audio(path: Path, start: int, frames: int | None) -> None:
    """Leave the samples to the soundfile library, which decodes them."""
    del path, start, frames


def read_info(path: Path) -> SoundInfo:
    """Read the header of a FLAC file.

    Raises
    ------
    AudioError
        If it is missing, not a FLAC file, or shorter than its header says.
    """
    with open_sound(path) as file:
        info = _info_of(file, path)
        if info.frames == 0:  # the encoder did not know the length
            info = replace(info, frames=decoding.read_info(path).frames)
        if not _holds(file, info.frames):
            promised = f"{info.duration:.3f} s of sound" if info.frames else "sound"
            raise AudioError(
                f'"{path.name}" is cut off.',
                "copy or record it again",
                why=f"its header promises {promised}, but the end cannot be decoded.",
            )
        return info


def read_guano(path: Path) -> dict[str, str]:
    """Read the GUANO fields; empty if it has none."""
    with open_sound(path) as file:
        return fields_of(file, path)


def fields_of(file: BinaryIO, name: Path) -> dict[str, str]:
    """Read the GUANO fields of an open file; empty if it has none."""
    return parse_guano(_text_in(_head_of(file, name), name))


def put_guano(file: BinaryIO, name: Path, text: str) -> bool:
    """Put this GUANO text into the file if there is room; return whether there was."""
    head = _head_of(file, name)
    changed = _with_guano(head, text, name)
    if len(changed) != len(head):
        return False
    write_at(file, _INFO_END, changed[_INFO_END:])
    return True


def add_guano(path: Path, text: str) -> None:
    """Add a GUANO text to a FLAC file, or replace the one it has.

    In place if the head has room for it and changes in one page only, which a power cut
    cannot tear apart; otherwise in a copy that then replaces the file.

    Raises
    ------
    AudioError
        If it is not a FLAC file, or cut off.
    RecordingError
        If the disk refuses.
    """
    read_info(path)
    with open_sound(path, "r+b") as file, disk_errors(path):
        head = _head_of(file, path)
        if _text_in(head, path).rstrip() == text.rstrip():
            return
        changed = _with_guano(head, text, path)
        if len(changed) == len(head) and changed[_PAGE:] == head[_PAGE:]:
            write_at(file, _INFO_END, changed[_INFO_END:])
            os.fsync(file.fileno())
            return
        _copy_with(changed, file, len(head), path)


def _copy_with(head: bytes, file: BinaryIO, audio: int, path: Path) -> None:
    """Write the file again with another head."""
    copy = path.with_name(f".{path.name}.guano")
    try:
        with os.fdopen(open_file(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as target:
            target.write(head)
            file.seek(audio)
            shutil.copyfileobj(file, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        copy.replace(path)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _head_of(file: BinaryIO, name: Path) -> bytes:
    head = _read_head(file)
    if head is None:
        raise _not_flac(name, "it does not start like one, or its header is missing.")
    return head


def _read_head(file: BinaryIO) -> bytes | None:
    """Return what stands before the first frame; None if it is not there, or not complete."""
    file.seek(0)
    parts, kind = [file.read(len(MAGIC))], 0
    if parts[0] != MAGIC:
        return None
    while not kind & _LAST:
        start = file.read(4)
        content = file.read(int.from_bytes(start[1:], "big"))
        if len(start) < 4 or len(content) < int.from_bytes(start[1:], "big"):
            return None
        kind = start[0]
        if (kind & ~_LAST == 0) != (len(parts) == 1):  # STREAMINFO is the first block, no other.
            return None
        parts += start, content
    return b"".join(parts)


def _info_of(file: BinaryIO, name: Path) -> SoundInfo:
    return _sound_info(_parse(_head_of(file, name), name).info)


def _sound_info(info: Any) -> SoundInfo:
    return SoundInfo(info.sample_rate, info.channels, info.bits_per_sample, info.total_samples)


def _text_in(head: bytes, name: Path) -> str:
    tags = _parse(head, name).tags
    return str(tags[_KEY][0]) if tags is not None and _KEY in tags else ""


def _with_guano(head: bytes, text: str, name: Path) -> bytes:
    """Return the head with this text; of the same length if its padding has room for that."""
    flac = _parse(head, name)
    is_new = flac.tags is None
    if is_new:
        flac.add_tags()
    tags: Any = flac.tags
    if is_new:
        tags.vendor = f"acoupi {__version__}"
    tags[_KEY] = [text] if text else []
    target = io.BytesIO(head)
    flac.save(target, padding=lambda info: _padding(len(head) - info.padding, info.padding))
    return target.getvalue()


def _padding(needed: int, left: int) -> int:
    """Return how much padding to write: what is left, else up to a multiple of `HEAD_ROOM`."""
    return left if left >= 0 else -(needed + HEAD_ROOM // 2) % HEAD_ROOM + HEAD_ROOM // 2


def _parse(head: bytes, name: Path) -> Any:
    from mutagen import MutagenError  # noqa: PLC0415 - only for FLAC
    from mutagen.flac import FLAC  # noqa: PLC0415

    try:
        return FLAC(io.BytesIO(head))  # type: ignore[no-untyped-call]
    except (MutagenError, ValueError, struct.error) as error:
        raise _not_flac(name, f"{error}.") from error


def _pack_info(info: SoundInfo) -> bytes:
    """Return the content of STREAMINFO (RFC 9639, section 8.2), the checksum left out."""
    rate, channels, bits = info.samplerate, info.channels - 1, info.bits - 1
    word = rate << 44 | channels << 41 | bits << 36 | info.frames
    return struct.pack(">HH6xQ16x", BLOCK, BLOCK, word)


# What a crash left


class _Start:
    """The first bytes of a file, as a file; it is called from C, so it never raises."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        file.seek(0)
        self.error: OSError | None = None
        self._file = file
        self._size = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as in any file."""
        base = {os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}.get(whence, 0)
        return self._file.seek(base + offset)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def read(self, count: int) -> bytes:
        """Return at most this many bytes."""
        try:
            return self._file.read(max(0, min(count, self._size - self.tell())))
        except OSError as error:
            self.error = error
            return b""


def is_only_a_head(content: bytes) -> bool:
    """Return whether a file that begins so holds no sound: only zeros follow, if any."""
    text = content.rstrip(b"\0")
    return MAGIC.startswith(text[:4]) and len(text) < HEAD_ROOM


def is_whole(file: BinaryIO, name: Path) -> bool:
    """Return whether the file was finished, and nothing is missing at its end."""
    return _holds(file, _info_of(file, name).frames)


def _holds(file: BinaryIO, frames: int, size: int | None = None) -> bool:
    """Return whether the first `size` bytes (None: all) hold so many frames: decode the last."""
    if frames == 0:
        return False
    soundfile = _soundfile()
    start = _Start(file, file.seek(0, os.SEEK_END) if size is None else size)
    try:
        with decoding.one_way(soundfile)(start) as sound:
            sound.seek(frames - 1)
            return len(sound.read(1, "int32")) == 1
    except (soundfile.SoundFileError, ValueError):
        return False
    finally:
        _raise(start.error)


def repair(file: BinaryIO, name: Path) -> SoundInfo | None:
    """Make the header match the decodable part, and truncate the file there; None if there is none.

    Raises
    ------
    AudioError
        If it is not a FLAC file.
    OSError
        If the disk refuses.
    """
    info = _parse(_head_of(file, name), name).info
    frames, most = _count_decodable(file)
    if frames == 0:
        return None
    info.total_samples, info.md5_signature = frames, 0
    write_at(file, _INFO_OFFSET, info.write())
    # The shortest file from which the last of these frames can be decoded.
    end = bisect.bisect_left(range(most), True, key=lambda size: _holds(file, frames, size))
    file.truncate(end)
    return _sound_info(info)


def _count_decodable(file: BinaryIO) -> tuple[int, int]:
    """Return how many frames come before the first damage, and how many bytes that took."""
    soundfile = _soundfile()
    one_way = decoding.one_way(soundfile)
    done, taken = 0, 0
    start = _Start(file, file.seek(0, os.SEEK_END))
    with suppress(soundfile.SoundFileError, ValueError, MemoryError), one_way(start) as sound:
        while got := len(sound.read(BLOCK, "int32")):
            done, taken = done + got, start.tell()
    _raise(start.error)
    return done, taken


def _soundfile() -> Any:
    try:
        import soundfile  # noqa: PLC0415 - only for FLAC
    except (ImportError, OSError) as error:
        raise AudioError(
            "cannot read FLAC files: the soundfile library is missing.",
            "pip install soundfile",
            why=str(error),
        ) from error
    return soundfile


def _raise(error: OSError | None) -> None:
    if error is not None:
        raise error


def _not_flac(name: Path, why: str) -> AudioError:
    return AudioError(
        f'cannot read "{name.name}": it is not a FLAC file.',
        "give the path of a WAV or FLAC file",
        why=why,
    )
