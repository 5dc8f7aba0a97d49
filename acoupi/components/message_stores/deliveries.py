"""When to retry a message, and when to give it up.

A delivery is the task of one messenger for one message. The rules:

* A failed delivery rests for 30 s, then twice as long each time, at most an hour;
  at most five minutes if the link was down (`is_unsent`): a retry costs little
  then, and the link may come back only briefly.
* A message that the server refuses (`ResponseStatus.ERROR`) 10 times is a dead letter.
* A failing link (FAILED, TIMEOUT) never has that effect: no season is lost to a bad
  link. Nor does a server that refuses access (`is_access_refused`): a token can be
  renewed.
* A resting or claimed message does not block others: newer ones go first.
* A server that asks for a pause (`retry_after`) gets no message at all until it is
  over, at most a day. The pause is stored, so it outlasts a restart.
* Where a budget keeps the order (`outbox`), a message that waits for another attempt holds up
  the later ones of its kind, unless the server refused the message itself, or fails it again
  and again while it takes others (`Delivery.holds_up`).
* A message that is too old to be sent (`outbox`) has expired. It is kept, and can be retried.
* Times further ahead than any rest or lease come from a clock that was set back
  since; they count as past.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from acoupi import data
from acoupi.components.stores.rules import check_limit
from acoupi.errors import MessageStoreError

__all__ = [
    "FIRST_REST",
    "KEEP_DAYS",
    "LEASE",
    "LONGEST_REST",
    "MOST_REFUSALS",
    "DeadLetter",
    "Delivery",
    "DeliveryState",
    "Order",
    "Refusal",
    "check_request",
    "error_of",
    "refused",
    "rest_after",
    "settled",
    "unknown_message",
]

DeliveryState = Literal["pending", "acknowledged", "dead", "expired"]
Order = Literal["oldest_first", "newest_first"]

FIRST_REST = 30.0
"""Rest after the first failed attempt, seconds."""
LONGEST_REST = 3600.0
"""Longest rest, seconds."""
LONGEST_REST_OF_LINK = 300.0
"""Longest rest if nothing reached the server, seconds."""
MOST_REFUSALS = 10
"""Number of refusals by the server that make a dead letter."""
MOST_FAILURES = 10
"""Failed attempts, some four hours, after which a message holds up no other if its server takes
others."""
MOST_FAILURES_OF_SERVER = 100
"""The same if the server accepts nothing: some four days."""
LEASE = 300.0
"""Seconds for which a claimed message is reserved."""

KEEP_DAYS = 30.0
"""How long a message is kept after every messenger has delivered it."""

_LONGEST_ERROR = 500


@dataclass(frozen=True)
class Delivery:
    """State of the delivery of one message by one messenger."""

    state: DeliveryState = "pending"
    attempts: int = 0
    refusals: int = 0
    """Number of attempts that the server refused."""
    failures: int = 0
    """Number of attempts that failed after something had reached the server."""
    next_attempt_on: datetime.datetime | None = None
    """None: at once."""
    claimed_until: datetime.datetime | None = None
    last_error: str | None = None
    updated_on: datetime.datetime | None = None

    def holds_up(self, *, takes_others: bool) -> bool:
        """Return whether later messages of its kind wait for it, where the order is kept.

        Parameters
        ----------
        takes_others
            Whether the server has taken another message since this one failed.
        """
        most = MOST_FAILURES if takes_others else MOST_FAILURES_OF_SERVER
        return self.state == "pending" and not self.refusals and self.failures < most


@dataclass(frozen=True)
class DeadLetter:
    """A message that a server refused too often."""

    messenger: str
    message: data.Message
    attempts: int
    last_error: str | None
    updated_on: datetime.datetime


@dataclass(frozen=True)
class Refusal:
    """A server that currently refuses access to the sensor."""

    messenger: str
    since: datetime.datetime
    error: str
    """Its last answer."""


def rest_after(attempts: int) -> float:
    """Return the seconds to wait after this many failed attempts, 1 or more.

    Examples
    --------
    >>> [rest_after(attempts) for attempts in (1, 2, 7, 8, 5000)]
    [30.0, 60.0, 1920.0, 3600.0, 3600.0]
    """
    doublings = min(attempts - 1, 16)  # 2 ** 5000 does not fit in a float
    return min(LONGEST_REST, FIRST_REST * 2.0**doublings)


def settled(delivery: Delivery, response: data.Response) -> Delivery:
    """Return the delivery after an attempt with this result."""
    now = data.utc_now()
    done = replace(delivery, attempts=delivery.attempts + 1, claimed_until=None, updated_on=now)
    if response.status is data.ResponseStatus.SUCCESS:
        return replace(done, state="acknowledged", next_attempt_on=None, last_error=None)
    if delivery.state == "acknowledged":
        return delivery  # a late result of an attempt that a newer one has overtaken
    is_refused = response.status is data.ResponseStatus.ERROR and not response.is_access_refused
    done = replace(
        done,
        refusals=done.refusals + is_refused,
        failures=done.failures + (not response.is_unsent),
        last_error=error_of(response),
    )
    if done.state == "expired":
        return done
    if done.state == "dead" or done.refusals >= MOST_REFUSALS:
        return replace(done, state="dead", next_attempt_on=None)
    rest = rest_after(done.attempts)
    if response.is_unsent:
        rest = min(rest, LONGEST_REST_OF_LINK)
    return replace(done, next_attempt_on=now + datetime.timedelta(seconds=rest))


def error_of(response: data.Response) -> str:
    """Return the text to keep of an answer other than SUCCESS."""
    error = response.status.name.lower()
    if response.content:
        error = f"{error}: {response.content}"[:_LONGEST_ERROR]
    return error


def refused(refusal: Refusal | None, messenger: str, response: data.Response) -> Refusal | None:
    """Return the refusal of access that an answer stands for; None if it is none.

    A link that fails says nothing about the server.
    """
    if response.is_access_refused:
        since = refusal.since if refusal else data.utc_now()
        return Refusal(messenger, since, error_of(response))
    is_answered = response.status in (data.ResponseStatus.SUCCESS, data.ResponseStatus.ERROR)
    return None if is_answered else refusal


def check_request(limit: int | None, order: str) -> None:
    """Refuse an invalid limit or order."""
    check_limit(limit)
    if order not in ("oldest_first", "newest_first"):
        raise ValueError(f'order must be "oldest_first" or "newest_first", not "{order}"')


def unknown_message(action: str, ids: Iterable[UUID]) -> MessageStoreError:
    """Return the error for messages that must be stored first."""
    named = ", ".join(str(id_) for id_ in ids)
    return MessageStoreError(
        f"cannot {action}: the message {named} is not in the message store.",
        "message_store.store_message(message) first",
        why="its deliveries and responses refer to its row.",
    )
