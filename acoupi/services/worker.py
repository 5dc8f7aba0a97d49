"""The service that runs tasks: ``python -m acoupi.system.celery.worker NAME``.

One process for each worker of the program. It takes its queues, its concurrency
and its pool from the Stack, holds the lock on its name while it lives, writes
its pulse from the loop that does the work, and exits when a task is
overdue in a pool that cannot end tasks.

Exit codes: 0 asked to stop; 1 failed; 2 the configuration is wrong; 70 it was stuck; 74 there
was no microphone for a while; 75 another process is running under the same name; 76 another
configuration is in force.
"""

import argparse
import faulthandler
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

# isort: off
from acoupi.services import memory  # before Celery
# isort: on

from celery import Celery, signals
from celery.platforms import SecurityWarning

from acoupi import clock
from acoupi.commit import settle
from acoupi.config.sensor import load_sensor
from acoupi.devices.update_lock import UpdateLock, update_lock_path
from acoupi.errors import AcoupiError
from acoupi.programs import AcoupiProgram
from acoupi.programs.core.base import ProgramTask
from acoupi.services.address import masked_url
from acoupi.services.applied import AppliedWatch
from acoupi.services.aside import Aside, aside_file
from acoupi.services.broker import load_celery_settings
from acoupi.services.child_processes import tie_to_worker
from acoupi.services.construction import build_program
from acoupi.services.consumer import SensorWorker, watch
from acoupi.services.declared_deployments import settle_deployments
from acoupi.services.doors import go_through_door, open_doors
from acoupi.services.duties import duties_of, kept_tasks
from acoupi.services.entries import Entry, read_schedule
from acoupi.services.logs import configure_logging, note_crash, tell
from acoupi.services.memory_spool import keeping_in_memory
from acoupi.services.monitor import WorkerMonitor
from acoupi.services.program_hooks import settle_store
from acoupi.services.provisioned_home import drop_invalid_variables
from acoupi.services.reclaiming import reclaimer
from acoupi.services.recorder_clock import Outbox, RecorderClock
from acoupi.services.restarts import RestartPolicy
from acoupi.services.showing import showing
from acoupi.services.waiting import Watch, await_home
from acoupi.stack.configured import read_program_name
from acoupi.stack.doors import healer_of
from acoupi.stack.loading import load_program_class
from acoupi.stack.pulse import PulseFile, ServiceLock
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service, Stack, check_name, stack_for, stack_of_program
from acoupi.stack.web import with_web
from acoupi.writing import keep_others_out

__all__ = ["STUCK", "main", "overdue_after"]

logger = logging.getLogger(__name__)

STUCK = 70
"""Exit code of a worker that was stuck."""
CALL_EVERY = 5.0
"""Seconds between two calls of what tasks do while they wait."""
OVERDUE_MARGIN = 10.0
"""Seconds that a pool has to kill an overdue task."""


def run(settings: Settings, name: str, home_watch: Watch | None = None) -> int:
    """Run a worker until it is asked to stop; return the exit code.

    Parameters
    ----------
    settings
        Of the home.
    name
        Of the worker.
    home_watch
        Notices a new configuration in a home that sets itself up; None elsewhere.

    Raises
    ------
    AcoupiError
        If it cannot start.
    """
    celery, sensor = load_celery_settings(settings), load_sensor(settings)
    pulse = PulseFile(settings.run_dir, name)
    with ServiceLock(settings.run_dir, name) as lock:
        monitor = WorkerMonitor(
            pulse,
            masked_url(celery.broker_url),
            time_limit=float(celery.task_time_limit),
            end=partial(_end_at_once, pulse),
            lock=lock,
            restart_policy=RestartPolicy(
                AppliedWatch(settings.program_config_file.parent, home_watch),
                patience=sensor.recorder.microphone_patience,
            ),
        )
        monitor.start()
        stopped = threading.Event()
        try:
            app, program = build_program(settings, worker=name)
            program_name = read_program_name(settings)
            stack = stack_of_program(program, settings, celery, program_name)
            stack = with_web(stack, settings, sensor.web)
            if not go_through_door(settings, stack, name):
                _heal(settings, stack, name, program, monitor)
                settle_store(program)
                open_doors(settings, stack, name)
            if home_watch is not None:
                declared = home_watch.known.deployments
                settle_deployments(settings, name, stack, program, declared)
            service = stack.service(name)
            aside = Aside(aside_file(settings.run_dir, name))
            reclaim = reclaimer(name, settings, celery, service.queues, aside)
            duties = duties_of(program, service)
            watch(app, monitor, reclaim, duties, aside)
            tie_to_worker(lock)
            _call_while_waiting(program, stopped)
            kept = kept_tasks(program, service, stack)
            is_recorder = service.role == "recorder"
            in_memory = keeping_in_memory(program, settings, sensor.spool)
            with (
                showing(service, settings, sensor.web),
                in_memory if is_recorder else nullcontext(),
            ):
                return _work(app, service, settings, monitor, kept)
        finally:
            stopped.set()
            monitor.stop()


