"""Ranges of bytes in HTTP requests for sound."""

import re

from acoupi.errors import ParameterError

__all__ = ["range_of"]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def range_of(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of a range and the one after its last; None: everything.

    Several ranges, or an invalid one, count as everything, as RFC 9110 allows.

    Raises
    ------
    ParameterError
        If there are no such bytes.

    Examples
    --------
    >>> range_of("bytes=2-4", 10), range_of("bytes=-3", 10), range_of("bytes=4-", 10)
    ((2, 5), (7, 10), (4, 10))
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= size:
        raise ParameterError(
            text, f'there are no bytes "{text}".', "bytes=0-", why=f"the file has {size} bytes."
        )
    return None if end <= start else (start, end)
