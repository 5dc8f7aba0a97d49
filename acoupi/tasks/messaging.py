"""The task that sends messages."""

import datetime
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from acoupi import data
from acoupi.components import types
from acoupi.errors import AccessRefusedError, MessageError, MessageSendError
from acoupi.tasks.failures import FAILED

__all__ = ["generate_send_messages_task", "messenger_names"]

_logger = logging.getLogger(__name__)

Order = Literal["oldest_first", "newest_first"]

_BATCH = 50
"""Messages claimed at once."""
_LONGEST_PASS = 100.0
"""Seconds of a pass, shared by the messengers. Less than a claim lasts, or another pass would
send the same messages, and less than the time after which a worker considers a task stuck."""
_SHARE_OF_LIMIT = 0.5
"""Share of a task's time limit that a pass may take: its last message takes its own time."""
_SHOWN = 200
_NOT_NOW = frozenset({data.ResponseStatus.FAILED, data.ResponseStatus.TIMEOUT})
"""Answers about the server, or none: they say nothing against the message."""
_MAX_REFUSED = 3
"""A messenger stops after this many refusals of access, or after as many messages in a row that
the server did not take for now: the others would end the same way, and mobile data is paid by
the byte."""


def generate_send_messages_task(
    message_store: types.MessageStore,
    messengers: Sequence[types.Messenger] | None = None,
    max_messages: int | None = None,
    order: Order = "oldest_first",
    logger: logging.Logger = _logger,
    *,
    keep: datetime.timedelta | None = None,
    time_limit: float | None = None,
) -> Callable[[], None]:
    """Return a task in which every messenger sends what it has not yet delivered.

    Messengers do not block each other. A message that the server refuses counts
    as an attempt, and the next one is tried. If the server cannot be reached,
    does not answer, takes nothing for now or refuses access, the messenger rests
    until the next pass, and messages it has not tried are released without
    counting an attempt. The same happens when its share of the pass (100 s in all,
    or half the time limit) is used up. If the server names a time
    (`Response.retry_after`), nothing is sent to it before then, at most for a day.

    Parameters
    ----------
    message_store
        Knows what each messenger has delivered. A store with only the three
        published methods knows what *any* of them has delivered; then all get
        the same messages.
    messengers
        At least one. If two have the same name, the second is filed as ``name#2``.
    max_messages
        How many each messenger tries in one pass, greater than 0; None: all.
    order
        Which messages are tried first.
    logger
        Receives the log lines of the task.
    keep
        Messages that every messenger has delivered are removed from the store
        when they are older than this; None: never. Waiting messages and dead
        letters are never removed.
    time_limit
        Seconds after which the worker ends a task; None: it is long.

    Raises
    ------
    ValueError
        If there is no messenger, or `max_messages` or `time_limit` is 0 or less.

    Notes
    -----
    The task raises `MessageError` in the end if a messenger reports a trouble
    (`Messenger.trouble`), so that status shows it.
    """
    if not messengers:
        raise ValueError("at least one messenger is needed to send messages")
    for argument, given in (("max_messages", max_messages), ("time_limit", time_limit)):
        if given is not None and given <= 0:
            raise ValueError(f"{argument} must be greater than 0, not {given}")
    longest = min(_LONGEST_PASS, _SHARE_OF_LIMIT * (time_limit or math.inf))
    named = list(zip(messenger_names(messengers), messengers, strict=True))
    deliveries: types.MessageStore | _SharedMessages = message_store
    if _knows_no_messengers(message_store):
        deliveries = _SharedMessages(message_store)

    def send_messages_task() -> None:
        """Send the waiting messages through every messenger."""
        if isinstance(deliveries, _SharedMessages):
            deliveries.read(max_messages, order)
        for name, messenger in named:
            end = data.monotonic() + longest / len(named)
            try:
                _Pass(deliveries, name, messenger, logger, end).run(max_messages, order)
            except Exception:
                logger.exception("Cannot send messages through %s", name)
        if keep is not None:
            _remove_old(message_store, keep, [name for name, _ in named], logger)
        _raise_troubles(named)

    return send_messages_task


def _raise_troubles(named: Sequence[tuple[str, types.Messenger]]) -> None:
    """Let the task fail, so that status shows what a person must put right."""
    for name, messenger in named:
        ask = getattr(messenger, "trouble", None)  # published ones may have none
        if ask is not None and (words := ask()):
            raise MessageError(f"{name}: {words}.")


