"""The task that reports to a hub, where the sensor has one."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.messengers.hub import HubMessenger
from acoupi.components.stores.reporting import Reporter
from acoupi.components.stores.unreported import Unreported
from acoupi.components.stores.unsent import UnsentSound
from acoupi.config.hub import Hub
from acoupi.services.in_force import settings_report
from acoupi.services.reporting import generate_hub_task
from acoupi.stack.settings import Settings

__all__ = ["make_hub_task"]


def make_hub_task(
    store: Path, messages: Any, hub: Hub, logger: logging.Logger, settings: Settings
) -> Callable[[], None]:
    """Return the task that reports a metadata store, and a message store, to a hub.

    Parameters
    ----------
    messages
        The message store of the program; one of its own making has no place for what a hub has
        acknowledged, and is not reported.
    settings
        Of the home whose configuration is reported.
    """
    assert hub.url is not None
    assert hub.token is not None
    if not isinstance(messages, SqliteMessageStore):
        if messages is not None:
            logger.warning("The hub gets no messages: the program has a message store of its own")
        messages = None
    messenger = HubMessenger(hub.url, hub.token, logger)
    return generate_hub_task(
        Unreported(store),
        Reporter(store),
        messenger,
        messages,
        logger,
        find_settings=lambda: settings_report(settings),
        sound=UnsentSound(store),
        audio=hub.audio,
    )
