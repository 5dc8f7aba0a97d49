"""How a worker receives messages and runs tasks: Celery's consumer, request and worker.

They report to the `WorkerMonitor` of the app, see `watch`. Celery creates them,
so they find it there.
"""

import errno
import json
import logging
import signal
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.apps import worker as celery_worker
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from celery.worker.state import maybe_shutdown
from kombu.message import Message

from acoupi import data
from acoupi.errors import AcoupiError
from acoupi.services.aside import Aside
from acoupi.services.duties import Duties
from acoupi.services.entries import Entry
from acoupi.services.monitor import WorkerMonitor
from acoupi.services.task_messages import task_message
from acoupi.services.transport import SensorTransport

__all__ = ["SensorConsumer", "SensorRequest", "SensorWorker", "watch"]

logger = logging.getLogger(__name__)

RETRY_START, RETRY_STEP, RETRY_MAX = 0.5, 0.5, 5.0
"""Seconds between attempts to reach a broker."""
TURN_EVERY = 2.0
"""Seconds between two turns of an event loop that has nothing to do."""


def watch(
    app: Celery,
    monitor: WorkerMonitor,
    reclaim: Callable[[Any], None],
    duties: Duties,
    aside: Aside,
) -> None:
    """Make the workers of an app report to a monitor.

    Parameters
    ----------
    app
        With its tasks.
    monitor
        The monitor.
    reclaim
        Called with the first connection to the broker: puts back what this
        worker had in hand when it last ended.
    duties
        What this worker runs.
    aside
        Keeps the messages that it cannot read, or that order anything else.
    """
    app.acoupi_monitor = monitor
    app.acoupi_reclaim = reclaim
    app.acoupi_duties = duties
    app.acoupi_aside = aside
    app.acoupi_came = lambda task: True  # decides whether an order is followed
    app.conf.worker_consumer = SensorConsumer
    for task in app.tasks.values():
        task.Request = SensorRequest


