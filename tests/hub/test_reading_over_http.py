"""Reading a hub over HTTP: the same as from its database, by role, refused by name."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from typer.testing import CliRunner

from acoupi.cli.app import app
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.components.stores.reporting import reports_of
from acoupi.effort import CapturePlan, SolarWindows
from acoupi.errors import AcoupiError, HubError, HubUnavailableError
from acoupi.exports import packages
from acoupi.exports.formats.tables import Csv
from acoupi.exports.remote import READING, READING_VERSION, RemoteReader
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.hub import reading_pages
from acoupi.hub.database import HubDatabase
from acoupi.hub.people import add_person, get_people, withdraw_person
from acoupi.hub.sensors import add_sensor
from acoupi.hub.taking_in import take_in
from tests.hubs import served
from tests.postgres import Postgres
from tests.services import DEADLINE, make_authority
from tests.stores import at, deployment, detection, output, recording

OAK = deployment(name="Oak", latitude=51.54321, longitude=-0.02345, ended_on=at(3600))
DAWN = SolarWindows(event="dawn", before=9, after=9, location=(51.54321, -0.02345))
PLAN = CapturePlan(duration=3, interval=60, windows=(DAWN,))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the store of a sensor that heard two bats."""
    store = SqliteStore(tmp_path / "metadata.db")
    for minute, score in enumerate((0.9, 0.4, None)):
        sound = recording(f"{minute}.wav", 60 * minute, deployment=OAK)
        store.store_recording(sound)
        if score is not None:
            found = detection(score, ("species", "Myotis nattereri", score))
            store.store_model_output(output(sound, found))
    store.note_plan(OAK, PLAN, at(0))
    store.close()
    return tmp_path / "metadata.db"


@pytest.fixture
def database(postgres: Postgres, store: Path) -> Iterator[HubDatabase]:
    """Provide the database of a hub that knows all of that sensor."""
    with closing(HubDatabase(postgres.new_database("read"))) as database:
        add_sensor(database, "oak-1")
        for report in reports_of(store):
            take_in(database, "oak-1", report)
        yield database


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.url("read")


@pytest.fixture
def address(database: HubDatabase, url: str) -> Iterator[str]:
    del database
    with served(url) as address:
        yield address


As = Callable[[str], RemoteReader]


@pytest.fixture
def reading_as(database: HubDatabase, address: str) -> Iterator[As]:
    """Make readers for people of a role."""
    made: list[RemoteReader] = []

    def make(role: str) -> RemoteReader:
        made.append(RemoteReader(address, add_person(database, role, role)))
        return made[-1]

    yield make
    for one in made:
        one.close()


# The same words


def said(*words: str, **variables: str) -> bytes:
    result = CliRunner().invoke(app, list(words), env=variables)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout_bytes


@pytest.mark.parametrize(
    "words",
    [
        ("detections", "list", "--json"),
        ("detections", "list", "--csv", "--min-score", "0.5"),
        ("detections", "count", "--by", "species", "--json"),
        ("recordings", "list", "--csv"),
        ("recordings", "count", "--by", "night"),
        ("effort", "--json", "--deployment", "Oak"),
        ("effort", "--csv", "-", "--deployment", "Oak"),
    ],
    ids=" ".join,
)
def test_a_command_prints_the_same_bytes_from_each_place(
    database: HubDatabase, address: str, url: str, words: tuple[str, ...]
) -> None:
    token = add_person(database, "ana", "operator")

    from_database = said(*words, "--hub", url)
    assert said(*words, "--hub", address, ACOUPI_HUB_TOKEN=token) == from_database
    assert len(from_database) > 20


