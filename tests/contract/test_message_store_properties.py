"""What holds of every message store, whatever it is given."""

import datetime
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.errors import MessageStoreError
from tests.message_stores import STORES, Store, answer, message
from tests.stores import Clock


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", STORES)
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
def test_everything_stored_is_read_back(kind: str, messages: list[data.Message]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = STORES[kind](Path(folder))
        for each in messages:
            store.store_message(each)

        unsent = store.get_unsent_messages()
        claimed = store.claim_messages("http", order="newest_first")

        assert unsent == sorted(messages, key=lambda m: (m.created_on, m.id.bytes))
        assert claimed == unsent[::-1]
        assert all(isinstance(m.content, str) for m in unsent if m.content in _texts(messages))
        if isinstance(store, SqliteMessageStore):
            store.close()


def _texts(messages: list[data.Message]) -> set[str | bytes]:
    return {m.content for m in messages if isinstance(m.content, str)}


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


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=_EVENTS)
def test_both_stores_answer_alike_whatever_happens(events: list[tuple[object, ...]]) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(data, "utc_now", lambda: clock.now)
        stores = [make(Path(folder)) for make in STORES.values()]
        claimed: dict[object, list[data.Message]] = {"http": [], "mqtt": []}

        for event in events:
            if event[0] == "wait":
                clock.advance(event[1])
                continue
            seen = [_apply(store, event, claimed) for store in stores]

            assert seen[0] == seen[1], event
            if event[0] == "claim":
                claimed[event[1]] = seen[0][0]

        for store in stores:
            if isinstance(store, SqliteMessageStore):
                store.close()


def _apply(store: Store, event: tuple, claimed: dict) -> tuple:  # type: ignore[type-arg]
    result: object = None
    match event:
        case ("store", n):
            store.store_message(message(n))
        case ("claim", messenger):
            result = store.claim_messages(messenger, limit=2)
        case ("settle", messenger, status):
            for each in claimed[messenger]:
                store.settle_message(messenger, answer(each, status, "why"))
        case ("respond", n, status):
            try:
                store.store_response(answer(message(n), status))
            except MessageStoreError as error:
                result = str(error)
        case ("retry", messenger):
            result = store.retry_dead_letters(messenger)
    return (
        result,
        store.get_unsent_messages(),
        store.count_deliveries(),
        store.get_dead_letters(),
    )
