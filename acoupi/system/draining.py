"""Finishing the waiting work before a sensor stops: ``acoupi deployment stop --drain``."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from acoupi import clock
from acoupi.components.messengers.hub import hub_name
from acoupi.components.stores.database import stores_that_only_read
from acoupi.config.sensor import load_sensor
from acoupi.data import RecordingState
from acoupi.errors import AcoupiError, TargetError
from acoupi.stack.stack import Service
from acoupi.system.backlog import waiting_messages
from acoupi.system.reporting import hub_state
from acoupi.system.sensor import Sensor
from acoupi.system.state import store_of
from acoupi.tasks.messaging import messenger_names

__all__ = ["NOTHING", "Work", "check_can_drain", "wait_until_drained", "work_left"]

INTERVAL = 2.0
"""Seconds between two looks at the remaining work."""


@dataclass(frozen=True)
class Work:
    """The pending work of a sensor."""

    recordings: int
    messages: int
    """Messages, counted once for each messenger that has yet to send them."""
    unreported: int = 0
    """Changes to report to the hub, such as recordings and verdicts."""
    sounds: int = 0
    """Sound files to send to the hub."""

    def words(self) -> str:
        """Describe it.

        Examples
        --------
        >>> Work(1, 20).words()
        '1 recording to process, 20 messages to send'
        >>> Work(0, 0, 3, 2).words()
        '0 recordings to process, 0 messages to send; for the hub: 3 to report, 2 sound files'
        """
        recordings = "1 recording" if self.recordings == 1 else f"{self.recordings} recordings"
        messages = "1 message" if self.messages == 1 else f"{self.messages} messages"
        words = f"{recordings} to process, {messages} to send"
        if not self.unreported and not self.sounds:
            return words
        sounds = "1 sound file" if self.sounds == 1 else f"{self.sounds} sound files"
        return f"{words}; for the hub: {self.unreported} to report, {sounds}"


NOTHING = Work(0, 0)


def check_can_drain(sensor: Sensor) -> None:
    """Refuse if stopping the recorder would stop all other work, too.

    Raises
    ------
    TargetError
        Naming the worker that records and also does the rest.
    """
    recorder = sensor.target.recorder
    workers = [one for one in sensor.target.services if one.is_worker and one is not recorder]
    if recorder is not None and not _does_the_rest(recorder, workers):
        return
    why = (
        "it has no recorder"
        if recorder is None
        else f"one worker, {recorder.name}, does everything"
    )
    raise TargetError(
        "cannot finish the waiting work after recording has stopped.",
        "acoupi stop   (waiting work is done after the next start)",
        why=f"{why}.",
    )


def _does_the_rest(recorder: Service, others: list[Service]) -> bool:
    """Return whether the recorder serves more than one queue that no other worker serves."""
    served = {queue for one in others for queue in one.queues}
    return not others or len(set(recorder.queues) - served) > 1


def work_left(sensor: Sensor, messengers: set[str] | None) -> Work:
    """Return the pending work.

    Parameters
    ----------
    sensor
        The sensor.
    messengers
        Names of the messengers that count; None: all in the store.

    Raises
    ------
    AcoupiError
        If a store cannot be read.
    """
    with stores_that_only_read():
        store = store_of(sensor.settings)
        recordings = 0 if store is None else store.count_recordings()[RecordingState.CAPTURED]
        messages = sum(
            one.waiting
            for one in waiting_messages(sensor.settings)
            if messengers is None or one.messenger in messengers
        )
        hub = hub_state(sensor.settings)
    sounds = hub.sound.waiting if hub is not None and hub.sound is not None else 0
    return Work(recordings, messages, 0 if hub is None else hub.waiting, sounds)


def wait_until_drained(sensor: Sensor, limit: float, show: Callable[[Work], None]) -> Work:
    """Wait until everything is processed and sent; Ctrl-C stops the wait.

    Parameters
    ----------
    sensor
        The sensor; its recorder has stopped.
    limit
        Longest wait, seconds.
    show
        Called with the pending work at each look.

    Returns
    -------
    Work
        The pending work.
    """
    end, messengers = clock.monotonic() + limit, _current_messengers(sensor)
    work = NOTHING
    with suppress(KeyboardInterrupt):
        while (work := work_left(sensor, messengers)) != NOTHING and clock.monotonic() < end:
            show(work)
            threading.Event().wait(INTERVAL)
    return work


def _current_messengers(sensor: Sensor) -> set[str] | None:
    """Return the names of the messengers; the store also has former ones, which send nothing.

    None: the program is not installed here.
    """
    try:
        names = set(messenger_names(getattr(sensor.program, "messengers", [])))
        hub = load_sensor(sensor.settings).hub
    except AcoupiError:
        return None
    return names if hub.url is None else names | {hub_name(hub.url)}
