"""Imported by services before Celery, to keep out what they have no use for.

Kombu imports PyYAML and msgpack where they are installed, although only JSON
is read here, and Celery imports psutil for its debugging: 1.5 MB in each
process. Whoever imports them later gets them.
"""

import sys
from importlib import import_module

__all__: list[str] = []

_UNUSED = ("yaml", "msgpack", "psutil")

_absent = [name for name in _UNUSED if name not in sys.modules]
for _name in _absent:
    sys.modules[_name] = None  # type: ignore[assignment] # as if it was not installed
try:
    for _name in ("kombu.serialization", "celery.utils.debug"):
        import_module(_name)
finally:
    for _name in _absent:
        del sys.modules[_name]
