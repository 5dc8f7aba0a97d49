"""What every message store does where the day of a destination has a budget, or messages an age."""

import datetime
import os
import signal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.components import SqliteMessageStore as Store
from acoupi.components.message_stores.outbox import (
    CLAIM_BYTES,
    KINDS,
    MESSAGE_BYTES,
    Day,
    OutboxLimits,
)
from tests.clocks import START, Clock
from tests.message_stores import ERROR, FAILED, SUCCESS, TIMEOUT, answer

pytestmark = pytest.mark.usefixtures("clock")

Kind = data.MessageType
DAY = 86_400
ALARM, HEARTBEAT, SUMMARY = Kind.ALARM, Kind.HEARTBEAT, Kind.SUMMARY
DETECTION, RECORDING = Kind.DETECTION, Kind.RECORDING
PLENTY = OutboxLimits(bytes_per_day=10_000_000)


@pytest.fixture
def store(message_store: Store) -> Store:
    return message_store


def make(n: int, kind: Kind | None = DETECTION, size: int = 100) -> data.Message:
    return data.Message(
        id=UUID(int=n + 1),
        content=b"x" * size,
        created_on=START + datetime.timedelta(seconds=n),
        message_type=kind,
    )


def fill(store: Store, *messages: data.Message) -> None:
    for one in messages:
        store.store_message(one)


def numbers(messages: list[data.Message]) -> list[int]:
    return [one.id.int - 1 for one in messages]


def claim(store: Store, limits: OutboxLimits = PLENTY, messenger: str = "http") -> list[int]:
    return numbers(store.claim_messages(messenger, outbox=limits))


def send(
    store: Store, limits: OutboxLimits = PLENTY, status: data.ResponseStatus = SUCCESS
) -> list[int]:
    """Claim once and settle all of it; return what was tried."""
    claimed = store.claim_messages("http", outbox=limits)
    for one in claimed:
        store.settle_message("http", answer(one, status))
    return numbers(claimed)


def budget_for(count: int, size: int = 100, kept: float = 0) -> OutboxLimits:
    """A day's bytes that are just enough for so many messages, claimed at once."""
    return OutboxLimits(CLAIM_BYTES + count * (size + MESSAGE_BYTES), kept_share=kept)


# Kinds


def test_alarms_come_first_and_what_has_no_kind_last(store: Store) -> None:
    kinds = [None, RECORDING, DETECTION, SUMMARY, HEARTBEAT, Kind.DEPLOYMENT, ALARM]
    fill(store, *(make(n, kind) for n, kind in enumerate(kinds)))

    assert claim(store) == [6, 5, 4, 3, 2, 1, 0]


def test_without_a_budget_the_oldest_comes_first(store: Store) -> None:
    fill(store, make(0), make(1, ALARM))

    assert claim(store, OutboxLimits()) == [0, 1]


def test_a_kind_comes_in_its_order_newest_first_if_asked(store: Store) -> None:
    fill(store, *(make(n) for n in (2, 0, 1)))

    newest = store.claim_messages("http", order="newest_first", outbox=PLENTY)
    store.release_messages("http", newest)

    assert numbers(newest) == [2, 1, 0]
    assert claim(store) == [0, 1, 2]


def test_no_more_are_claimed_than_a_batch_or_the_limit(store: Store) -> None:
    fill(store, *(make(n) for n in range(9)))

    assert send(store, OutboxLimits(10_000_000, batch=4)) == [0, 1, 2, 3]
    assert numbers(store.claim_messages("http", limit=2, outbox=PLENTY)) == [4, 5]
    assert store.claim_messages("http", limit=0, outbox=PLENTY) == []


# The budget of a day


def test_no_more_is_claimed_than_the_bytes_of_a_day(store: Store, clock: Clock) -> None:
    fill(store, *(make(n) for n in range(5)))
    limits = budget_for(2)

    assert send(store, limits) == [0, 1]
    assert send(store, limits) == []
    assert store.get_bytes_sent() == {"http": limits.bytes_per_day}

    clock.advance(DAY / 6)  # START is at 20:00: the day in UTC is over
    assert store.get_bytes_sent() == {}
    assert send(store, limits) == [2, 3]


def test_what_is_claimed_and_not_yet_sent_counts_too(store: Store) -> None:
    fill(store, *(make(n) for n in range(5)))
    limits = budget_for(2)

    assert claim(store, limits) == [0, 1]
    assert claim(store, limits) == []
    assert claim(store, limits, "mqtt") == [0, 1]  # a budget for each destination


def test_what_is_released_or_never_left_costs_nothing(store: Store) -> None:
    fill(store, make(0), make(1))
    limits = budget_for(2)
    first, second = store.claim_messages("http", outbox=limits)

    unsent = answer(first, FAILED).model_copy(update={"is_unsent": True})
    store.settle_message("http", unsent)
    store.release_messages("http", [second])

    assert store.get_bytes_sent() == {}


