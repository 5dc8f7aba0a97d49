"""A format in one module: AU files of 16 bits, as a contributor would write it.

The header has a text of any length, here of `ROOM` bytes for GUANO.
"""

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from acoupi.audio.disk import disk_errors, open_sound
from acoupi.audio.guano import parse_guano
from acoupi.audio.writer import SoundInfo, SoundWriter
from acoupi.errors import AudioError

NAME = "au"
MEDIA_TYPE = "audio/basic"
MAGICS: tuple[bytes, ...] = (b".snd",)
ROOM = 4096
_HEAD = struct.Struct(">4sIIIII")
_OFFSET = _HEAD.size + ROOM
_UNKNOWN = 0xFFFF_FFFF


class AuWriter(SoundWriter):
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
        del bits, sample_bytes, frames
        rate = max(1, int(samplerate / time_expansion))
        head = _HEAD.pack(MAGICS[0], _OFFSET, _UNKNOWN, 3, rate, channels)
        self._frame_bytes = 2 * channels
        super().__init__(path, head + guano.encode().ljust(ROOM, b"\0"))

    def write(self, block: bytes | memoryview) -> None:
        with disk_errors(self.path):
            self._file.write(np.frombuffer(block, "=i2").astype(">i2").tobytes())
        self.frames += len(block) // self._frame_bytes

    def _complete(self, guano: str | None) -> None:
        repair(self._file, self.part)
        if guano is not None:
            put_guano(self._file, self.part, guano)


open_writer = AuWriter


def refusal(samplerate: int, channels: int) -> str | None:
    del samplerate
    return None if channels <= 2 else f"AU has at most 2 channels, not {channels}."


def _read(file: BinaryIO, name: Path) -> tuple[SoundInfo, int, int]:
    """What the header says, how many bytes of samples it says, and how many are there."""
    file.seek(0)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size or head[:4] not in MAGICS:
        raise AudioError(f'"{name.name}" is no AU file.')
    _, offset, size, _, rate, channels = _HEAD.unpack(head)
    there = max(0, file.seek(0, os.SEEK_END) - offset)
    return SoundInfo(rate, channels, 16, min(size, there) // (2 * channels)), size, there


def read_info(path: Path) -> SoundInfo:
    with open_sound(path) as file:
        info, size, there = _read(file, path)
    if size > there:
        raise AudioError(f'"{path.name}" is cut off.')
    return info


def read_audio(path: Path, start: int, frames: int | None) -> Any:
    info = read_info(path)
    samples = np.fromfile(path, ">i2", offset=_OFFSET).reshape(-1, info.channels)
    chosen = samples[start : None if frames is None else start + frames]
    return chosen.astype(np.float32) / np.float32(2**15), info.samplerate


def read_guano(path: Path) -> dict[str, str]:
    with open_sound(path) as file:
        return fields_of(file, path)


def add_guano(path: Path, text: str) -> None:
    with open_sound(path, "r+b") as file, disk_errors(path):
        put_guano(file, path, text)
        os.fsync(file.fileno())


def fields_of(file: BinaryIO, name: Path) -> dict[str, str]:
    _read(file, name)
    file.seek(_HEAD.size)
    return parse_guano(file.read(ROOM).rstrip(b"\0"))


def put_guano(file: BinaryIO, name: Path, text: str) -> None:
    del name
    file.seek(_HEAD.size)
    file.write(text.encode().ljust(ROOM, b"\0"))


def is_whole(file: BinaryIO, name: Path) -> bool:
    _, size, there = _read(file, name)
    return 0 < size <= there


def is_only_a_head(content: bytes) -> bool:
    text = content.rstrip(b"\0")
    return MAGICS[0].startswith(text[:4]) and len(text) < _OFFSET


def repair(file: BinaryIO, name: Path) -> SoundInfo | None:
    info, _, there = _read(file, name)
    there -= there % (2 * info.channels)
    if there == 0:
        return None
    file.seek(8)
    file.write(struct.pack(">I", there))
    return _read(file, name)[0]
