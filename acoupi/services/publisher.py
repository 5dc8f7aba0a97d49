"""Sends tasks to the broker of a home, without Celery."""

import json

from acoupi.services import folder_files
from acoupi.services.address import is_own_redis
from acoupi.services.task_messages import Publisher, TaskMessage
from acoupi.stack.settings import Settings

__all__ = ["open_publisher"]


class _FolderPublisher(Publisher):
    """Of the embedded broker."""

    def __init__(self, settings: Settings) -> None:
        self._folder = folder_files.broker_folder(settings.run_dir)

    def send(self, queue: str, message: TaskMessage) -> None:
        folder_files.put(self._folder, queue, message.in_list(queue))

    def close(self) -> None:
        pass


class _RedisPublisher(Publisher):
    """Of the redis that the target runs."""

    def __init__(self, url: str) -> None:
        from acoupi.services.own_redis import OwnRedis  # noqa: PLC0415 - 5 MB

        self._redis = OwnRedis(url)

    def send(self, queue: str, message: TaskMessage) -> None:
        self._redis("LPUSH", queue, json.dumps(message.in_list(queue)))

    def close(self) -> None:
        self._redis.close()


def open_publisher(settings: Settings, url: str | None) -> Publisher:
    """Return what sends messages to a broker; it connects when it is first needed.

    Parameters
    ----------
    settings
        Where the embedded broker is.
    url
        With the login; None: the embedded broker.
    """
    if url is None:
        return _FolderPublisher(settings)
    if is_own_redis(url):
        return _RedisPublisher(url)
    from acoupi.services.kombu_publisher import KombuPublisher  # noqa: PLC0415 - 6 MB

    return KombuPublisher(url)
