"""What every message store does."""

import datetime
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore as Store
from acoupi.errors import MessageStoreError
from tests.clocks import START, Clock
from tests.message_stores import ERROR, FAILED, SUCCESS, TIMEOUT, answer, message

pytestmark = pytest.mark.usefixtures("clock")


of_the_process_that_claims = pytest.mark.parametrize("message_store", ["sqlite"], indirect=True)
"""Who claims through a door is the process that answers there; no role may."""


@pytest.fixture
def store(message_store: Store) -> Store:
    return message_store


def stored(store: Store, count: int) -> list[data.Message]:
    messages = [message(n) for n in range(count)]
    for each in messages:
        store.store_message(each)
    return messages


def refused(to: data.Message, status: data.ResponseStatus = ERROR) -> data.Response:
    response = answer(to, status, "HTTP 401: expired")
    return response.model_copy(update={"is_access_refused": True})


def settle(store: Store, messenger: str, status: data.ResponseStatus) -> list[data.Message]:
    """Let a messenger try all it can now, with one outcome; return what it tried."""
    tried = store.claim_messages(messenger)
    for each in tried:
        store.settle_message(messenger, answer(each, status))
    return tried


# Messages


def test_a_message_comes_back_as_it_was(store: Store) -> None:
    heartbeat = data.Message(
        content=b"{}", message_type=data.MessageType.HEARTBEAT, created_on=START
    )

    store.store_message(heartbeat)

    assert store.get_unsent_messages() == [heartbeat]


@pytest.mark.parametrize("content", ["", b"", "é\0\n", b"\xff\0", "{}", b"{}"])
def test_content_comes_back_as_bytes(store: Store, content: str | bytes) -> None:
    store.store_message(data.Message(content=content))

    [unsent] = store.get_unsent_messages()
    [claimed] = store.claim_messages("http")

    sent = content.encode() if isinstance(content, str) else content
    assert unsent.content == claimed.content == sent  # published messengers decode it


def test_a_message_stored_again_changes_nothing(store: Store) -> None:
    store.store_message(message(content=b"first"))
    settle(store, "http", SUCCESS)

    store.store_message(message(content=b"second"))

    assert store.get_unsent_messages() == []
    assert store.claim_messages("http") == []
    assert store.claim_messages("mqtt") == [message(content=b"first")]


def test_unsent_messages_come_in_the_order_asked_for(store: Store) -> None:
    for n in (1, 0, 2):
        store.store_message(message(n))

    assert store.get_unsent_messages() == [message(0), message(1), message(2)]
    assert store.get_unsent_messages(limit=2, order="newest_first") == [message(2), message(1)]
    assert store.get_unsent_messages(limit=0) == []


def test_messages_of_one_instant_come_by_id(store: Store) -> None:
    twins = [message(n).model_copy(update={"created_on": START}) for n in (3, 1, 2)]
    for each in twins:
        store.store_message(each)

    in_order = [twins[1], twins[2], twins[0]]
    assert store.get_unsent_messages() == store.claim_messages("http") == in_order
    assert store.claim_messages("mqtt", order="newest_first") == in_order[::-1]


def test_the_oldest_comes_first_in_any_time_zone(store: Store) -> None:
    east = datetime.timezone(datetime.timedelta(hours=10))
    first = message(0)
    first.created_on = first.created_on.astimezone(east)
    store.store_message(message(1))
    store.store_message(first)

    assert [m.id for m in store.get_unsent_messages()] == [message(0).id, message(1).id]
    assert [m.id for m in store.claim_messages("http")] == [message(0).id, message(1).id]


@pytest.mark.parametrize("ask", ["get_unsent_messages", "claim_messages"])
def test_a_limit_or_an_order_that_means_nothing_is_refused(store: Store, ask: str) -> None:
    arguments = ("http",) if ask == "claim_messages" else ()

    with pytest.raises(ValueError, match="limit must be 0 or more, not -1"):
        getattr(store, ask)(*arguments, limit=-1)
    with pytest.raises(ValueError, match="random"):
        getattr(store, ask)(*arguments, order="random")


# Responses, as a sender without deliveries stores them


def test_a_message_is_unsent_until_a_success_is_answered(store: Store) -> None:
    first, second = stored(store, 2)

    for status in (ERROR, FAILED, TIMEOUT):
        store.store_response(answer(first, status))
    store.store_response(answer(second))

    assert store.get_unsent_messages() == [first]


def test_the_success_of_one_messenger_makes_a_message_sent(store: Store) -> None:
    stored(store, 1)
    settle(store, "http", ERROR)
    assert len(store.get_unsent_messages()) == 1

    settle(store, "mqtt", SUCCESS)

    assert store.get_unsent_messages() == []


