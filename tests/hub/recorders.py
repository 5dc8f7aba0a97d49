"""Sound files as recorders of others write them, made here."""

import io
import os
import struct
import wave
from pathlib import Path

import numpy as np

__all__ = ["RATE", "audiomoth", "read_frames", "song_meter", "wav_bytes", "write"]

RATE = 8000
OLD = 1.6e9
"""When the files were changed last, so that none seems to be being written, seconds."""


def wav_bytes(seconds: float, seed: int, rate: int = RATE, chunks: bytes = b"") -> bytes:
    """Return a WAV file of noise; other chunks stand before its samples."""
    frames = round(seconds * rate)
    noise = np.random.default_rng(seed).integers(-2000, 2000, frames).astype("<i2").tobytes()
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + fmt + chunks + struct.pack("<4sI", b"data", len(noise)) + noise
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def write(path: Path, content: bytes, changed: float = OLD) -> Path:
    """Write a file as it was some time ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (changed, changed))
    return path


def audiomoth(path: Path, when: str, seconds: float = 1.0, seed: int = 0) -> Path:
    """Write a file of an AudioMoth: ``HH:MM:SS DD/MM/YYYY (UTC+1)`` is in its comment."""
    words = f"Recorded at {when} by AudioMoth 24E144055DDD3203 at medium gain.".encode()
    text = struct.pack("<4sI", b"ICMT", 384) + words.ljust(384, b"\0")
    info = struct.pack("<4sI", b"LIST", 4 + len(text)) + b"INFO" + text
    return write(path, wav_bytes(seconds, seed, chunks=info))


def song_meter(path: Path, when: str, seconds: float = 1.0, seed: int = 0) -> Path:
    """Write a file of a Song Meter, with a wamd chunk."""
    parts = ((1, b"SM4BAT"), (5, when.encode()), (6, b"WGS84,51.5,N,0.25,W"))
    content = b"".join(struct.pack("<HI", kind, len(text)) + text for kind, text in parts)
    chunk = struct.pack("<4sI", b"wamd", len(content)) + content + bytes(len(content) % 2)
    return write(path, wav_bytes(seconds, seed, chunks=chunk))


def read_frames(content: bytes) -> bytes:
    """Return the samples of a WAV file."""
    with wave.open(io.BytesIO(content)) as file:
        return file.readframes(file.getnframes())
