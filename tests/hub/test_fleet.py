"""How the sensors of a hub are; with a real PostgreSQL."""

import json
from datetime import datetime, timedelta
from uuid import uuid4

from typer.testing import CliRunner

from acoupi import data
from acoupi.cli.app import app
from acoupi.fleet.judging import KEPT
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.taking_in import take_in
from acoupi.reports import MessageReport, Report, SettingsReport
from tests.postgres import Postgres


def message(kind: data.MessageType, created_on: datetime, content: object) -> MessageReport:
    text = content if isinstance(content, str) else json.dumps(content)
    return MessageReport(id=uuid4(), message_type=kind, created_on=created_on, content=text)


def test_the_newest_messages_of_each_sensor_are_judged(hub: HubDatabase, url: str) -> None:
    now = data.utc_now()
    for name in ("oak-1", "elm-2", "card-3", "ash-4"):
        add_sensor(hub, name)
    make_token(hub, "ash-4")
    beats = [
        message(
            data.MessageType.HEARTBEAT,
            sent_on,
            {"sent_on": sent_on.isoformat(), "device_id": "a", "status": "OK", "version": str(age)},
        )
        for age in range(KEPT + 5, -1, -1)
        for sent_on in [now - timedelta(hours=age)]
    ]
    alarm = {"alarm": "disk_low", "state": "raised", "since": now.isoformat(), "device_id": "b"}
    take_in(hub, "oak-1", Report(messages=beats))
    take_in(
        hub,
        "elm-2",
        Report(
            messages=[
                message(data.MessageType.ALARM, now, alarm),
                message(data.MessageType.HEARTBEAT, now, "no JSON"),
                message(
                    data.MessageType.HEARTBEAT,
                    now,
                    {"sent_on": now.isoformat(), "device_id": "b", "status": "OK"},
                ),
            ]
        ),
    )

    result = CliRunner().invoke(app, ["fleet", "status", "--hub", url, "--json"])

    assert result.exit_code == 3, result.output
    found = json.loads(result.stdout)["sensors"]
    assert [(one["sensor"], one["state"], one["device_id"], one["version"]) for one in found] == [
        ("ash-4", "silent", None, None),  # it may report and never did; card-3 never may
        ("elm-2", "unwell", "b", None),
        ("oak-1", "well", "a", "0"),
    ]
    assert found[1]["alarms"] == ["disk_low"]


def test_what_a_sensor_without_heartbeats_runs_is_known(hub: HubDatabase, url: str) -> None:
    add_sensor(hub, "oak-1")
    make_token(hub, "oak-1")
    told = SettingsReport(
        program="demo", version="1.2", configuration="abc", sections=["recording=12"], values={}
    )
    take_in(hub, "oak-1", Report(settings=told))

    result = CliRunner().invoke(app, ["fleet", "status", "--hub", url, "--json"])

    [found] = json.loads(result.stdout)["sensors"]
    assert (found["state"], found["version"], found["program"], found["configuration"]) == (
        "well",  # it reports
        "1.2",
        "demo",
        "abc",
    )
    assert found["sections"] == {"recording": "12"}


def test_a_hub_that_does_not_answer_is_told(postgres: Postgres) -> None:
    result = CliRunner().invoke(app, ["fleet", "status", "--hub", postgres.url("nowhere")])

    assert result.exit_code == 1
    assert "does not answer" in str(getattr(result.exception, "message", result.output))