def test_a_success_without_a_messenger_ends_the_message_for_all(store: Store) -> None:
    first, second = stored(store, 2)
    store.claim_messages("http")

    store.store_response(answer(first))
    store.release_messages("http", [first, second])

    assert store.claim_messages("http") == [second]
    assert store.claim_messages("unheard of") == [second]


def test_a_late_failure_does_not_reopen_an_ended_message(store: Store) -> None:
    [only] = stored(store, 1)
    store.store_response(answer(only))

    store.settle_message("late", answer(only, FAILED))

    assert store.claim_messages("late") == []
    assert store.count_deliveries()["late"] == {"pending": 0, "acknowledged": 1, "dead": 0}


def test_a_response_to_an_unknown_message_is_refused(store: Store) -> None:
    unknown = message(7)

    for refused in (
        lambda: store.store_response(answer(unknown)),
        lambda: store.settle_message("http", answer(unknown)),
        lambda: store.get_responses(unknown),
    ):
        with pytest.raises(MessageStoreError, match=str(unknown.id)) as caught:
            refused()
        assert len(caught.value.lines()) == 3


def test_every_response_is_kept(store: Store) -> None:
    [only] = stored(store, 1)
    refused, received = answer(only, ERROR, "500 é"), answer(only, SUCCESS)

    store.settle_message("http", refused)
    store.store_response(received)

    assert store.get_responses(only) == [refused, received]


# Deliveries


def test_every_messenger_gets_every_message(store: Store) -> None:
    messages = stored(store, 2)

    assert settle(store, "http", SUCCESS) == messages
    assert store.claim_messages("http") == []
    assert store.claim_messages("mqtt") == messages


def test_a_messenger_that_comes_later_gets_what_was_there_before(store: Store) -> None:
    messages = stored(store, 2)
    settle(store, "http", SUCCESS)
    store.store_message(message(2))

    assert store.claim_messages("new") == [*messages, message(2)]
    assert store.claim_messages("http") == [message(2)]


def test_messages_are_claimed_in_the_order_and_number_asked_for(store: Store) -> None:
    a, b, c = stored(store, 3)

    assert store.claim_messages("http", limit=0) == []
    assert store.claim_messages("http", limit=2, order="newest_first") == [c, b]
    assert store.claim_messages("http", limit=2, order="newest_first") == [a]


def test_a_claimed_message_is_nobody_elses_until_the_lease_is_over(
    store: Store, clock: Clock
) -> None:
    messages = stored(store, 1)
    store.claim_messages("http")

    clock.advance(299)
    assert store.claim_messages("http") == []
    assert store.claim_messages("mqtt") == messages
    clock.advance(1)
    assert store.claim_messages("http") == messages


@of_the_process_that_claims
def test_what_a_killed_process_had_claimed_is_due_at_once(store: Store) -> None:
    stored(store, 3)
    child = os.fork()
    if child == 0:
        store.claim_messages("http", limit=2)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert len(store.claim_messages("http")) == 3


@of_the_process_that_claims
def test_what_a_living_process_has_claimed_stays_its_own(store: Store) -> None:
    stored(store, 3)
    other = Store(store.db_path)
    mine = store.claim_messages("http", limit=2)

    assert len(other.claim_messages("http")) == 1

    store.close()
    assert other.claim_messages("http") == mine


@of_the_process_that_claims
@pytest.mark.parametrize("is_tried", [True, False])
def test_what_the_disk_refused_to_settle_or_release_is_due_at_the_next_claim(
    store: Store, is_tried: bool
) -> None:
    claimed = stored(store, 1)
    assert store.claim_messages("http") == claimed
    change(
        store, "CREATE TRIGGER full BEFORE UPDATE ON delivery BEGIN SELECT RAISE(ABORT, ''); END"
    )
    end = store.settle_message if is_tried else store.release_messages
    with pytest.raises(MessageStoreError):
        end("http", answer(claimed[0]) if is_tried else claimed)  # type: ignore[operator]
    change(store, "DROP TRIGGER full")

    assert store.claim_messages("http") == claimed
    assert store.claim_messages("http") == [], "once more is enough"


def change(store: Store, statement: str) -> None:
    with closing(sqlite3.connect(store.db_path)) as connection, connection:
        connection.execute(statement)


def test_where_no_process_can_be_known_the_lease_decides(store: Store) -> None:
    stored(store, 1)
    Path(f"{store.db_path}.senders").mkdir()  # It cannot be a file.
    store.claim_messages("http")

    assert Store(store.db_path).claim_messages("http") == []


def test_a_released_message_can_be_claimed_again_at_once(store: Store) -> None:
    first, second = stored(store, 2)
    store.claim_messages("http")

    store.release_messages("http", [second])
    store.release_messages("unheard of", [first])
    store.release_messages("http", [])

    assert store.claim_messages("http") == [second]


