"""Answers the page for a while: ``python -m acoupi.system.page_answers SOCKET``.

Started by `acoupi.services.page_door` in the worker of the default queue, whose rights it has.
It exits after a minute without requests, or when that worker exits.
"""

import select
import socket
import sys
from collections.abc import Sequence

from acoupi import clock
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.door.server import DoorServer, Limits
from acoupi.door.waiting import WaitingCalls
from acoupi.services.doors import ROLES, user_of
from acoupi.services.logs import configure_logging, note_crash
from acoupi.stack.doors import WEB
from acoupi.stack.settings import Settings
from acoupi.system.page import PageSensor
from acoupi.writing import keep_others_out

__all__ = ["answer", "main"]

AT_ONCE = 4
"""Most requests that are answered in parallel."""
LIMITS = Limits(connections=1, bytes_an_hour=256 * 1024 * 1024)
IDLE = 60.0
"""Seconds without a request after which it exits."""
LOOK_EVERY = 1.0


class _NoCalls(WaitingCalls):
    """Identifies the page's user by the owner of its folder; no file in it is read."""

    def names(self) -> list[str]:
        """Return none."""
        return []


def answer(settings: Settings, listener: socket.socket, idle: float = IDLE) -> None:
    """Answer requests until there was none for `idle` seconds, or standard input ends."""
    page = PageSensor(settings)
    folder = door_folder(settings.home / "run", WEB)
    waiting = _NoCalls(waiting_folder(settings.home, WEB))
    servers = [
        DoorServer(
            WEB,
            folder,
            waiting,
            ROLES[WEB],
            find=page.find,
            limits=LIMITS,
            listener=listener.dup(),
            user=user_of(WEB),
        )
        for _ in range(AT_ONCE)
    ]
    for one in servers:
        one.start()
    while clock.monotonic() - max(one.asked_on for one in servers) < idle:
        if select.select([sys.stdin], [], [], LOOK_EVERY)[0]:
            break
    for one in servers:
        one.close()
    page.close()


def main(arguments: Sequence[str]) -> int:
    """Answer on an inherited socket; return the exit code."""
    keep_others_out()
    settings = Settings()
    configure_logging(settings, "page", quiet=True)
    try:
        with socket.socket(fileno=int(arguments[0])) as listener:
            listener.setblocking(False)
            answer(settings, listener)
    except Exception:
        note_crash()
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
