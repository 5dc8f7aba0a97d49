"""Compile modules again without their docstrings, which every process would keep in memory.

The byte-code is that of ``python -OO``, under the name that Python looks for without it.
"""

import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path

for place in map(Path, sys.argv[1:]):
    if not place.exists():
        sys.exit(f"{place} is not there: is that library still needed?")
    for source in [place] if place.is_file() else place.rglob("*.py"):
        target = cache_from_source(str(source), optimization="")
        py_compile.compile(str(source), target, doraise=True, optimize=2)
