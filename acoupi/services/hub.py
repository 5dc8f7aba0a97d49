"""The task that reports to a hub, where the sensor has one."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.messengers.hub import HubMessenger
from acoupi.components.stores.reporting import Reporter
from acoupi.components.stores.unreported import Unreported
from acoupi.components.stores.unsent import UnsentSound
from acoupi.config.hub import Hub
from acoupi.home import home_dir
from acoupi.programs import AcoupiProgram
from acoupi.programs.templates.basic import BasicProgram
from acoupi.services.in_force import settings_report
from acoupi.services.program_report import program_report
from acoupi.services.reporting import generate_hub_task
from acoupi.stack.settings import Settings

__all__ = ["make_hub_task", "make_messenger", "make_reporter"]


def make_reporter(store: Path, program: AcoupiProgram[Any], *, leaves_all: bool) -> Reporter:
    """Return the reporter of a metadata store, with the program for analysis at the hub.

    Parameters
    ----------
    leaves_all
        Whether the hub analyses all recordings, or only those left to it.
    """
    has_models = isinstance(program, BasicProgram) and program.get_required_models(program.config)
    report = program_report(type(program), program.config) if has_models else None
    return Reporter(store, report, leaves_all=leaves_all)


def make_hub_task(
    store: Path,
    messages: Any,
    hub: Hub,
    *,
    reporter: Reporter,
    settings: Settings,
    config: BaseModel,
    logger: logging.Logger,
) -> Callable[[], None]:
    """Return the task that reports a metadata store, and a message store, to a hub.

    Parameters
    ----------
    messages
        The message store of the program; one of another class cannot keep what a hub has
        acknowledged, and is not reported.
    reporter
        The reporter of the same metadata store.
    settings
        Settings of the home whose configuration is reported.
    config
        The configuration of its program.
    """
    if not isinstance(messages, SqliteMessageStore):
        if messages is not None:
            logger.warning(
                "The hub gets no messages: the program has its own kind of message store"
            )
        messages = None
    return generate_hub_task(
        Unreported(store),
        reporter,
        make_messenger(hub, logger),
        messages,
        logger,
        sound=UnsentSound(store),
        audio=hub.audio,
        find_settings=lambda: settings_report(settings, config),
    )


def make_messenger(hub: Hub, logger: logging.Logger | None = None) -> HubMessenger:
    """Return the messenger that reports to a hub."""
    assert hub.url is not None
    assert hub.token is not None
    return HubMessenger(hub.url, hub.token, logger, ca_certificate=hub.authority(home_dir()))
