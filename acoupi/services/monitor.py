"""What a worker is doing, whether it is stuck, and its pulse."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from acoupi import data
from acoupi.services.restarts import RestartPolicy
from acoupi.stack.pulse import PulseFile, ServiceLock

__all__ = ["WorkerMonitor"]

logger = logging.getLogger(__name__)

PULSE_EVERY = 5.0
FROZEN_SECONDS = 5.0
"""Seconds of delay after a wait that mean the process was frozen, as in a paused container."""
LOOP_PATIENCE = 60.0
"""Seconds after which a loop that does not turn counts as stuck."""
START_PATIENCE = 600.0
"""Seconds after which a worker that has not loaded its program counts as stuck."""


class WorkerMonitor:
    """Keeps track of the state of a worker and of its tasks, and writes the pulse.

    The worker's loop and its tasks report to it. A thread of its own checks
    whether the worker is stuck, or must be restarted.

    Parameters
    ----------
    pulse
        The file to write.
    broker
        URL of the broker, without the password.
    time_limit
        Seconds after which a task is overdue.
    end
        Called with a reason when the worker is stuck; does not return.
    lock
        The lock on the worker's name; taken again if somebody removes the file.
    restart_policy
        Tells when the worker must stop in order to be restarted.
    """

    def __init__(
        self,
        pulse: PulseFile,
        broker: str,
        *,
        time_limit: float,
        end: Callable[[str], None],
        lock: ServiceLock,
        restart_policy: RestartPolicy | None = None,
    ) -> None:
        self.pulse = pulse
        self.restart_policy = restart_policy or RestartPolicy(None, {})
        self.exit_code: int | None = None
        """Exit code of the worker; None: the one Celery returns."""
        self.lock = lock
        self.broker = broker
        self.time_limit = time_limit
        self.keeps_time = False
        """Whether the worker works without its loop, which a broker may hold."""
        self.stop_loop: Callable[[], None] = lambda: None
        """Makes the loop end at once; set by the consumer."""
        self.after_task: Callable[[], None] = lambda: None
        """Called when a task has ended."""
        self._end = end
        self._created = data.monotonic()
        self._lock = threading.Lock()
        self._tasks: dict[str, tuple[str, float]] = {}
        self._errors: dict[str, str] = {}
        self._claims: dict[str, str] = {}
        """The current order of each periodic task, by the task's name."""
        self._loop_turned = data.monotonic()
        self._is_held = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Start writing the pulse."""
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
        if self._is_held:
            self._is_held = False
            self._set_state("ready", None)

    def ready(self) -> None:
        """Note that the worker waits for messages."""
        self.turn()
        self._set_state("ready", None)
        self.pulse.write()

    def stopping(self) -> None:
        """Note that the worker was asked to stop."""
        self._set_state("stopping", None)
        self.stop_loop()

    def broker_lost(self, error: BaseException) -> None:
        """Note that the broker cannot be reached."""
        self.turn()
        is_new = self.pulse.pulse.state != "waiting for the broker"
        message = f"the broker {self.broker} does not answer: {error}"
        self._set_state("waiting for the broker", message)
        self.pulse.write()
        if is_new:
            logger.error("Cannot continue: %s. Trying again until it does.", message)

    @property
    def is_busy(self) -> bool:
        """Whether a task is running."""
        with self._lock:
            return bool(self._tasks)

    def task_started(self, key: str, task: str) -> None:
        """Note that a task is running."""
        with self._lock:
            self._tasks[key] = (task, data.monotonic())

    def claim(self, key: str, task: str) -> bool:
        """Return whether a periodic task may start: its last run has ended. If not, note it.

        One run that hangs would otherwise take every thread, and with them all other tasks.
        """
        with self._lock:
            if self._claims.setdefault(task, key) == key:
                return True
            self._errors.pop(task, None)
            self._errors[task] = f"{task}: it is still running, so it was not started again"
            self.pulse.pulse.last_error = self._errors[task]
        logger.warning("%s", self._errors[task])
        return False

    def give_up(self, key: str) -> None:
        """Note that an order will not run."""
        with self._lock:
            self._release(key)

    def give_up_waiting(self) -> None:
        """Note that orders that have not started will come again, on a new connection."""
        with self._lock:
            self._claims = {task: key for task, key in self._claims.items() if key in self._tasks}

    def _release(self, key: str) -> None:
        self._claims = {task: one for task, one in self._claims.items() if one != key}

    def task_ended(self, key: str, error: str | None) -> None:
        """Note that a task ended, with an error or None; a second call has no effect."""
        with self._lock:
            self._release(key)
            task, _ = self._tasks.pop(key, (None, 0.0))
            if task is None:
                return
            pulse = self.pulse.pulse
            self._errors.pop(task, None)
            if error is None:
                pulse.done += 1
                pulse.last_done_on = data.utc_now()
            else:
                pulse.failed += 1
                self._errors[task] = f"{task}: {error}"
            pulse.last_error = next(reversed(self._errors.values()), None)
        self.after_task()

    def why_stuck(self) -> str | None:
        """Return why the worker must exit; None if it need not."""
        if not self.lock.keep():
            return "another process is running under its name"
        now = data.monotonic()
        with self._lock:
            running = list(self._tasks.values())
        for task, began in running:
            if now - began > self.time_limit:
                return (
                    f"the task {task} has run for {now - began:.0f} s, longer than its time limit"
                )
        if self.pulse.pulse.state == "starting" and now - self._created > START_PATIENCE:
            return f"it has not started within {START_PATIENCE:.0f} s"
        is_held = now - self._loop_turned > LOOP_PATIENCE and not self._has_no_loop()
        if is_held and not self.keeps_time:
            return f"its loop has not turned for {now - self._loop_turned:.0f} s"
        return None

    def _set_state(self, state: Any, message: str | None) -> None:
        self.pulse.pulse.state, self.pulse.pulse.message = state, message

    def excuse(self, seconds: float) -> None:
        """Exclude a time in which this process was frozen from all counts."""
        with self._lock:
            self._tasks = {key: (task, t + seconds) for key, (task, t) in self._tasks.items()}
        self._created += seconds
        self._loop_turned = min(self._loop_turned + seconds, data.monotonic())

    def _run(self) -> None:
        woke = data.monotonic()
        while not self._stop.wait(PULSE_EVERY):
            late, woke = data.monotonic() - woke - PULSE_EVERY, data.monotonic()
            if late > FROZEN_SECONDS:
                self.excuse(late)
            if reason := self.why_stuck():
                self._end(reason)
                return
            self._restart_if_due()
            if self.keeps_time and not self._loop_turns():
                self._is_held = True
                held = f"the broker {self.broker} has not answered for some time"
                self._set_state("waiting for the broker", held)
            if self._is_held or self._loop_turns():
                self._note_task()
                self.pulse.write()

    def _restart_if_due(self) -> None:
        if self.exit_code is None and (due := self.restart_policy.due()):
            self.exit_code, reason = due
            logger.warning("This worker is stopping to be restarted: %s.", reason)
            os.kill(os.getpid(), signal.SIGTERM)

    def _loop_turns(self) -> bool:
        """Return whether the loop turned recently; the pulse stops when it does not."""
        return data.monotonic() - self._loop_turned < 2 * PULSE_EVERY or self._has_no_loop()

    def _has_no_loop(self) -> bool:
        # There is none before the program is loaded, nor while a stop waits for tasks.
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
