"""What can be recorded at all."""

import os
from contextlib import suppress
from pathlib import Path

from acoupi.audio.sources import SAMPLE_BYTES, WIDE_SAMPLE_BYTES
from acoupi.audio.stream import RING_SECONDS
from acoupi.errors import ConfigurationError

__all__ = ["SMALLEST_RING_SECONDS", "require_possible", "require_ring", "ring_bytes"]

SMALLEST_RING_SECONDS = 10.0
"""A task may be 5 s late and a disk busy for a few more."""
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
        If a value is not greater than 0 and finite, or there are no such samples.
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
            f'cannot record with "{bits}" bits.', "give 16 or 24", why="files have 16 or 24."
        )


def ring_bytes(seconds: float | None, samplerate: int, channels: int, bits: int) -> int:
    """Return the memory that a ring takes; None: a ring of the usual length."""
    sample = SAMPLE_BYTES if bits == 16 else WIDE_SAMPLE_BYTES
    return round((RING_SECONDS if seconds is None else seconds) * samplerate) * channels * sample


def require_ring(seconds: float | None, samplerate: int, channels: int, bits: int) -> None:
    """Refuse a ring that is too small for its purpose or too large for the memory.

    Raises
    ------
    ConfigurationError
        It says what would fit.
    """
    if seconds is not None and not SMALLEST_RING_SECONDS <= seconds < float("inf"):
        least = ring_bytes(SMALLEST_RING_SECONDS, samplerate, channels, bits)
        raise ConfigurationError(
            f'cannot record with a ring of "{seconds:g}" seconds.',
            f"give at least {SMALLEST_RING_SECONDS:g} seconds: {least / 1e6:.1f} MB",
            why="a recording that begins late, or a busy disk, would lose sound.",
        )
    memory = _memory()
    wanted = ring_bytes(seconds, samplerate, channels, bits)
    if memory is not None and wanted > _MEMORY_SHARE * memory:
        second = ring_bytes(1, samplerate, channels, bits)
        fits = int(_MEMORY_SHARE * memory / second)
        raise ConfigurationError(
            f"cannot keep {wanted / second:g} seconds of {channels} channels at {samplerate} Hz"
            " in memory.",
            f"acoupi config set recording.ring_seconds {fits}"
            if fits >= SMALLEST_RING_SECONDS
            else "record fewer channels, or at a lower rate",
            why=f"that is {wanted / 1e6:.0f} MB, and the memory is {memory / 1e6:.0f} MB;"
            f" {fits} s would fit.",
        )


def _memory() -> int | None:
    """Return the bytes that this process may use at most; None if that is unknown."""
    found = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _MEMORY_LIMITS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # Not there, or "max".
            continue
    return min(found, default=None)
