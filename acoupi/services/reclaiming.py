"""Puts back the messages that a worker was handling when it was killed."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from acoupi.services import folder_files, redis_transport
from acoupi.services.address import is_own_redis
from acoupi.services.aside import Aside
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.settings import Settings

__all__ = ["reclaimer"]

logger = logging.getLogger(__name__)


def reclaimer(
    name: str, settings: Settings, celery: CelerySettings, queues: Sequence[str], aside: Aside
) -> Callable[[Any], None]:
    """Return a function that puts back this worker's unfinished messages after it was killed."""

    def reclaim(connection: Any) -> None:
        if celery.broker_url is None:
            back, gone = folder_files.reclaim(settings.run_dir, name, aside)
        elif is_own_redis(celery.broker_url):
            client = connection.default_channel.client
            back, gone = redis_transport.reclaim(client, name, queues, aside)
        else:  # AMQP does this itself; elsewhere the visibility timeout applies
            return
        if back or gone:
            logger.warning(
                "This worker last ended with %d unfinished tasks: %d put back, %d put aside.",
                back + gone,
                back,
                gone,
            )

    return reclaim
