"""What a hub takes in over HTTP, and what it refuses; with a real PostgreSQL."""

import gzip
import json
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from acoupi import data
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.reporting import reports_of
from acoupi.errors import ConfigurationError, HubError, HubUnavailableError
from acoupi.heard import Filters
from acoupi.hub import asking, ingest
from acoupi.hub.database import HubDatabase
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.schema import UPGRADES, VERSION
from acoupi.hub.sensors import add_sensor, get_sensors, make_token, withdraw_token
from acoupi.hub.taking_in import take_in
from acoupi.hub.tokens import digest_of
from acoupi.reports import MessageReport, Report
from tests.postgres import Postgres
from tests.stores import at, detection, output, recording


@pytest.fixture
def client(hub: HubDatabase) -> Iterator[TestClient]:
    with TestClient(ingest.make_ingest(Hub(hub))) as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "metadata.db")
    sound = recording("a.wav")
    store.store_recording(sound)
    store.store_model_output(output(sound, detection(0.9, ("species", "Myotis", 0.9))))
    yield store
    store.close()


@pytest.fixture
def reports(store: SqliteStore, tmp_path: Path) -> list[Report]:
    return list(reports_of(tmp_path / "metadata.db"))


def token_for(hub: HubDatabase, name: str) -> dict[str, str]:
    add_sensor(hub, name)
    return {"Authorization": f"Bearer {make_token(hub, name)}"}


def number_of_detections(url: str) -> int:
    with HubReader(url) as reader:
        return len(list(reader.detections(Filters())))


def test_a_report_is_stored_once_however_often_it_is_sent(
    hub: HubDatabase, url: str, client: TestClient, reports: list[Report]
) -> None:
    headers = token_for(hub, "oak-1")

    for report in [*reports, *reports]:
        sent = client.post("/v1/reports", content=report.model_dump_json(), headers=headers)
        assert (sent.status_code, sent.json()) == (200, {"stored": True})

    assert number_of_detections(url) == 1
    [known] = get_sensors(hub)
    assert (known.name, known.has_token, known.deployments, known.recordings) == (
        "oak-1",
        True,
        1,
        1,
    )
    assert known.reported_on is not None


def test_a_compressed_report_is_read(
    hub: HubDatabase, client: TestClient, reports: list[Report]
) -> None:
    headers = {**token_for(hub, "oak-1"), "Content-Encoding": "gzip"}
    body = gzip.compress(reports[0].model_dump_json().encode())

    assert client.post("/v1/reports", content=body, headers=headers).status_code == 200
    for wrong in (body[:-9] + b"nonsense!", body[:-9], body[:-4], body + body, body + b"more"):
        assert client.post("/v1/reports", content=wrong, headers=headers).status_code == 422


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}])
def test_without_a_valid_token_nothing_is_stored(
    hub: HubDatabase, client: TestClient, reports: list[Report], given: dict[str, str]
) -> None:
    token_for(hub, "oak-1")

    told = client.post("/v1/reports", content=reports[0].model_dump_json(), headers=given)

    assert told.status_code == 401
    assert "acoupi hub add-sensor" in told.json()["error"]
    assert get_sensors(hub)[0].deployments == 0


def test_who_may_not_ask_for_a_page_is_named(
    hub: HubDatabase, client: TestClient, reports: list[Report]
) -> None:
    with hub.writing() as connection:
        for name, role in [("ada", "operator"), ("odd", "nothing")]:
            connection.execute(
                "INSERT INTO person (name, role, token_sha256, added_on_us)"
                " VALUES (:name, :role, :digest, 0)",
                {"name": name, "role": role, "digest": digest_of(name)},
            )

    for name, what in [
        ("ada", "ada is: operator"),
        ("odd", "odd is: nothing"),
    ]:
        headers = {"Authorization": f"Bearer {name}"}
        told = client.post("/v1/reports", content="{}", headers=headers)
        assert (told.status_code, told.json()["error"]) == (
            403,
            f"only a sensor may ask for this; {what}.",
        )


def test_a_token_ends_when_it_is_withdrawn_or_replaced(
    hub: HubDatabase, client: TestClient
) -> None:
    first = token_for(hub, "oak-1")
    second = token_for(hub, "oak-1")
    empty = Report().model_dump_json()

    assert client.post("/v1/reports", content=empty, headers=first).status_code == 401
    assert client.post("/v1/reports", content=empty, headers=second).status_code == 200
    withdraw_token(hub, "oak-1")
    assert client.post("/v1/reports", content=empty, headers=second).status_code == 401


def test_a_sensor_cannot_write_what_belongs_to_another(
    hub: HubDatabase, url: str, client: TestClient, reports: list[Report]
) -> None:
    for report in reports:
        add_sensor(hub, "oak-1")
        take_in(hub, "oak-1", report)
    headers = token_for(hub, "elm-2")

    for report in reports:
        told = client.post("/v1/reports", content=report.model_dump_json(), headers=headers)
        assert told.status_code == 409
        assert "belongs to another" in told.json()["error"]
    assert number_of_detections(url) == 1


def test_a_recording_of_an_unknown_deployment_is_refused(
    hub: HubDatabase, reports: list[Report]
) -> None:
    add_sensor(hub, "oak-1")
    with pytest.raises(HubError, match="unknown deployment"):
        take_in(hub, "oak-1", reports[-1])


