"""A picture of a recording: its spectrogram with axes and boxes, as a PNG file.

It is drawn here, with numpy and zlib: matplotlib would add 60 MB to every image and two seconds
and 70 MB of memory to every picture, on boards that have 512 MB. The palette is cividis (Nuñez
et al. 2018, doi:10.1371/journal.pone.0199239), which people with and without colour vision
deficiency read alike; brighter is always louder.
"""

import datetime
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from acoupi.audio.formats import read_audio

__all__ = ["Box", "spectrogram"]

WIDTH, HEIGHT = 1000, 384
"""Size of the spectrogram, pixels; the height is also the number of frequencies."""
LEFT, TOP, RIGHT, BOTTOM = 64, 28, 20, 44
_FFT = 2 * HEIGHT
_BLOCK = 40
"""Columns that are read together: memory does not grow with the recording."""
_MOST_FRAMES = 4
"""Transforms that are averaged in a column."""
RANGE_DB = 70.0
"""From the darkest to the brightest colour at most."""

_CIVIDIS = ("00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369",
            "e1cc55", "fee838")  # fmt: skip
_PAPER, _INK = 255, 0
_SCALE = 2

# Three columns and five rows each, a row an octal digit.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717",
    "6": "74757", "7": "71111", "8": "75757", "9": "75717", ".": "00002", "-": "00700",
    ":": "02020", " ": "00000", "k": "45655", "H": "55755", "z": "07247", "s": "34216",
}  # fmt: skip

Picture = NDArray[np.uint8]
Samples = Callable[[int, int], NDArray[np.float32]]
"""Reads samples from a first frame on, at most so many: shape (frames, channels)."""


class Box(NamedTuple):
    """A detection in a picture; it gets a number, in the order of the list."""

    start_s: float
    low_hz: float
    end_s: float
    high_hz: float


class _Frame(NamedTuple):
    """What the picture shows: seconds across, hertz upwards from 0."""

    start_s: float
    end_s: float
    top_hz: float

    def column(self, seconds: float) -> int:
        share = (seconds - self.start_s) / (self.end_s - self.start_s)
        return LEFT + round(min(max(share, 0.0), 1.0) * (WIDTH - 1))

    def line(self, hertz: float) -> int:
        return TOP + round((1 - min(max(hertz / self.top_hz, 0.0), 1.0)) * (HEIGHT - 1))


def spectrogram(
    source: Path | Samples,
    samplerate: float,
    part: tuple[float, float],
    boxes: Sequence[Box] = (),
    title: datetime.datetime | None = None,
) -> bytes:
    """Return a PNG file of a part of a recording.

    Parameters
    ----------
    source
        The file, or what reads its samples.
    samplerate
        Of the original sound, Hz.
    part
        Its start and its end, seconds from the first frame.
    boxes
        What to mark.
    title
        When the recording began, as it is to be written above.

    Raises
    ------
    AudioError
        If the file cannot be read.
    """
    frame = _Frame(*part, samplerate / 2)
    picture = np.full((TOP + HEIGHT + BOTTOM, LEFT + WIDTH + RIGHT, 3), _PAPER, np.uint8)
    read = partial(_samples_of, source) if isinstance(source, Path) else source
    levels = np.concatenate(list(_columns(read, samplerate, *part)))
    picture[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = _coloured(levels)
    _draw_axes(picture, frame)
    if title is not None:
        _write(picture, LEFT, 8, f"{title:%Y-%m-%d %H:%M:%S}")
    for number, box in enumerate(boxes, 1):
        _draw_box(picture, frame, box, str(number))
    return _png(picture)


def _samples_of(path: Path, start: int, frames: int) -> NDArray[np.float32]:
    return read_audio(path, start=start, frames=frames)[0]


def _columns(
    read: Samples, samplerate: float, start_s: float, end_s: float
) -> Iterator[NDArray[np.float32]]:
    """Yield the levels of some columns, dB: shape (columns, frequencies)."""
    step = (end_s - start_s) * samplerate / WIDTH
    window = np.hanning(_FFT).astype(np.float32)
    for first in range(0, WIDTH, _BLOCK):
        begin = round(start_s * samplerate + first * step)
        count = round(step * _BLOCK) + _FFT
        samples = np.zeros(count, np.float32)
        found = read(begin, count)
        samples[: len(found)] = found.mean(axis=1)
        yield np.stack([
            _level(samples, round(number * step), step, window) for number in range(_BLOCK)
        ])  # fmt: skip


def _level(
    samples: NDArray[np.float32], first: int, step: float, window: NDArray[np.float32]
) -> NDArray[np.float32]:
    last = max(first, min(first + round(step), len(samples)) - _FFT)
    starts = np.unique(np.linspace(first, last, _MOST_FRAMES).astype(int))
    pieces = np.stack([samples[begin : begin + _FFT] for begin in starts])
    power = np.abs(np.fft.rfft(pieces * window, axis=1)[:, 1:]) ** 2
    return np.asarray(10 * np.log10(power.mean(axis=0) + 1e-12), np.float32)


def _coloured(levels: NDArray[np.float32]) -> Picture:
    """Return colours, the lowest frequency below: noise dark, the loudest bright."""
    floor = float(np.median(levels)) - 3
    top = max(float(np.quantile(levels, 0.9995)), floor + 20)
    low = max(floor, top - RANGE_DB)
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _CIVIDIS])
    share = np.clip((levels.T[::-1] - low) / (top - low), 0, 1) * (len(anchors) - 1)
    places = np.arange(len(anchors))
    return np.stack(
        [np.interp(share, places, anchors[:, part]) for part in range(3)], axis=-1
    ).astype(np.uint8)