def _remove_old(
    store: types.MessageStore, keep: datetime.timedelta, names: list[str], logger: logging.Logger
) -> None:
    remove = getattr(store, "remove_delivered", None)  # a published store has none
    if remove is None:
        return
    try:
        count = remove(data.utc_now() - keep, names)
    except Exception:
        logger.exception("Cannot remove old messages")
        return
    if count:
        logger.info("Removed %d delivered messages older than %s", count, keep)


def messenger_names(messengers: Sequence[types.Messenger]) -> list[str]:
    """Return the names deliveries are filed under: ``name`` or class name, made unique.

    Examples
    --------
    >>> from acoupi.testing import ListMessenger
    >>> messenger_names([ListMessenger("http"), ListMessenger("http")])
    ['http', 'http#2']
    """
    seen: Counter[str] = Counter()
    names = []
    for messenger in messengers:
        name = str(getattr(messenger, "name", None) or type(messenger).__name__)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _knows_no_messengers(store: types.MessageStore) -> bool:
    claim = getattr(type(store), "claim_messages", None)
    return claim is None or claim is types.MessageStore.claim_messages


class _SharedMessages:
    """A store with only the published interface, which does not tell messengers apart."""

    def __init__(self, store: types.MessageStore) -> None:
        self._store = store
        self._unsent: list[data.Message] = []
        self._next: Counter[str] = Counter()
        self._paused_until: dict[str, datetime.datetime] = {}

    def read(self, limit: int | None, order: Order) -> None:
        """Read what is to be sent in this pass."""
        self._unsent = self._store.get_unsent_messages(limit=limit, order=order)
        self._next.clear()

    def claim_messages(
        self, messenger: str, limit: int | None = None, order: Order = "oldest_first"
    ) -> list[data.Message]:
        if self._is_paused(messenger):
            return []
        first = self._next[messenger]
        claimed = self._unsent[first : None if limit is None else first + limit]
        self._next[messenger] += len(claimed)
        return claimed

    def settle_message(self, messenger: str, response: data.Response) -> bool | None:
        self._store.store_response(response)
        if end := response.pause_end:
            self._paused_until[messenger] = end
        return None

    def _is_paused(self, messenger: str) -> bool:
        end = self._paused_until.get(messenger)
        now = data.utc_now()
        return end is not None and now < end <= now + datetime.timedelta(seconds=data.LONGEST_PAUSE)

    def release_messages(self, messenger: str, messages: Sequence[data.Message]) -> None:
        pass


