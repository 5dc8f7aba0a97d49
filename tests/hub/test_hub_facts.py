"""What `acoupi hub status` is told by the database of a hub."""

import datetime

import pytest

from acoupi import data
from acoupi.data import to_microseconds
from acoupi.hub.bundle.facts import hub_facts
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import add_sensor, make_token


@pytest.fixture
def database(hub: HubDatabase) -> HubDatabase:
    return hub


def test_an_empty_hub_has_nothing_and_nothing_is_wrong(database: HubDatabase) -> None:
    facts = hub_facts(database)

    assert (facts.sensors, facts.silent, facts.reported_on, facts.jobs) == (0, 0, None, ())
    assert facts.without_worker == ()
    assert facts.database_bytes > 1_000_000
    assert int(facts.server.partition(".")[0]) >= 15


def test_a_sensor_is_silent_a_day_after_it_reported_and_not_if_it_may_not(
    database: HubDatabase,
) -> None:
    for name in ("oak", "ash", "elm", "new"):
        add_sensor(database, name)
    for name in ("oak", "ash", "new"):
        make_token(database, name)
    now = data.utc_now()
    with database.writing() as connection:
        for name, hours in (("oak", 25), ("ash", 23)):
            on = to_microseconds(now - datetime.timedelta(hours=hours))
            statement = "UPDATE sensor SET reported_on_us = :on WHERE id = :id"
            connection.execute(statement, {"on": on, "id": name})

    facts = hub_facts(database)

    assert (facts.sensors, facts.silent) == (4, 1)
    assert facts.reported_on == now - datetime.timedelta(hours=23)
