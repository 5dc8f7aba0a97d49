"""The door of the page: what answers it is started when somebody asks, and ends again.

The worker of the default queue only listens. Reading stores, planning settings and the rest
are done by a process of its own, ``python -m acoupi.system.page_answers``, which may import what
that takes; it ends itself a while after the last question, so a page that nobody looks at costs
no memory.
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
"""Seconds until what failed is tried again."""


class PageDoor(threading.Thread):
    """Listens for the page, and has a process answer.

    Parameters
    ----------
    folder
        Gets the socket; it is made if need be.
    command
        Is given the number of the socket, and ends when its standard input does.
    """

    def __init__(self, folder: Path, command: Sequence[str] = COMMAND) -> None:
        super().__init__(name="door of the page", daemon=True)
        self.listens = threading.Event()
        self._folder, self._command = folder, command
        self._ends, self._ended = socket.socketpair()

    def close(self) -> None:
        """End the thread and what answers, and wait for both."""
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
        """Wait until somebody asks, and have a process answer; return whether it ended well."""
        if self._ended in select.select([listener, self._ended], [], [])[0]:
            return False
        number = listener.fileno()
        # Its input ends with this worker, however that ends, or with `close`.
        with subprocess.Popen(
            [*self._command, str(number)], pass_fds=[number], stdin=self._ended.fileno()
        ) as process:
            code = process.wait()
        if code:
            logger.warning("What answers the page ended with the code %d.", code)
        return not code
