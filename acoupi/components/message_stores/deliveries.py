"""When a message is tried again, and when it is given up.

A delivery is what one messenger has to do with one message. The rules:

* A delivery that failed rests 30 s, then twice as long each time, at most an hour;
  at most five minutes where the link was down (`is_unsent`): to try costs little
  then, and a link may be back for a short while only.
* A server that refuses it (`ResponseStatus.ERROR`) 10 times makes it a dead letter.
* A link that fails (FAILED, TIMEOUT) never does: no season is lost to a bad link.
  Nor does a server that lets nobody in (`is_access_refused`): a token can be renewed.
* A resting or claimed message stands in nobody's way: newer ones go first.
* Times that lie further ahead than any rest or lease can be come from a clock
  that was set back since; they are taken as past.
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

DeliveryState = Literal["pending", "acknowledged", "dead"]
Order = Literal["oldest_first", "newest_first"]

FIRST_REST = 30.0
"""Seconds after the first attempt that failed."""
LONGEST_REST = 3600.0
"""Seconds; no rest is longer."""
LONGEST_REST_OF_LINK = 300.0
"""Seconds; no rest is longer where nothing reached the server."""
MOST_REFUSALS = 10
"""So many refusals by the server make a dead letter."""
LEASE = 300.0
"""Seconds for which a claimed message is nobody else's."""

KEEP_DAYS = 30.0
"""For so long a message is kept that every messenger has delivered."""

_LONGEST_ERROR = 500


@dataclass(frozen=True)
class Delivery:
    """How far one messenger has come with one message."""

    state: DeliveryState = "pending"
    attempts: int = 0
    refusals: int = 0
    """How many of the attempts the server answered with a refusal."""
    next_attempt_on: datetime.datetime | None = None
    """None: at once."""
    claimed_until: datetime.datetime | None = None
    last_error: str | None = None
    updated_on: datetime.datetime | None = None


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
    """A server that does not let the sensor in, now."""

    messenger: str
    since: datetime.datetime
    error: str
    """What it said last."""


def rest_after(attempts: int) -> float:
    """Return the seconds to wait after so many attempts, 1 or more, that failed.

    Examples
    --------
    >>> [rest_after(attempts) for attempts in (1, 2, 7, 8, 5000)]
    [30.0, 60.0, 1920.0, 3600.0, 3600.0]
    """
    doublings = min(attempts - 1, 16)  # 2 ** 5000 is no float
    return min(LONGEST_REST, FIRST_REST * 2.0**doublings)


def settled(delivery: Delivery, response: data.Response) -> Delivery:
    """Return the delivery as it is once an attempt has gone so."""
    now = data.utc_now()
    done = replace(delivery, attempts=delivery.attempts + 1, claimed_until=None, updated_on=now)
    if response.status is data.ResponseStatus.SUCCESS:
        return replace(done, state="acknowledged", next_attempt_on=None, last_error=None)
    if delivery.state == "acknowledged":
        return delivery  # late news of an attempt that another one overtook
    is_refused = response.status is data.ResponseStatus.ERROR and not response.is_access_refused
    done = replace(done, refusals=done.refusals + is_refused, last_error=error_of(response))
    if done.state == "dead" or done.refusals >= MOST_REFUSALS:
        return replace(done, state="dead", next_attempt_on=None)
    rest = rest_after(done.attempts)
    if response.is_unsent:
        rest = min(rest, LONGEST_REST_OF_LINK)
    return replace(done, next_attempt_on=now + datetime.timedelta(seconds=rest))


def error_of(response: data.Response) -> str:
    """Return what is kept of an answer other than SUCCESS."""
    error = response.status.name.lower()
    if response.content:
        error = f"{error}: {response.content}"[:_LONGEST_ERROR]
    return error


def refused(refusal: Refusal | None, messenger: str, response: data.Response) -> Refusal | None:
    """Return how a server bars the sensor once it has answered so; None: it does not.

    A link that fails says nothing about the server.
    """
    if response.is_access_refused:
        since = refusal.since if refusal else data.utc_now()
        return Refusal(messenger, since, error_of(response))
    is_answered = response.status in (data.ResponseStatus.SUCCESS, data.ResponseStatus.ERROR)
    return None if is_answered else refusal


def check_request(limit: int | None, order: str) -> None:
    """Refuse a limit or an order that means nothing."""
    check_limit(limit)
    if order not in ("oldest_first", "newest_first"):
        raise ValueError(f'order must be "oldest_first" or "newest_first", not "{order}"')


def unknown_message(action: str, ids: Iterable[UUID]) -> MessageStoreError:
    """Return the error for messages that must be stored first."""
    named = ", ".join(str(id_) for id_ in ids)
    return MessageStoreError(
        f"cannot {action}: the message {named} is not in the message store.",
        "message_store.store_message(message) first",
        why="what is said of a message refers to its row.",
    )