def _draw_axes(picture: Picture, frame: _Frame) -> None:
    below = TOP + HEIGHT
    picture[TOP : below + 1, LEFT - 1] = _INK
    picture[below, LEFT - 1 : LEFT + WIDTH] = _INK
    for seconds, text in _ticks(frame.start_s, frame.end_s, 10):
        column = frame.column(seconds)
        picture[below : below + 6, column] = _INK
        _write(picture, column - _width(text) // 2, below + 10, text)
    for kilohertz, text in _ticks(0, frame.top_hz / 1000, 8):
        line = frame.line(1000 * kilohertz)
        picture[line, LEFT - 6 : LEFT] = _INK
        _write(picture, LEFT - 10 - _width(text), line - 5, text)
    _write(picture, LEFT + WIDTH - _width("s"), below + 28, "s")
    _write(picture, 4, 8, "kHz")


def _ticks(low: float, high: float, most: int) -> Iterator[tuple[float, str]]:
    """Yield round numbers from low to high, at most about `most`, with their texts."""
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(next(power * one for one in (1, 2, 5, 10) if power * one >= rough))
    digits = max(0, -int(np.floor(np.log10(step))))
    for number in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1):
        yield number * step, f"{number * step:.{digits}f}"


def _draw_box(picture: Picture, frame: _Frame, box: Box, label: str) -> None:
    left, right = frame.column(box.start_s), frame.column(box.end_s)
    top, bottom = frame.line(box.high_hz), frame.line(box.low_hz)
    for margin, colour in ((2, _INK), (1, _PAPER)):  # seen on dark and on bright
        a, b, c, d = left - margin, right + margin, top - margin, bottom + margin
        inside = picture[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
        a, b = (min(max(one - LEFT, 0), WIDTH - 1) for one in (a, b))
        c, d = (min(max(one - TOP, 0), HEIGHT - 1) for one in (c, d))
        inside[c : d + 1, [a, b]] = colour
        inside[[c, d], a : b + 1] = colour
    height = 5 * _SCALE
    line = top - height - 4 if top - height - 4 >= TOP else top + 4
    column = min(left + 2, LEFT + WIDTH - _width(label))
    picture[line - 2 : line + height + 2, column - 2 : column + _width(label)] = _INK
    _write(picture, column, line, label, _PAPER)


def _width(text: str) -> int:
    return 4 * _SCALE * len(text)


def _write(picture: Picture, column: int, line: int, text: str, colour: int = _INK) -> None:
    for number, letter in enumerate(text):
        rows = [[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in _GLYPHS[letter]]
        glyph = np.kron(np.array(rows, bool), np.ones((_SCALE, _SCALE), bool))
        at = column + 4 * _SCALE * number
        place = picture[line : line + glyph.shape[0], at : at + glyph.shape[1]]
        place[glyph[: place.shape[0], : place.shape[1]]] = colour


def _png(picture: Picture) -> bytes:
    height, width, _ = picture.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = np.insert(picture.reshape(height, -1), 0, 0, axis=1)  # each with the filter "none"
    body = zlib.compress(lines.tobytes(), 6)
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
