"""The task that sends messages, on a link that is paid by the byte."""

import datetime
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator

from acoupi import data
from acoupi.components import SqliteMessageStore
from acoupi.components.message_stores.outbox import MESSAGE_BYTES, OutboxLimits
from acoupi.tasks import generate_send_messages_task
from acoupi.testing import InMemoryMessageStore, ListMessenger
from tests.clocks import START, Clock
from tests.message_stores import contents, fill

from .conftest import PublishedMessageStore

Kind, Status = data.MessageType, data.ResponseStatus
HOUR = datetime.timedelta(hours=1)
OUTAGE = datetime.timedelta(days=60)
BUDGET = 150_000


class Link(ListMessenger):
    """A mobile link that counts each byte, and is bad at times."""

    def __init__(self, clock: Clock, seed: int) -> None:
        super().__init__("link")
        self.clock, self.random = clock, random.Random(seed)
        self.bytes_of_day: Counter[datetime.date] = Counter()
        self.arrived_on: dict[object, datetime.datetime] = {}

    def send_message(self, message: data.Message) -> data.Response:
        self.clock.advance(1)
        if self.error is None:
            self.bytes_of_day[self.clock.now.date()] += len(message.content) + MESSAGE_BYTES
            self.status = self.random.choices(
                (Status.SUCCESS, Status.FAILED, Status.TIMEOUT), (98, 1, 1)
            )[0]
        response = super().send_message(message)
        if response.status is Status.SUCCESS:
            self.arrived_on[message.id] = self.clock.now
        return response


def made_in(hour: int, now: datetime.datetime) -> Iterator[data.Message]:
    """What a sensor has to say in two hours: more than it may send in two."""
    kinds: list[Kind | None] = [Kind.DETECTION] * 3
    kinds += [Kind.HEARTBEAT] if hour % 6 == 0 else []
    kinds += [Kind.SUMMARY, None] if hour % 24 == 0 else []
    kinds += [Kind.ALARM] if hour % 100 == 0 else []
    for n, kind in enumerate(kinds):
        yield data.Message(
            content=b"x" * 200,
            created_on=now + datetime.timedelta(seconds=n),
            message_type=kind,
        )


def test_a_metered_link_survives_an_outage_of_sixty_days(clock: Clock) -> None:
    store, link, made = InMemoryMessageStore(), Link(clock, seed=5), []
    store.outbox = OutboxLimits(BUDGET, kept_share=0.2)
    task = generate_send_messages_task(store, [link])
    link.cut_link()
    end, hour = clock.now + OUTAGE, 0

    while len(link.sent) < len(made) or clock.now < end:
        if clock.now >= end:
            link.error = None
        for message in made_in(hour, clock.now):
            if clock.now < end + 2 * HOUR * 24:  # then the season is over
                store.store_message(message)
                made.append(message)
        task()
        assert store.get_bytes_sent().get("link", 0) <= BUDGET
        clock.advance(7200)
        hour += 2
        assert clock.now < end + OUTAGE, f"{len(made) - len(link.sent)} have not arrived"

    assert Counter(one.id for one in link.sent) == Counter(one.id for one in made)
    of_kind: dict[Kind | None, list[object]] = defaultdict(list)
    for one in link.sent:
        of_kind[one.message_type].append(one.id)
    for kind, ids in of_kind.items():
        assert ids == [one.id for one in made if one.message_type is kind], kind
    assert max(link.bytes_of_day.values()) <= BUDGET
    assert len(link.bytes_of_day) > 15  # or there was no flood
    for one in made:
        if one.message_type is Kind.ALARM:
            begin = max(one.created_on, end)
            assert link.arrived_on[one.id] - begin < datetime.timedelta(days=1)
    assert store.count_deliveries()["link"]["pending"] == 0


def test_a_kill_between_claim_and_settle_loses_nothing_and_is_paid(clock: Clock) -> None:
    class Deadly(ListMessenger):
        def send_message(self, message: data.Message) -> data.Response:
            if len(self.sent) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().send_message(message)

    store = InMemoryMessageStore()
    store.outbox = OutboxLimits(BUDGET, batch=4)
    fill(store, 10)
    if (child := os.fork()) == 0:
        generate_send_messages_task(store, [Deadly("link")])()
    os.waitpid(child, 0)
    after, link = SqliteMessageStore(store.db_path), ListMessenger("link")
    after.outbox = OutboxLimits(BUDGET)

    generate_send_messages_task(after, [link])()

    assert contents(link.sent) == [str(n) for n in range(3, 11)]
    cost = sum(len(str(n)) for n in (1, 2, 3, 4, *range(3, 11))) + 12 * MESSAGE_BYTES
    assert 0 < after.get_bytes_sent()["link"] - cost < BUDGET / 5  # and three connections
    assert clock.now == START


def test_what_needs_no_network_has_no_budget() -> None:
    class Card(ListMessenger):
        needs_network = False

    store, card, link = InMemoryMessageStore(), Card("card"), ListMessenger("link")
    store.outbox = OutboxLimits(10_000)
    fill(store, 50)

    generate_send_messages_task(store, [card, link])()

    assert len(card.sent) == 50
    assert len(link.sent) == 1
    assert store.get_bytes_sent().keys() == {"link"}


def test_after_a_failure_the_others_of_its_kind_wait_and_other_kinds_go() -> None:
    class Broken(ListMessenger):
        def send_message(self, message: data.Message) -> data.Response:
            is_first = message.content == b"1"
            self.status = Status.FAILED if is_first else Status.SUCCESS
            return super().send_message(message)

    store, messenger = InMemoryMessageStore(), Broken("link")
    store.outbox = OutboxLimits(BUDGET)
    for number in range(1, 5):
        kind = Kind.DETECTION if number < 4 else None
        store.store_message(
            data.Message(
                content=str(number),
                message_type=kind,
                created_on=START + datetime.timedelta(seconds=number),
            )
        )

    generate_send_messages_task(store, [messenger])()

    assert contents(messenger.tried) == ["1", "4"]


def test_a_server_that_refused_access_gets_the_oldest_first_within_a_budget(
    clock: Clock,
) -> None:
    class Closed(ListMessenger):
        is_open = False

        def send_message(self, message: data.Message) -> data.Response:
            self.status = Status.SUCCESS if self.is_open else Status.ERROR
            response = super().send_message(message)
            return response.model_copy(update={"is_access_refused": not self.is_open})

    store, messenger = InMemoryMessageStore(), Closed("link")
    store.outbox = OutboxLimits(10 * BUDGET)
    fill(store, 10)
    task = generate_send_messages_task(store, [messenger])
    for _ in range(48):
        task()
        clock.advance(3600)
    messenger.is_open = True

    task()

    assert contents(messenger.sent) == [str(n) for n in range(1, 11)]


def test_a_published_store_sends_as_it_did() -> None:
    store, messenger = PublishedMessageStore(), ListMessenger()
    fill(store, 100)

    generate_send_messages_task(store, [messenger])()

    assert len(messenger.sent) == 100