class SensorRequest(Request):
    """A task in progress, as seen by the main process of its worker, with any pool."""

    is_ours = False
    """Whether this worker ordered it itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._may: bool | None = None
        # Celery derives a class whose on_success does not call this one.
        self._celery_success: Callable[..., Any] = self.on_success
        self.__dict__["on_success"] = self._done

    @property
    def _monitor(self) -> WorkerMonitor:
        monitor: WorkerMonitor = self.app.acoupi_monitor
        return monitor

    def revoked(self) -> bool:
        """Return whether to skip it: it is late, its slot was recorded, or it is still running."""
        if super().revoked():
            self._monitor.give_up(self.id)
            return True
        if self._may is None:  # Celery asks twice
            self._may = self._may_run()
        if self._may:
            return False
        self.acknowledge()
        return True

    def _may_run(self) -> bool:
        task: str = self.type
        if not self.is_ours and not self.app.acoupi_came(task):
            logger.info("%s: already recorded, by this worker's own clock.", task)
            return False
        if task in self.app.acoupi_duties.periodic:
            return self._monitor.claim(self.id, task)
        return True

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Report that the task is running."""
        self._monitor.task_started(self.id, self.name)
        super().on_accepted(pid, time_accepted)

    def _done(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        failed, result, _ = failed__retval__runtime
        self._monitor.task_ended(self.id, _reason(result) if failed else None)
        if not failed and isinstance(result, data.Recording):
            self._monitor.restart_policy.recorded()
        return self._celery_success(failed__retval__runtime, **kwargs)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        """Report why the task failed."""
        self._monitor.task_ended(self.id, _reason(exc_info))
        self._monitor.restart_policy.task_failed(getattr(exc_info, "exception", exc_info))
        return super().on_failure(exc_info, *args, **kwargs)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Report that the pool ended the task."""
        if not soft:
            self._monitor.task_ended(self.id, f"ended after {timeout:g} s, its time limit")
        return super().on_timeout(soft, timeout)


def _reason(exc_info: Any) -> str:
    error = getattr(exc_info, "exception", exc_info)
    error = getattr(error, "exc", error)
    if isinstance(error, AcoupiError):
        return error.message
    return f"{type(error).__name__}: {error}"


class SensorConsumer(Consumer):
    """Waits for messages, and for the broker as long as it takes."""

    def __init__(self, *args: Any, app: Celery, **kwargs: Any) -> None:
        self._reclaimed = self._is_lost = False
        self._monitor: WorkerMonitor = app.acoupi_monitor
        self._monitor.stop_loop = self._stop_loop
        self._duties: Duties = app.acoupi_duties
        self._aside: Aside = app.acoupi_aside
        super().__init__(*args, app=app, **kwargs)
        # After any answer of a broker, a worker reconnects: else what it has in memory would be
        # lost.
        link: tuple[type[Exception], ...] = self.conninfo.connection_errors
        self._link_errors = (*link, *self.conninfo.channel_errors)
        self.connection_errors: tuple[type[Exception], ...] = (*link, Exception)

    def ensure_connected(self, conn: Any) -> Any:
        """Wait for the broker as long as it takes."""

        def on_error(error: BaseException, interval: float) -> None:
            self._monitor.broker_lost(error)

        conn = conn.ensure_connection(
            on_error,
            max_retries=None,
            interval_start=RETRY_START,
            interval_step=RETRY_STEP,
            interval_max=RETRY_MAX,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        self.broker_connection_retry_attempt = 0
        return conn

    def connect(self) -> Any:
        """Connect to the broker; the first time, put back unfinished messages."""
        connection = super().connect()
        self._monitor.give_up_waiting()
        if not self._reclaimed:
            # No other worker has this name, so unacknowledged messages are stale.
            self.app.acoupi_reclaim(connection)
            self._reclaimed = True
        return connection

    def on_ready(self) -> None:
        """Report that the worker waits for messages."""
        super().on_ready()
        self._monitor.ready()

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        """Report that the broker cannot be reached."""
        self._monitor.broker_lost(exc)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        """Report that the connection was lost."""
        self._monitor.broker_lost(exc)
        if isinstance(exc, json.JSONDecodeError):  # kombu's own redis has dropped the message
            self._aside.put(exc.doc, "the broker", str(exc))
        super().on_connection_error_after_connected(exc)

    # Messages that are not for this worker, or cannot be read, are put aside.

    def update_strategies(self) -> None:
        """Run the tasks of this worker and refuse all others, including Celery's."""
        super().update_strategies()
        for name in set(self.strategies) - self._duties.served:
            del self.strategies[name]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return a handler of messages; one that it cannot handle does not stop the worker."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                _require_order(message)
                handle(message)
            except self._link_errors:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a stranger's message makes of it
                self._put_aside(message, f"{type(error).__name__}: {error}")

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Put aside a message that orders no task."""
        self._put_aside(message, "it orders no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Put aside an order for a task that this worker does not run."""
        self._put_aside(message, f"the task {exc} does not belong to this worker")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Put aside an order that contradicts itself."""
        self._put_aside(message, str(exc))

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Put aside a message that cannot be read."""
        self._put_aside(message, str(exc))

    def _put_aside(self, message: Any, why: str) -> None:
        """Keep a message, and remove it from its queue."""
        place = message.delivery_info
        queue = place.get("routing_key", "?") if isinstance(place, dict) else "?"
        self._aside.put([message.headers, message.body], str(queue), why)
        if not message.acknowledged:
            message.ack()

    # The loop: acoupi's without a kombu hub, kombu's event loop with one.

    def perform_pending_operations(self) -> None:
        """Turn once."""
        self._monitor.turn()
        self._check_link()
        super().perform_pending_operations()

    def register_with_event_loop(self, hub: Any) -> None:
        """Report the turns of an event loop."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(TURN_EVERY, self._monitor.turn)

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Run something in the loop at once: a thread's acknowledgement must not wait."""
        result = super().call_soon(p, *args, **kwargs)
        self._wake()
        return result

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message in the loop, at once."""
        result = super().call_soon_ack(self._settle, p, *args, **kwargs)
        self._wake()
        return result

    def _settle(self, settle: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Acknowledge or reject a message; reconnect if that fails.

        Celery only logs the failure. Kombu still counts the message as unacknowledged, so a worker
        that may have one at a time would never request another.
        """
        settle(*args, **kwargs)
        message: Any = getattr(settle, "__self__", None)
        channel = getattr(self.task_consumer, "channel", None)
        if message is None or message.channel is not channel or self._transport():
            return
        if not message.acknowledged:
            self._is_lost = True
            self._wake()

    def _check_link(self) -> None:
        if self._is_lost:
            self._is_lost = False
            raise ConnectionResetError(errno.ECONNRESET, "a message could not be acknowledged")

    def _wake(self) -> None:
        if transport := self._transport():
            transport.wake()
        elif self.hub is not None:
            self.hub.call_soon(self._check_link)

    def _stop_loop(self) -> None:
        """Take no more messages; Celery's loop would take one more."""
        if transport := self._transport():
            transport.stop()
        else:
            self._wake()

    def _transport(self) -> SensorTransport | None:
        transport = getattr(getattr(self, "connection", None), "_transport", None)
        return transport if isinstance(transport, SensorTransport) else None


def _require_order(message: Any) -> None:
    """Raise unless a message has the form of Celery's own; pools use it unchecked."""
    arguments, names, more = message.decode()
    if not (isinstance(arguments, list) and isinstance(names, dict) and isinstance(more, dict)):
        raise TypeError("its body is not [arguments, named arguments, callbacks]")


class SensorWorker(celery_worker.Worker):
    """Celery's worker without its output for terminals."""

    _ordered: Any = None

    def order(self, entry: Entry) -> bool:
        """Run a periodic task without an order from the broker, in a pool of threads.

        Returns False while the worker is busy, or there is no pool yet.
        """
        if getattr(self, "pool", None) is None or self._is_busy():
            return False
        message = task_message(entry.task, entry.args, entry.kwargs, expires=3600)
        request = SensorRequest(
            Message(headers=message.headers, delivery_info={}),
            app=self.app,
            hostname=self.hostname,
            task=self.app.tasks[entry.task],
            body=message.body,
            decoded=True,
        )
        request.is_ours = True
        self._ordered = request.execute_using_pool(self.pool)
        return True

    def _is_busy(self) -> bool:
        is_ordered = self._ordered is not None and not self._ordered.f.done()
        return is_ordered or self.app.acoupi_monitor.is_busy

    def install_platform_tweaks(self, worker: Any) -> None:
        """Stop after the current tasks when asked to; handle no other signals."""
        celery_worker.install_worker_term_handler(worker, verbose=False)
        celery_worker.install_worker_term_handler(worker, sig="SIGINT", verbose=False)
        celery_worker.install_worker_term_hard_handler(worker, verbose=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def setup_logging(self, colorize: bool | None = None) -> bool:
        """Do not change the logging."""
        return True

    def set_process_status(self, info: Any) -> None:
        """Keep the title of the process: it names the worker."""
