"""`scripts/board` when the disk is there: the cache with it, then the words of the command."""

import shlex
import signal
import sys
from pathlib import Path

from board import HERE, a_board

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the machine goes with it
cache, kind, *words = Path(sys.argv[1]), *sys.argv[2:]
if kind == "run":
    folder, *command = words
    with a_board(cache, [(Path(folder), "folder")]) as board:
        board.switch_on()
        code, output = board.run(f"cd /mnt/folder && {shlex.join(command)}")
    print(output, end="")
    sys.exit(code)

sys.path.append(str(HERE.parents[1]))
import walk  # noqa: E402 - it needs acoupi, which the other does not

sys.exit(walk.main(cache, kind, words))
