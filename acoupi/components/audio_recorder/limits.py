"""Limits of what can be recorded."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from acoupi.audio.formats import FileFormat, format_named
from acoupi.audio.sources import SAMPLE_BYTES, WIDE_SAMPLE_BYTES
from acoupi.audio.stream import RING_SECONDS
from acoupi.errors import ConfigurationError

__all__ = [
    "SMALLEST_RING_SECONDS",
    "require_format",
    "require_possible",
    "require_ring",
]

SMALLEST_RING_SECONDS = 10.0
"""A task may be 5 s late, and a disk busy for a few seconds more."""
_MEMORY_SHARE = 0.5
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def require_possible(  # noqa: PLR0917 - what every recorder is told
    duration: float,
    samplerate: int,
    channels: int,
    time_expansion: float,
    interval: float | None,
    bits: int,
) -> None:
    """Refuse what cannot be recorded.

    Raises
    ------
    ConfigurationError
        If a value is not greater than 0 and finite, or the sample size is not supported.
    """
    for name, value in (
        ("duration", duration),
        ("samplerate", samplerate),
        ("audio_channels", channels),
        ("time_expansion", time_expansion),
        ("interval", 1 if interval is None else interval),
    ):
        if not 0 < value < float("inf"):
            raise ConfigurationError(
                f'cannot record with a {name} of "{value}".', f"give a {name} greater than 0"
            )
    if bits not in (16, 24):
        raise ConfigurationError(
            f'cannot record with "{bits}" bits.', "give 16 or 24", why="files hold 16 or 24."
        )


def require_format(
    file_format: FileFormat, samplerate: int, channels: int, time_expansion: float
) -> None:
    """Refuse rates and channels that the file format cannot hold.

    Raises
    ------
    ConfigurationError
        The message says what it can hold.
    """
    kind = format_named(file_format)
    if kind is None:
        raise ConfigurationError(
            f'cannot record "{file_format}" files.', "acoupi config set recording.file_format wav"
        )
    why = kind.refusal(max(1, int(samplerate / time_expansion)), channels)
    if why is not None:
        raise ConfigurationError(
            f"cannot record {channels} channels at {samplerate} Hz as {kind.NAME.upper()}.",
            "acoupi config set recording.file_format wav",
            why=why,
        )


def require_ring(
    seconds: float | None, size: int | None, samplerate: int, channels: int, *, bits: int
) -> float | None:
    """Refuse a ring that is too small for its purpose or too large for the memory.

    Parameters
    ----------
    seconds, size
        How much sound it should hold, in seconds or in bytes; None: the default.
    samplerate, channels, bits
        Of the recordings.

    Returns
    -------
    float or None
        The seconds that it holds; None: the default.

    Raises
    ------
    ConfigurationError
        The message says what would fit.
    """
    if seconds is not None and size is not None:
        raise ConfigurationError(
            "the size of the ring cannot be given both in seconds and in bytes.",
            "acoupi config set recording.ring_bytes none",
            why=f"ring_seconds is {seconds:g} and ring_bytes is {size}.",
        )
    option, given = ("ring_seconds", seconds) if size is None else ("ring_bytes", size)
    if size is not None:
        seconds = size // _frame_bytes(channels, bits) / samplerate
    second = samplerate * _frame_bytes(channels, bits)

    def as_option(length: float) -> str:
        return f"{length:g}" if size is None else f"{math.ceil(length * second)}"

    if seconds is not None and not SMALLEST_RING_SECONDS <= seconds < float("inf"):
        least = as_option(SMALLEST_RING_SECONDS)
        holds = "" if size is None else f", which hold {seconds:.3g} s"
        raise ConfigurationError(
            f'cannot record with a ring of "{given:g}" {option[5:]}{holds}.',
            f"acoupi config set recording.{option} {least}",
            why="a recording that begins late, or a busy disk, would lose sound: at least"
            f" {SMALLEST_RING_SECONDS:g} s are needed, {SMALLEST_RING_SECONDS * second:.0f} bytes.",
        )
    _require_memory(seconds, second, option, as_option, f"{channels} channels at {samplerate} Hz")
    return seconds


def _require_memory(
    seconds: float | None,
    second: int,
    option: str,
    as_option: Callable[[float], str],
    what: str,
) -> None:
    memory, wanted = _memory(), (RING_SECONDS if seconds is None else seconds) * second
    if memory is None or wanted <= _MEMORY_SHARE * memory:
        return
    fits = int(_MEMORY_SHARE * memory / second)
    raise ConfigurationError(
        f"cannot keep {wanted / second:g} seconds of {what} in memory.",
        f"acoupi config set recording.{option} {as_option(fits)}"
        if fits >= SMALLEST_RING_SECONDS
        else "record fewer channels, or at a lower rate",
        why=f"that is {wanted / 1e6:.0f} MB, and the memory is {memory / 1e6:.0f} MB;"
        f" {fits} s would fit: {fits * second} bytes.",
    )


def _frame_bytes(channels: int, bits: int) -> int:
    return channels * (SAMPLE_BYTES if bits == 16 else WIDE_SAMPLE_BYTES)


def _memory() -> int | None:
    """Return the most bytes that this process may use; None if that is unknown."""
    found = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _MEMORY_LIMITS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # Missing, or "max".
            continue
    return min(found, default=None)
