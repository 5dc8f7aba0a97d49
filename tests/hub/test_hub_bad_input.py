"""Bad input at a hub: refused by name, and nobody else is the worse for it."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from starlette.testclient import TestClient

from acoupi import data
from acoupi.config.web import Web
from acoupi.errors import ParameterError
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.hub import dashboard_access, folder_store
from acoupi.hub.audio_store import open_store
from acoupi.hub.dashboard import MENU, Place, make_dashboard
from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import make_ingest
from acoupi.hub.parts import Hub
from acoupi.hub.people import add_person
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.troubles import MOST_TOLD, Troubles
from acoupi.hub.workers import add_worker
from acoupi.reports import (
    DeploymentReport,
    MessageReport,
    OutputReport,
    ProgramReport,
    RecordingReport,
    Report,
    SettingsReport,
    digest_header,
)
from tests.clocks import Clock
from tests.postgres import Postgres
from tests.stores import SITE, at, deployment, detection

PROGRAM = "acoupi.programs.demo"
BROKER = "redis://broker.example.org"
SOUND = b"RIFF" * 100
SHA256 = hashlib.sha256(SOUND).hexdigest()
FIRST = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
LAST = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12)))


@pytest.fixture
def hub(hub: HubDatabase, tmp_path: Path) -> Hub:
    return Hub(hub, open_store(str(tmp_path)))


@pytest.fixture
def client(hub: Hub) -> Iterator[TestClient]:
    """A sensor that asks."""
    add_sensor(hub.database, "oak-1")
    token = make_token(hub.database, "oak-1")
    with TestClient(make_ingest(hub), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


def recorded(**fields: Any) -> RecordingReport:
    return RecordingReport.model_validate({
        "id": uuid4(), "deployment": SITE.id, "reported_on": at(10), "created_on": at(0),
        "duration_s": 3, "samplerate_hz": 48_000, "state": data.RecordingState.CAPTURED,
        **fields,
    })  # fmt: skip


def told(client: TestClient, **parts: Any) -> tuple[int, str]:
    """Send a report; return the answer."""
    parts.setdefault("deployments", [DeploymentReport(deployment=SITE)])
    answer = client.post("/v1/reports", content=Report(**parts).model_dump_json())
    return answer.status_code, str(answer.json().get("error"))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("time", [FIRST, LAST])
def test_a_time_that_nothing_can_show_is_refused(
    client: TestClient, hub: Hub, url: str, time: datetime
) -> None:
    message = MessageReport(id=uuid4(), created_on=time, content="{}")
    for parts in (
        {"recordings": [recorded(created_on=time)]},
        {"messages": [message]},
        {"deployments": [DeploymentReport(deployment=SITE, whole_hours=[time])]},
    ):
        status, words = told(client, **parts)
        assert (status, words[:29]) == (409, "the hub cannot store the time")

    known = recorded()
    assert told(client, recordings=[known])[0] == 200
    ana = bearer(add_person(hub.database, "ana", "reviewer"))
    verdict = {
        "recording_id": str(known.id), "detection_id": None, "verdict": "wrong",
        "species": None, "note": "", "given_on": time.isoformat(),
    }  # fmt: skip
    assert client.post("/v1/verdicts", content=json.dumps(verdict), headers=ana).status_code == 409
    with HubReader(url) as reader:
        assert [one.id for one in reader.recordings(Filters())] == [known.id]
        assert list(reader.verdicts(Filters())) == []


@pytest.mark.parametrize("number", ["NaN", "1e308", "-9e18"])
def test_a_number_that_no_recording_has_is_refused(client: TestClient, number: str) -> None:
    place = {"type": "BoundingBox", "coordinates": [0.125, 10, 0.25, 20]}
    found = OutputReport(
        id=uuid4(), model="bats", ran_on=at(5), detections=[detection(location=place)]
    )
    said = Report(
        deployments=[DeploymentReport(deployment=SITE)],
        recordings=[recorded(outputs=[found], duration_s=3.5)],
    ).model_dump_json()

    for right in ("0.125", "0.25", "3.5"):
        assert said.count(right) == 1
        answer = client.post("/v1/reports", content=said.replace(right, number))
        assert answer.status_code in (409, 422)
    assert client.post("/v1/reports", content=said).status_code == 200


def test_a_time_that_nothing_can_show_cannot_be_asked_for(client: TestClient, hub: Hub) -> None:
    ana = bearer(add_person(hub.database, "ana", "reader"))
    asked = json.dumps({"arguments": {"filters": {"since": FIRST.isoformat()}}})

    answer = client.post("/v1/read/detections", content=asked, headers=ana)

    assert answer.status_code == 422
    assert "are not valid" in answer.json()["error"]


@pytest.mark.parametrize("number", ["9" * 300, "9" * 5000, "-1", "1e3"])
def test_a_number_in_a_path_has_so_many_digits(client: TestClient, hub: Hub, number: str) -> None:
    worker = bearer(add_worker(hub.database, "shed", PROGRAM, BROKER))

    for method, path, login in (
        ("PUT", f"/v1/audio/{uuid4()}/{SHA256}/{number}", None),
        ("POST", f"/v1/jobs/{number}", worker),
        ("POST", f"/v1/jobs/{number}/claim", worker),
    ):
        assert client.request(method, path, headers=login, content=b"{}").status_code == 404


def put(client: TestClient, sound: UUID, content: bytes, sha256: str = SHA256) -> tuple[int, str]:
    headers = {"Content-Digest": digest_header(content)}
    answer = client.put(f"/v1/audio/{sound}/{sha256}/0", content=content, headers=headers)
    return answer.status_code, answer.text


def offer(client: TestClient, sound: UUID) -> int:
    offered = {"format": "wav", "bytes": len(SOUND), "sha256": SHA256}
    return client.post(f"/v1/audio/{sound}", content=json.dumps(offered)).status_code


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_more_of_a_sound_that_is_whole_is_not_kept(client: TestClient, tmp_path: Path) -> None:
    known = recorded()
    assert told(client, recordings=[known])[0] == 200
    assert put(client, known.id, SOUND)[0] == 200
    assert offer(client, known.id) == 200
    before = files(tmp_path)

    assert put(client, known.id, b"more", "0" * 64)[0] == 200
    assert files(tmp_path) == before


def test_sound_leaves_room_on_the_disk_for_the_database(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = recorded()
    assert told(client, recordings=[known])[0] == 200
    monkeypatch.setattr(folder_store, "RESERVE", 2**60)

    status, words = put(client, known.id, SOUND)

    assert status == 507
    assert "no room for more sound" in words
    assert files(tmp_path) == set()


def test_a_worker_hears_only_what_its_program_is_to_analyse(client: TestClient, hub: Hub) -> None:
    program = ProgramReport(program=PROGRAM, settings="{}", digest="ab")
    known = recorded(analyse="ab")
    assert told(client, programs=[program], recordings=[known])[0] == 200
    assert put(client, known.id, SOUND)[0] == 200
    assert offer(client, known.id) == 200
    theirs = bearer(add_worker(hub.database, "shed", PROGRAM, BROKER))
    others = bearer(add_worker(hub.database, "barn", "acoupi.programs.custom", BROKER))

    assert client.get(f"/v1/audio/{known.id}", headers=theirs).content == SOUND
    refused = client.get(f"/v1/audio/{known.id}", headers=others)
    assert (refused.status_code, refused.json()["error"]) == (
        404,
        "barn has no job that needs this sound.",
    )


def test_a_result_of_another_recording_is_refused(client: TestClient, hub: Hub) -> None:
    program = ProgramReport(program=PROGRAM, settings="{}", digest="ab")
    assert told(client, programs=[program], recordings=[recorded(analyse="ab")])[0] == 200
    worker = bearer(add_worker(hub.database, "shed", PROGRAM, BROKER))
    analysis = {
        "recording_id": str(uuid4()), "name_model": "bats", "state": "done", "attempts": 1,
        "updated_on": at(20).isoformat(),
    }  # fmt: skip
    result = json.dumps({"claim": str(uuid4()), "analyses": [analysis]})
    with hub.database.reading() as connection:
        (job,) = connection.one("SELECT row FROM job")

    answer = client.post(f"/v1/jobs/{job}", content=result, headers=worker)

    assert (answer.status_code, answer.json()["error"]) == (
        409,
        f"this is not a result of the job {job}.",
    )


@pytest.mark.parametrize("name", ["", "*", "birds*", "a b", "a:b:c", "../birds", "é", "x" * 300])
def test_a_program_is_called_as_a_module_is(client: TestClient, hub: Hub, name: str) -> None:
    sent = {"programs": [{"program": name, "settings": "{}", "digest": "ab"}]}
    answer = client.post("/v1/reports", content=json.dumps(sent))

    assert answer.status_code == 422
    assert "programs.0.program" in answer.json()["error"]
    if len(name) < 300:
        with pytest.raises(ParameterError, match="cannot be a program"):
            add_worker(hub.database, "shed", name, BROKER)


def test_pages_whose_database_is_away_say_so(
    hub: Hub, url: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard_access, "FOR_S", 0.0)
    token = add_person(hub.database, "ana", "reviewer")
    here = {"Origin": "http://testserver"}
    with TestClient(make_dashboard(hub, Place(url, tmp_path), Web())) as browser:
        browser.post("/login", data={"password": token}, headers=here)
        assert browser.get("/detections").status_code == 200
        hub.database.close()
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER DATABASE hub ALLOW_CONNECTIONS false")

        answers = [
            browser.get("/detections"),
            browser.get("/api/v1/detections"),
            browser.post("/login", data={"password": token}, headers=here),
        ]

        assert {one.status_code for one in answers} == {503}
        assert all("the database of the hub does not answer" in one.text for one in answers)
        assert browser.get("/alive").status_code == 204


def test_a_message_that_is_no_text_can_be_reported() -> None:
    message = data.Message(content=b"\xff{}")

    assert MessageReport.of(message).content == "\ufffd{}"


EVIL = """<img src=x onerror=alert(1)>"'`\u202e\n"""


