"""Running code in a process that ends, as by SIGKILL, before its n-th change of a name."""

import os
import subprocess
import sys

KILLED = 137

_PRELUDE = """
import os, sys
left = int(sys.argv[1])
def ends_at(act):
    def call(*args, **kwargs):
        global left
        if "__pycache__" not in str(args[0]):
            left -= 1
            if left == 0:
                os._exit({killed})
        return act(*args, **kwargs)
    return call
def arm():
    for name in ("rename", "replace", "unlink"):
        setattr(os, name, ends_at(getattr(os, name)))
"""


def run_until_rename(number: int, code: str, **environ: str) -> int:
    """Run some code, and end it before it renames or removes a file for the n-th time.

    Returns
    -------
    int
        `KILLED`, or its own exit code if there are fewer of them.
    """
    armed = f"{_PRELUDE.format(killed=KILLED)}\narm()\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", armed, str(number)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, KILLED), done.stderr
    return done.returncode
