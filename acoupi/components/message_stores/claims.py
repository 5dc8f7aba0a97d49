"""Claiming messages within a budget, inside a transaction of the store; see `outbox`."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from acoupi import data
from acoupi.components.message_stores import sql
from acoupi.components.message_stores.deliveries import Delivery, Order
from acoupi.components.message_stores.outbox import (
    KINDS,
    Day,
    OutboxLimits,
    day_number,
    kind_name,
)

__all__ = ["expire", "reserve", "spend", "spend_at_once", "spend_lapsed", "spend_on_sound"]

Row = tuple[Any, ...]


def expire(connection: sqlite3.Connection, limits: OutboxLimits, values: dict[str, Any]) -> None:
    """Give up messages that are too old to send; `values` are those of a claim."""
    for kind in KINDS:
        age = limits.longest_ages.get(kind_name(kind))
        if age is not None:
            before = values["now"] - round(age * 1e6)
            reason = f"not sent within {age / 86_400:g} days (outbox.longest_days)"
            more = {"kind": kind and kind.value, "before": before, "reason": reason}
            connection.execute(sql.EXPIRE, {**values, **more})


def spend(connection: sqlite3.Connection, rows: dict[str, int], *, was_sent: bool = True) -> bool:
    """Spend the bytes reserved for a message, or release them; return whether there were any."""
    reserved = connection.execute(sql.RESERVED_FOR, rows).fetchone()
    if reserved is None:
        return False
    if was_sent:
        today = day_number(data.utc_now())
        values = {**rows, "day": today, "bytes": reserved[0], "excess": reserved[1]}
        connection.execute(sql.ADD_TRAFFIC, values)
    connection.execute(sql.UNRESERVE, rows)
    return True


def spend_lapsed(connection: sqlite3.Connection, values: dict[str, Any]) -> None:
    """Spend the bytes of claims that were neither settled nor released in time."""
    lapsed = connection.execute(sql.RESERVED_BY_LAPSED, values).fetchall()
    for (message_row,) in lapsed:
        spend(connection, {"messenger_row": values["messenger_row"], "message_row": message_row})


def reserve(
    connection: sqlite3.Connection, limits: OutboxLimits, values: dict[str, Any], order: Order
) -> list[Row]:
    """Return the messages that may be claimed within the budget, and their cost.

    Returns
    -------
    list
        The row of a message as the store reads it, then the bytes and the excess.
    """
    day = _today(connection, limits, values["messenger_row"])
    chosen: list[Row] = []
    most = limits.batch if values["limit"] < 0 else min(limits.batch, values["limit"])
    for kind in KINDS:
        for row in _due(connection, kind, values, order):
            if len(chosen) == most:
                return chosen
            cost = day.reserve(kind, _size(row[2]))
            if cost is None:
                break
            chosen.append((*row[:5], *cost))
    return chosen


def spend_at_once(
    connection: sqlite3.Connection, limits: OutboxLimits, messenger_row: int, size: int
) -> bool:
    """Spend what something costs that is no message; return whether the budget has room for it."""
    cost = _today(connection, limits, messenger_row).reserve(data.MessageType.RECORDING, size)
    if cost is None:
        return False
    today = day_number(data.utc_now())
    values = {"messenger_row": messenger_row, "day": today, "bytes": cost[0], "excess": cost[1]}
    connection.execute(sql.ADD_TRAFFIC, values)
    return True


def spend_on_sound(
    connection: sqlite3.Connection, limits: OutboxLimits, messenger_row: int, most: int
) -> int:
    """Spend what a chunk of sound costs; return how many bytes it may have, 0 for none today."""
    size, cost = _today(connection, limits, messenger_row).reserve_sound(most)
    if size:
        today = day_number(data.utc_now())
        values = {"messenger_row": messenger_row, "day": today, "bytes": cost, "excess": 0}
        connection.execute(sql.ADD_TRAFFIC, values)
    return size


def _size(content: str | bytes) -> int:
    return len(content.encode() if isinstance(content, str) else content)


def _today(connection: sqlite3.Connection, limits: OutboxLimits, messenger_row: int) -> Day:
    today = day_number(data.utc_now())
    values = {"messenger_row": messenger_row, "today": today}
    day = Day.after(limits, today, connection.execute(sql.TRAFFIC, values))
    reserved, excess = connection.execute(sql.RESERVED, values).fetchone()
    day.spent += reserved
    day.owed += excess
    return day


def _due(
    connection: sqlite3.Connection,
    kind: data.MessageType | None,
    values: dict[str, Any],
    order: Order,
) -> Iterator[Row]:
    """Yield due messages of a kind, up to the first that holds up those after it."""
    found = connection.execute(
        sql.CANDIDATES_OF_KIND[order], {**values, "kind": kind and kind.value}
    )
    for row in found:
        next_attempt_on, claimed_until, refusals, failures, updated_on, accepted_on = row[5:]
        is_claimed = _is_ahead(claimed_until, values["now"], values["lease_end"])
        if not is_claimed and not _is_ahead(next_attempt_on, values["now"], values["longest_rest"]):
            yield row
            continue
        takes_others = (accepted_on or 0) > (updated_on or 0)
        delivery = Delivery(refusals=refusals, failures=failures)
        if order == "oldest_first" and (is_claimed or delivery.holds_up(takes_others=takes_others)):
            return


def _is_ahead(time: int | None, now: int, most: int) -> bool:
    return time is not None and now < time <= most
