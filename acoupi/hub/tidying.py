"""Removing abandoned uploads of sound, now and then, while a hub serves."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from acoupi.errors import HubError
from acoupi.hub.audio import remove_given_up
from acoupi.hub.parts import Hub

__all__ = ["tidying"]

EVERY = 3600.0
"""Seconds between two looks."""
PAUSE = 1.0
"""Seconds between two batches: meanwhile sensors have the store to themselves."""
END = 30.0
"""Seconds for the current batch when it stops."""

logger = logging.getLogger(__name__)


@contextmanager
def tidying(hub: Hub) -> Iterator[None]:
    """Remove abandoned uploads now and then, while the block runs."""
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
                logger.info("Removed the chunks of %d sounds whose upload was abandoned", removed)
                wait = PAUSE
        except HubError as error:
            logger.warning("%s Abandoned uploads will be removed later", error.message)