@pytest.mark.parametrize(
    ("is_unsent", "last"), [(False, [480, 960, 1920, 3600, 3600]), (True, [300] * 5)]
)
def test_a_failed_message_rests_longer_each_time_up_to_a_limit(
    store: Store, clock: Clock, is_unsent: bool, last: list[int]
) -> None:
    [only] = stored(store, 1)
    failure = answer(only, FAILED).model_copy(update={"is_unsent": is_unsent})
    rests = []

    for _ in range(9):
        assert store.claim_messages("http") == [only]
        store.settle_message("http", failure)
        waited = 0
        while not (claimed := store.claim_messages("http")):
            clock.advance(30)
            waited += 30
        store.release_messages("http", claimed)
        rests.append(waited)

    assert rests == [30, 60, 120, 240, *last]


def test_a_message_the_server_refuses_ten_times_is_a_dead_letter(
    store: Store, clock: Clock
) -> None:
    [only] = stored(store, 1)

    for _ in range(10):
        assert store.get_dead_letters() == []
        assert settle(store, "http", ERROR) == [only]
        clock.advance(3600)

    assert store.claim_messages("http") == []
    [letter] = store.get_dead_letters("http")
    assert (letter.messenger, letter.message, letter.attempts) == ("http", only, 10)
    assert letter.last_error == "error"
    assert letter.updated_on == clock.now - datetime.timedelta(seconds=3600)
    assert store.get_dead_letters("mqtt") == []
    assert store.get_unsent_messages() == [only]  # nobody has it: that stays visible


@pytest.mark.parametrize("status", [FAILED, TIMEOUT])
def test_a_bad_link_never_makes_a_dead_letter(
    store: Store, clock: Clock, status: data.ResponseStatus
) -> None:
    stored(store, 1)

    for _ in range(50):
        assert len(settle(store, "http", status)) == 1
        clock.advance(3600)
    settle(store, "http", ERROR)  # attempts of the link are no refusals

    assert store.get_dead_letters() == []
    assert store.count_deliveries() == {"http": {"pending": 1, "acknowledged": 0, "dead": 0}}


@pytest.mark.parametrize("status", [ERROR, FAILED])
def test_a_server_that_lets_nobody_in_never_makes_a_dead_letter(
    store: Store, clock: Clock, status: data.ResponseStatus
) -> None:
    [only] = stored(store, 1)

    for _ in range(24 * 7):  # a week
        if store.claim_messages("http"):
            store.settle_message("http", refused(only, status))
        clock.advance(3600)

    assert store.get_dead_letters() == []
    assert store.claim_messages("http") == [only]


def test_a_server_that_lets_nobody_in_is_known_until_it_answers_otherwise(
    store: Store, clock: Clock
) -> None:
    first, second = stored(store, 2)
    store.settle_message("http", refused(first))
    since = clock.now
    clock.advance(60)
    store.settle_message("http", refused(second))
    store.settle_message("http", answer(first, TIMEOUT))  # says nothing about the server
    store.settle_message("mqtt", answer(first))

    [refusal] = store.get_refusals()
    store.settle_message("http", answer(first))

    assert (refusal.messenger, refusal.since) == ("http", since)
    assert refusal.error == "error: HTTP 401: expired"
    assert store.get_refusals() == []


def test_bad_messages_never_stand_in_the_way_of_newer_ones(store: Store, clock: Clock) -> None:
    bad = stored(store, 5)

    for n in range(5, 30):
        store.store_message(message(n))
        for _ in range(3):  # more than there are bad ones, a few at a time
            for each in store.claim_messages("http", limit=2):
                status = ERROR if each in bad else SUCCESS
                store.settle_message("http", answer(each, status))
        clock.advance(10)

    assert store.get_unsent_messages() == bad
    assert store.count_deliveries()["http"]["acknowledged"] == 25


def test_one_messengers_trouble_is_not_anothers(store: Store, clock: Clock) -> None:
    messages = stored(store, 2)
    for _ in range(10):
        settle(store, "http", ERROR)
        clock.advance(3600)

    assert settle(store, "mqtt", SUCCESS) == messages

    assert store.count_deliveries() == {
        "http": {"pending": 0, "acknowledged": 0, "dead": 2},
        "mqtt": {"pending": 0, "acknowledged": 2, "dead": 0},
    }


def test_dead_letters_can_be_tried_again(store: Store, clock: Clock) -> None:
    messages = stored(store, 2)
    for messenger in ("http", "mqtt"):
        for _ in range(10):
            settle(store, messenger, ERROR)
            clock.advance(3600)

    assert store.retry_dead_letters("mqtt") == 2
    assert store.retry_dead_letters("mqtt") == 0
    assert store.claim_messages("mqtt") == messages
    assert store.claim_messages("http") == []
    assert store.retry_dead_letters() == 2
    settle(store, "http", ERROR)  # the count begins anew
    assert store.get_dead_letters() == []


