"""Messages as the brokers of a sensor keep them: JSON, whole, of a bounded size. No kombu."""

import json
from typing import Any

__all__ = ["CRASHES_HEADER", "MOST_BYTES", "count_crash", "read_message", "written_message"]

MOST_BYTES = 1_000_000
"""Most bytes of a message. Larger things belong in the store, or in a file."""
MOST_TAG = 200
"""Characters of a delivery tag."""
CRASHES_HEADER = "x-crashes"
"""Header: how often a worker died while it was handling the message."""


def written_message(message: dict[str, Any]) -> str:
    """Return a message as it is sent.

    Raises
    ------
    ValueError
        If it is too large for a broker with little memory.
    """
    text = json.dumps(message)
    if len(text) > MOST_BYTES:
        raise ValueError(f"a message of {len(text)} bytes is too large; the most is {MOST_BYTES}")
    return text


def read_message(raw: bytes) -> tuple[dict[str, Any], str]:
    """Return a message that was received, and its delivery tag.

    Raises
    ------
    ValueError
        If it is too large, or not a message. Compressed ones are refused: acoupi sends none, and
        a small one may unpack to any size.
    """
    if len(raw) > MOST_BYTES:
        raise ValueError(f"it has {len(raw)} bytes; the most is {MOST_BYTES}")
    try:
        message: dict[str, Any] = json.loads(raw)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return message, _tag(message)


def count_crash(message: dict[str, Any]) -> int:
    """Count in a message that a worker died while handling it; return how often so far.

    Raises
    ------
    ValueError
        If that is not a number.
    """
    headers = message["headers"]
    crashes = headers.get(CRASHES_HEADER, 0)
    if not isinstance(crashes, int):
        raise ValueError(f"{CRASHES_HEADER} is not a number")  # noqa: TRY004 - text of a stranger
    headers[CRASHES_HEADER] = crashes + 1
    message["redelivered"] = True
    return crashes + 1


def _tag(message: Any) -> str:
    try:
        tag, headers = message["properties"]["delivery_tag"], message.setdefault("headers", {})
    except (KeyError, TypeError, AttributeError):
        raise ValueError("it is JSON, but not a message") from None
    if not (isinstance(tag, str) and len(tag) <= MOST_TAG and isinstance(headers, dict)):
        raise ValueError("it is JSON, but not a message")
    if headers.get("compression"):
        raise ValueError("it is compressed")
    return tag