@dataclass
class _Pass:
    """One messenger's turn."""

    store: "types.MessageStore | _SharedMessages"
    name: str
    messenger: types.Messenger
    logger: logging.Logger
    end: float
    """When, on the monotonic clock, no further message is tried."""
    counts: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """How often the server refused access."""
    failures: int = 0
    """Messages in a row that the server did not take for now, or did not answer."""
    is_paused: bool = False
    """Whether the server asks to be sent nothing for some time."""
    accepted: bool = False
    held_up: set[data.MessageType | None] = field(default_factory=set)
    """Kinds of which an earlier message must be sent first."""

    def run(self, max_messages: int | None, order: Order) -> None:
        for batch in self._batches(max_messages, order):
            waiting = list(batch)
            try:
                while waiting and not self._is_over:
                    self._deliver(waiting.pop(0))
                    if held_up := [m for m in waiting if m.message_type in self.held_up]:
                        self.store.release_messages(self.name, held_up)
                        waiting = [m for m in waiting if m.message_type not in self.held_up]
            finally:
                if waiting:
                    self.store.release_messages(self.name, waiting)
            if waiting or self._is_over:
                break
        if self.counts:
            summary = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
            self.logger.info("Messages through %s: %s", self.name, summary)

    @property
    def _limits(self) -> Any:
        """What the destination may cost, as its store keeps it; None: no network, or no limits."""
        needs_network = getattr(self.messenger, "needs_network", True)
        return getattr(self.store, "outbox", None) if needs_network else None

    def _claim(self, limit: int, order: Order) -> list[data.Message]:
        limits = self._limits
        if limits is None:
            return self.store.claim_messages(self.name, limit=limit, order=order)
        claim: Any = self.store.claim_messages
        claimed: list[data.Message] = claim(self.name, limit=limit, order=order, outbox=limits)
        return claimed

    @property
    def _is_over(self) -> bool:
        is_barred = self.refused >= _MAX_REFUSED and not self.accepted
        is_out_of_reach = self.counts["unreachable"] > 0 or self.failures >= _MAX_REFUSED
        is_over = is_barred or is_out_of_reach or self.is_paused
        return is_over or data.monotonic() >= self.end

    def _batches(self, max_messages: int | None, order: Order) -> Iterator[list[data.Message]]:
        """Claim messages in batches; never the same one twice in a pass."""
        seen: set[UUID] = set()
        if self._was_barred():
            # Try the newest to see whether access is still refused: the oldest may be on
            # a topic that stays forbidden, and would block all others for good.
            limit = _MAX_REFUSED if max_messages is None else min(_MAX_REFUSED, max_messages)
            newest = self._claim(limit, "newest_first")
            seen.update(message.id for message in newest)
            yield newest
        while max_messages is None or len(seen) < max_messages:
            limit = _BATCH if max_messages is None else min(_BATCH, max_messages - len(seen))
            claimed = self._claim(limit, order)
            passed = {one.id for one in claimed if one.message_type in self.held_up} | seen
            fresh = [message for message in claimed if message.id not in passed]
            stale = [message for message in claimed if message.id in passed]
            if stale:
                self.store.release_messages(self.name, stale)
            if not fresh:
                return
            seen.update(message.id for message in fresh)
            yield fresh

    def _was_barred(self) -> bool:
        limits = self._limits
        if limits is not None and limits.bytes_per_day is not None:
            return False  # the first of each kind is tried, and the order kept
        ask = getattr(self.store, "get_refusals", None)
        return ask is not None and any(refusal.messenger == self.name for refusal in ask())

    def _deliver(self, message: data.Message) -> None:
        """Try one message."""
        self.logger.debug("%s sends %s", self.name, repr(message.content)[:_SHOWN])
        try:
            response = self.messenger.send_message(message)
        except MessageSendError as error:
            self.logger.warning(
                "%s could not reach the server: %s (%s)",
                self.name, error, error.why, extra=FAILED,
            )  # fmt: skip
            self._settle(_failure(message, error))
            self.counts["unreachable"] += 1
            return
        except MessageError as error:
            # It cannot be converted to what the server accepts, and never will be.
            self.logger.warning("%s cannot send %s: %s", self.name, message.id, error, extra=FAILED)
            response = data.Response(
                status=data.ResponseStatus.ERROR, message=message, content=str(error)
            )
        except Exception as error:
            self.logger.exception("%s failed", self.name)
            self._settle(_failure(message, error))
            self.counts["unreachable"] += 1
            return
        self._settle(response)
        is_sent = response.status is data.ResponseStatus.SUCCESS
        if not is_sent:
            self.logger.warning(
                "%s: %s, %s", self.name, response.status.name, response.content, extra=FAILED
            )
        self.counts["sent" if is_sent else "not accepted"] += 1
        self.refused += response.is_access_refused
        self.failures = self.failures + 1 if response.status in _NOT_NOW else 0
        self._note_pause(response)
        self.accepted |= is_sent or (
            response.status is data.ResponseStatus.ERROR and not response.is_access_refused
        )

    def _note_pause(self, response: data.Response) -> None:
        if end := response.pause_end:
            self.is_paused = True
            self.logger.warning("%s gets no messages until %s, as it asked", self.name, end)

    def _settle(self, response: data.Response) -> None:
        try:
            if self.store.settle_message(self.name, response):
                self.held_up.add(response.message.message_type)
        except Exception:
            # It may be sent again: twice is better than never.
            self.logger.exception("Cannot store the result of message %s", response.message.id)


def _failure(message: data.Message, error: Exception) -> data.Response:
    status = data.ResponseStatus.TIMEOUT if _is_timeout(error) else data.ResponseStatus.FAILED
    return data.Response(
        status=status,
        message=message,
        content=f"{error}"[:_SHOWN],
        is_access_refused=isinstance(error, AccessRefusedError),
        is_unsent=isinstance(error, MessageSendError) and not isinstance(error, AccessRefusedError),
    )


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
            return True
        error = error.__cause__
    return False
