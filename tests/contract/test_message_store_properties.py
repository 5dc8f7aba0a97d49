"""What holds of a message store, whatever it is given."""

import datetime
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.message_stores.deliveries import LEASE, LONGEST_REST, Delivery, settled
from acoupi.errors import MessageStoreError
from acoupi.testing import InMemoryMessageStore
from tests.clocks import Clock
from tests.message_stores import SUCCESS, answer, message


@pytest.mark.usefixtures("clock")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    messages=st.lists(
        st.builds(
            data.Message,
            id=st.uuids(),
            content=st.text() | st.binary(),
            message_type=st.none() | st.sampled_from(data.MessageType),
            created_on=st.datetimes(
                min_value=datetime.datetime(1970, 1, 2),  # noqa: DTZ001
                max_value=datetime.datetime(2200, 1, 1),  # noqa: DTZ001
                timezones=st.just(datetime.UTC),
            ),
        ),
        unique_by=lambda m: m.id,
        max_size=6,
    )
)
def test_everything_stored_is_read_back(messages: list[data.Message]) -> None:
    store = InMemoryMessageStore()
    for each in messages:
        store.store_message(each)

    unsent = store.get_unsent_messages()
    claimed = store.claim_messages("http", order="newest_first")

    as_bytes = [
        m.model_copy(update={"content": m.content.encode()}) if isinstance(m.content, str) else m
        for m in messages
    ]
    assert unsent == sorted(as_bytes, key=lambda m: (m.created_on, m.id.bytes))
    assert claimed == unsent[::-1]


_EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(0, 3)),
        st.tuples(st.just("claim"), st.sampled_from(["http", "mqtt"])),
        st.tuples(
            st.just("settle"),
            st.sampled_from(["http", "mqtt"]),
            st.sampled_from(data.ResponseStatus),
        ),
        st.tuples(st.just("respond"), st.integers(0, 3), st.sampled_from(data.ResponseStatus)),
        st.tuples(st.just("retry"), st.sampled_from(["http", "mqtt", None])),
        st.tuples(st.just("wait"), st.sampled_from([10, 300, 4000, -100_000])),
    ),
    max_size=60,
)


@dataclass
class Model:
    """A message store of four messages, in words: for each messenger how far each delivery is."""

    stored: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    deliveries: dict[str, dict[int, Delivery]] = field(default_factory=lambda: defaultdict(dict))

    def of(self, messenger: str, n: int) -> Delivery:
        missing = Delivery(state="acknowledged" if n in self.closed else "pending")
        return self.deliveries[messenger].get(n, missing)

    def claim(self, messenger: str) -> list[int]:
        now = data.utc_now()
        for n in self.stored - self.closed:  # whoever asks has seen all that there is
            self.deliveries[messenger].setdefault(n, Delivery())
        due = [n for n in sorted(self.stored) if is_due(self.of(messenger, n), now)][:2]
        until = now + datetime.timedelta(seconds=LEASE)
        for n in due:
            self.deliveries[messenger][n] = replace(self.of(messenger, n), claimed_until=until)
        self.deliveries[messenger]  # a messenger is known once it has asked
        return due

    def settle(self, messenger: str, response: data.Response) -> None:
        n = response.message.id.int - 1
        self.deliveries[messenger][n] = settled(self.of(messenger, n), response)
        self.sent |= {n} if response.status is SUCCESS else set()

    def respond(self, n: int) -> None:
        self.sent.add(n)
        self.closed.add(n)
        for of in self.deliveries.values():
            if n in of:
                of[n] = replace(of[n], state="acknowledged", next_attempt_on=None, last_error=None)

    def retry(self, messenger: str | None) -> int:
        dead = [(name, n) for name, n, _ in self.dead() if messenger in (None, name)]
        for name, n in dead:
            self.deliveries[name][n] = Delivery()
        return len(dead)

    def dead(self) -> Iterator[tuple[str, int, Delivery]]:
        for name, of in self.deliveries.items():
            yield from ((name, n, one) for n, one in of.items() if one.state == "dead")

    def counts(self) -> dict[str, dict[str, int]]:
        found = {}
        for name, of in self.deliveries.items():
            states = [
                self.of(name, n).state for n in self.stored if n in of or n not in self.closed
            ]
            found[name] = {s: states.count(s) for s in ("pending", "acknowledged", "dead")}
        return found


def is_due(delivery: Delivery, now: datetime.datetime) -> bool:
    """Whether to try it now: pending, rested, and claimed by nobody."""

    def is_ahead(time: datetime.datetime | None, most: float) -> bool:
        return time is not None and now < time <= now + datetime.timedelta(seconds=most)

    return (
        delivery.state == "pending"
        and not is_ahead(delivery.next_attempt_on, LONGEST_REST)
        and not is_ahead(delivery.claimed_until, LEASE)
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=_EVENTS)
def test_it_does_what_the_model_does_whatever_happens(events: list[tuple[Any, ...]]) -> None:
    clock, model, store = Clock(), Model(), InMemoryMessageStore()
    claimed: dict[str, list[data.Message]] = {"http": [], "mqtt": []}
    with pytest.MonkeyPatch.context() as patch:
        clock.install(patch)

        for event in events:
            _apply(store, model, event, claimed, clock)

            assert store.get_unsent_messages() == [
                message(n) for n in sorted(model.stored - model.sent)
            ]
            assert store.count_deliveries() == model.counts()
            assert {
                (d.messenger, d.message.id.int - 1, d.attempts, d.last_error)
                for d in store.get_dead_letters()
            } == {(name, n, one.attempts, one.last_error) for name, n, one in model.dead()}


def _apply(
    store: InMemoryMessageStore,
    model: Model,
    event: tuple[Any, ...],
    claimed: dict[str, list[data.Message]],
    clock: Clock,
) -> None:
    match event:
        case ("wait", seconds):
            clock.step(seconds)
        case ("store", n):
            store.store_message(message(n))
            model.stored.add(n)
        case ("claim", messenger):
            claimed[messenger] = store.claim_messages(messenger, limit=2)
            assert claimed[messenger] == [message(n) for n in model.claim(messenger)]
        case ("settle", messenger, status):
            for each in claimed[messenger]:
                response = answer(each, status, "why")
                store.settle_message(messenger, response)
                model.settle(messenger, response)
        case ("respond", n, status) if n in model.stored:
            store.store_response(answer(message(n), status))
            if status is SUCCESS:
                model.respond(n)
        case ("respond", n, status):
            with pytest.raises(MessageStoreError, match=str(message(n).id)):
                store.store_response(answer(message(n), status))
        case ("retry", messenger):
            assert store.retry_dead_letters(messenger) == model.retry(messenger)
