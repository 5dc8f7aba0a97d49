"""What all stores of sound have in common."""

from acoupi.errors import HubError

__all__ = ["PIECE", "check_same"]

PIECE = 2**20
"""Bytes that are read at a time."""


def check_same(key: str, known: bytes, content: bytes) -> None:
    """Refuse to replace content by other content.

    Raises
    ------
    HubError
        If they differ.
    """
    if known != content:
        raise HubError(
            f"the hub has another chunk under the key {key}.",
            "send the sound again",
            why=f"the hub's has {len(known)} bytes, the new one {len(content)}, and it differs.",
        )
