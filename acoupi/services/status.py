"""Counts and removes waiting messages, on any broker."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from typing import Any

from kombu.exceptions import ChannelError, OperationalError

from acoupi.errors import TargetError
from acoupi.services.address import masked_url
from acoupi.services.broker import load_celery_settings, make_app
from acoupi.services.folder_files import broker_folder
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = ["check_broker", "count_waiting", "purge_messages"]


def check_broker(settings: Settings, celery: CelerySettings | None = None) -> None:
    """Raise if the broker does not answer.

    Raises
    ------
    TargetError
        With the error of the broker.
    """
    with _channel(settings, celery):
        pass


def count_waiting(settings: Settings, queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages are waiting in each queue that this user may see.

    Raises
    ------
    TargetError, DeviceError
        If the broker does not answer; if it is a folder, after a disk error.
    """
    with _channel(settings) as channel:
        counts = {queue: _count(channel, queue) for queue in queues}
        return {queue: count for queue, count in counts.items() if count is not None}


def purge_messages(settings: Settings, queues: Iterable[str]) -> dict[str, int]:
    """Remove the waiting messages; return how many there were in each queue.

    Raises
    ------
    TargetError
        If the broker does not answer.
    """
    with _channel(settings) as channel:
        return {queue: int(channel.queue_purge(queue) or 0) for queue in queues}


def _remedy(settings: Settings, url: str | None) -> str:
    """Return a remedy for a broker that does not answer."""
    if url is None:
        return f"ls -ld {settings.run_dir}"
    if url.startswith("redis"):
        return "redis-cli ping   (is redis running, and is that its address?)"
    if "amqp" in url.partition("://")[0]:
        return "rabbitmq-diagnostics ping   (is RabbitMQ running, and is that its address?)"
    return "acoupi setup --broker URL   (is the broker running, and is that its address?)"


def _count(channel: Any, queue: str) -> int | None:
    """Return how many messages are waiting; None if this user may not see that."""
    try:
        return int(channel.queue_declare(queue=queue, passive=True).message_count)
    except ChannelError:  # the queue was never used
        return 0
    except Exception as error:
        # Compared by name: `own_redis` loads a copy of that class.
        if any(type(one).__name__ == "NoPermissionError" for one in _causes(error)):
            return None  # in a service's container, which may only see its own queues
        raise


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__


def _of_the_disk(error: BaseException) -> OSError | None:
    """Return the disk error that caused another one."""
    numbers = (errno.EROFS, errno.EACCES, errno.ENOSPC)
    found = (one for one in _causes(error) if isinstance(one, OSError) and one.errno in numbers)
    return next(found, None)


@contextlib.contextmanager
def _channel(settings: Settings, celery: CelerySettings | None = None) -> Iterator[Any]:
    """Provide a channel to the broker."""
    celery = celery or load_celery_settings(settings)
    app = make_app(settings, celery)
    connection = app.connection_for_read()
    try:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0.1, interval_max=0.1)
            yield connection.default_channel
        finally:
            connection.release()
    except (OperationalError, *connection.connection_errors, *connection.channel_errors) as error:
        if celery.broker_url is None and (refused := _of_the_disk(error)):
            raise disk_error("write", broker_folder(settings.run_dir), refused) from error
        url = masked_url(celery.broker_url)
        raise TargetError(
            f'cannot reach the broker "{url}".',
            _remedy(settings, celery.broker_url),
            why=f"it answered: {error}",
        ) from error
