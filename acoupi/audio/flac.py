"""FLAC files: half the size of WAV files, sample for sample the same.

A file has the layout of RFC 9639: STREAMINFO, a Vorbis comment ``GUANO`` with
the whole text (GUANO says nothing of FLAC; any tool shows a comment), padding
for what is known only at the end, and then frames of `BLOCK` samples. libFLAC
makes the frames, through the soundfile library; the head is ours, so that it
is on the disk before the first sample, and can be changed in place.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from acoupi import __version__
from acoupi.audio.disk import disk_errors, open_sound
from acoupi.audio.flac_frames import MOST_FRAME_BYTES, Frame, crc, last_frame
from acoupi.audio.guano import parse_guano
from acoupi.audio.riff import write_all
from acoupi.audio.sources import SAMPLE_BYTES
from acoupi.audio.writer import SoundInfo, SoundWriter
from acoupi.errors import AudioError, RecordingError

__all__ = [
    "HEAD_ROOM",
    "MAGICS",
    "MAX_CHANNELS",
    "MAX_SAMPLERATE",
    "NAME",
    "FlacWriter",
    "add_guano",
    "can_hold_rate",
    "fields_of",
    "is_only_a_head",
    "is_whole",
    "mend",
    "open_writer",
    "put_guano",
    "read_audio",
    "read_guano",
    "read_info",
    "refusal",
]

NAME = "flac"
MAGIC = b"fLaC"
MAGICS: tuple[bytes, ...] = (MAGIC,)
MAX_CHANNELS = 8
MAX_SAMPLERATE = 655_350
"""Hz. From 65 536 Hz on, only multiples of 10 Hz (what a frame's header can say)."""

BLOCK = 4096
"""Samples of a channel in a frame: what a crash may cost, beside what was not written yet."""
_STREAMINFO, _PADDING, _COMMENT = 0, 1, 4
_LAST = 0x80
_HEAD_BYTES = 4 + 4 + 34
HEAD_ROOM = 8192
"""Of the comments and their padding: a cluster, with what a text may grow by in the end."""
_FIELD = b"GUANO="


class Shape(NamedTuple):
    """What STREAMINFO says."""

    samplerate: int
    channels: int
    bits: int
    frames: int
    """0: not known, the file was never finished."""
    block: int = BLOCK
    """Samples of a channel in each frame but the last."""

    @property
    def info(self) -> SoundInfo:
        """The same without what is only about FLAC."""
        return SoundInfo(self.samplerate, self.channels, self.bits, self.frames)


class Layout(NamedTuple):
    """Where everything is in one file."""

    shape: Shape
    comments: tuple[int, int] | None
    """Where the comments begin (their header), and where they and the padding behind them end."""
    audio: int
    """Where the first frame begins."""


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
        Of no meaning here.

    Raises
    ------
    RecordingError
        If the disk refuses, or the format has no such rate.
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
        shape = Shape(max(1, int(samplerate / time_expansion)), channels, bits, 0)
        head = MAGIC + _block(_STREAMINFO, _pack_shape(shape)) + _pack_comments(guano, is_last=True)
        super().__init__(path, head)
        self._type = "int16" if sample_bytes == SAMPLE_BYTES else "int32"
        self._sink = _Sink(self._file, len(head))
        try:
            self._encoder: Any = _open_encoder(self._sink, shape, path)
        except BaseException:
            self.discard()
            raise
        self._frame_bytes = sample_bytes * channels

    def write(self, block: bytes | memoryview) -> None:
        """Append whole frames: integers of this machine, channel after channel."""
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

    def _complete(self, guano: str | None) -> None:
        if self._encoder is not None:
            self._close_encoder()
            if self._sink.error is not None:
                raise self._sink.error
            _write_at(self._file, 4, bytes(self._sink.head[4:_HEAD_BYTES]))
        if guano is not None:
            put_guano(self._file, self.part, guano)

    def _give_up(self) -> None:
        """After an error nothing more can be encoded: keep the frames that are whole."""
        if self._encoder is None:
            return
        self._close_encoder()
        try:
            shape = mend(self._file, self.part)
        except OSError:
            shape = None
        self.frames = shape.frames if shape else 0

    def _close_encoder(self) -> None:
        import soundfile  # noqa: PLC0415

        encoder, self._encoder = self._encoder, None
        try:
            encoder.close()
        except soundfile.SoundFileError as error:
            self._sink.error = self._sink.error or OSError(str(error))

    def leave(self) -> None:
        """Let go of the file as it is."""
        self._sink.is_over = True
        super().leave()


class _Sink:
    """Where libFLAC writes: frames go behind our head, its own head is kept aside.

    It is called from C, so it never raises.
    """

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.head = bytearray()
        self.error: OSError | None = None
        self.is_over = False
        self._file = file
        self._start = start
        self._position = 0
        self._length = 0
        self._first_frame: int | None = None

    def write(self, block: bytes) -> int:
        """Return how much was taken: all, or nothing after an error."""
        if self.is_over or self.error is not None:
            return 0
        if self._first_frame is None and _is_complete(self.head):
            self._first_frame = len(self.head)
        try:
            if self._first_frame is None or self._position < self._first_frame:
                self.head[self._position : self._position + len(block)] = block
            else:
                self._file.seek(self._start + self._position - self._first_frame)
                write_all(self._file.write, block)
        except OSError as error:
            self.error = error
            return 0
        self._position += len(block)
        self._length = max(self._length, self._position)
        return len(block)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere in what libFLAC takes for its file."""
        base = {os.SEEK_CUR: self._position, os.SEEK_END: self._length}.get(whence, 0)
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return where it is."""
        return self._position

    def read(self, _: int) -> bytes:
        """Return nothing; the library wants a file that can be read."""
        return b""


def _open_encoder(sink: _Sink, shape: Shape, path: Path) -> Any:
    try:
        import soundfile  # noqa: PLC0415 - only for FLAC

        return soundfile.SoundFile(
            sink,
            "w",
            samplerate=shape.samplerate,
            channels=shape.channels,
            format="FLAC",
            subtype=f"PCM_{shape.bits}",
        )
    except (ImportError, OSError, RuntimeError) as error:
        raise RecordingError(
            f'cannot write "{path.name}".',
            "acoupi config set recording.file_format wav",
            why=f"{shape.channels} channels of {shape.bits} bits at {shape.samplerate} Hz cannot"
            f" be encoded as FLAC: {error}",
        ) from error


# Reading


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
        layout = _read_layout(file, path)
        if not _is_whole(file, layout):
            found = last_frame(file, layout.audio, layout.shape.block)
            there = found.first if found else 0
            promised = f"{layout.shape.frames / layout.shape.samplerate:.3f} s"
            raise AudioError(
                f'"{path.name}" is cut off.',
                "copy or record it again",
                why=f"its header promises {promised if layout.shape.frames else 'some'} of sound"
                f" and it holds {there / layout.shape.samplerate:.3f} s.",
            )
        return layout.shape.info


def read_guano(path: Path) -> dict[str, str]:
    """Read the GUANO fields; empty if it has none."""
    with open_sound(path) as file:
        return fields_of(file, path)


def fields_of(file: BinaryIO, name: Path) -> dict[str, str]:
    """Read the GUANO fields of an open file; empty if it has none."""
    comments = _read_comments(file, _read_layout(file, name))[1]
    return parse_guano(next(_texts(comments), b""))


def _texts(comments: list[bytes]) -> Iterator[bytes]:
    for comment in comments:
        if comment[: len(_FIELD)].upper() == _FIELD:
            yield comment[len(_FIELD) :]


def _read_layout(file: BinaryIO, name: Path) -> Layout:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES or head[:4] != MAGIC or head[4] & 0x7F != _STREAMINFO:
        raise _not_flac(name, "it does not begin as one." if head else "it is empty.")
    shape = _unpack_shape(head[8:])
    if not shape.samplerate:
        raise _not_flac(name, "it says that it has 0 Hz.")
    comments: tuple[int, int] | None = None
    offset, is_last = _HEAD_BYTES, bool(head[4] & _LAST)
    while not is_last:
        file.seek(offset)
        start = file.read(4)
        end = offset + 4 + int.from_bytes(start[1:], "big")
        if len(start) < 4 or end > size:
            raise _not_flac(name, "its head has been cut off.")
        kind, is_last = start[0] & 0x7F, bool(start[0] & _LAST)
        if kind == _COMMENT:
            comments = offset, end
        elif kind == _PADDING and comments is not None and comments[1] == offset:
            comments = comments[0], end
        offset = end
    return Layout(shape, comments, offset)


def _read_comments(file: BinaryIO, layout: Layout) -> tuple[bytes, list[bytes]]:
    """Return the name of who made the file, and the comments."""
    if layout.comments is None:
        return b"", []
    file.seek(layout.comments[0])
    length = int.from_bytes(file.read(4)[1:], "big")
    content = file.read(length)
    try:
        vendor, rest = _take(content)
        (count,) = struct.unpack_from("<I", rest)
        rest, comments = rest[4:], []
        for _ in range(count):
            comment, rest = _take(rest)
            comments.append(comment)
    except struct.error:
        return b"", []
    return vendor, comments


def _take(content: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from("<I", content)
    return content[4 : 4 + length], content[4 + length :]


# Writing


def put_guano(file: BinaryIO, name: Path, text: str) -> bool:
    """Put this GUANO text in the file if there is room; return whether there was."""
    layout = _read_layout(file, name)
    if layout.comments is None:
        return False
    vendor, comments = _read_comments(file, layout)
    others = [one for one in comments if one[: len(_FIELD)].upper() != _FIELD]
    start, end = layout.comments
    packed = _pack_comments(text, vendor, others, room=end - start, is_last=end == layout.audio)
    if len(packed) != end - start:
        return False
    _write_at(file, start, packed)
    return True


def add_guano(path: Path, text: str) -> None:
    """Put a GUANO text in a FLAC file, or in place of the one it has.

    In place where there is room for it, else in a copy that takes the file's place.

    Raises
    ------
    AudioError
        If it is not a FLAC file, or cut off.
    RecordingError
        If the disk refuses.
    """
    read_info(path)
    with open_sound(path, "r+b") as file, disk_errors(path):
        layout = _read_layout(file, path)
        if next(_texts(_read_comments(file, layout)[1]), b"").rstrip() == text.encode().rstrip():
            return
        if put_guano(file, path, text):
            os.fsync(file.fileno())
            return
        _copy_with(file, layout, path, text)


def _copy_with(file: BinaryIO, layout: Layout, path: Path, text: str) -> None:
    """Write the file again with this text in it."""
    copy = path.with_name(f".{path.name}.guano")
    vendor, comments = _read_comments(file, layout)
    others = [one for one in comments if one[: len(_FIELD)].upper() != _FIELD]
    try:
        with copy.open("wb") as target:
            file.seek(0)
            target.write(MAGIC)
            for kind, content in _blocks(file, layout):
                if kind not in (_COMMENT, _PADDING):
                    target.write(_block(kind, content))
            target.write(_pack_comments(text, vendor, others, is_last=True))
            file.seek(layout.audio)
            while content := file.read(1 << 20):
                target.write(content)
            target.flush()
            os.fsync(target.fileno())
        copy.replace(path)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _blocks(file: BinaryIO, layout: Layout) -> Iterator[tuple[int, bytes]]:
    offset = 4
    while offset < layout.audio:
        file.seek(offset)
        start = file.read(4)
        length = int.from_bytes(start[1:], "big")
        yield start[0] & 0x7F, file.read(length)
        offset += 4 + length


def _block(kind: int, content: bytes, *, is_last: bool = False) -> bytes:
    return bytes([kind | (_LAST if is_last else 0)]) + len(content).to_bytes(3, "big") + content


def _pack_comments(
    text: str,
    vendor: bytes = b"",
    others: "list[bytes] | tuple[()]" = (),
    *,
    room: int | None = None,
    is_last: bool,
) -> bytes:
    """Return the comments and the padding behind them; longer than `room` if they do not fit."""
    vendor = vendor or f"acoupi {__version__}".encode()
    comments = [*others, _FIELD + text.encode()] if text else [*others]
    parts = [vendor, *comments]
    packed = [struct.pack("<I", len(part)) + part for part in parts]
    content = packed[0] + struct.pack("<I", len(comments)) + b"".join(packed[1:])
    if room is None:
        room = HEAD_ROOM - _HEAD_BYTES
        while room < len(content) + HEAD_ROOM // 2:
            room += HEAD_ROOM
    left = room - (len(content) + 4)
    if left == 0:
        return _block(_COMMENT, content, is_last=is_last)
    if left < 4:  # Not even the head of a padding: it cannot be made to fit.
        return _block(_COMMENT, content) + _block(_PADDING, b"", is_last=is_last) + bytes(room)
    return _block(_COMMENT, content) + _block(_PADDING, bytes(left - 4), is_last=is_last)


def _pack_shape(shape: Shape) -> bytes:
    rate, channels, bits = shape.samplerate, shape.channels - 1, shape.bits - 1
    word = rate << 44 | channels << 41 | bits << 36 | shape.frames
    return struct.pack(">HH6xQ16x", shape.block, shape.block, word)


def _unpack_shape(content: bytes) -> Shape:
    block, _, word = struct.unpack_from(">HH6xQ", content)
    channels, bits = (word >> 41 & 0x7) + 1, (word >> 36 & 0x1F) + 1
    return Shape(word >> 44, channels, bits, word & 0xF_FFFF_FFFF, block)


def _write_at(file: BinaryIO, offset: int, content: bytes) -> None:
    file.seek(offset)
    write_all(file.write, content)


def _is_complete(head: bytearray) -> bool:
    """Return whether all of the metadata is there, and frames follow."""
    offset = 4
    while offset + 4 <= len(head):
        end = offset + 4 + int.from_bytes(head[offset + 1 : offset + 4], "big")
        if head[offset] & _LAST:
            return end <= len(head)
        offset = end
    return False


# What a crash left


def is_only_a_head(content: bytes) -> bool:
    """Return whether a file that begins so holds no sound: only zeros follow, if any."""
    text = content.rstrip(b"\0")
    return MAGIC.startswith(text[:4]) and len(text) < HEAD_ROOM


def is_whole(file: BinaryIO, name: Path) -> bool:
    """Return whether the file was finished, and nothing of it is missing."""
    return _is_whole(file, _read_layout(file, name))


def _is_whole(file: BinaryIO, layout: Layout) -> bool:
    last = last_frame(file, layout.audio, layout.shape.block)
    if last is None or layout.shape.frames != last.first + last.frames:
        return False
    return _is_last_whole(file, last)


def _is_last_whole(file: BinaryIO, last: Frame) -> bool:
    file.seek(last.offset)
    content = file.read(MOST_FRAME_BYTES)
    return len(content) < MOST_FRAME_BYTES and crc(content, 16) == 0


def mend(file: BinaryIO, name: Path) -> SoundInfo | None:
    """Make the headers say what can be decoded; None if that is nothing.

    The file is cut behind its last whole frame before which nothing is damaged.

    Raises
    ------
    AudioError
        If it is not a FLAC file.
    """
    layout = _read_layout(file, name)
    last = last_frame(file, layout.audio, layout.shape.block)
    if last is None:
        return None
    frames = last.first
    if _is_last_whole(file, last):
        frames += last.frames
    else:
        file.truncate(last.offset)
    _put_frames(file, layout, frames)
    good = _count_decodable(name)
    if good < frames:
        last = last_frame(file, layout.audio, layout.shape.block, good)
        frames = last.first if last else 0
        file.truncate(last.offset if last else layout.audio)
        _put_frames(file, layout, frames)
    return layout.shape._replace(frames=frames).info if frames else None


def _put_frames(file: BinaryIO, layout: Layout, frames: int) -> None:
    _write_at(file, 8, _pack_shape(layout.shape._replace(frames=frames)))


def _count_decodable(path: Path) -> int:
    """Return how many samples of a channel there are before the first damage."""
    import soundfile  # noqa: PLC0415 - only for FLAC

    done = 0
    try:
        with soundfile.SoundFile(path) as sound:
            while got := len(sound.read(BLOCK, "int32")):
                done += got
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError):
        pass  # What was read before it is good.
    return done


def _not_flac(name: Path, why: str) -> AudioError:
    return AudioError(
        f'cannot read "{name.name}": it is not a FLAC file.',
        "give the path of a WAV or FLAC file",
        why=why,
    )