def test_an_export_is_the_same_in_every_file(
    database: HubDatabase, address: str, url: str, store: Path, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(add_person(database, "ana", "operator") + "\n")
    said("export", "csv", "-o", str(tmp_path / "a"), "--hub", url)
    said(
        "export", "csv", "-o", str(tmp_path / "b"), "--hub", address, "--token-file", str(token)
    )  # fmt: skip
    with SqliteReader(store) as reader:
        packages.export(Csv(), reader, Filters(), tmp_path / "own")
    files = {
        folder: {
            one.name: one.read_bytes().replace(b"/spool/", b"")  # folders mean nothing elsewhere
            for one in (tmp_path / folder).iterdir()
        }
        for folder in ("a", "b", "own")
    }
    assert files["a"] == files["b"] == files["own"]
    assert "detections.csv" in files["a"]


# By role


def test_a_reader_sees_rounded_places_everywhere(reading_as: As) -> None:
    reader = reading_as("reader")

    [site] = reader.get_deployments()
    assert (site.latitude, site.longitude) == (51.5, 0.0)
    places = [one.recording.deployment for one in reader.detections(Filters())]
    places += [one.deployment for one in reader.recordings(Filters())]
    effort = reader.get_effort(OAK)
    assert effort is not None
    assert [*places, effort.deployment] == [site] * 6
    [window] = effort.plans[0].plan.windows
    assert isinstance(window, SolarWindows)
    assert window.location == (51.5, 0.0)


@pytest.mark.parametrize("role", ["reviewer", "operator"])
def test_who_may_hear_sees_places_as_they_are(reading_as: As, role: str) -> None:
    reader = reading_as(role)

    assert reader.get_deployments() == [OAK]
    effort = reader.get_effort(OAK)
    assert effort is not None
    assert effort.plans[0].plan == PLAN


def bytes_read(address: str, token: str) -> bytes:
    """Return all that a person can be told, as it travels."""
    told = b""
    for method in sorted(reading_pages.METHODS):
        arguments: dict[str, Any] = {}
        if "effort" in method or "given" in method:
            arguments = {
                "deployment": {"id": str(OAK.id), "name": "", "started_on": at(0).isoformat()}
            }
        body = {"arguments": arguments | ({"filters": {}} if method in FILTERED else {})}
        answer = requests.post(
            f"{address}/v1/read/{method}", json=body, timeout=60,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        told += answer.content
    return told


FILTERED = {"detections", "recordings", "species", "verdicts"}


def test_no_place_of_a_sensor_and_no_token_is_in_what_a_reader_gets(
    database: HubDatabase, address: str
) -> None:
    token = add_person(database, "ana", "reader")
    told = bytes_read(address, token)

    assert b"Myotis nattereri" in told
    assert b"51.54321" not in told
    assert token.encode() not in told
    assert b"51.54321" in bytes_read(address, add_person(database, "bob", "operator"))


@pytest.mark.parametrize("role", ["reader", "reviewer", "operator"])
def test_verdicts_are_those_of_who_gives_them(reading_as: As, role: str) -> None:
    reader = reading_as(role)
    row = next(reader.detections(Filters()))
    verdict = VerdictRow(
        row.recording.id, row.id, Verdict.OTHER, "Myotis alcathoe", "somebody", "faint", at(9)
    )
    if role == "reader":
        with pytest.raises(HubError, match="does not let you") as refused:
            reader.add_verdict(verdict)
        assert "reviewer" in str(refused.value.why)
        assert list(reader.verdicts(Filters())) == []
        return
    for _ in range(2):
        assert reader.add_verdict(verdict) == role
    [found] = reader.verdicts(Filters())
    assert (found.reviewer, found.species, found.note) == (role, "Myotis alcathoe", "faint")
    elsewhere = VerdictRow(OAK.id, None, Verdict.RIGHT, None, "", "", at(9))
    with pytest.raises(HubError, match="404"):
        reader.add_verdict(elsewhere)


def test_the_room_of_sensors_is_for_operators(reading_as: As) -> None:
    [room] = reading_as("operator").rooms()
    assert (room.sensor, room.hours_left) == ("oak-1", None)
    for role in ("reader", "reviewer"):
        with pytest.raises(HubError, match="does not let you") as refused:
            reading_as(role).rooms()
        assert f"only an operator may ask for this; {role} is: {role}" in (refused.value.why or "")


# People


def test_a_person_has_one_token_and_one_role(database: HubDatabase, address: str) -> None:
    first = add_person(database, "ana", "reader")
    second = add_person(database, "ana", "reviewer")

    with pytest.raises(HubError, match="does not know this token"):
        RemoteReader(address, first).get_models()
    with RemoteReader(address, second) as reader:
        assert reader.get_models() == ["model"] or reader.get_models()
        withdraw_person(database, "ana")
        with pytest.raises(HubError, match="does not know this token") as refused:
            reader.get_models()
    assert "ACOUPI_HUB_TOKEN" in str(refused.value.help)
    assert [(one.name, one.role, one.has_token) for one in get_people(database)] == [
        ("ana", "reviewer", False)
    ]


def test_people_are_added_listed_and_withdrawn(url: str, database: HubDatabase) -> None:
    del database
    token = said("hub", "add-person", "ana", "--role", "reader", "--database", url).strip()
    assert len(token) > 40
    [known] = json.loads(said("hub", "people", "--json", "--database", url))
    assert (known["name"], known["role"], known["has_token"]) == ("ana", "reader", True)
    assert b"ana" in said("hub", "withdraw-person", "ana", "--database", url)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("add-person", "ana", "--role", "owner"), 'cannot be a "owner"'),
        (("add-person", "a b", "--role", "reader"), "cannot be called"),
        (("withdraw-person", "bob"), 'has no person "bob"'),
    ],
)
def test_what_cannot_be_done_with_people_is_said(
    database: HubDatabase, url: str, words: tuple[str, ...], what: str
) -> None:
    del database
    result = CliRunner().invoke(app, ["hub", *words, "--database", url])

    assert result.exit_code != 0
    assert what in result.output