def test_a_dead_letter_that_arrives_after_all_is_acknowledged(store: Store, clock: Clock) -> None:
    [only] = stored(store, 1)
    for _ in range(10):
        settle(store, "http", ERROR)
        clock.advance(3600)

    store.settle_message("http", answer(only, FAILED))
    assert len(store.get_dead_letters()) == 1
    store.settle_message("http", answer(only))

    assert store.get_dead_letters() == store.get_unsent_messages() == []


def test_a_late_failure_does_not_undo_a_success(store: Store, clock: Clock) -> None:
    [only] = stored(store, 1)
    store.claim_messages("http")
    store.settle_message("http", answer(only))

    store.settle_message("http", answer(only, TIMEOUT))
    clock.advance(7200)

    assert store.claim_messages("http") == []


def test_dead_letters_say_what_the_server_said(store: Store, clock: Clock) -> None:
    [only] = stored(store, 1)
    for _ in range(10):
        store.claim_messages("http")
        store.settle_message("http", answer(only, ERROR, "413 too large " + "x" * 10_000))
        clock.advance(3600)

    [letter] = store.get_dead_letters()

    assert letter.last_error is not None
    assert letter.last_error.startswith("error: 413 too large x")
    assert len(letter.last_error) == 500


def test_a_clock_set_back_neither_stops_nor_hides_a_message(store: Store, clock: Clock) -> None:
    clock.advance(86_400 * 365)  # the clock was wrong
    first, second = stored(store, 2)
    store.claim_messages("http")
    store.settle_message("http", answer(first, FAILED))

    clock.now = START

    assert store.claim_messages("http") == [first, second]


# Removal


def test_old_messages_that_every_messenger_has_are_removed(store: Store) -> None:
    old, older, new = (message(n) for n in (1, 0, 10))
    for each in (old, older, new):
        store.store_message(each)
    for messenger in ("http", "mqtt"):
        settle(store, messenger, SUCCESS)

    removed = store.remove_delivered(new.created_on, ["http", "mqtt"], limit=1)

    assert removed == 1
    with pytest.raises(MessageStoreError):
        store.get_responses(older)
    assert store.remove_delivered(new.created_on, ["http", "mqtt"]) == 1
    assert store.remove_delivered(new.created_on, ["http", "mqtt"]) == 0
    assert len(store.get_responses(new)) == 2
    assert store.count_deliveries()["http"]["acknowledged"] == 1


@pytest.mark.parametrize("status", [ERROR, FAILED, TIMEOUT, None])
def test_what_one_messenger_has_not_delivered_is_never_removed(
    store: Store, clock: Clock, status: data.ResponseStatus | None
) -> None:
    [only] = stored(store, 1)
    settle(store, "http", SUCCESS)
    for _ in range(10 if status is not None else 0):  # a refused one becomes a dead letter
        settle(store, "mqtt", status or ERROR)
        clock.advance(3600)

    assert store.remove_delivered(clock.now + datetime.timedelta(days=99), ["http", "mqtt"]) == 0

    assert len(store.get_responses(only)) >= 1


def test_a_dead_letter_stays_though_its_messenger_is_gone(store: Store, clock: Clock) -> None:
    [only] = stored(store, 1)
    for _ in range(10):
        settle(store, "former", ERROR)
        clock.advance(3600)
    settle(store, "http", SUCCESS)

    assert store.remove_delivered(clock.now, ["http"]) == 0

    assert store.get_dead_letters()[0].message == only


def test_what_a_former_messenger_never_delivered_is_no_reason_to_keep(
    store: Store,
) -> None:
    stored(store, 2)
    settle(store, "former", FAILED)
    settle(store, "http", SUCCESS)

    assert store.remove_delivered(message(9).created_on, []) == 0
    assert store.remove_delivered(message(9).created_on, ["http"]) == 2

    assert store.claim_messages("former") == []
    assert store.claim_messages("new") == []


def test_a_message_after_a_removal_is_given_to_every_messenger(store: Store) -> None:
    stored(store, 2)
    settle(store, "http", SUCCESS)
    store.remove_delivered(message(9).created_on, ["http"])

    store.store_message(message(2))

    assert store.claim_messages("http") == [message(2)]


def test_what_a_messenger_has_not_asked_for_yet_counts_as_pending(
    store: Store,
) -> None:
    stored(store, 1)
    assert store.count_deliveries() == {}
    store.claim_messages("http")

    store.store_message(message(1))
    store.store_message(message(2))
    store.store_response(answer(message(2)))

    assert store.count_deliveries() == {"http": {"pending": 2, "acknowledged": 0, "dead": 0}}
