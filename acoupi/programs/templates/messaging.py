"""A program that records and sends messages."""

import datetime
from collections.abc import Callable
from typing import TypeVar

from acoupi import __version__, components, data, tasks
from acoupi.components import types
from acoupi.components.messengers.plug_ins import make_messengers
from acoupi.devices import metrics
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.programs.status import StatusReport
from acoupi.programs.templates.basic import BasicProgram, check_component, require_folder
from acoupi.programs.templates.configuration import (
    MessagingConfig,
    MessagingProgramConfiguration,
)
from acoupi.programs.templates.digests import section_digests, settings_digest
from acoupi.tasks.messaging import messenger_names

# Published programs import the configurations from here, too.
__all__ = ["MessagingConfig", "MessagingProgram", "MessagingProgramConfiguration"]

C = TypeVar("C", bound=MessagingProgramConfiguration)


class MessagingProgram(BasicProgram[C]):
    """A program that records and sends messages.

    Every messenger that is configured delivers every message. Without any,
    messages are only stored.

    Override points beside those of `BasicProgram`:

    - `configure_message_store`;
    - `configure_messengers`, or `configure_messenger` for just one;
    - `get_heartbeat_metrics`: the figures of a heartbeat.
    """

    message_store: types.MessageStore
    messengers: list[types.Messenger]
    messenger: types.Messenger | None
    """The first of the messengers; None without any."""
    status_report: StatusReport
    """Status of the sensor, for heartbeats."""

    def setup(self, config: C) -> None:
        """Build the components and register the tasks; touches nothing."""
        self.message_store = self.configure_message_store(config)
        self.messengers = self.configure_messengers(config)
        self.messenger = self.messengers[0] if self.messengers else None
        super().setup(config)
        self.status_report = StatusReport(
            self.store,
            self.message_store,
            self.get_recording_conditions(config),
            messengers=messenger_names(self.messengers) or None,
        )
        self.register_messaging_task(config)
        self.register_heartbeat_task(config)

    def check(self, config: C) -> None:
        """Check that every messenger reaches its server, too."""
        super().check(config)
        for messenger in self._all_messengers():
            check_component(messenger)

    def on_end(self, deployment: data.Deployment) -> None:
        """Also send waiting messages, in one pass; the rest waits for the next start."""
        super().on_end(deployment)
        self.run_once("send_messages_task")
        for messenger in self._all_messengers():
            close = getattr(messenger, "close", None)  # published ones may have none
            if close is not None:
                close()

    def _all_messengers(self) -> list[types.Messenger]:
        """Return the messengers, and the one that a program may have put in their place."""
        only = self.messenger
        is_own = only is not None and all(only is not each for each in self.messengers)
        return [*self.messengers, only] if only is not None and is_own else self.messengers

    def validate_dirs(self, config: C) -> None:
        """Make the folder of the messages, too."""
        super().validate_dirs(config)
        require_folder(config.messaging.messages_db.parent, "messaging.messages_db")

    # Components.

    def configure_message_store(self, config: C) -> types.MessageStore:
        """Return the store that keeps messages until they are delivered."""
        return components.SqliteMessageStore(config.messaging.messages_db)

    def configure_messenger(self, config: C) -> types.Messenger | None:
        """Return one messenger, or None: the first of those configured.

        Where a program overrides this, its answer is the only messenger.
        """
        return next(iter(self._configured_messengers(config)), None)

    def configure_messengers(self, config: C) -> list[types.Messenger]:
        """Return every messenger: one for each destination that is configured."""
        if type(self).configure_messenger is not MessagingProgram.configure_messenger:
            only = self.configure_messenger(config)
            return [] if only is None else [only]
        return self._configured_messengers(config)

    def _configured_messengers(self, config: C) -> list[types.Messenger]:
        return make_messengers(config.messaging, self.logger.getChild("messenger"))

    def get_heartbeat_metrics(self, config: C) -> list[Callable[[], data.Metric | None]]:
        """Return the metrics of a heartbeat: board, microphone, backlog, effort of a day, clock.

        A metric that is None is left out.
        """

        def remaining_storage() -> data.Metric:
            return metrics.get_remaining_storage(config.paths.recordings)

        return [
            remaining_storage,
            metrics.get_free_memory,
            metrics.get_cpu_usage,
            *self.status_report.metrics(),
            *self.status_report.microphone_metrics(),
            *self.status_report.space_metrics(),
            *self.status_report.fleet_metrics(),
        ]

    # Tasks.

    def create_messaging_task(self, config: C) -> Callable[[], None] | None:
        """Return the task that sends waiting messages; None without a messenger."""
        if not self.messengers:
            return None
        keep = config.messaging.keep_days
        return tasks.generate_send_messages_task(
            message_store=self.message_store,
            messengers=self.messengers,
            max_messages=config.messaging.max_messages,
            order=config.messaging.message_order,
            logger=self.logger.getChild("messaging"),
            keep=None if keep is None else datetime.timedelta(days=keep),
            time_limit=self.app.conf.task_soft_time_limit or self.app.conf.task_time_limit,
        )

    def create_heartbeat_task(self, config: C) -> Callable[[], None] | None:
        """Return the task that sends heartbeats; None without a messenger.

        Heartbeats wait in the message store like other messages, so the history of a
        sensor is known even if its link was down.
        """
        if not self.messengers:
            return None
        return tasks.generate_heartbeat_task(
            messengers=self.messengers,
            metrics=self.get_heartbeat_metrics(config),
            logger=self.logger.getChild("heartbeat"),
            status=self.status_report,
            message_store=self.message_store,
            constant={
                "version": __version__,
                "program": type(self).__module__,
                "configuration": settings_digest(config),
                "sections": section_digests(config),
                "interval_s": config.messaging.heartbeat_interval,
            },
        )

    def register_messaging_task(self, config: C) -> None:
        """Send waiting messages at every interval, in the default queue."""
        task = self.create_messaging_task(config)
        if task is not None:
            self.add_task(
                function=task,
                schedule=config.messaging.message_send_interval,
                queue=DEFAULT_QUEUE,
            )

    def register_heartbeat_task(self, config: C) -> None:
        """Send a heartbeat at every interval, in the default queue."""
        task = self.create_heartbeat_task(config)
        if task is not None:
            self.add_task(
                function=task,
                schedule=config.messaging.heartbeat_interval,
                queue=DEFAULT_QUEUE,
            )
