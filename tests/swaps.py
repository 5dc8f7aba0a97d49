"""A service that swaps an entry of a folder for a link, as fast as it can, while a test runs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SWAP = """
import os, sys
entry, aside, target = sys.argv[1:]
print("swapping", flush=True)
while True:
    os.rename(entry, aside)
    os.symlink(target, entry)
    os.unlink(entry)
    os.rename(aside, entry)
"""


@contextmanager
def swapped(entry: Path, target: Path) -> Iterator[None]:
    """Let an entry be a link to `target` half of the time, in turn with what it was."""
    aside = entry.with_name(f"{entry.name}.aside")
    with subprocess.Popen(
        [sys.executable, "-c", SWAP, str(entry), str(aside), str(target)], stdout=subprocess.PIPE
    ) as swapping:
        try:
            assert swapping.stdout is not None
            assert swapping.stdout.readline() == b"swapping\n"
            yield
        finally:
            swapping.kill()
            swapping.wait()
            if entry.is_symlink():
                entry.unlink()
            with suppress(FileNotFoundError):
                aside.rename(entry)
