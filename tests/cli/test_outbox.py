"""The budget of messages: from the settings of the sensor to what people are told."""

import datetime
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore
from acoupi.components.message_stores.outbox import OutboxLimits
from acoupi.programs.status import StatusReport
from acoupi.services.construction import load_program
from acoupi.system import Settings
from acoupi.system.backlog import waiting_messages
from acoupi.testing import InMemoryStore
from tests.cli.support import Run, data_of, lines_of

pytestmark = pytest.mark.usefixtures("clock")  # it does not get midnight meanwhile

DAY = datetime.timedelta(days=1)
MONTH_OLD = {"heartbeat": 30 * DAY.total_seconds()}
LIMITS = OutboxLimits(1_000_000, longest_ages=MONTH_OLD)


@pytest.fixture
def messages(sensor: Path) -> SqliteMessageStore:
    """One heartbeat that is too old, and one detection of 1000 bytes that has been sent."""
    store = SqliteMessageStore(sensor / "data" / "messages.db")
    now = data.utc_now()
    for kind, age in ((data.MessageType.HEARTBEAT, 31), (data.MessageType.DETECTION, 1)):
        store.store_message(
            data.Message(content=b"x" * 1000, message_type=kind, created_on=now - age * DAY)
        )
    for one in store.claim_messages("hub", outbox=LIMITS):
        store.settle_message("hub", data.Response(message=one, status=data.ResponseStatus.SUCCESS))
    return store


def test_the_settings_reach_the_store_of_the_program(run: Run, sensor: Path) -> None:
    assert load_program(Settings(home=sensor)).message_store.outbox is None

    for name, value in (("bytes_per_day", "500000"), ("longest_days.heartbeat", "30")):
        assert run("config", "set", f"sensor.outbox.{name}", value).exit_code == 0

    expected = OutboxLimits(500_000, longest_ages=MONTH_OLD)
    assert load_program(Settings(home=sensor)).message_store.outbox == expected


def test_a_budget_too_small_for_a_message_is_refused(run: Run, sensor: Path) -> None:
    result = run("config", "set", "sensor.outbox.bytes_per_day", "100")

    assert result.exit_code == 2
    assert "10000" in lines_of(result)[1]


def test_days_too_many_for_the_store_are_refused(run: Run, sensor: Path) -> None:
    """With more microseconds than a database counts, nothing at all was sent."""
    result = run("config", "set", "sensor.outbox.longest_days.heartbeat", "999999999")

    assert result.exit_code == 2
    assert "36500" in lines_of(result)[1]


def test_a_store_that_cannot_count_says_that_it_keeps_no_budget(
    run: Run, sensor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run("setup", "--program", "test", "--target", "fake", "--sensor.outbox.bytes_per_day", "50000")

    load_program(Settings(home=sensor))

    assert "sensor.outbox are not kept" in caplog.text


def test_what_was_too_old_is_listed_and_can_be_tried_again(
    run: Run, messages: SqliteMessageStore
) -> None:
    [before] = data_of(run("messages", "list", "--json"))["messengers"]
    text = run("messages", "list").stdout
    retried = data_of(run("messages", "retry", "--expired", "--json"))
    [after] = data_of(run("messages", "list", "--json"))["messengers"]

    assert (before["expired"], before["pending"], before["acknowledged"]) == (1, 0, 1)
    assert before["bytes_today"] == 1000 + 1024 + 6144
    assert "too old" in text
    assert retried == {"retried": 1}
    assert (after["expired"], after["pending"]) == (0, 1)


def test_status_says_what_was_too_old_and_what_is_left_of_the_day(
    run: Run, sensor: Path, messages: SqliteMessageStore
) -> None:
    run("config", "set", "sensor.outbox.bytes_per_day", "1000000")

    [waiting] = waiting_messages(Settings(home=sensor))

    assert waiting.words() == "hub 0 (1 too old to be sent; 8 of 1000 kB sent today)"


def test_the_next_heartbeat_says_what_was_too_old(messages: SqliteMessageStore) -> None:
    messages.retry_expired()
    report = StatusReport(InMemoryStore(), messages)
    assert report() == "OK"

    messages.claim_messages("hub", outbox=LIMITS)

    assert "1 messages had become too old to be sent" in report()
    assert "too old" not in report()