@pytest.mark.parametrize("status", [FAILED, TIMEOUT, ERROR])
def test_a_failed_attempt_costs_what_was_sent(store: Store, status: data.ResponseStatus) -> None:
    fill(store, make(0, size=1000))
    send(store, status=status)

    assert store.get_bytes_sent() == {"http": CLAIM_BYTES + MESSAGE_BYTES + 1000}


def test_a_flood_of_detections_leaves_room_for_heartbeats_and_alarms(store: Store) -> None:
    limits = OutboxLimits(100_000, kept_share=0.4, batch=50)
    fill(store, *(make(n) for n in range(100)))
    while send(store, limits):
        pass
    fill(store, *(make(n, HEARTBEAT) for n in range(200, 300)))
    sent = store.get_bytes_sent()["http"]
    assert 60_000 - 2000 < sent <= 60_000

    while beats := send(store, limits):
        assert min(beats) >= 200
    sent = store.get_bytes_sent()["http"]
    assert 80_000 - 8000 < sent <= 80_000

    fill(store, make(400, ALARM))
    assert send(store, limits) == [400]
    assert store.get_bytes_sent()["http"] <= 100_000


def test_a_message_larger_than_a_day_goes_and_later_days_save_it(
    store: Store, clock: Clock
) -> None:
    limits = OutboxLimits(100_000, kept_share=0.2)
    fill(store, make(0, size=250_000), make(1))

    assert send(store, limits) == [0]
    assert store.get_bytes_sent()["http"] == 250_000 + MESSAGE_BYTES + CLAIM_BYTES
    fill(store, make(9, ALARM), make(8, HEARTBEAT))
    assert send(store, limits) == [9, 8]  # a large message silences neither
    days = 0
    while not send(store, limits):
        clock.advance(DAY)
        days += 1

    assert days == 2  # with 157 kB owed: a day saves 100 kB, the next the rest


def test_a_large_message_waits_for_a_day_with_room_and_keeps_its_place(
    store: Store, clock: Clock
) -> None:
    limits = OutboxLimits(100_000, kept_share=0)
    fill(store, make(0, size=20_000), make(1, size=80_000), make(2), make(3, None))

    assert send(store, limits) == [0, 3]
    clock.advance(DAY)
    assert send(store, limits) == [1, 2]


def test_a_clock_set_back_a_day_neither_blocks_nor_pays_twice(store: Store, clock: Clock) -> None:
    limits = budget_for(1)
    fill(store, make(0), make(1), make(2))
    clock.step(DAY)
    send(store, limits)

    clock.step(-DAY)

    assert send(store, limits) == [1]
    clock.step(DAY)
    assert send(store, limits) == []


@given(
    days=st.lists(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 60_000)))),
    kept=st.floats(0, 0.9),
)
def test_whatever_is_sent_no_day_exceeds_its_bytes_and_what_does_is_saved_again(
    days: list[list[tuple[Kind | None, int]]], kept: float
) -> None:
    limits, traffic, everything = OutboxLimits(40_000, kept_share=kept), [], 0
    for number, sizes in enumerate(days):
        day = Day.after(limits, number, traffic)
        sent, excess = 0, 0
        for kind, size in sizes:
            cost = day.reserve(kind, size) or (0, 0)
            sent, excess, everything = sent + cost[0], excess + cost[1], everything + sum(cost)
        assert sent == day.spent <= 40_000
        traffic.append((number, sent, excess))
    idle = everything // 40_000 + 1
    assert Day.after(limits, len(days) + idle, traffic).owed == 0


# Retries


def test_the_order_of_a_kind_is_kept_across_retries(store: Store, clock: Clock) -> None:
    fill(store, make(0), make(1), make(2, HEARTBEAT))
    beat, first, second = store.claim_messages("http", outbox=PLENTY)

    assert store.settle_message("http", answer(first, TIMEOUT)) is True
    store.release_messages("http", [second])
    assert store.settle_message("http", answer(beat)) is False
    assert claim(store) == []  # the second waits for the first

    clock.advance(30)
    assert claim(store) == [0, 1]


def test_a_message_that_another_process_tries_holds_up_its_kind_only(store: Store) -> None:
    fill(store, make(0), make(1), make(2, HEARTBEAT))
    limits = OutboxLimits(10_000_000, batch=2)

    claimed = store.claim_messages("http", outbox=limits)
    fill(store, make(3, HEARTBEAT), make(4, SUMMARY))
    assert numbers(claimed) == [2, 0]
    assert claim(store, limits) == [4]  # the first of the others are still being sent

    for one in claimed:
        store.settle_message("http", answer(one))
    assert claim(store, limits) == [3, 1]


def test_a_message_that_is_refused_holds_up_nothing(store: Store) -> None:
    fill(store, make(0), make(1))
    first, second = store.claim_messages("http", outbox=PLENTY)

    assert store.settle_message("http", answer(first, ERROR)) is False
    store.release_messages("http", [second])

    assert claim(store) == [1]


