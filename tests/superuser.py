"""Tests as root meet the rights of files, too: without the capability to ignore them."""

import contextlib
import ctypes
from collections.abc import Iterator

_VERSION = 0x20080522
_IGNORE_RIGHTS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def rights_hold() -> Iterator[None]:
    """Let rights of files hold in this thread, whoever it runs as."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    assert libc.capget(header, held) == 0
    less = (ctypes.c_uint32 * 6)(*held)
    less[0] &= ~_IGNORE_RIGHTS
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0
