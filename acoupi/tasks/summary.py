"""The task that makes summaries."""

import logging
from collections.abc import Callable, Sequence

from acoupi import data
from acoupi.components import types

__all__ = ["generate_summariser_task"]

_logger = logging.getLogger(__name__)


def generate_summariser_task(
    summarisers: Sequence[types.Summariser],
    message_store: types.MessageStore,
    logger: logging.Logger = _logger,
) -> Callable[[], None]:
    """Return a task that stores the summaries of a period that ends now.

    Parameters
    ----------
    summarisers
        One that fails is logged and does not stop the others.
    message_store
        Receives the messages.
    logger
        Receives the log lines of the task.
    """

    def summary_task() -> None:
        """Store the summary of every summariser."""
        now = data.utc_now()
        for summariser in summarisers:
            try:
                made = summariser.build_summary(now)
                for message in made if isinstance(made, list) else [] if made is None else [made]:
                    kind = message.message_type or data.MessageType.SUMMARY
                    message_store.store_message(message.model_copy(update={"message_type": kind}))
            except Exception:
                logger.exception("%s made no summary", type(summariser).__name__)

    return summary_task