def test_what_sensors_and_people_call_things_is_shown_and_not_run(
    client: TestClient, hub: Hub, url: str, tmp_path: Path
) -> None:
    site = deployment(name=EVIL)
    heard = detection(0.9, ("species", EVIL, 0.9))
    known = recorded(deployment=site.id, name=EVIL, outputs=[
        OutputReport(id=uuid4(), model=EVIL, ran_on=at(5), detections=[heard])
    ])  # fmt: skip
    verdict = VerdictRow(
        recording_id=known.id, detection_id=heard.id, verdict=Verdict.OTHER, species=EVIL,
        reviewer=EVIL, note=EVIL, given_on=at(60),
    )  # fmt: skip
    beat = {"sent_on": data.utc_now().isoformat(), "device_id": EVIL, "status": EVIL, "alarms": [
        {"alarm": EVIL, "state": EVIL, "since": EVIL}
    ], "program": EVIL, "version": EVIL}  # fmt: skip
    message = MessageReport(
        id=uuid4(), created_on=data.utc_now(), content=json.dumps(beat),
        message_type=data.MessageType.HEARTBEAT,
    )  # fmt: skip
    said = DeploymentReport(deployment=site, verdicts=[verdict])
    settings = SettingsReport(program=EVIL, version=EVIL, values={EVIL: EVIL}, why=EVIL, refused=1)
    assert told(
        client, deployments=[said], recordings=[known], messages=[message], settings=settings
    ) == (200, "None")
    token = add_person(hub.database, "ana", "reviewer")

    with TestClient(make_dashboard(hub, Place(url, tmp_path, EVIL), Web())) as browser:
        browser.post("/login", data={"password": token}, headers={"Origin": "http://testserver"})
        pages = [browser.get(f"/{path}") for path in (*MENU, f"detections/{heard.id}")]

    assert {one.status_code for one in pages} == {200}
    assert not any("<img src=x" in one.text for one in pages)
    assert sum("&lt;img src=x" in one.text for one in pages) >= 4


