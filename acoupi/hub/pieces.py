"""What all stores of sound do alike."""

from acoupi.errors import HubError

__all__ = ["PIECE", "check_same"]

PIECE = 2**20
"""Bytes that are read at a time."""


def check_same(key: str, known: bytes, content: bytes) -> None:
    """Refuse to put something in the place of something else.

    Raises
    ------
    HubError
        If they differ.
    """
    if known != content:
        raise HubError(
            f"the hub has another chunk by the key {key}.",
            "send the sound again",
            why=f"that one has {len(known)} bytes, this one {len(content)}; their content differs.",
        )