def test_a_message_that_fails_for_hours_while_others_arrive_holds_up_nothing(
    store: Store, clock: Clock
) -> None:
    fill(store, make(0), make(1))
    for n in range(10):
        fill(store, make(100 + n, HEARTBEAT))
        for one in store.claim_messages("http", outbox=PLENTY):
            if one.message_type is HEARTBEAT:
                store.settle_message("http", answer(one))
            elif one.id.int == 1:
                holds_up = store.settle_message("http", answer(one, FAILED))
                assert holds_up is (n < 9)
            else:
                store.release_messages("http", [one])
        clock.advance(3600 if n < 9 else 1)
    fill(store, make(200, HEARTBEAT))
    [beat] = store.claim_messages("http", outbox=PLENTY)
    store.settle_message("http", answer(beat))  # the server is well

    assert claim(store) == [1]


def test_an_outage_of_the_server_does_not_change_the_order(store: Store, clock: Clock) -> None:
    fill(store, make(0), make(1))
    for _ in range(40):
        for one in store.claim_messages("http", outbox=PLENTY):
            if one.id.int == 1:
                store.settle_message("http", answer(one, FAILED))
            else:
                store.release_messages("http", [one])
        assert claim(store) == []
        clock.advance(3600)

    assert claim(store) == [0, 1]


# Kills


@pytest.mark.parametrize("message_store", ["sqlite"], indirect=True)
def test_what_a_killed_process_had_claimed_counts_as_sent(store: Store) -> None:
    fill(store, *(make(n) for n in range(4)))
    limits = budget_for(3)
    child = os.fork()
    if child == 0:
        store.claim_messages("http", limit=2, outbox=limits)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert claim(store, limits) == []  # a connection more is not left
    assert store.get_bytes_sent() == {"http": budget_for(2).bytes_per_day}


def test_a_claim_that_lapsed_is_paid_once(store: Store, clock: Clock) -> None:
    fill(store, make(0))
    [late] = store.claim_messages("http", outbox=PLENTY)
    clock.advance(300)
    assert claim(store) == [0]
    cost = CLAIM_BYTES + MESSAGE_BYTES + 100

    store.settle_message("http", answer(late))
    store.settle_message("http", answer(late))

    assert store.get_bytes_sent() == {"http": 2 * cost}  # it was sent twice, perhaps


# Age


def old(kind: str, days: float = 30) -> OutboxLimits:
    return OutboxLimits(longest_ages={kind: days * DAY})


@pytest.mark.parametrize("budget", [None, 10_000_000])
def test_a_message_too_old_is_not_sent_and_counted(
    store: Store, clock: Clock, budget: int | None
) -> None:
    fill(store, make(0, HEARTBEAT), make(1), make(2, None))
    clock.advance(31 * DAY)
    fill(store, make(31 * DAY, HEARTBEAT))
    limits = OutboxLimits(budget, longest_ages={"heartbeat": 30 * DAY, "other": 30 * DAY})

    assert sorted(claim(store, limits)) == [1, 31 * DAY]
    assert store.count_deliveries()["http"] == {
        "pending": 2,
        "acknowledged": 0,
        "dead": 0,
        "expired": 2,
    }
    assert claim(store, OutboxLimits(), "mqtt") == [0, 1, 2, 31 * DAY]


def test_nothing_expires_while_it_is_being_sent(store: Store, clock: Clock) -> None:
    fill(store, make(0))
    claimed = store.claim_messages("http", outbox=old("detection", 0.001))
    clock.advance(100)

    assert claim(store, old("detection", 0.001)) == []
    store.settle_message("http", answer(claimed[0]))

    assert "expired" not in store.count_deliveries()["http"]


def test_what_has_expired_can_be_tried_again(store: Store, clock: Clock) -> None:
    fill(store, make(0))
    clock.advance(31 * DAY)
    assert claim(store, old("detection")) == []

    assert store.retry_dead_letters() == 0
    assert store.retry_expired("mqtt") == 0
    assert store.retry_expired() == 1

    assert claim(store, old("detection", 60)) == [0]


def test_what_has_expired_is_kept_as_long_as_what_was_sent(store: Store, clock: Clock) -> None:
    fill(store, make(0), make(1, HEARTBEAT))
    clock.advance(31 * DAY)
    claim(store, old("detection"))
    store.settle_message("http", answer(make(1, HEARTBEAT)))
    keep = datetime.timedelta(days=30)

    assert store.remove_delivered(clock.now - keep, ["http"]) == 1  # the heartbeat
    clock.advance(29 * DAY)
    assert store.remove_delivered(clock.now - keep, ["http"]) == 0
    clock.advance(2 * DAY)
    assert store.remove_delivered(clock.now - keep, ["http", "mqtt"]) == 0
    assert store.remove_delivered(clock.now - keep, ["http"]) == 1


def test_a_late_failure_leaves_an_expired_message_so_and_a_late_success_does_not(
    store: Store, clock: Clock
) -> None:
    fill(store, make(0))
    clock.advance(31 * DAY)
    claim(store, old("detection"))

    store.settle_message("http", answer(make(0), FAILED))
    assert store.count_deliveries()["http"]["expired"] == 1
    store.settle_message("http", answer(make(0), SUCCESS))

    assert store.count_deliveries()["http"] == {"pending": 0, "acknowledged": 1, "dead": 0}
