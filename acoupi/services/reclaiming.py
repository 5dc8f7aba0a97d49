"""Taking back what a worker had in hand when it was killed."""

import logging
from collections.abc import Callable
from typing import Any

from acoupi.services import folder_files, redis_transport
from acoupi.services.address import is_own_redis
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.settings import Settings

__all__ = ["reclaimer"]

logger = logging.getLogger("acoupi.services.worker")


def reclaimer(name: str, settings: Settings, celery: CelerySettings) -> Callable[[Any], None]:
    """Return what puts back the messages that this worker had in hand when it was killed."""

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
                "%d tasks were in hand when this worker ended last: %d put back, %d put aside.",
                back + aside,
                back,
                aside,
            )

    return reclaim
