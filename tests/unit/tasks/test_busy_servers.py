"""Servers that take nothing for now: they are asked seldom, and not before their time."""

import pytest

from acoupi import data
from acoupi.components import types
from acoupi.tasks import generate_send_messages_task
from acoupi.testing import InMemoryMessageStore, ListMessenger
from tests.clocks import Clock
from tests.message_stores import fill

from .conftest import PublishedMessageStore

Status = data.ResponseStatus


class Busy(ListMessenger):
    """Its server takes nothing for now, and says for how long, or does not."""

    retry_after: float | None = None

    def send_message(self, message: data.Message) -> data.Response:
        response = super().send_message(message)
        return response.model_copy(update={"retry_after": self.retry_after})


@pytest.fixture(params=["tracked", "published"])
def any_store(request: pytest.FixtureRequest) -> types.MessageStore:
    return InMemoryMessageStore() if request.param == "tracked" else PublishedMessageStore()


def test_a_server_that_is_busy_is_asked_three_times_a_pass(any_store: types.MessageStore) -> None:
    messenger = Busy("m", status=Status.FAILED)
    fill(any_store, 200)

    generate_send_messages_task(any_store, [messenger])()

    assert len(messenger.tried) == 3


def test_nothing_is_sent_before_the_time_that_the_server_names(
    any_store: types.MessageStore, clock: Clock
) -> None:
    messenger = Busy("m", status=Status.FAILED)
    messenger.retry_after = 600
    fill(any_store, 20)
    task = generate_send_messages_task(any_store, [messenger])
    task()
    messenger.status = Status.SUCCESS
    for _ in range(9):
        clock.advance(60)
        task()
    assert len(messenger.tried) == 1

    clock.advance(61)
    task()

    assert len(messenger.sent) == 20
    assert any_store.get_unsent_messages() == []


def test_the_pause_outlasts_a_restart(clock: Clock) -> None:
    store, before = InMemoryMessageStore(), Busy("m", status=Status.FAILED)
    before.retry_after = 600
    fill(store, 20)
    generate_send_messages_task(store, [before])()
    after = ListMessenger("m")

    clock.advance(500)
    generate_send_messages_task(store, [after])()
    assert after.tried == []

    clock.advance(101)
    generate_send_messages_task(store, [after])()
    assert len(after.sent) == 20


@pytest.mark.parametrize("asked", [86_400 * 365, 1e300])
def test_a_pause_has_a_bound(asked: float, clock: Clock) -> None:
    store, messenger = InMemoryMessageStore(), Busy("m", status=Status.FAILED)
    messenger.retry_after = asked
    fill(store, 1)
    task = generate_send_messages_task(store, [messenger])
    task()

    clock.advance(86_399)
    task()
    assert len(messenger.tried) == 1
    clock.advance(2)
    task()
    assert len(messenger.tried) == 2


def test_a_pause_from_before_the_clock_was_set_back_is_over(clock: Clock) -> None:
    store, messenger = InMemoryMessageStore(), Busy("m", status=Status.FAILED)
    messenger.retry_after = 600
    fill(store, 2)
    task = generate_send_messages_task(store, [messenger])
    task()

    clock.step(-400 * 86_400)
    task()

    assert len(messenger.tried) == 2
