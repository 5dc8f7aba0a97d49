"""What keeps services small. Imported before Celery, to keep out what they have no use for.

Kombu imports PyYAML and msgpack where they are installed, although only JSON
is read here, and Celery imports psutil for its debugging: 1.5 MB in each
process. Billiard takes cffi where it is installed for one call of the kernel,
and that compiles a parser of C in each child: 7 MB; without it, it takes
ctypes. Whoever imports them later gets them.
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
    sys.modules[_name] = None  # type: ignore[assignment] # as if it was not installed
try:
    for _name in ("kombu.serialization", "celery.utils.debug", "billiard.util"):
        import_module(_name)
finally:
    for _name in _absent:
        del sys.modules[_name]


def settle_memory() -> None:
    """Give back what starting took, and leave what is there out of later collections.

    A child shares its parent's memory until one of them writes there, and a
    collection of garbage writes everywhere.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
