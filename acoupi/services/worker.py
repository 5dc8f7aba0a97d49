"""The service that runs tasks: ``python -m acoupi.system.celery.worker NAME``.

One process per worker of the program. It takes its queues, its concurrency
and its pool from the Stack, holds the lock of its name while it lives, writes
its pulse from the loop that does the work, and ends itself when a task is
overdue in a pool that cannot end tasks.

Exit codes: 0 asked to stop; 1 failed; 2 the configuration is wrong; 70 ended
itself because it was stuck; 74 because there was no microphone for a while; 75
another process runs under the same name; 76 another configuration is in force.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import fcntl
import logging
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

# isort: off
from acoupi.services import memory  # before Celery
# isort: on

from celery import Celery, signals
from celery.apps import worker as celery_worker
from celery.platforms import SecurityWarning
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from celery.worker.state import maybe_shutdown

from acoupi import data
from acoupi.commit import settle
from acoupi.devices.update_lock import UpdateLock, update_lock_path
from acoupi.errors import AcoupiError
from acoupi.services.address import masked_url
from acoupi.services.broker import load_celery_settings
from acoupi.services.construction import build_program
from acoupi.services.deployment_hooks import settle_deployments
from acoupi.services.logs import configure_logging, note_crash, tell
from acoupi.services.places import forgive
from acoupi.services.reclaiming import reclaimer
from acoupi.services.restarts import Leaving
from acoupi.services.transport import SensorTransport
from acoupi.services.waiting import Watch, await_home
from acoupi.stack.configured import read_program_name
from acoupi.stack.loading import load_program_class
from acoupi.stack.pulse import PulseFile, ServiceLock
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service, check_name, stack_for, stack_of_program

__all__ = ["STUCK", "Heart", "main", "overdue_after"]

logger = logging.getLogger("acoupi.services.worker")

STUCK = 70
"""Exit code of a worker that ended itself."""
PULSE_EVERY = 5.0
LOOK_EVERY = 1.0
LOOP_PATIENCE = 60.0
"""Seconds after which a loop that does not turn counts as stuck."""
START_PATIENCE = 600.0
"""Seconds after which a worker that has not loaded its program counts as stuck."""
OVERDUE_MARGIN = 10.0
"""Seconds a pool that can end tasks is left to do so."""
RETRY_START, RETRY_STEP, RETRY_MAX = 0.5, 0.5, 5.0
"""Seconds between attempts to reach a broker."""
PR_SET_PDEATHSIG = 1


class Heart:
    """What the worker is doing; told by its loop and its tasks, written as the pulse.

    Parameters
    ----------
    pulse
        Where to write it.
    broker
        Its URL, without the password.
    time_limit
        Seconds after which a task is overdue.
    end
        Called with a reason when the worker is stuck; does not return.
    lock
        Its lock, which is taken anew if somebody removes the file.
    reclaim
        Called with the first connection to the broker: puts back what this
        worker had in hand when it ended last.
    leaving
        Says when the worker is to stop to be started again.
    """

    def __init__(
        self,
        pulse: PulseFile,
        broker: str,
        *,
        time_limit: float,
        end: Callable[[str], None],
        reclaim: Callable[[Any], None],
        lock: ServiceLock,
        leaving: Leaving | None = None,
    ) -> None:
        self.pulse = pulse
        self.leaving = leaving or Leaving(None, {})
        self.exit_code: int | None = None
        """With which the worker ends; None: as Celery says."""
        self.lock = lock
        self.broker = broker
        self.time_limit = time_limit
        self.reclaim = reclaim
        self.stop_loop: Callable[[], None] = lambda: None
        """Makes the loop end at once; set by the consumer."""
        self._end = end
        self._began = data.monotonic()
        self._lock = threading.Lock()
        self._tasks: dict[str, tuple[str, float]] = {}
        self._errors: dict[str, str] = {}
        self._loop_turned = data.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to write the pulse."""
        self.pulse.write()
        self._thread.start()

    def stop(self) -> None:
        """Write the last pulse."""
        self._stop.set()
        self._thread.join(timeout=2)
        self.pulse.pulse.state = "stopped"
        self.pulse.pulse.task = self.pulse.pulse.task_since = None
        self.pulse.write()

    def turn(self) -> None:
        """Note that the loop turns."""
        self._loop_turned = data.monotonic()

    def ready(self) -> None:
        """Note that messages are being waited for."""
        self.turn()
        self._say("ready", None)
        self.pulse.write()

    def stopping(self) -> None:
        """Note that the worker was asked to stop."""
        self._say("stopping", None)
        self.stop_loop()

    def broker_lost(self, error: BaseException) -> None:
        """Note that the broker cannot be reached."""
        self.turn()
        new = self.pulse.pulse.state != "waiting for the broker"
        message = f"the broker {self.broker} does not answer: {error}"
        self._say("waiting for the broker", message)
        self.pulse.write()
        if new:
            logger.error("Cannot go on: %s. Trying again until it does.", message)

    def began(self, key: str, task: str) -> None:
        """Note that a task runs."""
        with self._lock:
            self._tasks[key] = (task, data.monotonic())

    def ended(self, key: str, error: str | None) -> None:
        """Note that a task ended; `error` is None if well. Twice is once."""
        with self._lock:
            task, _ = self._tasks.pop(key, (None, 0.0))
            if task is None:
                return
            pulse = self.pulse.pulse
            if error is None:
                pulse.done += 1
                self._errors.pop(task, None)
                pulse.last_done_on = data.utc_now()
            else:
                pulse.failed += 1
                self._errors.pop(task, None)
                self._errors[task] = f"{task}: {error}"
            pulse.last_error = next(reversed(self._errors.values()), None)

    def _say(self, state: Any, message: str | None) -> None:
        self.pulse.pulse.state, self.pulse.pulse.message = state, message

    def _beat(self) -> None:
        written = data.monotonic()
        while not self._stop.wait(LOOK_EVERY):
            reason = self.stuck()
            if reason:
                self._end(reason)
                return
            if self.exit_code is None and (leaving := self.leaving()):
                self.exit_code = leaving[0]
                logger.warning("This worker stops, to be started again: %s.", leaving[1])
                os.kill(os.getpid(), signal.SIGTERM)
            if data.monotonic() - written >= PULSE_EVERY - LOOK_EVERY and self._loop_turns():
                self._note_task()
                self.pulse.write()
                written = data.monotonic()

    def _loop_turns(self) -> bool:
        """Return whether the loop turned of late; the pulse stops with it."""
        return data.monotonic() - self._loop_turned < 2 * PULSE_EVERY or self._loop_rests()

    def _loop_rests(self) -> bool:
        # Before the program is loaded there is no loop; a warm shutdown waits without it.
        return self.pulse.pulse.state in ("stopping", "starting")

    def _note_task(self) -> None:
        with self._lock:
            oldest = min(self._tasks.values(), key=lambda item: item[1], default=None)
        pulse = self.pulse.pulse
        if oldest is None:
            pulse.task = pulse.task_since = None
            return
        task, began = oldest
        pulse.task = task
        pulse.task_since = data.utc_now() - timedelta(seconds=data.monotonic() - began)

    def stuck(self) -> str | None:
        """Return why the worker must end itself; None if it need not."""
        if not self.lock.keep():
            return "another process runs under its name"
        now = data.monotonic()
        with self._lock:
            running = list(self._tasks.values())
        for task, began in running:
            if now - began > self.time_limit:
                return (
                    f"the task {task} has run for {now - began:.0f} s, longer than its time limit"
                )
        if self.pulse.pulse.state == "starting" and now - self._began > START_PATIENCE:
            return f"it has not started within {START_PATIENCE:.0f} s"
        if now - self._loop_turned > LOOP_PATIENCE and not self._loop_rests():
            return f"its loop has not turned for {now - self._loop_turned:.0f} s"
        return None


