"""Puts back the messages that a worker had in hand when it was killed."""

import logging
from collections.abc import Callable
from typing import Any

from acoupi.services import folder_files, redis_transport
from acoupi.services.address import is_own_redis
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.settings import Settings

__all__ = ["reclaimer"]

logger = logging.getLogger(__name__)


def reclaimer(name: str, settings: Settings, celery: CelerySettings) -> Callable[[Any], None]:
    """Return a function that puts back the messages this worker had in hand when it was killed."""

    def reclaim(connection: Any) -> None:
        if celery.broker_url is None:
            back, aside = folder_files.reclaim(settings.run_dir, name)
        elif is_own_redis(celery.broker_url):
            client = connection.default_channel.client
            back, aside = redis_transport.reclaim(client, name)
        else:  # AMQP does so by itself; elsewhere the visibility timeout counts
            return
        if back or aside:
            logger.warning(
                "This worker had %d tasks in hand when it last ended: %d put back, %d put aside.",
                back + aside,
                back,
                aside,
            )

    return reclaim