def test_a_sensor_cannot_read(database: HubDatabase, address: str) -> None:
    from acoupi.hub.sensors import make_token  # noqa: PLC0415

    with (
        RemoteReader(address, make_token(database, "oak-1")) as reader,
        pytest.raises(HubError, match="does not let you"),
    ):
        reader.get_models()


# What is wrong is named


def test_what_is_not_a_method_or_has_other_arguments_is_refused(
    database: HubDatabase, address: str
) -> None:
    headers = {"Authorization": f"Bearer {add_person(database, 'ana', 'operator')}"}
    for method, body, status in (
        ("close", "{}", 404),
        ("stream", "{}", 404),
        ("recordings", '{"arguments": {"filters": 1}}', 422),
        ("recordings", '{"arguments": {"other": 1}}', 422),
        ("recordings", "[", 422),
        ("recordings", '{"arguments": {}}', 422),
        ("recording", '{"arguments": {"id_": "7"}}', 422),
    ):
        answer = requests.post(
            f"{address}/v1/read/{method}", data=body, headers=headers, timeout=60
        )
        assert answer.status_code == status, (method, body, answer.text)
        assert answer.json()["error"]


def test_rows_travel_compressed_to_who_reads_that(database: HubDatabase, address: str) -> None:
    headers = {"Authorization": f"Bearer {add_person(database, 'ana', 'operator')}"}
    body = '{"arguments": {"filters": {}}}'

    def asked(encoding: str) -> requests.Response:
        return requests.post(
            f"{address}/v1/read/detections", data=body, timeout=60,
            headers={**headers, "Accept-Encoding": encoding},
        )  # fmt: skip

    packed, plain = asked("gzip, deflate"), asked("identity")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content
    assert len(plain.content) > 1000


