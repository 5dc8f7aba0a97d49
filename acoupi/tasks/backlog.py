"""The task that skips recordings for which models have no time."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from acoupi import data
from acoupi.backlog import LeftOut, choose
from acoupi.pace import pace_of

__all__ = ["generate_backlog_task"]

_logger = logging.getLogger(__name__)

_DAY = timedelta(days=1)


def generate_backlog_task(
    store: Any, models: Sequence[str], logger: logging.Logger = _logger
) -> Callable[[], None]:
    """Return a task to run every minute: it keeps what waits within the limit of the policy.

    It may be interrupted at any point and run again: each recording is left out, or not, once,
    together with the span of time that it counts for.

    Parameters
    ----------
    store
        Knows what waits, and how fast the models are; `Store.backlog` is the policy. One
        with `Store.can_leave_out`.
    models
        Names of those that have no time.
    logger
        Receives the log lines of the task.
    """

    def backlog_task() -> None:
        """Skip recordings for which the models have no time."""
        now = data.utc_now()
        store.take_in_arrived()
        pace = pace_of(store.get_progress(now - _DAY), now)
        for choice in choose(store.backlog, pace, store.get_waiting(), now):
            if isinstance(choice, LeftOut):
                number = store.leave_out(choice, models)
                logger.warning("%d recordings will not be analysed: %s", number, choice.reason)
            else:
                store.change_sampling(choice, models)
                what = "Every recording" if choice.every == 1 else f"1 of {choice.every} recordings"
                logger.warning("%s is analysed from now on: %s", what, choice.reason)

    return backlog_task
