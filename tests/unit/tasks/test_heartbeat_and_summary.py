"""Signs of life, and summaries."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import types
from acoupi.provisioned import FROM_HUB, MARKER, Fault, FromHub, Provisioned
from acoupi.tasks import Heartbeat, generate_heartbeat_task, generate_summariser_task
from acoupi.testing import ListMessenger
from tests.message_stores import text_of


@pytest.fixture(autouse=True)
def device_file(home: Path) -> Path:
    path = home / "config" / "device.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"id": "board-1"}')
    return path


def free_memory() -> data.Metric:
    return data.Metric(name="free_memory", value=5, unit="B")


def broken_metric() -> data.Metric:
    raise OSError("no such file")


def said(messenger: ListMessenger) -> dict[str, Any]:
    (message,) = messenger.sent
    found: dict[str, Any] = json.loads(message.content)
    return found


def test_a_heartbeat_has_the_shape_that_servers_know() -> None:
    messenger = ListMessenger()

    generate_heartbeat_task([messenger], [free_memory])()

    heartbeat = said(messenger)
    assert set(heartbeat) == {"sent_on", "device_id", "status", "metrics"}
    assert (heartbeat["device_id"], heartbeat["status"]) == ("board-1", "OK")
    assert heartbeat["sent_on"].endswith("Z")
    assert heartbeat["metrics"][0]["name"] == "free_memory"
    assert messenger.sent[0].message_type is data.MessageType.HEARTBEAT


def test_it_says_when_the_sources_of_the_home_are_wrong(home: Path) -> None:
    config = home / "config"
    fault = Fault(message="there is no variable ACOUPI_X.", since=data.utc_now())
    found = Provisioned(generation=1, provisioned_on=data.utc_now(), fault=fault)
    (config / MARKER).write_text(found.model_dump_json())
    messenger = ListMessenger()

    generate_heartbeat_task([messenger])()

    status = said(messenger)["status"]
    assert status.startswith("There is no variable ACOUPI_X. (the configuration of 20")


def test_it_says_when_what_the_hub_gives_is_not_in_force(home: Path) -> None:
    fault = Fault(message="document 3 of the hub is not followed.", since=data.utc_now())
    found = FromHub(target="process", fault=fault)
    (home / "config" / FROM_HUB).write_text(found.model_dump_json())
    messenger = ListMessenger()

    generate_heartbeat_task([messenger])()

    assert said(messenger)["status"] == "Document 3 of the hub is not followed."


def test_no_metrics_are_left_out() -> None:
    messenger = ListMessenger()

    generate_heartbeat_task([messenger])()

    assert "metrics" not in said(messenger)
    assert "metrics" not in Heartbeat(device_id="a").model_dump()


def test_a_metric_that_fails_is_said_in_the_status_and_the_others_are_sent() -> None:
    messenger = ListMessenger()

    generate_heartbeat_task([messenger], [broken_metric, free_memory])()

    heartbeat = said(messenger)
    assert heartbeat["status"] == "cannot read the metric broken_metric: no such file"
    assert [metric["name"] for metric in heartbeat["metrics"]] == ["free_memory"]


def test_the_status_is_what_it_is_told() -> None:
    messenger = ListMessenger()

    generate_heartbeat_task([messenger], [broken_metric], status=lambda: "last recording 2 h ago")()

    assert said(messenger)["status"].startswith("last recording 2 h ago; cannot read")


def test_a_status_that_fails_is_not_ok() -> None:
    messenger = ListMessenger()

    def fail() -> str:
        raise RuntimeError("a bug")

    generate_heartbeat_task([messenger], status=fail)()

    assert said(messenger)["status"] == "cannot read the status: a bug"


def test_a_device_without_an_id_still_reports(device_file: Path) -> None:
    device_file.write_text("[" * 100_000)  # nested too deeply to be read
    messenger = ListMessenger()

    generate_heartbeat_task([messenger])()

    assert said(messenger)["device_id"] == ""


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), RuntimeError("a bug")])
def test_one_bad_messenger_does_not_block_the_others(error: Exception) -> None:
    bad, refusing = ListMessenger(error=error), ListMessenger(status=data.ResponseStatus.ERROR)
    good = ListMessenger()

    generate_heartbeat_task([bad, refusing, good])()

    assert len(good.sent) == 1


def test_a_serializer_makes_the_content() -> None:
    messenger = ListMessenger()

    generate_heartbeat_task([messenger], serializer=lambda beat: beat.device_id.encode())()

    assert messenger.sent[0].content == b"board-1"


def test_a_heartbeat_can_wait_in_the_store(messages: types.MessageStore) -> None:
    messenger = ListMessenger()

    generate_heartbeat_task([messenger], message_store=messages)()

    assert messenger.tried == []
    (message,) = messages.get_unsent_messages()
    assert message.message_type is data.MessageType.HEARTBEAT


def test_a_messenger_or_a_store_is_needed(messages: types.MessageStore) -> None:
    with pytest.raises(ValueError, match="messenger"):
        generate_heartbeat_task([])
    generate_heartbeat_task([], message_store=messages)()
    assert len(messages.get_unsent_messages()) == 1


class Summariser(types.Summariser):
    def __init__(self, made: Any) -> None:
        self.made = made
        self.asked_at: list[datetime.datetime] = []

    def build_summary(self, now: datetime.datetime) -> Any:
        self.asked_at.append(now)
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


def test_summaries_are_stored_one_none_or_many(messages: types.MessageStore) -> None:
    made = [data.Message(content=text) for text in "abc"]
    summarisers = [Summariser(None), Summariser(made[0]), Summariser(made[1:])]

    generate_summariser_task(summarisers, messages)()

    assert [text_of(m) for m in messages.get_unsent_messages()] == ["a", "b", "c"]
    assert {m.message_type for m in messages.get_unsent_messages()} == {data.MessageType.SUMMARY}


def test_a_failing_summariser_does_not_stop_the_others(messages: types.MessageStore) -> None:
    fine = Summariser(data.Message(content="a"))

    generate_summariser_task([Summariser(RuntimeError("a bug")), fine], messages)()

    assert len(messages.get_unsent_messages()) == 1


def test_all_summaries_end_at_one_time(messages: types.MessageStore) -> None:
    first, second = Summariser(None), Summariser(None)

    generate_summariser_task([first, second], messages)()

    assert first.asked_at == second.asked_at
    assert first.asked_at[0].tzinfo is not None


def test_a_kind_that_a_summary_has_stays(messages: types.MessageStore) -> None:
    message = data.Message(content="a", message_type=data.MessageType.RECORDING)

    generate_summariser_task([Summariser(message)], messages)()

    assert messages.get_unsent_messages()[0].message_type is data.MessageType.RECORDING