class _Answers(BaseHTTPRequestHandler):
    """Answers every question in one way."""

    status = 200
    headers_given: ClassVar[dict[str, str]] = {}
    body = b"{}"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        for name, value in self.headers_given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "what"),
    [
        (200, {}, b"<html>", HubError, "another version"),
        (200, {READING: "99"}, b"{}", HubError, "another version"),
        (200, {READING: READING_VERSION}, b'{"result": 5}\n', HubError, "another version"),
        (200, {READING: READING_VERSION}, b"not JSON\n", HubError, "another version"),
        (200, {READING: READING_VERSION}, b'{"result": [], "more": true}\n', HubUnavailableError,
         "before all was read"),
        (200, {READING: READING_VERSION}, b"", HubUnavailableError, "before all was read"),
        (404, {}, b"<html>", HubError, "another version"),
        (302, {"Location": "https://example.org"}, b"", HubError, "another version"),
        (503, {}, b'{"error": "later"}', HubUnavailableError, "HTTP 503"),
    ],
)  # fmt: skip
def test_what_is_no_hub_or_another_is_named(
    status: int, headers: dict[str, str], body: bytes, error: type[AcoupiError], what: str
) -> None:
    fields = {"status": status, "headers_given": headers, "body": body}
    handler = type("Handler", (_Answers,), fields)
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with (
                RemoteReader(f"http://127.0.0.1:{server.server_port}", "token") as reader,
                pytest.raises(error, match=what) as refused,
            ):
                list(reader.recordings(Filters()))
        finally:
            server.shutdown()
            thread.join(DEADLINE)
    assert all((refused.value.message, refused.value.why, refused.value.help))


def test_a_hub_that_is_not_there_or_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and says nothing
        port = listener.getsockname()[1]
        monkeypatch.setattr("acoupi.exports.remote.PATIENCE", 0.2)
        with (
            RemoteReader(f"http://127.0.0.1:{port}", "token") as reader,
            pytest.raises(HubUnavailableError, match="did not answer in time"),
        ):
            reader.get_models()
    with (
        RemoteReader(f"http://127.0.0.1:{port}", "token") as reader,
        pytest.raises(HubUnavailableError, match="cannot be reached"),
    ):
        reader.get_models()


def test_a_certificate_of_an_unknown_authority_is_told_with_the_way_to_know_it(
    database: HubDatabase, url: str, tmp_path: Path
) -> None:
    token = add_person(database, "ana", "reader")
    with (
        served(url, tls=make_authority(tmp_path / "tls")) as address,
        RemoteReader(address, token) as reader,
        pytest.raises(HubUnavailableError) as refused,
    ):
        reader.get_models()

    assert "REQUESTS_CA_BUNDLE" in refused.value.help


def test_without_a_token_it_is_said_how_to_get_one() -> None:
    result = CliRunner().invoke(app, ["detections", "list", "--hub", "https://hub.example.org"])

    assert result.exit_code == 2
    assert "there is no token for the hub" in result.output
    assert "acoupi hub add-person" in result.output


def test_a_database_that_takes_too_long_is_said(
    database: HubDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_pages, "LONGEST_STATEMENT", 0.2)
    token = add_person(database, "ana", "operator")
    with (
        served(url) as address,
        RemoteReader(address, token) as reader,
        database.writing() as connection,
    ):
        connection.execute("LOCK TABLE tag IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(HubUnavailableError, match="503") as refused:
            reader.get_tags()
    assert "took too long" in str(refused.value.why)


def test_a_stream_that_is_not_taken_in_time_ends_and_frees_its_place(
    reading_as: As, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_pages, "LONGEST_STREAM", 0.0)
    reader = reading_as("operator")
    for _ in range(reading_pages.STREAMS + 1):
        with pytest.raises(HubUnavailableError):
            list(reader.recordings(Filters()))
    monkeypatch.setattr(reading_pages, "LONGEST_STREAM", 3600.0)
    assert len(list(reader.recordings(Filters()))) == 3


def test_more_streams_than_there_are_places_are_told_to_come_back(
    database: HubDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_pages, "STREAMS", 0)
    token = add_person(database, "ana", "reader")
    with (
        served(url) as address,
        RemoteReader(address, token) as reader,
        pytest.raises(HubUnavailableError, match="503") as refused,
    ):
        list(reader.recordings(Filters()))
    assert "ask again later" in str(refused.value.why)
