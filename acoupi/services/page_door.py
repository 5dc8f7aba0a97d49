"""The door of the web page: the process that answers starts on demand, and stops again.

The worker of the default queue only listens. Reading stores, planning settings and the rest
are done by a separate process, ``python -m acoupi.system.page_answers``, which may import what
it needs. It exits a while after the last request, so an unused page costs no memory.
"""

import logging
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from acoupi.door.server import listen

__all__ = ["PageDoor"]

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "acoupi.system.page_answers")
RETRY = 5.0
"""Seconds until a retry after a failure."""


class PageDoor(threading.Thread):
    """Listens for the page, and starts a process that answers.

    Parameters
    ----------
    folder
        Folder of the socket; it is made if needed.
    command
        Command that gets the number of the socket, and exits when its standard input ends.
    """

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND) -> None:
        super().__init__(name="door of the page", daemon=True)
        self.listens = threading.Event()
        self._folder, self._command = folder, command
        self._ends, self._ended = socket.socketpair()

    def close(self) -> None:
        """Stop the thread and the answering process, and wait for both."""
        self._ends.close()
        self.join()
        self._ended.close()

    def run(self) -> None:
        """Listen until `close` is called, whatever happens."""
        patience = 0.0
        while not select.select([self._ended], [], [], patience)[0]:
            try:
                with listen(self._folder) as listener:
                    self.listens.set()
                    while self._answer(listener):
                        pass
            except OSError as error:
                logger.warning("The door of the page could not be opened: %s", error)
            patience = RETRY

    def _answer(self, listener: socket.socket) -> bool:
        """Wait for a request, and start a process to answer; return whether that ended well."""
        if self._ended in select.select([listener, self._ended], [], [])[0]:
            return False
        number = listener.fileno()
        # Its input ends when this worker exits in any way, or with `close`.
        with subprocess.Popen(
            [*self._command, str(number)], pass_fds=[number], stdin=self._ended.fileno()
        ) as process:
            code = process.wait()
        if code:
            logger.warning("The process that answers the page ended with exit code %d.", code)
        return not code
