"""The command line on a terminal: what it prints is read, what a person types is sent."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

PATIENCE = 90.0
"""Seconds until something that never comes is given up."""
FILE = Path(sys.executable).with_name("acoupi")


class Terminal:
    """The end of a terminal where a person sits."""

    def __init__(self, handle: int, process: "subprocess.Popen[bytes]") -> None:
        self.handle, self.process = handle, process
        self.shown = ""
        self._seen = 0

    def until(self, text: str) -> str:
        """Wait for a text after the last one; return what came before and with it."""
        while text not in self.shown[self._seen :]:
            assert self._read(), f"{text!r} never came after: {self.shown}"
        end = self.shown.index(text, self._seen) + len(text)
        said, self._seen = self.shown[self._seen : end], end
        return said

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.handle], [], [], PATIENCE)
        assert ready, f"nothing more came after: {self.shown}"
        try:
            block = os.read(self.handle, 65536)
        except OSError:  # Linux says so when the last writer is gone
            return False
        self.shown += block.decode().replace("\r\n", "\n")
        return bool(block)


@contextmanager
def on_a_terminal(*args: str, columns: int = 80, **environment: str) -> Iterator[Terminal]:
    """Run a command on a terminal; it ends with the block."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # A session whose terminal this is; and whoever runs the tests in the background has
    # SIGINT ignored, here too.
    before = ["setsid", "--ctty", "env", "--default-signal=INT"]
    process = subprocess.Popen(
        [*before, str(FILE), *args], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)