def _heal(
    settings: Settings,
    stack: Stack,
    name: str,
    program: AcoupiProgram[Any],
    monitor: WorkerMonitor,
) -> None:
    """Heal the stores now, and whenever one is found damaged, if this worker keeps them."""
    if (one := healer_of(stack)) is not None and one.name == name:
        from acoupi.services.healing import Healer, kept_by  # noqa: PLC0415 - 0.5 MB, in one worker

        healer = Healer(kept_by(program, settings))
        healer.start()
        monitor.after_task = healer.look


def _work(
    app: Celery,
    service: Service,
    settings: Settings,
    monitor: WorkerMonitor,
    kept: Sequence[ProgramTask],
) -> int:
    def on_stopping(**_: Any) -> None:
        monitor.stopping()

    signals.worker_shutting_down.connect(on_stopping, weak=False)
    # Celery warns root about pickled messages; acoupi uses JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    if service.role == "recorder":
        UpdateLock(update_lock_path()).clear()
    monitor.time_limit = overdue_after(service, monitor.time_limit)
    worker = SensorWorker(
        app=app,
        hostname=f"{service.name}@acoupi",
        queues=list(service.queues),
        concurrency=service.concurrency or _at_once(service),
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
    with _keeping_time(worker, service, settings, monitor, kept):
        worker.start()
    logger.info("The worker %s has stopped.", service.name)
    return monitor.exit_code or int(worker.exitcode or 0)


def _call_while_waiting(program: AcoupiProgram[Any], stopped: threading.Event) -> None:
    """Call registered functions now and then, as time passes.

    Their argument is the delay of the call in seconds: this process may have been frozen.
    """
    waiting = [
        function
        for task in program.tasks.values()
        if (function := getattr(task.function, "while_waiting", None)) is not None
    ]

    def wait() -> None:
        due = clock.monotonic() + CALL_EVERY
        while not stopped.wait(CALL_EVERY):
            late = clock.monotonic() - due
            for function in waiting:
                try:
                    function(late)
                except Exception:
                    logger.exception("A task cannot note that it waits.")
            due = clock.monotonic() + CALL_EVERY

    if waiting:
        threading.Thread(target=wait, name="waiting", daemon=True).start()


def _schedule(settings: Settings) -> list[Entry]:
    try:
        return read_schedule(settings.schedule_file)
    except AcoupiError as error:
        logger.warning("This worker cannot keep time itself: %s", error)
        return []


@contextmanager
def _keeping_time(
    worker: SensorWorker,
    service: Service,
    settings: Settings,
    monitor: WorkerMonitor,
    kept: Sequence[ProgramTask],
) -> Iterator[None]:
    """Let a worker do what must not depend on the broker; it needs threads for this."""
    names = {task.name for task in kept} if service.pool == "threads" else set()
    entries = [one for one in _schedule(settings) if one.task in names]
    keeper = RecorderClock(entries, worker.order)
    if not entries:
        yield
        return
    worker.app.acoupi_came = keeper.came
    monitor.keeps_time = True
    outbox = Outbox()
    for task in kept:
        task.outbox = outbox
    signals.worker_shutting_down.connect(lambda **_: keeper.stop(), weak=False)
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()
        outbox.close()


def _at_once(service: Service) -> int | None:
    """Return the concurrency if the program gives none; None: one task for each core.

    At least two threads: while one waits for a server, the other can free disk space.
    """
    return max(2, os.cpu_count() or 1) if service.pool == "threads" else None


def overdue_after(service: Service, time_limit: float) -> float:
    """Return the seconds after which a task of a worker is overdue.

    Parameters
    ----------
    service
        The worker.
    time_limit
        Time limit of the program's tasks, seconds.
    """
    if service.role == "recorder":
        time_limit += service.stop_grace  # a recording takes its own time first
    if service.pool == "prefork":
        time_limit += OVERDUE_MARGIN  # the pool kills the task; this is in case it fails
    return time_limit


def _end_at_once(pulse: PulseFile, reason: str) -> None:
    """Exit this process without waiting for anything, which might hang, too."""
    logger.critical("This worker exits: %s.", reason)
    pulse.pulse.state, pulse.pulse.message = "stopped", f"it exited: {reason}"
    pulse.write()
    faulthandler.dump_traceback(file=sys.stderr)
    logging.shutdown()
    os._exit(STUCK)


def check_service(settings: Settings, name: str) -> None:
    """Raise if the program has no worker of that name; cheap, before anything is built.

    Raises
    ------
    AcoupiError
        Naming those that it has.
    """
    program_class = load_program_class(read_program_name(settings))
    stack_for(program_class, None, settings, recording_queue=None).service(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is asked to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.celery.worker")
    parser.add_argument("name", help="name of the worker in the program")
    parser.add_argument("--quiet", action="store_true", help="log to the file only")
    options = parser.parse_args(arguments)
    keep_others_out()
    try:
        check_name(options.name)
        os.environ["ACOUPI_SERVICE"] = options.name  # a name for messages to servers
        drop_invalid_variables(os.environ)
        settings = Settings()
        configure_logging(settings, options.name, quiet=options.quiet)
        settle(settings.program_config_file.parent)
        home_watch = await_home(settings, options.name)
        check_service(settings, options.name)
        return run(settings, options.name, home_watch)
    except AcoupiError as error:
        tell(error)
        return error.exit_code
    except Exception:
        note_crash()
        raise
