"""The message store in a SQLite file."""

import datetime
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components import types
from acoupi.components.message_stores import claims, sql
from acoupi.components.message_stores.deliveries import (
    LEASE,
    LONGEST_REST,
    DeadLetter,
    Delivery,
    DeliveryState,
    Order,
    Refusal,
    check_request,
    refused,
    settled,
    unknown_message,
)
from acoupi.components.message_stores.outbox import OutboxLimits, day_number
from acoupi.components.message_stores.senders import Senders
from acoupi.components.stores.database import Database
from acoupi.components.stores.values import (
    as_blob_list,
    as_id,
    from_microseconds,
    to_microseconds,
)
from acoupi.door.client import through_door
from acoupi.errors import MessageStoreError

__all__ = ["SqliteMessageStore"]


@through_door("messages", MessageStoreError, deferred=("store_message",))
class SqliteMessageStore(types.MessageStore):
    """Stores messages, and the state of their deliveries, in a SQLite file.

    Threads, processes and containers may share the file (on a local disk);
    each method is one transaction, on disk when it returns. The constructor
    touches nothing: folder and file are created at the first use.

    The content of a message comes back as bytes, as published messengers expect.

    A messenger is known by its name from the first time it claims or settles a
    message. It gets every message it has not acknowledged itself, including
    those from before it was known. The rules of retry are in
    `acoupi.components.message_stores.deliveries`.

    Parameters
    ----------
    db_path
        The database file.
    lease
        Seconds for which a claimed message is reserved; more than a messenger
        needs for everything it claims at once.

    Raises
    ------
    MessageStoreError
        From every method: if the disk is full, read-only or failing, if the
        file belongs to another program or a newer acoupi, or if the message is
        not stored.
    """

    def __init__(self, db_path: Path, *, lease: float = LEASE) -> None:
        if lease <= 0:
            raise ValueError(f"lease must be more than 0 seconds, not {lease}")
        self.db_path = Path(db_path)
        self.lease = lease
        self.outbox: OutboxLimits | None = None
        """Budget of each network destination, for the task that sends."""
        self.more_messengers: list[str] = []
        """Messengers that need a message, in addition to those given to `remove_delivered`."""
        self._database = Database(self.db_path, sql.SCHEMA)
        self._senders = Senders(self.db_path.with_name(f"{self.db_path.name}.senders"))
        self._unsettled: defaultdict[str, set[UUID]] = defaultdict(set)
        """What was claimed here and could be neither settled nor released, by messenger."""

    def close(self) -> None:
        """Close the file; the next use opens it again. Its claims are released."""
        self._database.close()
        self._senders.close()

    # Messages and responses

    def store_message(self, message: data.Message) -> None:
        """Store a message; storing the same id again changes nothing."""
        message_type = message.message_type
        with self._database.writing() as connection:
            connection.execute(
                sql.ADD_MESSAGE,
                {
                    "id": message.id.bytes,
                    "content": message.content,
                    "message_type": None if message_type is None else message_type.value,
                    "created_on": to_microseconds(message.created_on),
                },
            )

    def get_unsent_messages(
        self, limit: int | None = None, order: Order = "oldest_first"
    ) -> list[data.Message]:
        """Return the messages that were never answered with SUCCESS, at most `limit`.

        That is by any messenger, and includes dead letters. To send, use
        `claim_messages`, which is about one messenger and skips messages that
        rest or were given up.
        """
        check_request(limit, order)
        with self._database.reading() as connection:
            rows = connection.execute(sql.UNSENT[order], {"limit": _limit(limit)})
            return [_message(row) for row in rows]

    def get_newest_message(self, message_type: data.MessageType) -> data.Message | None:
        """Return the message of a kind that was stored last; None if none is kept."""
        with self._database.reading() as connection:
            row = connection.execute(sql.NEWEST, {"message_type": message_type.value}).fetchone()
        return None if row is None else _message(row)

    def store_response(self, response: data.Response) -> None:
        """Store the answer of a server, for a sender that keeps no deliveries.

        SUCCESS completes the message for every messenger; anything else is
        only noted.

        Raises
        ------
        MessageStoreError
            If the message is not stored.
        """
        with self._database.writing() as connection:
            message_row = self._row_of(connection, response.message, "store a response")
            _add_response(connection, response, message_row, None)
            if response.status is data.ResponseStatus.SUCCESS:
                values = {"message_row": message_row, "now": to_microseconds(data.utc_now())}
                connection.execute(sql.CLOSE, values)
                connection.execute(sql.CLOSE_DELIVERIES, values)

    def get_responses(self, message: data.Message) -> list[data.Response]:
        """Return all answers of servers to a message, in the order they were stored.

        Raises
        ------
        MessageStoreError
            If the message is not stored.
        """
        with self._database.reading() as connection:
            message_row = self._row_of(connection, message, "read the responses")
            return [
                data.Response(
                    status=data.ResponseStatus(status),
                    message=message,
                    content=content,
                    received_on=from_microseconds(received_on),
                )
                for status, content, received_on in connection.execute(
                    sql.RESPONSES, {"message_row": message_row}
                )
            ]

    # Deliveries

    def claim_messages(
        self,
        messenger: str,
        limit: int | None = None,
        order: Order = "oldest_first",
        *,
        outbox: OutboxLimits | None = None,
    ) -> list[data.Message]:
        """Return what this messenger should try to deliver now, reserved for it.

        Each message must be settled or released; otherwise others may claim it
        once this process has ended, or the lease is over. Where the disk refused
        that, the message is due again at the next claim of this process. If several processes ask
        at once, each message goes to only one of them. There are none while the
        server has asked for a pause, or what is left of the day's bytes is too little.

        Parameters
        ----------
        messenger, limit, order
            For whom; how many at most; which first.
        outbox
            What it may cost; None: there are no limits.
        """
        check_request(limit, order)
        # No claim outlives its process, but what it may cost does.
        with self._database.writing(may_be_late=outbox is None) as connection:
            messenger_row = self._enlist(connection, messenger)
            self._release_claims_of_ended(connection, messenger_row)
            if unsettled := frozenset(self._unsettled[messenger]):
                self._release_unsettled(connection, messenger_row, unsettled)
            now = data.utc_now()
            values = {
                "messenger_row": messenger_row,
                "now": to_microseconds(now),
                "longest_rest": to_microseconds(now + datetime.timedelta(seconds=LONGEST_REST)),
                "longest_pause": to_microseconds(
                    now + datetime.timedelta(seconds=data.LONGEST_PAUSE)
                ),
                "lease_end": to_microseconds(now + datetime.timedelta(seconds=self.lease)),
                "claimed_by": self._senders.me(),
                "limit": _limit(limit),
            }
            if connection.execute(sql.IS_PAUSED, values).fetchone():
                return []
            rows = _due(connection, outbox, values, order)
            if rows:
                claimed = json.dumps([row[0] for row in rows])
                connection.execute(sql.CLAIM, {**values, "rows": claimed})
            for row in rows:
                _reserve(connection, messenger_row, row)
        self._unsettled[messenger] -= unsettled
        return [_message(row[:5]) for row in rows]

    def settle_message(self, messenger: str, response: data.Response) -> bool:
        """Store the result of an attempt to deliver a claimed message.

        SUCCESS completes it. Anything else counts the attempt and sets the time
        of the next one, or makes it a dead letter if the server has refused it
        (ERROR, but not for lack of access) 10 times. If the answer asks for a
        pause, this messenger gets no message until it is over.

        Returns
        -------
        bool
            Whether the later messages of its kind wait for it: it was claimed
            within a budget, which keeps their order, and is to be tried again.

        Raises
        ------
        MessageStoreError
            If the message is not stored.
        """
        with self._ending(messenger, {response.message.id}) as connection:
            message_row = self._row_of(connection, response.message, "settle a message")
            messenger_row, _ = self._messenger(connection, messenger)
            _add_response(connection, response, message_row, messenger_row)
            rows = {"messenger_row": messenger_row, "message_row": message_row}
            delivery = settled(_delivery(connection, rows), response)
            connection.execute(sql.PUT_DELIVERY, {**rows, **_delivery_values(delivery)})
            has_budget = claims.spend(connection, rows, was_sent=not response.is_unsent)
            if response.status is data.ResponseStatus.SUCCESS:
                connection.execute(sql.ACKNOWLEDGE, rows)
                if has_budget:
                    now = to_microseconds(data.utc_now())
                    connection.execute(sql.ACCEPTED, {**rows, "now": now})
            _note_refusal(connection, messenger, response, rows)
            _note_pause(connection, response, rows)
        return has_budget and delivery.holds_up(takes_others=True)

    def release_messages(self, messenger: str, messages: Sequence[data.Message]) -> None:
        """Release claimed messages that were not tried; no attempt is counted."""
        if not messages:
            return
        ids = {message.id for message in messages}
        with self._ending(messenger, ids) as connection:
            connection.execute(sql.RELEASE, {"messenger": messenger, "ids": as_blob_list(ids)})

    def count_deliveries(self) -> dict[str, dict[DeliveryState, int]]:
        """Return the number of messages in each state, for each known messenger.

        Messages that a messenger has not asked for yet count as pending. Expired
        ones are only named where there are some.
        """
        counts: dict[str, dict[DeliveryState, int]] = {}
        with self._database.reading() as connection:
            for name, unseen in connection.execute(sql.COUNT_UNSEEN):
                counts[name] = {"pending": unseen, "acknowledged": 0, "dead": 0}
            for name, state, count in connection.execute(sql.COUNT_DELIVERIES):
                state_: DeliveryState = state
                counts[name][state_] = counts[name].get(state_, 0) + count
        return counts

    def get_bytes_sent(self) -> dict[str, int]:
        """Return how many bytes each messenger has spent today (UTC), where it has a budget."""
        values = {"day": day_number(data.utc_now())}
        with self._database.reading() as connection:
            return dict(connection.execute(sql.TRAFFIC_OF_DAY, values).fetchall())

    def get_oldest_waiting(self, messengers: Sequence[str]) -> datetime.datetime | None:
        """Return when the oldest message that one of these must still deliver was made."""
        values = {"messengers": json.dumps(list(messengers))}
        with self._database.reading() as connection:
            return _time(connection.execute(sql.OLDEST_WAITING, values).fetchone()[0])

    def get_refusals(self) -> list[Refusal]:
        """Return the servers that refuse access to the sensor, by their last answer."""
        with self._database.reading() as connection:
            return [
                Refusal(name, from_microseconds(since), error)
                for name, since, error in connection.execute(sql.REFUSALS)
            ]

    def get_pauses(self) -> dict[str, datetime.datetime]:
        """Return the ends of the pauses that servers asked for, by messenger."""
        now = data.utc_now()
        longest = now + datetime.timedelta(seconds=data.LONGEST_PAUSE)
        values = {"now": to_microseconds(now), "longest_pause": to_microseconds(longest)}
        with self._database.reading() as connection:
            rows = connection.execute(sql.PAUSES, values).fetchall()
        return {name: from_microseconds(end) for name, end in rows}

    def remove_delivered(
        self, before: datetime.datetime, messengers: Sequence[str], limit: int = 1000
    ) -> int:
        """Remove messages that are no longer needed, with the answers to them.

        Parameters
        ----------
        before
            Only messages created before this time.
        messengers
            All of these must have acknowledged a message, or it has expired. It
            stays if it is a dead letter of any messenger, even one that is not
            named, or has expired since then.
        limit
            Remove at most this many, oldest first.

        Returns
        -------
        int
            Number of messages removed.
        """
        if not messengers:
            return 0
        messengers = [*messengers, *self.more_messengers]
        values = {
            "before": to_microseconds(before),
            "messengers": json.dumps(list(messengers)),
            "limit": limit,
        }
        with self._database.reading() as connection:
            rows = [row for (row,) in connection.execute(sql.REMOVABLE, values)]
            values["limit"] = limit - len(rows)
            rows += [row for (row,) in connection.execute(sql.REMOVABLE_UNSENT, values)]
        if rows:
            with self._database.writing() as connection:
                for statement in sql.REMOVE:
                    connection.execute(statement, {"rows": json.dumps(rows)})
        return len(rows)

    def spend(self, messenger: str, size: int) -> bool:
        """Count what a messenger is about to send beside messages towards the day's budget.

        Parameters
        ----------
        size
            Bytes, without headers. It counts as a message about a recording.

        Returns
        -------
        bool
            False: the budget leaves no room for it today.
        """
        limits = self.outbox
        if limits is None or limits.bytes_per_day is None:
            return True
        with self._database.writing() as connection:
            row, _ = self._messenger(connection, messenger)
            return claims.spend_at_once(connection, limits, row, size)

    def spend_on_sound(self, messenger: str, most: int) -> int:
        """Count a chunk of sound that a messenger is about to send towards the day's budget.

        Returns
        -------
        int
            How many bytes it may have, up to `most`; 0: none today.
        """
        limits = self.outbox
        if limits is None or limits.bytes_per_day is None:
            return most
        with self._database.writing() as connection:
            row, _ = self._messenger(connection, messenger)
            return claims.spend_on_sound(connection, limits, row, most)

    def get_dead_letters(self, messenger: str | None = None) -> list[DeadLetter]:
        """Return dead letters, oldest first; None for those of every messenger."""
        with self._database.reading() as connection:
            rows = connection.execute(sql.DEAD_LETTERS, {"messenger": messenger})
            return [
                DeadLetter(
                    messenger=name,
                    message=_message(message),
                    attempts=attempts,
                    last_error=last_error,
                    updated_on=from_microseconds(updated_on),
                )
                for name, attempts, last_error, updated_on, *message in rows
            ]

    def retry_dead_letters(self, messenger: str | None = None) -> int:
        """Make dead letters pending again, without their past attempts; return how many.

        Parameters
        ----------
        messenger
            None for those of every messenger.
        """
        return self._retry("dead", messenger)

    def retry_expired(self, messenger: str | None = None) -> int:
        """Make expired messages pending again, as `retry_dead_letters` does; return how many.

        They expire again unless the limit of their age was raised.
        """
        return self._retry("expired", messenger)

    def _retry(self, state: DeliveryState, messenger: str | None) -> int:
        now = to_microseconds(data.utc_now())
        values = {"state": state, "messenger": messenger, "now": now}
        with self._database.writing() as connection:
            return connection.execute(sql.RETRY, values).rowcount

    # Within a transaction

    @staticmethod
    def _row_of(connection: sqlite3.Connection, message: data.Message, action: str) -> int:
        row = connection.execute(sql.ROW_OF_MESSAGE, {"id": message.id.bytes}).fetchone()
        if row is None:
            raise unknown_message(action, [message.id])
        return int(row[0])

    @staticmethod
    def _messenger(connection: sqlite3.Connection, name: str) -> tuple[int, int]:
        """Return row and seen_row of a messenger; a new one is added."""
        values = {"messenger": name}
        found = connection.execute(sql.MESSENGER, values).fetchone()
        if found is None:
            connection.execute(sql.ADD_MESSENGER, values)
            found = connection.execute(sql.MESSENGER, values).fetchone()
        return (int(found[0]), int(found[1]))

    def _enlist(self, connection: sqlite3.Connection, name: str) -> int:
        """Enlist a messenger for the messages since its last claim; return its row."""
        messenger_row, seen_row = self._messenger(connection, name)
        last_row = connection.execute(sql.LAST_MESSAGE).fetchone()[0]
        if last_row > seen_row:
            values = {"messenger_row": messenger_row, "seen_row": seen_row, "last_row": last_row}
            connection.execute(sql.ENLIST, values)
            connection.execute(sql.SAW, values)
        return messenger_row

    def _release_claims_of_ended(self, connection: sqlite3.Connection, messenger_row: int) -> None:
        """Release the claims of processes that have ended."""
        values = {"messenger_row": messenger_row}
        senders = [number for (number,) in connection.execute(sql.CLAIMED_BY, values)]
        if ended := self._senders.ended(senders):
            connection.execute(sql.RELEASE_CLAIMS_OF, {**values, "senders": json.dumps(ended)})

    @contextmanager
    def _ending(self, messenger: str, ids: set[UUID]) -> Iterator[sqlite3.Connection]:
        """Write how claims ended; remember them where that is impossible."""
        try:
            with self._database.writing() as connection:
                yield connection
        except MessageStoreError:
            self._unsettled[messenger] |= ids
            raise

    def _release_unsettled(
        self, connection: sqlite3.Connection, messenger_row: int, ids: frozenset[UUID]
    ) -> None:
        values = {"messenger_row": messenger_row, "claimed_by": self._senders.me()}
        connection.execute(sql.RELEASE_UNSETTLED, {**values, "ids": as_blob_list(ids)})


