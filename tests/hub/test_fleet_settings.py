"""Settings from a hub: checked, signed, tried by some first; real homes, HTTP and PostgreSQL."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from starlette.testclient import TestClient
from typer.testing import CliRunner

from acoupi.cli.app import app
from acoupi.errors import AcoupiError, ConfigurationError, HubError
from acoupi.hub import ingest
from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_pages import envelope_of
from acoupi.hub.fleet_settings import Change, set_group, set_key, set_value, unset_value
from acoupi.hub.fleet_trial import ChangeRow, advance, changes
from acoupi.hub.parts import Hub
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.offers import Offer, make_key, public_key, sealed
from tests.clocks import Clock
from tests.fleets import FollowingSensor

DURATION = "recording.duration"
USUAL = 3.0


@pytest.fixture
def change(key: str, clock: Clock) -> Callable[..., Change]:
    def make(**fields: Any) -> Change:
        return Change(**{"private": key, "now": clock.now, "minutes": 10, **fields})

    return make


NewSensor = Callable[[str], FollowingSensor]


@pytest.fixture
def new_sensor(hub: HubDatabase, key: str, clock: Clock, tmp_path: Path) -> Iterator[NewSensor]:
    with TestClient(ingest.make_ingest(Hub(hub))) as client:

        def make(name: str) -> FollowingSensor:
            sensor = FollowingSensor(hub, client, name, tmp_path / name, public_key(key), clock)
            sensor.lives()
            return sensor

        yield make


def last(hub: HubDatabase) -> ChangeRow:
    with hub.reading() as connection:
        return next(changes(connection, 1))


def test_a_change_reaches_the_first_sensor_and_the_others_when_it_is_well(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak, elm = new_sensor("oak-1"), new_sensor("elm-2")

    found = set_value(hub, "base", DURATION, "5", change())

    assert (found.first, found.others, found.notes) == (["elm-2"], ["oak-1"], [])
    for one in (oak, elm):
        one.lives()
    assert (elm.duration(), oak.duration()) == (5, USUAL)
    oak.follow()  # whoever asks next, the hub looks at what came
    assert last(hub).state == "all"
    oak.lives()
    assert oak.duration() == 5
    oak.lives()
    assert (last(hub).state, last(hub).good) == ("done", 2)
    assert oak.follow().followed.since is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("lives", "why"),
    [
        ({"silent": True}, "are silent"),
        ({"recordings": 0}, "no recording was made"),
        ({"status": "the microphone is missing"}, "the microphone is missing"),
    ],
)
def test_a_sensor_that_is_not_well_undoes_it_everywhere(
    hub: HubDatabase,
    new_sensor: NewSensor,
    change: Callable[..., Change],
    lives: dict[str, Any],
    why: str,
) -> None:
    oak, elm = new_sensor("oak-1"), new_sensor("elm-2")
    set_value(hub, "base", DURATION, "5", change())
    elm.lives(**lives)
    assert elm.duration() == 5

    elm.clock.advance(11 * 60)
    elm.follow()

    assert elm.duration() == USUAL
    oak.lives()
    assert oak.duration() == USUAL
    found = last(hub)
    assert (found.state, found.waiting) == ("undone", 0)
    assert why in found.why
    assert "undone by the hub" in found.why
    with pytest.raises(AcoupiError, match="not set"):
        unset_value(hub, "base", DURATION, change())


def test_a_heartbeat_from_before_the_switch_is_not_judged(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak = new_sensor("oak-1")
    set_value(hub, "base", DURATION, "5", change())

    oak.report(status="3 recordings were lost")
    oak.follow()
    oak.clock.advance(20)
    oak.report(heartbeat=False)
    oak.follow()

    assert last(hub).state == "done"


def test_a_hub_that_says_nothing_more_is_waited_for_no_longer_than_the_minutes(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak = new_sensor("oak-1")
    set_value(hub, "oak-1", DURATION, "5", change())
    oak.follow()
    oak.is_linked = False
    oak.clock.advance(10 * 60 + 14)
    assert oak.follow().followed.given_up is None  # type: ignore[union-attr]
    assert oak.duration() == 5

    oak.clock.advance(2)
    found = oak.follow()

    assert oak.duration() == USUAL
    assert found.fault is not None
    assert "did not confirm" in found.fault.text()
    oak.is_linked = True
    oak.report()
    advance(hub, oak.clock.now)
    assert "the hub did not confirm it within 10 minutes" in last(hub).why
    assert "undone by the sensor oak-1" in last(hub).why
    assert oak.follow().fault is None
    set_value(hub, "oak-1", DURATION, "6", change())
    oak.follow()
    assert oak.duration() == 6


def test_what_a_sensor_cannot_put_in_force_is_undone_at_once(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change], tmp_path: Path
) -> None:
    oak = new_sensor("oak-1")
    oak.program = "default"  # the hub does not know yet
    oak.follow()
    set_value(hub, "oak-1", "detections.threshold", "0.5", change())

    found = oak.follow()

    assert found.fault is not None
    oak.report()
    advance(hub, oak.clock.now)
    assert "undone by the sensor oak-1" in last(hub).why
    assert "detections" in last(hub).why
    assert oak.follow().fault is None


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("recording.duraton", "5", "recording.duration"),
        ("threshold", "0.5", "Try: acoupi fleet set … detections.threshold …"),
        (DURATION, "-5", "greater than 0"),
        (DURATION, "-5", f"Try: acoupi fleet set … {DURATION} "),
        ("sensor.hub.url", "http://elsewhere", "without its hub"),
        ("recording", "{}", "one by one"),
        ("sensor.web.nothing", "5", "no such setting"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name_and_changes_nothing(
    hub: HubDatabase,
    new_sensor: NewSensor,
    change: Callable[..., Change],
    setting: str,
    value: str,
    why: str,
) -> None:
    oak = new_sensor("oak-1")

    with pytest.raises(ConfigurationError) as error:
        set_value(hub, "base", setting, value, change())

    assert why in "\n".join(error.value.lines())
    assert "acoupi config set" not in str(error.value.help)
    oak.follow()
    assert oak.duration() == USUAL


def test_a_setting_must_be_possible_for_each_sensor(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    new_sensor("elm-2")
    oak = new_sensor("oak-1")
    oak.program = "default"
    oak.lives()

    with pytest.raises(ConfigurationError) as error:
        set_value(hub, "base", "detections.threshold", "0.5", change())

    assert "oak-1" in str(error.value.why)
    add_sensor(hub, "ash-3")
    found = set_value(hub, "elm-2", "detections.threshold", "0.5", change())
    assert found.first == ["elm-2"]


def test_a_program_that_the_hub_does_not_have_is_named(
    hub: HubDatabase,
    new_sensor: NewSensor,
    change: Callable[..., Change],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oak = new_sensor("oak-1")
    with hub.writing() as connection:
        connection.execute("UPDATE settings_in_force SET program = 'acoupi_of_others'")

    found = set_value(hub, "oak-1", DURATION, "5", change())

    assert found.notes == [
        "oak-1 could not be checked here: the program acoupi_of_others is not installed here."
    ]
    oak.follow()
    assert oak.duration() == 5


def test_a_group_wins_over_all_and_a_sensor_over_its_group(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak, elm, ash = (new_sensor(name) for name in ("oak-1", "elm-2", "ash-3"))
    everyone = (oak, elm, ash)

    def settled() -> list[float]:
        for _ in range(3):
            for one in everyone:
                one.lives()
        assert last(hub).state == "done"
        return [one.duration() for one in everyone]

    set_group(hub, "bats", ["oak-1", "elm-2"], change())
    set_value(hub, "base", DURATION, "5", change())
    assert settled() == [5, 5, 5]
    set_value(hub, "bats", DURATION, "6", change())
    assert settled() == [6, 6, 5]
    set_value(hub, "elm-2", DURATION, "7", change())
    assert settled() == [6, 7, 5]
    set_group(hub, "bats", ["elm-2"], change())
    assert settled() == [5, 7, 5]
    unset_value(hub, "elm-2", DURATION, change())
    assert settled() == [5, 6, 5]
    with pytest.raises(AcoupiError, match="nobody"):
        set_value(hub, "nobody", DURATION, "5", change())


def test_another_key_is_refused_by_the_hub_and_by_the_sensor(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change], key: str
) -> None:
    oak, elm = new_sensor("oak-1"), new_sensor("elm-2")
    other = make_key()
    with pytest.raises(HubError, match="another key"):
        set_value(hub, "base", DURATION, "5", change(private=other))
    set_value(hub, "oak-1", DURATION, "5", change())
    forged = sealed(other, Offer(sensor="oak-1", number=3, minutes=1, settings={}))
    foreign = sealed(key, Offer(sensor="elm-2", number=3, minutes=1, settings={}))

    def put(document: str, signature: str) -> None:
        with hub.writing() as connection:
            connection.execute(
                "UPDATE fleet_document SET document = :document, signature = :signature",
                {"document": document, "signature": signature},
            )

    for one, why in ((forged, "another key"), (foreign, "elm-2")):
        put(one.document, one.signature)
        with pytest.raises(HubError, match=why):
            envelope_of(hub, "oak-1")
        found = oak.follow()
        assert found.fault is not None
        assert why in found.fault.text().lower()
    with pytest.raises(HubError, match="another key"):
        set_key(hub, public_key(other))
    set_key(hub, public_key(other), replace=True)  # the hub is another's, and the sensor is not
    put(forged.document, forged.signature)
    found = oak.follow()
    assert found.fault is not None
    assert "another key" in found.fault.text().lower()
    assert (oak.duration(), elm.duration()) == (USUAL, USUAL)


def test_an_old_document_that_is_sent_again_is_refused(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak = new_sensor("oak-1")
    for value in ("5", "6"):
        set_value(hub, "oak-1", DURATION, value, change())
        for _ in range(2):
            oak.lives()
        assert last(hub).state == "done"
    with hub.writing() as connection:
        connection.execute("DELETE FROM fleet_document WHERE number > 1")

    found = oak.follow()

    assert found.fault is not None
    assert "document 1, older than document 3" in found.fault.text()
    assert oak.duration() == 6


def test_a_token_of_another_sensor_gets_nothing(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak, elm = new_sensor("oak-1"), new_sensor("elm-2")
    oak.token = elm.token

    found = oak.follow()

    assert found.fault is not None
    assert "token" in found.fault.text()


def test_it_is_not_offered_where_nobody_could_judge_it(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    oak = new_sensor("oak-1")
    add_sensor(hub, "elm-2")
    make_token(hub, "elm-2")
    oak.clock.advance(11 * 60)
    with pytest.raises(ConfigurationError, match="too few") as idle:
        set_value(hub, "base", DURATION, "5", change())
    why = "elm-2 does not follow the hub, oak-1 recorded nothing within 10 minutes."
    assert why in str(idle.value.why)
    oak.report(status="the microphone is missing")
    with pytest.raises(ConfigurationError, match="too few") as unwell:
        set_value(hub, "oak-1", DURATION, "5", change())
    assert "but oak-1 is not well." in (unwell.value.why or "")


def test_one_change_at_a_time(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    new_sensor("oak-1")
    set_value(hub, "oak-1", DURATION, "5", change())

    with pytest.raises(HubError, match="another change"):
        set_value(hub, "oak-1", DURATION, "6", change())


def test_secrets_are_neither_told_nor_set(
    hub: HubDatabase, new_sensor: NewSensor, change: Callable[..., Change]
) -> None:
    new_sensor("oak-1")

    with pytest.raises(ConfigurationError, match="cannot be set"):
        set_value(hub, "oak-1", "sensor.hub.token", "x", change())

    with hub.reading() as connection:
        (text,) = connection.one("SELECT settings FROM settings_in_force")
    assert json.loads(text)[DURATION] == USUAL


def run(*words: str, url: str) -> Result:
    return CliRunner().invoke(app, ["fleet", *words], env={"ACOUPI_HUB_DATABASE": url})


def error_of(result: Result) -> str:
    return f"{result.output} {result.exception}"


def test_the_commands_from_the_first_key_to_what_differs(
    hub: HubDatabase, url: str, clock: Clock, tmp_path: Path
) -> None:
    key = str(tmp_path / "keys" / "fleet.key")
    first = run("keys", "--key", key, url=url)
    public = first.stdout.strip().partition("=")[2]
    assert run("keys", "--key", key, url=url).stdout == first.stdout
    assert (tmp_path / "keys" / "fleet.key").stat().st_mode & 0o77 == 0
    with TestClient(ingest.make_ingest(Hub(hub))) as client:
        sensors = [
            FollowingSensor(hub, client, name, tmp_path / name, public, clock)
            for name in ("oak-1", "elm-2", "ash-3")
        ]
        for _ in range(2):
            for one in sensors:
                one.lives()

        assert run("group", "bats", "oak-1", "--key", key, url=url).exit_code == 0
        found = run("set", "bats", DURATION, "5", "--key", key, url=url)
        assert "Offered to oak-1" in found.output
        for _ in range(2):
            sensors[0].lives()

        [change] = json.loads(run("set", "--status", "--json", url=url).stdout)
        assert (change["state"], change["good"]) == ("done", 1)
        assert json.loads(run("list", "--json", url=url).stdout) == [
            {"place": "the group bats", "setting": DURATION, "value": 5}
        ]
        assert json.loads(run("groups", "--json", url=url).stdout) == [
            {"group": "bats", "sensors": ["oak-1"]}
        ]
        differing = json.loads(run("diff", "--hub", url, "--json", url=url).stdout)
        assert [one["values"] for one in differing] == [{}, {DURATION: [5, USUAL]}]
        assert run("unset", "bats", DURATION, "--key", key, url=url).exit_code == 0
        assert "another change" in error_of(
            run("set", "base", DURATION, "4", "--key", key, url=url)
        )
        assert "tried by some" in run("set", "--status", url=url).stdout


def test_without_a_key_nothing_is_set(url: str, tmp_path: Path) -> None:
    found = run("set", "base", DURATION, "5", "--key", str(tmp_path / "none"), url=url)

    assert "cannot be read" in error_of(found)
    assert "it is not clear" in error_of(run("set", "base", url=url))