def test_the_log_of_the_hub_names_whom_it_refuses_and_why_once_in_a_while(
    client: TestClient, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    add_sensor(hub.database, "elm-2")
    stranger = bearer(make_token(hub.database, "elm-2"))
    mine = recorded()
    assert told(client, recordings=[mine])[0] == 200
    theirs = Report(recordings=[mine]).model_dump_json()
    for _ in range(3):
        client.post("/v1/reports", content=theirs, headers=stranger)
        client.post("/v1/reports", content=theirs, headers=bearer("wrong"))
        client.put(
            f"/v1/audio/{mine.id}/{SHA256}/0",
            content=SOUND,
            headers={"Content-Digest": digest_header(b"other")},
        )
    client.post("/v1/reports", content=json.dumps({"\x1b]0;title\x07": 1}))

    said = [one.getMessage() for one in caplog.records if one.name == "acoupi.hub.troubles"]
    assert [one.split(": ")[:2] for one in said] == [
        ["elm-2 is refused", "HTTP 409"],
        ["testclient is refused", "HTTP 401"],
        ["oak-1 is refused", "HTTP 422"],
        ["oak-1 is refused", "HTTP 422"],
    ]
    assert "belongs to another" in said[0]
    assert "this token is not valid" in said[1]
    assert "does not match its digest" in said[2]
    assert r"\x1b]0;title\x07" in said[3]


def test_a_crowd_of_refused_addresses_is_not_remembered_without_bound(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    told = Troubles()
    for address in ("first", *map(str, range(MOST_TOLD)), "first"):
        told.refuse(address, 401, "no.")

    said = [one.getMessage() for one in caplog.records if one.name == "acoupi.hub.troubles"]
    assert [one.split()[0] for one in said].count("first") == 2  # the first was forgotten
    told.refuse("first", 401, "no.")
    told.refuse(str(MOST_TOLD - 1), 401, "no.")
    assert len(said) == len(caplog.records)
