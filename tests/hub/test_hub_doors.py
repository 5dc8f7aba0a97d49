"""Who may ask a hub for what: each of its pages, asked by everybody there is."""

import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from acoupi import data
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import make_ingest
from acoupi.hub.parts import Hub
from acoupi.hub.people import add_person, withdraw_person
from acoupi.hub.sensors import add_sensor, make_token, withdraw_token
from acoupi.hub.taking_in import take_in
from acoupi.hub.workers import add_worker, withdraw_worker
from acoupi.reports import DeploymentReport, ProgramReport, RecordingReport, Report
from tests.stores import SITE, at

Doors = dict[tuple[str, str], set[str]]

PEOPLE = {"reader", "reviewer", "operator"}
SOUND = "/v1/audio/{sound:uuid}"
DOORS: Doors = {
    ("POST", "/v1/reports"): {"sensor"},
    ("POST", SOUND): {"sensor"},
    ("PUT", f"{SOUND}/{{sha256:str}}/{{start:count}}"): {"sensor"},
    ("GET", "/v1/settings"): {"sensor"},
    ("GET", "/v1/worker"): {"worker"},
    ("POST", "/v1/worker/alive"): {"worker"},
    ("POST", "/v1/jobs/{job:count}/claim"): {"worker"},
    ("POST", "/v1/jobs/{job:count}"): {"worker"},
    ("GET", SOUND): {"worker", "reviewer", "operator"},
    ("POST", "/v1/read/{method}"): PEOPLE,
    ("POST", "/v1/verdicts"): {"reviewer", "operator"},
    ("GET", "/v1/room"): {"operator"},
}
OPEN = {("GET", "/v1/health")}
PROGRAM = "acoupi.programs.demo"
RECORDING = UUID(int=1)
LEFT_TO_THE_HUB = Report(
    programs=[ProgramReport(program=PROGRAM, settings="{}", digest="ab")],
    deployments=[DeploymentReport(deployment=SITE)],
    recordings=[
        RecordingReport(
            id=RECORDING, deployment=SITE.id, reported_on=at(10), created_on=at(0), duration_s=3,
            samplerate_hz=48_000, state=data.RecordingState.CAPTURED, analyse="ab",
        )
    ],
)  # fmt: skip


@pytest.fixture
def hub(hub: HubDatabase, tmp_path: Path) -> Hub:
    return Hub(hub, open_store(str(tmp_path)))


@pytest.fixture
def client(hub: Hub) -> Iterator[TestClient]:
    with TestClient(make_ingest(hub)) as client:
        yield client


def tokens(hub: HubDatabase, suffix: str = "") -> dict[str, str]:
    """Return a token of each kind."""
    broker = "redis://broker.example.org"
    add_sensor(hub, f"sensor{suffix}")
    return {
        "sensor": make_token(hub, f"sensor{suffix}"),
        "worker": add_worker(hub, f"worker{suffix}", PROGRAM, broker),
        **{role: add_person(hub, f"{role}{suffix}", role) for role in sorted(PEOPLE)},
    }


def doors(client: TestClient) -> set[tuple[str, str]]:
    """Return the pages that there are, each with what it is asked by."""
    routes = [one for one in client.app.routes if isinstance(one, Route)]  # type: ignore[attr-defined]
    methods = [(method, one.path) for one in routes for method in one.methods or ()]
    return {one for one in methods if one[0] != "HEAD"}


def asked(client: TestClient, door: tuple[str, str], login: bytes) -> int:
    method, path = door
    values = {"sound": str(RECORDING), "sha256": "0" * 64, "method": "species"}
    real = re.sub(r"\{(\w+)[^}]*\}", lambda found: values.get(found[1], "0"), path)
    return client.request(
        method, real, headers=[(b"Authorization", login)], content=b"{}"
    ).status_code


def test_everybody_may_ask_for_what_is_theirs_and_for_nothing_else(
    hub: Hub, client: TestClient
) -> None:
    given = tokens(hub.database)
    take_in(hub.database, "sensor", LEFT_TO_THE_HUB)

    assert doors(client) - OPEN == DOORS.keys()
    for door in doors(client) - OPEN:
        answers = {
            kind: asked(client, door, f"Bearer {token}".encode()) for kind, token in given.items()
        }
        assert 401 not in answers.values()
        assert {kind for kind, status in answers.items() if status != 403} == DOORS[door], door
        assert max(answers.values()) < 500, door


def test_nobody_may_ask_with_what_is_no_token_any_more(hub: Hub, client: TestClient) -> None:
    old, other = tokens(hub.database, "-old"), tokens(hub.database)
    withdraw_token(hub.database, "sensor-old")
    withdraw_worker(hub.database, "worker-old")
    for role in PEOPLE:
        withdraw_person(hub.database, f"{role}-old")
    logins = [b"", *(f"Bearer {token}".encode() for token in old.values())]
    logins += [b"Bearer", b"Bearer ", b"Bearer None", b"Bearer \xe9", b"Bearer " + b"x" * 5000]
    logins += [f"Token {token}".encode() for token in other.values()]
    logins += [b"Basic \xe9", b"Basic !", b"Basic Og==", b"Basic " + b64encode(b"x:\xff")]
    logins += [b"Basic " + b64encode(f"elm-2:{token}".encode()) for token in other.values()]

    for door in doors(client) - OPEN:
        assert {asked(client, door, login) for login in logins} == {401}, door


def test_a_hub_that_nobody_logs_in_to_says_only_that_it_is_well(client: TestClient) -> None:
    for method, path in OPEN:
        told = client.request(method, path)
        assert (told.status_code, told.json()) == (200, {"well": True})
