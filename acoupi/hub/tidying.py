"""What a hub does now and then while it serves: it removes sound that was given up half-way."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from acoupi.errors import HubError
from acoupi.hub.audio import remove_given_up
from acoupi.hub.parts import Hub

__all__ = ["tidying"]

EVERY = 3600.0
"""Seconds from one look to the next."""
PAUSE = 1.0
"""Seconds between two lots: sensors have the store to themselves meanwhile."""
END = 30.0
"""Seconds for what is in hand when it is to end."""

logger = logging.getLogger(__name__)


@contextmanager
def tidying(hub: Hub) -> Iterator[None]:
    """Remove what was given up, now and then, while the block lasts."""
    over = threading.Event()
    thread = threading.Thread(target=_tidy, args=(hub, over), name="tidying", daemon=True)
    if hub.audio is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if hub.audio is not None:
            thread.join(END)


def _tidy(hub: Hub, over: threading.Event) -> None:
    wait = PAUSE
    while not over.wait(wait):
        wait = EVERY
        try:
            if removed := remove_given_up(hub):
                logger.info("The chunks of %d sounds are removed: they were given up", removed)
                wait = PAUSE
        except HubError as error:
            logger.warning("%s What was given up is removed later", error.message)
