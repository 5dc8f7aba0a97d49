"""The service that sends the periodic tasks: ``python -m acoupi.services.beat``.

It reads ``config/schedule.json`` and imports neither Celery nor pydantic nor
the program (unless the program defines a schedule class of its own), so it is
small and starts quickly.

Clocks. A Raspberry Pi has no battery-backed clock: it starts in the past and
jumps to the present when it finds the network, or a person sets it back.
Intervals are therefore counted on the monotonic clock, which no step affects.
Schedules by time of day follow the wall clock; when that steps against the
monotonic clock, their next time is computed again: skipped slots are not made
up for, and nothing waits until the clock catches up with an earlier time.

If the loop stops turning (because a program's own schedule hangs, or its import), beat
exits with a traceback and exit code 1, and is restarted.
"""

import argparse
import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self

from acoupi import clock
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.services.address import masked_url, read_address
from acoupi.services.entries import (
    ClockSteps,
    Entry,
    Interval,
    UnknownSchedule,
    When,
    read_schedule,
)
from acoupi.services.logs import note_crash, tell
from acoupi.services.publisher import open_publisher
from acoupi.services.serving import home_of
from acoupi.services.stopping import stop_event
from acoupi.services.task_messages import Publisher, task_message
from acoupi.stack.pulse import AlreadyRunningError, PulseFile, ServiceLock
from acoupi.stack.settings import BEAT, RENEW, Settings
from acoupi.writing import keep_others_out

__all__ = ["Planner", "main", "run"]