_heart: Heart | None = None
"""Of this process: Celery makes the objects that tell it, so they cannot be given it."""


def heart() -> Heart:
    """Return the heart of the worker that runs in this process."""
    if _heart is None:
        raise RuntimeError("no worker runs in this process")
    return _heart


class _Request(Request):
    """A task in hand, as its worker's main process sees it, whatever the pool."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Celery derives a class whose on_success does not call ours.
        self._celery_success: Callable[..., Any] = self.on_success
        self.__dict__["on_success"] = self._done

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        heart().began(self.id, self.name)
        super().on_accepted(pid, time_accepted)

    def _done(self, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        failed, result, _ = failed__retval__runtime
        heart().ended(self.id, _reason(result) if failed else None)
        if not failed and isinstance(result, data.Recording):
            heart().leaving.recorded()
        return self._celery_success(failed__retval__runtime, **kwargs)

    def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        heart().ended(self.id, _reason(exc_info))
        heart().leaving.failed(getattr(exc_info, "exception", exc_info))
        return super().on_failure(exc_info, *args, **kwargs)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        if not soft:
            heart().ended(self.id, f"ended after {timeout:g} s, its time limit")
        return super().on_timeout(soft, timeout)


def _reason(exc_info: Any) -> str:
    error = getattr(exc_info, "exception", exc_info)
    error = getattr(error, "exc", error)
    if isinstance(error, AcoupiError):
        return error.message
    return f"{type(error).__name__}: {error}"


class _Consumer(Consumer):
    """Waits for messages; tells the heart of every turn of its loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._reclaimed = False
        heart().stop_loop = self._stop_loop
        super().__init__(*args, **kwargs)

    def ensure_connected(self, conn: Any) -> Any:
        """Wait for the broker as long as it takes; then take back what was in hand."""

        def on_error(error: BaseException, interval: float) -> None:
            del interval
            heart().broker_lost(error)

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
        connection = super().connect()
        if not self._reclaimed:
            # Nobody else works under this name, so what was taken is nobody's.
            heart().reclaim(connection)
            self._reclaimed = True
        return connection

    def on_ready(self) -> None:
        super().on_ready()
        heart().ready()

    def on_connection_error_before_connected(self, exc: BaseException) -> None:
        heart().broker_lost(exc)

    def on_connection_error_after_connected(self, exc: BaseException) -> None:
        heart().broker_lost(exc)
        super().on_connection_error_after_connected(exc)

    def perform_pending_operations(self) -> None:
        """Turn once."""
        heart().turn()
        super().perform_pending_operations()

    def call_soon(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Do something in the loop, at once: a thread's acknowledgement must not wait for it."""
        result = super().call_soon(p, *args, **kwargs)
        self._wake()
        return result

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call_soon_ack(p, *args, **kwargs)
        self._wake()
        return result

    def _wake(self) -> None:
        if transport := self._transport():
            transport.wake()

    def _stop_loop(self) -> None:
        """Take no more messages; Celery's loop would look for one more."""
        if transport := self._transport():
            transport.stop()

    def _transport(self) -> SensorTransport | None:
        transport = getattr(getattr(self, "connection", None), "_transport", None)
        return transport if isinstance(transport, SensorTransport) else None


class _Worker(celery_worker.Worker):
    """Celery's worker without what a terminal wants."""

    def install_platform_tweaks(self, worker: Any) -> None:
        """Stop warmly when asked to; nothing else answers to signals."""
        celery_worker.install_worker_term_handler(worker, verbose=False)
        celery_worker.install_worker_term_handler(worker, sig="SIGINT", verbose=False)
        celery_worker.install_worker_term_hard_handler(worker, verbose=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def setup_logging(self, colorize: bool | None = None) -> bool:
        """Leave the logging as it is."""
        del colorize
        return True

    def set_process_status(self, info: Any) -> None:
        """Leave the title of the process as it is: it says which worker this is."""


def run(settings: Settings, name: str, watch: Watch | None = None) -> int:
    """Run a worker until it is asked to stop; return the exit code.

    Parameters
    ----------
    settings
        Of the home.
    name
        Of the worker.
    watch
        Of a home that sets itself up.

    Raises
    ------
    AcoupiError
        If it cannot start.
    """
    global _heart  # noqa: PLW0603 - see there
    celery = load_celery_settings(settings)
    lock = ServiceLock(settings.run_dir, name)
    with lock:
        _heart = Heart(
            PulseFile(settings.run_dir, name),
            masked_url(celery.broker_url),
            time_limit=float(celery.task_time_limit),
            end=_end_at_once,
            reclaim=reclaimer(name, settings, celery),
            lock=lock,
            leaving=Leaving(watch),
        )
        _heart.start()
        try:
            app, program = build_program(settings, worker=name)
            program_name = read_program_name(settings)
            stack = stack_of_program(program, settings, celery, program_name)
            if watch is not None:
                settle_deployments(settings, name, stack, program, watch.known.deployments)
            return _work(app, stack.service(name), settings, lock)
        finally:
            _heart.stop()


def _work(app: Celery, service: Service, settings: Settings, lock: ServiceLock) -> int:
    _prepare(app, lock)
    # Celery warns root of what pickled messages could do; ours are JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    if service.role == "recorder":
        UpdateLock(update_lock_path()).clear()
    heart().time_limit = overdue_after(service, heart().time_limit)
    worker = _Worker(
        app=app,
        hostname=f"{service.name}@acoupi",
        queues=list(service.queues),
        concurrency=service.concurrency,
        pool=service.pool or "threads",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel=settings.log_level.upper(),
    )
    logger.info(
        "The worker %s listens to %s (%s, %s at once).",
        service.name,
        ", ".join(service.queues),
        service.pool,
        worker.concurrency,
    )
    memory.settle_memory()
    worker.start()
    logger.info("The worker %s has stopped.", service.name)
    return heart().exit_code or int(worker.exitcode or 0)


def overdue_after(service: Service, time_limit: float) -> float:
    """Return the seconds after which a task of a worker is overdue.

    Parameters
    ----------
    service
        The worker.
    time_limit
        Of the tasks of the program, seconds.
    """
    if service.role == "recorder":
        time_limit += service.stop_grace  # a recording takes its time before anything can hang
    if service.pool == "prefork":
        time_limit += OVERDUE_MARGIN  # the pool ends it; this is for when that fails
    return time_limit


def _prepare(app: Celery, lock: ServiceLock) -> None:
    """Make Celery use our consumer and requests, and tell the children what they are."""
    app.conf.worker_consumer = _Consumer
    for task in app.tasks.values():
        task.Request = _Request

    readers_end, workers_end = os.pipe2(os.O_CLOEXEC)

    def on_child(**_: Any) -> None:
        lock.forget()
        os.close(workers_end)
        _die_at_the_end_of(readers_end)

    def on_stopping(**_: Any) -> None:
        heart().stopping()

    signals.worker_process_init.connect(on_child, weak=False)
    signals.worker_shutting_down.connect(on_stopping, weak=False)


def _die_at_the_end_of(pipe: int) -> None:
    """Make the kernel end this child when the worker ends, so that nothing is worked on twice.

    The worker alone holds the other end of the pipe. Celery asks the kernel for the same
    (PR_SET_PDEATHSIG), but that counts the thread that made the child as its parent: the
    child that takes the place of a dead one is made by a thread which ends when the worker
    is asked to stop, and would die then in the middle of its task.
    """
    with contextlib.suppress(OSError, AttributeError):
        # Opened anew, because who is to be told belongs to what was opened, not to the process.
        own = os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(pipe)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        if select.select([own], [], [], 0)[0]:  # it has ended already
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)


def _end_at_once(reason: str) -> None:
    """End this process, without waiting for anything: whatever hangs would hang that too."""
    logger.critical("This worker ends itself: %s.", reason)
    pulse = heart().pulse
    pulse.pulse.state, pulse.pulse.message = "stopped", f"it ended itself: {reason}"
    pulse.write()
    faulthandler.dump_traceback(file=sys.stderr)
    logging.shutdown()
    os._exit(STUCK)


def check_service(settings: Settings, name: str) -> None:
    """Raise if the program has no worker of that name; cheap, before anything is built.

    Raises
    ------
    AcoupiError
        Saying which there are.
    """
    program_class = load_program_class(read_program_name(settings))
    stack_for(program_class, None, settings, recording_queue=None).service(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is asked to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.celery.worker")
    parser.add_argument("name", help="the worker, as the program calls it")
    parser.add_argument("--quiet", action="store_true", help="log to the file only")
    options = parser.parse_args(arguments)
    try:
        check_name(options.name)
        os.environ["ACOUPI_SERVICE"] = options.name  # tells it apart to servers
        forgive(os.environ)
        settings = Settings()
        configure_logging(settings, options.name, quiet=options.quiet)
        settle(settings.program_config_file.parent)
        watch = await_home(settings, options.name)
        check_service(settings, options.name)
        return run(settings, options.name, watch)
    except AcoupiError as error:
        tell(error)
        return error.exit_code
    except Exception:
        note_crash()
        raise