def _due(
    connection: sqlite3.Connection,
    outbox: OutboxLimits | None,
    values: dict[str, Any],
    order: Order,
) -> list[tuple[Any, ...]]:
    """Return the rows that are due, with their cost if there is a budget."""
    if outbox is not None:
        claims.spend_lapsed(connection, values)
        claims.expire(connection, outbox, values)
        if outbox.bytes_per_day is not None:
            return claims.reserve(connection, outbox, values, order)
    return connection.execute(sql.DUE[order], values).fetchall()


def _reserve(connection: sqlite3.Connection, messenger_row: int, row: tuple[Any, ...]) -> None:
    for bytes_, excess in [row[5:]] if row[5:] else ():
        rows = {"messenger_row": messenger_row, "message_row": row[0]}
        connection.execute(sql.RESERVE, {**rows, "bytes": bytes_, "excess": excess})


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit


def _message(row: Sequence[Any]) -> data.Message:
    _, id_, content, message_type, created_on = row
    return data.Message(
        id=as_id(id_),
        content=content.encode() if isinstance(content, str) else content,
        message_type=None if message_type is None else data.MessageType(message_type),
        created_on=from_microseconds(created_on),
    )


def _add_response(
    connection: sqlite3.Connection,
    response: data.Response,
    message_row: int,
    messenger_row: int | None,
) -> None:
    connection.execute(
        sql.ADD_RESPONSE,
        {
            "message_row": message_row,
            "messenger_row": messenger_row,
            "status": int(response.status),
            "content": response.content,
            "received_on": to_microseconds(response.received_on),
        },
    )