@pytest.mark.parametrize("body", [b"", b"{", b'{"recordings": [{}]}', b'{"other": 1}', b"\xff"])
def test_what_is_no_report_is_refused(hub: HubDatabase, client: TestClient, body: bytes) -> None:
    told = client.post("/v1/reports", content=body, headers=token_for(hub, "oak-1"))

    assert told.status_code == 422
    assert "this is not a report" in told.json()["error"]


def test_a_report_has_a_longest_length_also_when_it_is_unpacked(
    hub: HubDatabase, client: TestClient
) -> None:
    headers = token_for(hub, "oak-1")
    long = b" " * (asking.LONGEST_BODY + 1)

    assert client.post("/v1/reports", content=long, headers=headers).status_code == 413
    packed = {**headers, "Content-Encoding": "gzip"}
    told = client.post("/v1/reports", content=gzip.compress(long), headers=packed)
    assert told.status_code == 413


def test_an_older_report_changes_nothing(
    hub: HubDatabase, url: str, store: SqliteStore, reports: list[Report], tmp_path: Path
) -> None:
    add_sensor(hub, "oak-1")
    [(sound, _)] = store.get_recordings_by_path([Path("/spool/a.wav")])
    store.end_recording(sound, data.RecordingState.DELETED)
    newer = list(reports_of(tmp_path / "metadata.db"))

    for report in [*newer, *reports]:
        take_in(hub, "oak-1", report)

    with HubReader(url) as reader:
        found = reader.recording(sound.id)
    assert found is not None
    assert (found.state, found.path) == (data.RecordingState.DELETED, None)


def test_a_model_that_runs_again_replaces_what_it_found(
    hub: HubDatabase, url: str, store: SqliteStore, reports: list[Report], tmp_path: Path
) -> None:
    add_sensor(hub, "oak-1")
    [(sound, [first])] = store.get_recordings_by_path([Path("/spool/a.wav")])
    again = output(sound, detection(0.2), id=first.id, created_on=at(9000))
    store.store_model_output(again)

    for report in [*reports, *reports_of(tmp_path / "metadata.db")]:
        take_in(hub, "oak-1", report)

    with HubReader(url) as reader:
        assert [one.score for one in reader.detections(Filters())] == [0.2]


def test_text_that_postgresql_cannot_hold_does_not_stop_a_report(
    hub: HubDatabase, url: str, store: SqliteStore, tmp_path: Path
) -> None:
    add_sensor(hub, "oak-1")
    sound = recording("b.wav", 60)
    store.store_recording(sound)
    store.store_model_output(output(sound, detection(0.5, ("species", "My\0otis", 0.5))))

    for report in reports_of(tmp_path / "metadata.db"):
        take_in(hub, "oak-1", Report.model_validate_json(report.model_dump_json()))

    with HubReader(url) as reader:
        assert data.Tag("species", "My\ufffdotis") in reader.get_tags()


def test_a_message_is_stored_once(hub: HubDatabase, client: TestClient) -> None:
    headers = token_for(hub, "oak-1")
    message = MessageReport(
        id=uuid4(), message_type=data.MessageType.HEARTBEAT, created_on=at(0), content="{}"
    )
    for _ in range(2):
        body = Report(messages=[message]).model_dump_json()
        assert client.post("/v1/reports", content=body, headers=headers).status_code == 200

    with hub.reading() as connection:
        found = connection.execute("SELECT message_type, content FROM message").fetchall()
    assert found == [("heartbeat", "{}")]


def test_a_database_that_does_not_answer_is_told_as_such(postgres: Postgres) -> None:
    nowhere = HubDatabase(postgres.url("nothing_of_this_name"))

    with TestClient(ingest.make_ingest(Hub(nowhere))) as client:
        told = client.get("/v1/health")
    assert (told.status_code, told.headers["Retry-After"]) == (503, asking.RETRY_AFTER)
    with pytest.raises(HubUnavailableError, match="does not answer"), nowhere.reading():
        pass


def test_a_database_of_an_older_version_gets_what_it_lacks(hub: HubDatabase) -> None:
    with hub.writing() as connection:
        for table in re.findall(r"CREATE TABLE (\w+)", " ".join(UPGRADES[1]))[::-1]:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE sensor DROP COLUMN known_until_us")
        connection.execute("UPDATE acoupi_hub SET version = 1")
    hub.close()

    with hub.writing() as connection:
        assert connection.one("SELECT max(version) FROM acoupi_hub") == (VERSION,)
        assert connection.one("SELECT count(*) FROM audio") == (0,)


def test_a_database_of_another_version_is_refused_and_left_as_it_is(
    hub: HubDatabase, url: str
) -> None:
    with hub.writing() as connection:
        connection.execute("UPDATE acoupi_hub SET version = 99")

    with pytest.raises(HubError, match="of version 99"), HubReader(url).reading():
        pass


@pytest.mark.parametrize("url", ["what://is:secret", "u:secret@h/db", "postgresql://u:secret@[h"])
def test_an_address_that_is_none_is_named_and_its_password_is_not(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not the address") as told:
        HubDatabase(url)

    assert "secret" not in "".join(traceback.format_exception(told.value)).replace(repr(url), "")
    assert "secret" not in f"{told.value} {told.value.why}"


def test_what_is_sent_survives_a_database_that_was_restarted(
    hub: HubDatabase, client: TestClient
) -> None:
    headers = token_for(hub, "oak-1")
    with hub.reading() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    body = json.dumps({"recordings": []})

    first = client.post("/v1/reports", content=body, headers=headers)
    assert first.status_code == 503
    assert client.post("/v1/reports", content=body, headers=headers).status_code == 200
