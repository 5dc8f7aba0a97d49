"""Keeps workers small. Import it before Celery, because it keeps unused modules out.

Kombu imports PyYAML and msgpack where they are installed, although only JSON
is read here, and Celery imports psutil for debugging: 1.5 MB in each process.
Billiard uses cffi where it is installed for one system call, and that compiles
a C parser in each child: 7 MB; without cffi it uses ctypes. The modules can be
imported later as usual.
"""

import contextlib
import ctypes
import gc
import sys
from importlib import import_module

__all__ = ["settle_memory"]

_UNUSED = ("yaml", "msgpack", "psutil", "cffi")

_absent = [name for name in _UNUSED if name not in sys.modules]
for _name in _absent:
    sys.modules[_name] = None  # type: ignore[assignment] # as if it were not installed
try:
    for _name in ("kombu.serialization", "celery.utils.debug", "billiard.util"):
        import_module(_name)
finally:
    for _name in _absent:
        del sys.modules[_name]


def settle_memory() -> None:
    """Return free memory to the system, and exclude existing objects from garbage collection.

    A child shares its parent's memory until one of them writes to it, and a
    garbage collection writes to every object.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