logger = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Longest time between two checks of a wall-clock schedule, seconds."""
PULSE_EVERY = 5.0
LOOP_PATIENCE = 60.0
"""Seconds after which a loop that does not turn counts as stuck."""
START_PATIENCE = 600.0
"""Seconds after which a beat that has not loaded its schedule counts as stuck."""


class Watchdog:
    """Exits this process, with a traceback, if its loop does not turn for a while.

    Parameters
    ----------
    patience
        Seconds for one turn.
    """

    def __init__(self, patience: float = LOOP_PATIENCE) -> None:
        self._patience = patience

    def __enter__(self) -> Self:
        self._wait(START_PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()

    def turn(self) -> None:
        """Note that the loop turns."""
        self._wait(self._patience)

    @staticmethod
    def _wait(seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)


class Send(Protocol):
    """Sends the message of an entry; `expires` is in seconds from now."""

    def __call__(self, entry: Entry, expires: float) -> None: ...


@dataclass
class _Plan:
    """When an entry is due next."""

    entry: Entry
    schedule: Interval | When
    due: float
    """When to check, on the monotonic clock."""
    last_run: datetime
    """When it is due, on the wall clock."""


class Planner:
    """Keeps track of what is due, even when the wall clock steps.

    Parameters
    ----------
    entries
        Those with an `UnknownSchedule` are left out.
    send
        Called for each entry that is due.
    """

    def __init__(self, entries: Sequence[Entry], send: Send) -> None:
        self._send = send
        self._clocks = ClockSteps()
        now, wall = clock.monotonic(), clock.utc_now()
        # Intervals start at once: a sensor that was started should record.
        self._plans = [
            _Plan(entry, entry.schedule, due=now, last_run=wall)
            for entry in entries
            if not isinstance(entry.schedule, UnknownSchedule)
        ]

    def tick(self) -> float:
        """Send everything that is due; return the seconds until something may be."""
        if step := self._clocks.stepped():
            self._plan_again(step)
        for plan in self._plans:
            if plan.due <= clock.monotonic():
                self._serve(plan)
        now = clock.monotonic()
        return max(0.0, min((plan.due - now for plan in self._plans), default=LOOK_AGAIN))

    def _plan_again(self, step: float) -> None:
        """Plan wall-clock schedules again after a step."""
        logger.warning(
            "The clock was set %s by %.1f s.", "back" if step < 0 else "forward", abs(step)
        )
        now, wall = clock.monotonic(), clock.utc_now()
        for plan in self._plans:
            if not isinstance(plan.schedule, Interval):
                plan.last_run = wall
                plan.due = now

    def _serve(self, plan: _Plan) -> None:
        now = clock.monotonic()
        if isinstance(plan.schedule, Interval):
            # Slots keep their distance from the first; missed ones are skipped.
            every = plan.schedule.seconds
            missed = int((now - plan.due) // every)
            plan.due += (missed + 1) * every
            self._send(plan.entry, plan.due - now)
            return
        is_due, seconds = self._ask(plan, plan.schedule)
        plan.due = now + min(seconds, LOOK_AGAIN)
        if is_due:
            plan.last_run = clock.utc_now()
            self._send(plan.entry, seconds)

    @staticmethod
    def _ask(plan: _Plan, when: When) -> tuple[bool, float]:
        """Return whether an entry is due, and the seconds until the next check."""
        try:
            is_due, seconds = when.is_due(plan.last_run)
        except Exception:
            # A failing schedule of a program must not stop the others.
            logger.exception("Cannot tell when %s is due; checking again later.", plan.entry.name)
            return False, LOOK_AGAIN
        return bool(is_due), max(float(seconds), 0.001)


@dataclass
class _Sender:
    """Sends messages, and reports when the broker fails."""

    publisher: Publisher
    pulse: PulseFile
    broker: str
    watchdog: Watchdog
    failing: bool = field(default=False, init=False)

    def __call__(self, entry: Entry, expires: float) -> None:
        """Send a message; if the broker is down it is dropped, as it would expire anyway."""
        pulse = self.pulse.pulse
        self.watchdog.turn()  # waiting for a broker that hangs does not count as stuck
        if entry.expires is not None:
            expires = min(expires, entry.expires)
        try:
            message = task_message(entry.task, entry.args, entry.kwargs, expires=max(expires, 0.1))
            self.publisher.send(entry.queue, message)
        except OSError as error:
            pulse.failed += 1
            if not self.failing:
                logger.error(  # noqa: TRY400 - a traceback says nothing more
                    "Cannot reach the broker %s: %s. Trying again at every slot.",
                    self.broker,
                    error,
                )
            self.failing = True
            pulse.state = "waiting for the broker"
            pulse.message = f"the broker {self.broker} does not answer: {error}"
            self.pulse.write()  # the next attempt may take as long
        else:
            if self.failing:
                logger.info("The broker %s answers again.", self.broker)
            self.failing = False
            pulse.state, pulse.message = "ready", None
            pulse.done += 1
            pulse.last_done_on = clock.utc_now()


def _entries(settings: Settings) -> list[Entry]:
    """Return the entries; load the program if one has a schedule class of the program."""
    entries = read_schedule(settings.schedule_file)
    if not any(isinstance(entry.schedule, UnknownSchedule) for entry in entries):
        return entries
    from acoupi.services.construction import load_program  # noqa: PLC0415 - beat does without it

    logger.info("The program has schedule classes of its own: loading it.")
    app = load_program(settings).app
    known = app.conf.beat_schedule
    filled = []
    for entry in entries:
        if isinstance(entry.schedule, UnknownSchedule):
            if entry.name not in known:
                raise ConfigurationError(
                    f'cannot tell when "{entry.task}" is due.',
                    "acoupi setup",
                    why=f"{settings.schedule_file} names a schedule that the program, as it is "
                    "now, does not have.",
                )
            when = known[entry.name]["schedule"]
            when.app = app
            # Celery would otherwise take the current time from its own clock.
            when.nowfun = when.nowfun or clock.utc_now
            filled.append(_with_schedule(entry, when))
        else:
            filled.append(entry)
    return filled


def _with_schedule(entry: Entry, when: When) -> Entry:
    return Entry(entry.name, entry.task, entry.queue, when, entry.args, entry.kwargs, entry.expires)


def _loaded_address(settings: Settings) -> str | None:
    from acoupi.services.broker import load_celery_settings  # noqa: PLC0415 - imports pydantic

    return load_celery_settings(settings).broker_url


def run(
    settings: Settings,
    stop: threading.Event,
    *,
    changed: Callable[[], str | None] = lambda: None,
    publisher: Publisher | None = None,
    watchdog: Watchdog | None = None,
) -> int:
    """Send what is due until `stop` is set or the configuration `changed`; return the exit code.

    Parameters
    ----------
    settings
        Of the home.
    stop
        Set when beat is to stop.
    changed
        Returns why beat must be restarted; None if it need not be.
    publisher
        The publisher; None: one to the broker of the home.
    watchdog
        The watchdog; None: the usual one.

    Raises
    ------
    AcoupiError
        If there is no schedule, or another beat runs.
    """
    url = read_address(settings, otherwise=_loaded_address)
    with ServiceLock(settings.run_dir, BEAT) as lock, watchdog or Watchdog() as guard:
        publisher = publisher or open_publisher(settings, url)
        pulse = PulseFile(settings.run_dir, BEAT)
        pulse.write()
        sender = _Sender(publisher, pulse, masked_url(url), guard)
        entries = _entries(settings)
        planner = Planner(entries, sender)
        logger.info("beat is ready: %d periodic tasks.", len(entries))
        pulse.pulse.state = "ready"
        written = clock.monotonic() - PULSE_EVERY
        code = 0
        while not stop.is_set():
            guard.turn()
            if reason := changed():
                logger.warning("beat is stopping to be restarted: %s.", reason)
                code = RENEW
                break
            seconds = planner.tick()
            if clock.monotonic() - written >= PULSE_EVERY - 0.5:
                if not lock.keep():
                    raise AlreadyRunningError(
                        "beat has stopped.",
                        "acoupi workers status",
                        why="another beat is running in this home.",
                    )
                pulse.write()
                written = clock.monotonic()
            stop.wait(min(seconds, PULSE_EVERY))
        pulse.pulse.state = "stopped"
        pulse.write()
        publisher.close()
    logger.info("beat has stopped.")
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run beat until it is asked to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.celery.beat")
    parser.add_argument("--quiet", action="store_true", help="log to the file only")
    options = parser.parse_args(arguments)
    keep_others_out()
    stop = stop_event()
    try:
        os.environ["ACOUPI_SERVICE"] = BEAT  # a name for messages to servers
        settings, changed = home_of(BEAT, stop, quiet=options.quiet)
        return run(settings, stop, changed=changed)
    except AcoupiError as error:
        if stop.is_set():
            return 0
        tell(error)
        return error.exit_code
    except Exception:
        note_crash()
        raise