def _note_refusal(
    connection: sqlite3.Connection, messenger: str, response: data.Response, rows: dict[str, int]
) -> None:
    since, error = connection.execute(sql.REFUSAL, rows).fetchone()
    before = None if since is None else Refusal(messenger, from_microseconds(since), error)
    after = refused(before, messenger, response)
    if after != before:
        values = {
            "since": after and to_microseconds(after.since),
            "error": after and after.error,
        }
        connection.execute(sql.PUT_REFUSAL, {**rows, **values})


def _note_pause(
    connection: sqlite3.Connection, response: data.Response, rows: dict[str, int]
) -> None:
    end = response.pause_end
    if end is not None or response.status is data.ResponseStatus.SUCCESS:
        connection.execute(sql.PAUSE, {**rows, "end": _microseconds(end)})


def _delivery(connection: sqlite3.Connection, rows: dict[str, int]) -> Delivery:
    found = connection.execute(sql.DELIVERY, rows).fetchone()
    if found is None:
        is_closed = connection.execute(sql.IS_CLOSED, rows).fetchone()[0]
        return Delivery(state="acknowledged" if is_closed else "pending")
    state, attempts, refusals, failures, *times, last_error, updated_on = found
    next_attempt_on, claimed_until = times
    return Delivery(
        state=state,
        attempts=attempts,
        refusals=refusals,
        failures=failures,
        next_attempt_on=_time(next_attempt_on),
        claimed_until=_time(claimed_until),
        last_error=last_error,
        updated_on=_time(updated_on),
    )


def _delivery_values(delivery: Delivery) -> dict[str, Any]:
    return {
        "state": delivery.state,
        "attempts": delivery.attempts,
        "refusals": delivery.refusals,
        "failures": delivery.failures,
        "next_attempt_on": _microseconds(delivery.next_attempt_on),
        "claimed_until": _microseconds(delivery.claimed_until),
        "last_error": delivery.last_error,
        "updated_on": _microseconds(delivery.updated_on),
    }


def _time(microseconds: int | None) -> datetime.datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)


def _microseconds(time: datetime.datetime | None) -> int | None:
    return None if time is None else to_microseconds(time)
