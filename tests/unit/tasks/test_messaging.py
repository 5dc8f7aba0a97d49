"""The task that sends messages."""

import datetime
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from acoupi import data
from acoupi.components import types
from acoupi.errors import AccessRefusedError, MessageError, MessageSendError
from acoupi.tasks import generate_send_messages_task
from acoupi.testing import InMemoryMessageStore, ListMessenger
from tests.clocks import Clock
from tests.message_stores import contents, fill, text_of

from .conftest import PublishedMessageStore

Status = data.ResponseStatus


class TrackingStore(PublishedMessageStore):
    """A message store that knows each messenger, as far as this task can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.claimed: dict[str, set[object]] = {}
        self.settled: list[tuple[str, data.Response]] = []

    def claim_messages(
        self, messenger: str, limit: int | None = None, order: Any = "oldest_first"
    ) -> list[data.Message]:
        done = {r.message.id for name, r in self.settled if name == messenger}
        taken = self.claimed.setdefault(messenger, set())
        free = [m for m in self.messages.values() if m.id not in taken | done]
        free.sort(key=lambda m: m.created_on, reverse=order == "newest_first")
        taken.update(m.id for m in free[:limit])
        return free[:limit]

    def settle_message(self, messenger: str, response: data.Response) -> None:
        self.claimed[messenger].discard(response.message.id)
        self.settled.append((messenger, response))

    def release_messages(self, messenger: str, messages: Sequence[data.Message]) -> None:
        self.claimed[messenger] -= {message.id for message in messages}

    def statuses(self, messenger: str) -> list[Status]:
        return [r.status for name, r in self.settled if name == messenger]


@pytest.fixture
def tracking() -> TrackingStore:
    return TrackingStore()


def test_a_trouble_of_a_messenger_is_told_when_all_is_sent(messages: types.MessageStore) -> None:
    class Twin(ListMessenger):
        def trouble(self) -> str | None:
            return "two sensors have one id"

    fill(messages, 2)
    one, other = Twin("mqtt"), ListMessenger("http")

    with pytest.raises(MessageError, match="mqtt: two sensors have one id"):
        generate_send_messages_task(messages, [one, other])()

    assert len(one.sent) == len(other.sent) == 2


@pytest.mark.parametrize("messengers", [None, []])
def test_a_messenger_is_needed(messages: types.MessageStore, messengers: Any) -> None:
    with pytest.raises(ValueError, match="messenger"):
        generate_send_messages_task(messages, messengers)


@pytest.mark.parametrize("number", [0, -1])
def test_a_limit_must_let_something_through(messages: types.MessageStore, number: int) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        generate_send_messages_task(messages, [ListMessenger()], max_messages=number)


def test_all_are_sent_in_order_and_only_once(messages: types.MessageStore) -> None:
    messenger = ListMessenger()
    fill(messages, 120)
    task = generate_send_messages_task(messages, [messenger])

    task()
    task()

    assert contents(messenger.sent) == [str(n) for n in range(1, 121)]


def test_two_newest_of_three(messages: types.MessageStore) -> None:
    messenger = ListMessenger()
    fill(messages, 3)

    generate_send_messages_task(messages, [messenger], max_messages=2, order="newest_first")()

    assert contents(messenger.sent) == ["3", "2"]


def test_every_messenger_gets_every_message_once(messages: types.MessageStore) -> None:
    first, second = ListMessenger("first"), ListMessenger("second")
    fill(messages, 3)
    task = generate_send_messages_task(messages, [first, second])

    task()
    task()

    assert contents(first.sent) == contents(second.sent) == ["1", "2", "3"]


def test_a_dead_link_of_one_does_not_hold_up_the_other(messages: types.MessageStore) -> None:
    dead, alive = ListMessenger("dead"), ListMessenger("alive")
    dead.cut_link()
    fill(messages, 3)

    generate_send_messages_task(messages, [dead, alive])()

    assert contents(dead.tried) == ["1"]
    assert contents(alive.sent) == ["1", "2", "3"]


def test_what_a_dead_link_held_up_arrives_when_it_is_back(clock: Clock) -> None:
    store = InMemoryMessageStore()
    broken, fine = ListMessenger("broken"), ListMessenger("fine")
    broken.cut_link()
    fill(store, 3)
    task = generate_send_messages_task(store, [broken, fine])
    task()
    assert contents(fine.sent) == ["1", "2", "3"]

    broken.error = None
    clock.advance(86_400)
    task()

    assert sorted(contents(broken.sent)) == ["1", "2", "3"]
    assert contents(fine.sent) == ["1", "2", "3"]


def test_refused_messages_do_not_block_the_queue() -> None:
    class Picky(ListMessenger):
        def send_message(self, message: data.Message) -> data.Response:
            self.status = Status.ERROR if text_of(message) <= "3" else Status.SUCCESS
            return super().send_message(message)

    store, messenger = InMemoryMessageStore(), Picky("picky")
    fill(store, 7)
    task = generate_send_messages_task(store, [messenger], max_messages=3)

    for _ in range(3):
        task()

    assert contents(messenger.sent) == ["4", "5", "6", "7"]


def test_messages_that_were_not_tried_are_given_back(tracking: TrackingStore) -> None:
    dead = ListMessenger("dead")
    dead.cut_link()
    fill(tracking, 3)

    generate_send_messages_task(tracking, [dead])()

    assert tracking.claimed["dead"] == set()
    assert tracking.statuses("dead") == [Status.FAILED]


@pytest.mark.parametrize(
    ("cause", "status"),
    [(None, Status.FAILED), (TimeoutError(), Status.TIMEOUT), (OSError(), Status.FAILED)],
)
def test_a_time_out_is_told_from_a_dead_link(
    tracking: TrackingStore, cause: Exception | None, status: Status
) -> None:
    error = MessageSendError("cannot reach the server.")
    error.__cause__ = cause
    fill(tracking, 1)

    generate_send_messages_task(tracking, [ListMessenger("m", error=error)])()

    assert tracking.statuses("m") == [status]


def test_a_refused_message_is_settled_and_the_next_is_tried(tracking: TrackingStore) -> None:
    messenger = ListMessenger("m", status=Status.ERROR)
    fill(tracking, 3)

    generate_send_messages_task(tracking, [messenger])()

    assert contents(messenger.tried) == ["1", "2", "3"]
    assert tracking.statuses("m") == [Status.ERROR] * 3


class Guarded(ListMessenger):
    """Its server lets in what is not in `barred`; None bars everything."""

    barred: set[str] | None = None

    def send_message(self, message: data.Message) -> data.Response:
        is_barred = self.barred is None or text_of(message) in self.barred
        self.status = Status.ERROR if is_barred else Status.SUCCESS
        response = super().send_message(message)
        return response.model_copy(update={"is_access_refused": is_barred})


def test_a_server_that_lets_nobody_in_is_not_asked_for_every_message() -> None:
    store, messenger = InMemoryMessageStore(), Guarded("m")
    fill(store, 60)
    task = generate_send_messages_task(store, [messenger])

    task()
    task()
    messenger.barred = set()
    task()

    assert contents(messenger.tried)[:7] == ["1", "2", "3", "60", "59", "58", "57"]
    assert len(messenger.sent) == 60 - 6  # those six rest
    assert contents(messenger.sent)[3:] == [str(n) for n in range(4, 55)]


def test_what_is_forbidden_for_ever_is_not_in_the_way(clock: Clock) -> None:
    store, messenger = InMemoryMessageStore(), Guarded("m")
    messenger.barred = {str(n) for n in range(1, 21)}
    fill(store, 20)
    task = generate_send_messages_task(store, [messenger])
    for _ in range(30):
        task()
        clock.advance(7200)  # all are due again
    store.store_message(data.Message(content="good", created_on=clock.now))
    task()

    assert contents(messenger.sent) == ["good"]


class Slow(ListMessenger):
    """Takes so many seconds for each message; meanwhile another pass may run."""

    def __init__(self, name: str, seconds: float, clock: Clock) -> None:
        super().__init__(name)
        self.seconds, self.clock = seconds, clock
        self.meanwhile: Callable[[], None] | None = None

    def send_message(self, message: data.Message) -> data.Response:
        self.clock.advance(self.seconds)
        response = super().send_message(message)
        if self.meanwhile is not None:
            self.meanwhile()
        return response


def test_a_pass_over_a_slow_link_ends_before_anybody_takes_it_for_stuck(clock: Clock) -> None:
    store = InMemoryMessageStore()
    slow, other = Slow("slow", 2, clock), ListMessenger("other")
    fill(store, 60)
    task = generate_send_messages_task(store, [slow, other])

    task()
    first = len(slow.sent)
    task()
    task()

    assert first == 25  # of its half of 100 s
    assert contents(slow.sent) == contents(other.sent) == [str(n) for n in range(1, 61)]


def test_a_pass_ends_well_within_the_time_limit_of_its_worker(clock: Clock) -> None:
    store, slow = InMemoryMessageStore(), Slow("slow", 1, clock)
    fill(store, 20)
    task = generate_send_messages_task(store, [slow], time_limit=8)

    task()

    assert len(slow.sent) == 4
    task()
    assert contents(slow.sent) == [str(n) for n in range(1, 9)]


def test_a_time_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="time_limit"):
        generate_send_messages_task(InMemoryMessageStore(), [ListMessenger("a")], time_limit=0)


def test_a_pass_that_begins_meanwhile_sends_nothing_twice(clock: Clock) -> None:
    store, slow = InMemoryMessageStore(), Slow("slow", 9, clock)
    fill(store, 60)
    task = generate_send_messages_task(store, [slow])

    def another_pass() -> None:
        slow.meanwhile = None
        task()
        slow.meanwhile = another_pass

    slow.meanwhile = another_pass
    for _ in range(10):
        task()

    assert sorted(contents(slow.sent), key=int) == [str(n) for n in range(1, 61)]


def test_a_server_that_does_not_answer_is_not_waited_for_with_every_message() -> None:
    store = InMemoryMessageStore()
    messenger = ListMessenger("m", status=Status.TIMEOUT)
    fill(store, 60)
    task = generate_send_messages_task(store, [messenger])

    task()
    task()
    messenger.status = Status.SUCCESS
    task()

    assert contents(messenger.tried)[:7] == ["1", "2", "3", "4", "5", "6", "7"]
    assert len(messenger.sent) == 60 - 6  # those six rest


def test_one_message_that_is_not_answered_does_not_hold_up_the_others(
    tracking: TrackingStore,
) -> None:
    class Deaf(ListMessenger):
        def send_message(self, message: data.Message) -> data.Response:
            is_deaf = int(text_of(message)) % 3 > 0
            self.status = Status.TIMEOUT if is_deaf else Status.SUCCESS
            return super().send_message(message)

    fill(tracking, 9)

    generate_send_messages_task(tracking, [deaf := Deaf("m")])()

    assert contents(deaf.sent) == ["3", "6", "9"]


def test_wrong_credentials_are_noted_as_such(tracking: TrackingStore) -> None:
    fill(tracking, 2)

    error = AccessRefusedError("the broker refused the connection.")
    generate_send_messages_task(tracking, [ListMessenger("m", error=error)])()

    [(_, response)] = tracking.settled
    assert (response.status, response.is_access_refused) == (Status.FAILED, True)
    assert not response.is_unsent  # it was reached


def test_messages_arrive_soon_after_the_link_is_back_whatever_it_went_through(
    clock: Clock,
) -> None:
    store, messenger = InMemoryMessageStore(), ListMessenger("m")
    fill(store, 1)
    messenger.cut_link()
    task = generate_send_messages_task(store, [messenger])
    while len(messenger.tried) < 12:
        task()
        clock.advance(60)

    messenger.error = None
    for _ in range(5):
        task()
        clock.advance(60)

    assert len(messenger.sent) == 1


def test_what_was_delivered_is_removed_after_its_time() -> None:
    store = InMemoryMessageStore()
    one, other = ListMessenger("one"), ListMessenger("other")
    other.cut_link()
    fill(store, 3)  # in 2024
    new = data.Message(content="new")
    store.store_message(new)
    task = generate_send_messages_task(store, [one, other], keep=datetime.timedelta(days=30))

    task()
    assert store.count_deliveries()["one"]["acknowledged"] == 4  # the other has none of them
    generate_send_messages_task(store, [one], keep=datetime.timedelta(days=30))()

    assert store.count_deliveries()["one"]["acknowledged"] == 1
    assert len(store.get_responses(new)) == 1


def test_a_store_that_cannot_remove_is_no_reason_to_fail(
    tracking: TrackingStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Locked(TrackingStore):
        def remove_delivered(self, *_: object) -> int:
            raise OSError("database is locked")

    fill(tracking, 1)
    task = generate_send_messages_task(tracking, [ListMessenger()], keep=datetime.timedelta(1))

    task()
    assert caplog.text == ""
    generate_send_messages_task(Locked(), [ListMessenger()], keep=datetime.timedelta(1))()

    assert "Cannot remove old messages" in caplog.text


def test_a_message_that_can_never_be_sent_counts_as_refused(tracking: TrackingStore) -> None:
    messenger = ListMessenger("m", error=MessageError("not JSON"))
    fill(tracking, 2)

    generate_send_messages_task(tracking, [messenger])()

    assert tracking.statuses("m") == [Status.ERROR] * 2


def test_any_other_error_rests_that_messenger_only(
    tracking: TrackingStore, caplog: pytest.LogCaptureFixture
) -> None:
    broken, fine = ListMessenger("broken", error=RuntimeError("a bug")), ListMessenger("fine")
    fill(tracking, 2)

    generate_send_messages_task(tracking, [broken, fine])()

    assert tracking.statuses("broken") == [Status.FAILED]
    assert contents(fine.sent) == ["1", "2"]
    assert "a bug" in caplog.text


def test_a_crash_gives_back_what_was_not_tried(tracking: TrackingStore) -> None:
    class Stop(BaseException):
        pass

    class Stopping(ListMessenger):
        def send_message(self, message: data.Message) -> data.Response:
            raise Stop

    first = fill(tracking, 3)[0]

    with pytest.raises(Stop):
        generate_send_messages_task(tracking, [Stopping("m")])()

    assert tracking.claimed["m"] == {first.id}  # nobody knows whether it arrived


def test_a_response_that_cannot_be_stored_does_not_stop_the_pass() -> None:
    class Locked(TrackingStore):
        def settle_message(self, messenger: str, response: data.Response) -> None:
            raise OSError("database is locked")

    store, messenger = Locked(), ListMessenger("m")
    fill(store, 2)

    generate_send_messages_task(store, [messenger])()

    assert contents(messenger.sent) == ["1", "2"]


def test_a_store_that_fails_for_one_messenger_serves_the_other() -> None:
    class Locked(TrackingStore):
        def claim_messages(self, messenger: str, *args: Any, **options: Any) -> list[data.Message]:
            if messenger == "bad":
                raise OSError("database is locked")
            return super().claim_messages(messenger, *args, **options)

    store, fine = Locked(), ListMessenger("fine")
    fill(store, 1)

    generate_send_messages_task(store, [ListMessenger("bad"), fine])()

    assert contents(fine.sent) == ["1"]


def test_two_messengers_of_one_name_are_filed_apart(tracking: TrackingStore) -> None:
    first, second = ListMessenger("http"), ListMessenger("http")
    fill(tracking, 1)

    generate_send_messages_task(tracking, [first, second])()

    assert len(first.sent) == len(second.sent) == 1
    assert [name for name, _ in tracking.settled] == ["http", "http#2"]


def test_the_limit_is_for_each_messenger(tracking: TrackingStore) -> None:
    first, second = ListMessenger("a"), ListMessenger("b")
    fill(tracking, 80)

    generate_send_messages_task(tracking, [first, second], max_messages=70)()

    assert (len(first.sent), len(second.sent)) == (70, 70)


def test_a_store_and_messengers_that_only_look_alike_will_do() -> None:
    class Store:
        def __init__(self) -> None:
            self.responses: list[data.Response] = []

        def get_unsent_messages(self, limit: Any = None, order: Any = "oldest_first") -> Any:
            return [data.Message(content="1")]

        def store_message(self, message: data.Message) -> None: ...

        def store_response(self, response: data.Response) -> None:
            self.responses.append(response)

    class Plain:
        def send_message(self, message: data.Message) -> data.Response:
            return data.Response(status=Status.SUCCESS, message=message)

    store = Store()

    generate_send_messages_task(store, [Plain()])()  # type: ignore[arg-type, list-item]

    assert [response.status for response in store.responses] == [Status.SUCCESS]


def test_long_contents_are_cut_in_the_log(
    tracking: TrackingStore, caplog: pytest.LogCaptureFixture
) -> None:
    tracking.store_message(data.Message(content="x" * 5000))

    with caplog.at_level(logging.DEBUG):
        generate_send_messages_task(tracking, [ListMessenger()])()

    assert max(len(record.getMessage()) for record in caplog.records) < 300
