"""A Celery app that knows the broker, but not the program."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acoupi.commit import read_whole
from acoupi.errors import ConfigurationError
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.services.address import (
    SecretURL,
    broker_from_environment,
    check_broker_url,
    is_own_redis,
)
from acoupi.services.aside import aside_file
from acoupi.services.folder_files import broker_folder
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["EMBEDDED_URL", "load_celery_settings", "make_app"]

EMBEDDED_URL = "folder://"
OWN_REDIS_URL = "redis://"
"""The broker's URL for Celery; the real one, with the login, is a transport option."""
FOLDER_TRANSPORT = "acoupi.services.folder:FolderTransport"
REDIS_TRANSPORT = "acoupi.services.redis_transport:RedisTransport"
CONNECT_TIMEOUT = 3.0


def load_celery_settings(settings: Settings) -> CelerySettings:
    """Return the settings in ``config/celery.json``; the defaults if there is no such file.

    A target that runs a broker of its own passes its address in
    ``ACOUPI_BROKER``, ``ACOUPI_BROKER_USER`` and ``ACOUPI_BROKER_PASSWORD_FILE``.

    Raises
    ------
    ConfigurationError
        If its content is invalid.
    """
    path = settings.celery_config_file
    try:
        celery = parse_celery_settings(read_whole(path, errors="replace"), path)
    except FileNotFoundError:
        celery = CelerySettings()
    except OSError as error:
        raise disk_error("read", path, error) from error
    url = broker_from_environment(os.environ)
    return celery.model_copy(update={"broker_url": url}) if url else celery


def parse_celery_settings(text: str, path: Path) -> CelerySettings:
    """Return the settings in a text; errors name `path` as its file."""
    try:
        content = json.loads(text)
        if '"$secret"' in text:
            # Imported here because beat seldom needs them.
            from acoupi.config.env_files import read_env  # noqa: PLC0415
            from acoupi.config.secrets import SECRETS_FILE, resolve_secrets  # noqa: PLC0415

            secrets = read_env(path.parent / SECRETS_FILE)
            content = resolve_secrets(content, secrets, os.environ)
        celery = CelerySettings.model_validate(content)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()
        raise ConfigurationError(
            f'cannot read "{path}".',
            f"{path}: write {{}} into it to use the defaults",
            why="; ".join(line.strip() for line in reason[1:3]) or reason[0],
        ) from error
    check_broker_url(celery.broker_url)
    return celery


def make_app(
    settings: Settings, celery: CelerySettings | None = None, *, worker: str | None = None
) -> "Celery":
    """Return a Celery app that knows the broker but no program.

    Parameters
    ----------
    settings
        Where the embedded broker is.
    celery
        None: the settings of the home.
    worker
        Name of the worker that uses it: messages in hand are kept under that
        name, so that the worker finds them after a crash.
    """
    celery = celery or load_celery_settings(settings)
    # Without the fixup for Django, which would import all of the worker.
    from celery import Celery  # noqa: PLC0415 - most commands of a person do without

    app = Celery("acoupi", set_as_current=False, fixups=[])
    app.conf.update(
        **_transport(settings, celery, worker),
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT,
        enable_utc=True,
        timezone="UTC",
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_default_queue=DEFAULT_QUEUE,
        task_soft_time_limit=celery.task_soft_time_limit,
        task_time_limit=celery.task_time_limit,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        beat_max_loop_interval=celery.beat_max_loop_interval,
    )
    return app


def _transport(settings: Settings, celery: CelerySettings, worker: str | None) -> dict[str, Any]:
    """Return Celery's settings to reach the broker."""
    url = celery.broker_url
    aside = str(aside_file(settings.run_dir, worker)) if worker else None
    own = {"worker": worker, "aside": aside}
    if url is None:
        folder = {"folder": str(broker_folder(settings.run_dir)), **own}
        return _settings(EMBEDDED_URL, FOLDER_TRANSPORT, folder)
    if is_own_redis(url):
        return _settings(OWN_REDIS_URL, REDIS_TRANSPORT, {"url": SecretURL(url), **own})
    from acoupi.services.external_broker import ExternalBroker  # noqa: PLC0415 - seldom needed

    outside = ExternalBroker.parse(url, time_limit=celery.task_time_limit)
    given = _settings(SecretURL(outside.url), None, outside.transport_options)
    return {**given, "broker_use_ssl": outside.tls}


def _settings(url: str, transport: str | None, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "broker_url": url,
        "broker_transport": transport,
        "broker_transport_options": options,
    }
