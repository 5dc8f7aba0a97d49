"""The pages of a hub: who may see them, what they show; with a real PostgreSQL."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from acoupi import data
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.reporting import reports_of
from acoupi.config.web import Web
from acoupi.errors import ParameterError
from acoupi.heard import Filters
from acoupi.hub.audio import put_chunk, take_sound
from acoupi.hub.audio_store import open_store
from acoupi.hub.dashboard import FOR_S as KNOWN_FOR_S
from acoupi.hub.dashboard import MENU, HubSensor, Place, make_dashboard, serve
from acoupi.hub.dashboard_access import FOR_S
from acoupi.hub.database import HubDatabase
from acoupi.hub.parts import Hub
from acoupi.hub.people import add_person, withdraw_person
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.taking_in import take_in
from acoupi.reports import MessageReport, Report, SoundReport
from tests.clocks import Clock
from tests.stores import deployment, detection, output, recording

HERE = {"Origin": "http://testserver"}
Visit = Callable[[str], TestClient]


@pytest.fixture
def database(hub: HubDatabase) -> HubDatabase:
    return hub


@pytest.fixture
def heard(database: HubDatabase, tmp_path: Path) -> data.Detection:
    """A bat of a sensor that has sent a heartbeat, too; another sensor never reported."""
    store = SqliteStore(tmp_path / "metadata.db")
    sound = recording("a.wav", deployment=deployment(name="Old oak"))
    store.store_recording(sound)
    bat = detection(0.9, ("species", "Myotis nattereri", 0.9))
    store.store_model_output(output(sound, bat))
    store.close()
    for name in ("oak-1", "elm-2"):
        add_sensor(database, name)
        make_token(database, name)
    for report in reports_of(tmp_path / "metadata.db"):
        take_in(database, "oak-1", report)
    beat = {"sent_on": data.utc_now().isoformat(), "device_id": "oak", "status": "OK"}
    message = data.Message(content=json.dumps(beat))
    said = MessageReport(
        id=message.id,
        message_type=data.MessageType.HEARTBEAT,
        created_on=message.created_on,
        content=json.dumps(beat),
    )
    take_in(database, "oak-1", Report(messages=[said]))
    return bat


@pytest.fixture
def visit(database: HubDatabase, url: str, tmp_path: Path) -> Iterator[Visit]:
    """A browser with a token, at the pages of the hub."""
    (tmp_path / "sound").mkdir()
    hub = Hub(database, open_store(str(tmp_path / "sound")))
    app = make_dashboard(hub, Place(url, tmp_path / "web", "Bats of Kent"), Web())
    clients: list[TestClient] = []

    def visited(token: str) -> TestClient:
        client = TestClient(app).__enter__()
        clients.append(client)
        client.post("/login", data={"password": token}, headers=HERE, follow_redirects=False)
        return client

    yield visited
    for client in clients:
        client.__exit__()


def test_every_page_in_the_menu_is_there_for_who_has_a_token(
    visit: Visit, database: HubDatabase, heard: data.Detection
) -> None:
    ada = visit(add_person(database, "ada", "reviewer"))

    found = {path: ada.get(f"/{path}") for path in (*MENU, f"detections/{heard.id}")}

    assert {one.status_code for one in found.values()} == {200}
    first = found[""].text
    assert "Bats of Kent" in first
    assert first.index("elm-2") < first.index("oak-1")  # the silent one is on top
    assert "it has not sent a heartbeat yet" in first
    assert ">None<" not in first
    assert "Old oak" in first
    assert "Myotis nattereri" in found["detections"].text
    assert "The hub does not have its sound" in found[f"detections/{heard.id}"].text


def test_the_heartbeats_of_all_sensors_are_not_read_for_every_page(
    database: HubDatabase, url: str, heard: data.Detection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock = Clock(data.utc_now())
    clock.install(monkeypatch)
    sensor = HubSensor(Hub(database), Place(url, tmp_path))
    counts = [sensor.now()["status"]["counts"]["silent"]]

    add_sensor(database, "ash-3")
    make_token(database, "ash-3")
    counts.append(sensor.now()["status"]["counts"]["silent"])
    clock.advance(KNOWN_FOR_S)
    counts.append(sensor.now()["status"]["counts"]["silent"])

    assert counts == [1, 1, 2]


def test_what_only_a_sensor_has_is_not_there(
    visit: Visit, database: HubDatabase, heard: data.Detection
) -> None:
    ada = visit(add_person(database, "ada", "operator"))

    for path in (
        "health",
        "settings",
        "deployment",
        "api/v1/settings",
        "api/v1/health",
        "password",
    ):
        assert ada.get(f"/{path}").status_code == 404
    described = ada.get("/api/v1/openapi.json").json()["paths"]
    assert "/api/v1/detections" in described
    assert "/api/v1/settings" not in described


@pytest.mark.parametrize("path", ["/", "/detections", "/api/v1/detections", "/effort"])
def test_strangers_see_nothing(visit: Visit, heard: data.Detection, path: str) -> None:
    stranger = visit("guessed")

    answer = stranger.get(path, follow_redirects=False)

    assert answer.status_code in (303, 401)
    assert "Myotis" not in answer.text
    login = stranger.get("/login").text
    assert "acoupi hub add-person NAME" in login
    assert "Your token" in login
    assert "Password" not in login  # people of a hub have none


def test_a_session_ends_with_its_token(
    visit: Visit, database: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(data.utc_now())
    clock.install(monkeypatch)
    ada = visit(add_person(database, "ada", "reviewer"))
    assert ada.get("/").status_code == 200

    withdraw_person(database, "ada")
    clock.advance(FOR_S)

    assert ada.get("/", follow_redirects=False).headers["location"].startswith("/login")


def put_sound(database: HubDatabase, tmp_path: Path, sound_of: UUID) -> bytes:
    """Send the hub the sound of a recording, as its sensor does."""
    hub = Hub(database, open_store(str(tmp_path / "sound")))
    soundfile.write(tmp_path / "a.wav", np.zeros(256_000, np.int16), 256_000)
    sound = (tmp_path / "a.wav").read_bytes()
    sha256 = hashlib.sha256(sound).hexdigest()
    with database.writing() as connection:
        (row,) = connection.one("SELECT row FROM sensor WHERE id = 'oak-1'")
    put_chunk(hub, row, sound_of, sha256, 0, sound)
    offered = SoundReport(format="wav", bytes=len(sound), sha256=sha256)
    assert take_sound(hub, row, sound_of, offered) is None
    return sound


def test_the_sound_that_the_hub_has_is_heard_and_drawn(
    visit: Visit, database: HubDatabase, url: str, heard: data.Detection, tmp_path: Path
) -> None:
    with HubReader(url) as reader:
        found = reader.detection(heard.id)
    assert found is not None
    sound = put_sound(database, tmp_path, found.recording.id)
    ada = visit(add_person(database, "ada", "reviewer"))

    assert "<audio" in ada.get(f"/detections/{heard.id}").text
    at = f"/api/v1/recordings/{found.recording.id}"
    assert ada.get(f"{at}/file").content == sound
    assert ada.get(f"{at}/picture.png").content.startswith(b"\x89PNG")
    slower = ada.get(f"{at}/audio.wav?slow=10", headers={"Range": "bytes=0-43"})
    assert slower.status_code == 206
    assert int.from_bytes(slower.content[24:28], "little") == 25_600


def test_a_reader_is_told_to_read_otherwise(visit: Visit, database: HubDatabase) -> None:
    rob = visit("nothing")

    answer = rob.post(
        "/login", data={"password": add_person(database, "rob", "reader")}, headers=HERE
    )

    assert answer.status_code == 401
    assert "acoupi detections list --hub URL" in answer.text


def test_a_time_zone_that_is_none_is_refused(database: HubDatabase, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="Mars/Olympus"):
        serve(Hub(database), Place("", tmp_path, timezone="Mars/Olympus"), {})
    with pytest.raises(ParameterError, match="--path-prefix"):
        serve(Hub(database), Place("", tmp_path), {"path_prefix": "no slash"})


def judge(client: TestClient, heard: data.Detection) -> int:
    page = client.get(f"/detections/{heard.id}").text
    _, found, rest = page.partition('name="csrf" value="')
    csrf = rest.partition('"')[0] if found else ""
    answer = client.post(
        f"/detections/{heard.id}/verdict",
        data={"csrf": csrf, "verdict": "right"},
        headers=HERE,
        follow_redirects=False,
    )
    return answer.status_code


def test_a_reviewer_judges_a_detection_and_a_reader_does_not(
    visit: Visit, database: HubDatabase, url: str, heard: data.Detection
) -> None:
    assert judge(visit(add_person(database, "rob", "reader")), heard) in (401, 403)
    assert judge(visit(add_person(database, "ada", "reviewer")), heard) == 303

    with HubReader(url) as reader:
        [verdict] = reader.verdicts(Filters())
    assert (verdict.reviewer, verdict.verdict.value) == ("ada", "right")
