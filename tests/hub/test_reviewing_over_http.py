"""``acoupi review`` and ``acoupi disk`` of a hub: sound and verdicts over HTTP, by role."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from acoupi import data
from acoupi.cli.app import app
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.reporting import reports_of
from acoupi.hub.database import HubDatabase
from acoupi.hub.people import add_person
from acoupi.hub.sensors import add_sensor
from acoupi.hub.taking_in import take_in
from acoupi.reports import MessageReport, Report
from tests.cli.test_heard import write_tone
from tests.hubs import served
from tests.postgres import Postgres
from tests.stores import detection, output, recording

Say = Callable[..., Result]


@pytest.fixture
def database(postgres: Postgres, tmp_path: Path) -> Iterator[HubDatabase]:
    """Provide the database of a hub that knows a sensor with two bats, and has sound of one."""
    store = SqliteStore(tmp_path / "metadata.db")
    sounds = [recording(f"{n}.wav", 60 * n, duration=2, samplerate=48_000) for n in range(2)]
    for sound in sounds:
        store.store_recording(sound)
        store.store_model_output(output(sound, detection(0.9, ("species", "Myotis", 0.9))))
    store.close()
    archive = tmp_path / "archive"
    write_tone(archive / "tone.wav")
    tone = (archive / "tone.wav").read_bytes()
    with closing(HubDatabase(postgres.new_database("review"))) as database:
        add_sensor(database, "oak-1")
        for report in reports_of(tmp_path / "metadata.db"):
            take_in(database, "oak-1", report)
        with database.writing() as connection:
            connection.execute(
                "INSERT INTO audio (id, recording_row, is_clip, place, key, format, bytes, sha256,"
                " stored_on_us) SELECT id, row, false, :place, 'tone.wav', 'wav', :size, :digest, 0"
                " FROM recording WHERE id = :id",
                {
                    "place": str(archive), "size": len(tone), "id": sounds[1].id.bytes,
                    "digest": hashlib.sha256(tone).digest(),
                },
            )  # fmt: skip
        yield database


@pytest.fixture
def say(database: HubDatabase, postgres: Postgres) -> Iterator[Say]:
    """Run a command at the hub as somebody with a role."""
    with served(postgres.url("review")) as address:

        def run(role: str, *words: str, input: str = "") -> Result:
            token = add_person(database, "ana", role)
            variables = {"ACOUPI_HUB": address, "ACOUPI_HUB_TOKEN": token}
            return CliRunner().invoke(app, list(words), env=variables, input=input)

        yield run


def test_clips_of_a_hub_are_seen_and_judged(say: Say, tmp_path: Path) -> None:
    picture = tmp_path / "clip.png"
    words = ("review", "next", "--all", "--picture", str(picture))
    result = say("reviewer", *words, input="roMyotis alcathoe\n")

    assert result.exit_code == 0, (result.output, result.exception)
    assert "2 of 2 clips reviewed" in result.output
    assert "(no picture: the hub does not have this sound.)" in result.output  # of the other one
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(say("reader", "review", "list", "--json").stdout)
    assert [(one["verdict"], one["verdict_species"], one["reviewer"]) for one in found] == [
        ("right", None, "ana"),
        ("other", "Myotis alcathoe", "ana"),
    ]
    assert "nothing left to review" in say("reviewer", "review", "next", "--all").output


@pytest.mark.parametrize(
    ("words", "copies"),
    [
        (("detections", "copy", "OUT"), ["1.wav", "1.wav.json"]),
        (("recordings", "copy", "OUT"), ["1.wav", "1.wav.json"]),
        (("export", "csv", "--audio", "-o", "OUT"), ["audio/1.wav"]),
    ],
    ids=["detections", "recordings", "export"],
)
def test_sound_is_copied_from_the_hub_or_refused_by_name(
    say: Say, postgres: Postgres, tmp_path: Path, words: tuple[str, ...], copies: list[str]
) -> None:
    def run(role: str, *more: str) -> tuple[str, list[str]]:
        out = tmp_path / role
        result = say(role, *(str(out) if one == "OUT" else one for one in words), *more)
        assert isinstance(result.exception, SystemExit | None)
        found = [path for path in out.rglob("*.wav*") if path.is_file()]
        assert all(one.suffix == ".json" or one.read_bytes() == tone for one in found)
        return result.output, sorted(str(one.relative_to(out)) for one in found)

    tone = (tmp_path / "archive" / "tone.wav").read_bytes()

    assert run("reviewer")[1] == copies  # of the other one, the hub has no sound
    told, found = run("reader")
    assert ("does not let you" in told, found) == (True, [])
    told, found = run("operator", "--hub", postgres.url("review"))
    assert ("this can be done on one sensor only" in told, found) == (True, [])


def test_one_verdict_is_given_and_taken_back(say: Say) -> None:
    [first, _] = json.loads(say("reader", "detections", "list", "--json").stdout)
    result = say("operator", "review", "set", first["detection_id"], "wrong", "--note", "rain")
    assert "by ana" in result.output
    wrong = say("reader", "detections", "list", "--json", "--verdict", "wrong")
    assert len(json.loads(wrong.stdout)) == 1


@pytest.mark.parametrize(
    ("role", "words", "what"),
    [
        ("reader", ("review", "set", "ID", "right"), "does not let you"),
        ("reviewer", ("review", "set", "ID", "right", "--reviewer", "bob"), "--reviewer cannot"),
        ("reviewer", ("review", "set", "ID", "fine"), 'cannot be "fine"'),
    ],
)
def test_what_may_not_be_done_is_said(
    say: Say, role: str, words: tuple[str, ...], what: str
) -> None:
    [first, _] = json.loads(say("reader", "detections", "list", "--json").stdout)
    result = say(role, *(first["detection_id"] if one == "ID" else one for one in words))

    assert result.exit_code != 0
    assert what in result.output
    assert json.loads(say("reader", "review", "list", "--json").stdout) == []


def test_the_room_of_every_sensor_is_shown_the_least_first(
    database: HubDatabase, postgres: Postgres
) -> None:
    for name, hours in (("elm-2", 9.0), ("fir-3", 700.0)):
        add_sensor(database, name)
        now = data.utc_now()
        said = {
            "sent_on": now.isoformat(), "device_id": name, "status": "OK",
            "metrics": [{"name": "disk_hours_left", "value": hours, "unit": "h"}],
        }  # fmt: skip
        message = MessageReport(
            id=uuid4(), message_type=data.MessageType.HEARTBEAT, created_on=now,
            content=json.dumps(said),
        )  # fmt: skip
        take_in(database, name, Report(messages=[message]))
    token = add_person(database, "ana", "operator")
    url = postgres.url("review")
    from_database = CliRunner().invoke(app, ["disk", "--hub", url, "--json"])
    with served(url) as address:
        variables = {"ACOUPI_HUB_TOKEN": token}
        over_http = CliRunner().invoke(app, ["disk", "--hub", address, "--json"], env=variables)
        table = CliRunner().invoke(app, ["disk", "--hub", address], env=variables)

    assert over_http.stdout == from_database.stdout
    found = json.loads(over_http.stdout)
    assert [(one["sensor"], one["hours_left"]) for one in found] == [
        ("elm-2", 9.0),
        ("fir-3", 700.0),
        ("oak-1", None),
    ]
    assert "9 h" in table.stdout
    assert "not sent" in table.stdout
