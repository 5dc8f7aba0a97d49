"""Processes that end, as by SIGKILL, before their n-th change of the name of a file."""

import os
import subprocess
import sys
from pathlib import Path

KILLED = 137

_ARMING = """
import os, sys
def arm(left):
    def ends_at(act):
        def call(*args, **kwargs):
            nonlocal left
            left -= "__pycache__" not in str(args[0])
            if left == 0:
                os._exit(KILLED)
            return act(*args, **kwargs)
        return call
    for name in ("rename", "replace", "unlink"):
        setattr(os, name, ends_at(getattr(os, name)))
"""
_EACH = """
number = 0
while True:
    number += 1
    home = Path(sys.argv[1]) / f"killed-{number}"
    if (pid := os.fork()) == 0:
        before(home)
        arm(number)
        change(home)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, KILLED), code
    if code == 0:
        break
"""


def run_until_rename(number: int, code: str) -> int:
    """Run some code, and end it before it renames or removes a file for the n-th time.

    Returns
    -------
    int
        `KILLED`, or 0 if it does that less often.
    """
    done = _run(f"{_ARMING}\narm({number})\n{code}")
    assert done.returncode in (0, KILLED), done.stderr
    return done.returncode


def homes_killed_at_each_rename(folder: Path, code: str) -> list[Path]:
    """Return homes in which a change was killed, each one rename or removal later; the last whole.

    Parameters
    ----------
    folder
        Where to make them.
    code
        Defines ``before(home)`` and ``change(home)``.
    """
    done = _run(f"{_ARMING}\nfrom pathlib import Path\n{code}\n{_EACH}", str(folder))
    assert done.returncode == 0, done.stderr
    return sorted(folder.glob("killed-*"), key=lambda home: int(home.name.rpartition("-")[2]))


def _run(code: str, *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", f"KILLED = {KILLED}\n{code}", *args],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
