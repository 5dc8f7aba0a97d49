"""Jobs of a hub: claimed, done once, given out again; with a real PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from acoupi import data
from acoupi.cli.app import app
from acoupi.components import types
from acoupi.components.models import BandEnergyModel
from acoupi.errors import HubError, HubUnavailableError, InvalidProgramError
from acoupi.heard import Filters
from acoupi.hub import dispatching
from acoupi.hub.analysing import Analyser
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.ingest import make_ingest
from acoupi.hub.jobs import MOST_ATTEMPTS, REST, Assignment, Claim, JobResult
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor
from acoupi.hub.taking_in import take_in
from acoupi.hub.workers import (
    BrokerUser,
    ProgramWork,
    add_worker,
    get_work,
    get_workers,
    withdraw_worker,
)
from acoupi.programs import demo
from acoupi.reports import OutputReport, ProgramReport
from acoupi.services.program_report import program_report
from tests.clocks import START, Clock
from tests.hub.recorded import (
    SENSOR,
    analysed_by_sensor,
    leave,
    new_recording,
    report_of,
    send_sound,
)

BROKER = "redis://broker.example.org:6379/0"
PROGRAM = "acoupi.programs.demo"


@pytest.fixture
def hub(hub: HubDatabase, tmp_path: Path) -> Hub:
    return Hub(hub, open_store(str(tmp_path)))


@pytest.fixture
def reader(url: str) -> Iterator[HubReader]:
    with HubReader(url) as reader:
        yield reader


@pytest.fixture
def client(hub: Hub) -> Iterator[TestClient]:
    token = add_worker(hub.database, "shed", PROGRAM, BROKER)
    with TestClient(make_ingest(hub), headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


@pytest.fixture
def program(home: Path) -> ProgramReport:
    return program_report(demo.Program, demo.ConfigSchema())


@pytest.fixture
def one(tmp_path: Path) -> data.Recording:
    return new_recording(tmp_path)


class Queue:
    """What a broker has for a program; it can be wiped, and be out of reach."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.users: list[str] = []
        self.is_down = False

    def send(self, program: str, jobs: list[int]) -> None:
        if self.is_down:
            raise HubUnavailableError("the broker does not answer", "start it")
        assert program == PROGRAM
        self.jobs += jobs

    def count_waiting(self, program: str) -> int:
        return len(self.jobs)

    def settle_users(self, users: list[BrokerUser]) -> None:
        self.users = [one.name for one in users]


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def dispatcher(hub: Hub, queue: Queue) -> dispatching.Dispatcher:
    return dispatching.Dispatcher(hub.database, queue)  # type: ignore[arg-type]


Ask = Callable[[int], Assignment]


def claim(client: TestClient, job: int, id_: UUID | None = None) -> Any:
    wanted = Claim(id=id_ or uuid4(), lease_s=60)
    return client.post(f"/v1/jobs/{job}/claim", content=wanted.model_dump_json())


def say(client: TestClient, job: int, result: JobResult) -> int:
    return client.post(f"/v1/jobs/{job}", content=result.model_dump_json()).status_code


def work_of(hub: Hub) -> ProgramWork:
    [work] = get_work(hub.database)
    return work


def done_by(client: TestClient, job: int, tmp_path: Path, one: data.Recording) -> JobResult:
    """Do a job as a worker does."""
    id_ = uuid4()
    assignment = Assignment.model_validate(claim(client, job, id_).json())
    home = tmp_path / "worker"
    home.mkdir(exist_ok=True)
    sound = home / assignment.name
    sound.write_bytes(client.get(f"/v1/audio/{one.id}").content)
    return Analyser(demo.Program, home).analyse(assignment, sound, id_)


def test_a_hub_finds_what_the_sensor_would_have_found(
    hub: Hub,
    reader: HubReader,
    client: TestClient,
    program: ProgramReport,
    one: data.Recording,
    queue: Queue,
    dispatcher: dispatching.Dispatcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    leave(hub, one, program)
    analyses, outputs, messages = analysed_by_sensor(demo.Program, demo.ConfigSchema(), one)
    [expected] = outputs
    monkeypatch.setenv("ACOUPI_HOME", str(tmp_path / "worker"))

    assert dispatcher.turn() == 1
    [job] = queue.jobs
    result = done_by(client, job, tmp_path, one)
    assert [say(client, job, result), say(client, job, result)] == [200, 200]

    [found] = reader.analyses(one.id)
    assert (found.name_model, found.state, found.attempts) == (
        analyses[0].name_model,
        data.AnalysisState.DONE,
        1,
    )
    rows = list(reader.detections(Filters()))
    assert {row.id for row in rows} == {detection.id for detection in expected.detections}
    assert len(rows) == len(expected.detections) > 0
    assert result.outputs[0].provenance == expected.provenance
    assert {one.id for one in result.messages} == {one.id for one in messages}
    with hub.database.reading() as connection:
        assert connection.one("SELECT count(*) FROM message") == (len(messages),)
        [(output,)] = connection.execute("SELECT id FROM model_output").fetchall()
    assert output == expected.id.bytes
    assert work_of(hub).done == 1
    assert get_workers(hub.database)[0].done == 1
    assert claim(client, job).status_code == 409  # delivered again
    assert dispatcher.turn() == 0


def test_a_sensor_that_reports_again_knows_less_than_the_hub(
    hub: Hub,
    reader: HubReader,
    client: TestClient,
    program: ProgramReport,
    one: data.Recording,
    tmp_path: Path,
    queue: Queue,
    dispatcher: dispatching.Dispatcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACOUPI_HOME", str(tmp_path / "worker"))
    leave(hub, one, program)
    assert [one.state for one in reader.analyses(one.id)] == [data.AnalysisState.HUB]
    dispatcher.turn()
    say(client, queue.jobs[0], done_by(client, queue.jobs[0], tmp_path, one))

    take_in(hub.database, SENSOR, report_of(one, program, stamp=1))

    assert [one.state for one in reader.analyses(one.id)] == [data.AnalysisState.DONE]
    assert work_of(hub).done == 1


def test_nothing_is_sent_before_its_sound_is_there(
    hub: Hub,
    program: ProgramReport,
    one: data.Recording,
    queue: Queue,
    dispatcher: dispatching.Dispatcher,
) -> None:
    add_sensor(hub.database, SENSOR)
    take_in(hub.database, SENSOR, report_of(one, program))

    assert dispatcher.turn() == 0
    assert (work_of(hub).without_sound, work_of(hub).waiting) == (1, 0)

    send_sound(hub, one)
    assert dispatcher.turn() == 1
    assert work_of(hub).sent == 1


def test_a_job_is_for_one_worker_at_a_time(
    hub: Hub, client: TestClient, program: ProgramReport, one: data.Recording, clock: Clock,
    queue: Queue, dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    leave(hub, one, program)
    dispatcher.turn()
    [job] = queue.jobs
    first, second = uuid4(), uuid4()

    assert claim(client, job, first).json()["attempt"] == 1
    assert claim(client, job, first).json()["attempt"] == 1  # its answer got lost
    assert "it is running" in claim(client, job, second).json()["error"]

    clock.advance(50)
    alive = {"job": job, "claim": {"id": str(first), "lease_s": 60}}
    assert client.post("/v1/worker/alive", json=alive).json() == {"has_job": True}
    clock.advance(50)
    assert claim(client, job, second).status_code == 409

    clock.advance(11)
    assert claim(client, job, second).json()["attempt"] == 2
    assert client.post("/v1/worker/alive", json=alive).json() == {"has_job": False}


def test_a_worker_that_is_gone_and_a_broker_that_was_wiped_lose_nothing(
    hub: Hub, client: TestClient, program: ProgramReport, one: data.Recording, clock: Clock,
    queue: Queue, dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    leave(hub, one, program)
    dispatcher.turn()
    [job] = queue.jobs

    clock.advance(dispatching.LOST_AFTER + 1)
    assert dispatcher.turn() == 0  # it lies in the queue, and no worker is there yet
    queue.jobs.clear()
    assert dispatcher.turn() == 1
    assert queue.jobs == [job]

    queue.jobs.clear()
    assert claim(client, job).status_code == 200
    clock.advance(30)
    assert dispatcher.turn() == 0
    clock.advance(31)
    assert dispatcher.turn() == 1
    assert queue.jobs == [job]


def test_a_recording_that_ends_every_worker_is_given_up(
    hub: Hub, client: TestClient, program: ProgramReport, one: data.Recording, clock: Clock,
    queue: Queue, dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    leave(hub, one, program)
    for _ in range(dispatching.MOST_DEATHS):
        assert dispatcher.turn() == 1
        assert claim(client, queue.jobs.pop()).status_code == 200
        clock.advance(61)

    assert dispatcher.turn() == 0
    client.get("/v1/worker")  # as a worker that starts
    with hub.database.reading() as connection:
        assert connection.one("SELECT state, error FROM job") == ("failed", dispatching.KILLS)


def test_a_broker_that_does_not_answer_is_asked_again(
    hub: Hub, program: ProgramReport, one: data.Recording, queue: Queue,
    dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    leave(hub, one, program)
    queue.is_down = True
    with pytest.raises(HubUnavailableError):
        dispatcher.turn()
    assert work_of(hub).waiting == 1

    queue.is_down = False
    assert dispatcher.turn() == 1


def analysis(one: data.Recording, state: data.AnalysisState, attempts: int) -> data.Analysis:
    return data.Analysis(
        recording_id=one.id, name_model="bats", state=state, attempts=attempts, updated_on=START,
        error="no weights",
    )  # fmt: skip


def test_a_model_that_fails_is_tried_again_after_a_rest_and_then_failed(
    hub: Hub, client: TestClient, program: ProgramReport, one: data.Recording, clock: Clock,
    reader: HubReader, queue: Queue, dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    leave(hub, one, program)
    dispatcher.turn()
    job, id_ = queue.jobs.pop(), uuid4()
    claim(client, job, id_)
    retry = [analysis(one, data.AnalysisState.RETRY, 1)]
    assert say(client, job, JobResult(claim=id_, analyses=retry)) == 200

    assert dispatcher.turn() == 0
    clock.advance(REST + 1)
    assert dispatcher.turn() == 1

    id_ = uuid4()
    assert claim(client, queue.jobs.pop(), id_).json()["attempt"] == 2
    assert say(client, job, JobResult(claim=uuid4(), analyses=retry)) == 200  # a late report
    assert work_of(hub).running == 1
    failed = [analysis(one, data.AnalysisState.FAILED, 3)]
    assert say(client, job, JobResult(claim=id_, analyses=failed)) == 200
    assert work_of(hub).failed == 1
    found = {one.name_model: one.state for one in reader.analyses(one.id)}
    assert found["bats"] is data.AnalysisState.FAILED


def test_what_failed_for_lack_of_a_worker_is_tried_again_by_one_that_starts(
    hub: Hub, client: TestClient, program: ProgramReport, one: data.Recording, clock: Clock,
    queue: Queue, dispatcher: dispatching.Dispatcher, tmp_path: Path, url: str,
) -> None:  # fmt: skip
    leave(hub, one, program)
    for _ in range(MOST_ATTEMPTS):
        assert dispatcher.turn() == 1
        job, id_ = queue.jobs.pop(), uuid4()
        claim(client, job, id_)
        assert say(client, job, JobResult(claim=id_, error="it cannot be built")) == 200
        clock.advance(REST + 1)
    assert (dispatcher.turn(), work_of(hub).failed) == (0, 1)
    shown = CliRunner().invoke(app, ["hub", "workers", "--database", url]).output
    assert f"The latest failure of {PROGRAM}: it cannot be built" in shown
    other = new_recording(tmp_path)
    leave(hub, other, program)
    assert dispatcher.turn() == 1
    claim(client, queue.jobs[0], id_)
    failed = [analysis(other, data.AnalysisState.FAILED, 3)]
    assert say(client, queue.jobs.pop(), JobResult(claim=id_, analyses=failed)) == 200

    assert client.get("/v1/worker").status_code == 200

    assert (work_of(hub).waiting, work_of(hub).failed) == (1, 1)
    assert dispatcher.turn() == 1
    assert queue.jobs == [job]
    assert claim(client, job).json()["attempt"] == 1


def test_a_hub_without_the_sound_for_an_hour_costs_no_attempt(
    hub: Hub, client: TestClient, program: ProgramReport, one: data.Recording, clock: Clock,
    queue: Queue, dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    leave(hub, one, program)
    for _ in range(10):
        assert dispatcher.turn() == 1
        job, id_ = queue.jobs.pop(), uuid4()
        assert claim(client, job, id_).json()["attempt"] == 1
        say(client, job, JobResult(claim=id_, error="503", is_attempt=False))
        clock.advance(REST + 1)
    for attempt in (1, 2, 3):
        assert dispatcher.turn() == 1
        job, id_ = queue.jobs.pop(), uuid4()
        assert claim(client, job, id_).json()["attempt"] == attempt
        say(client, job, JobResult(claim=id_, error="the settings are not readable"))
        clock.advance(REST + 1)
    assert dispatcher.turn() == 0
    assert work_of(hub).failed == 1


class Breaks(BandEnergyModel):
    """Fails on every recording."""

    def run(self, recording: data.Recording) -> data.ModelOutput:
        raise RuntimeError("no weights")


class Broken(demo.Program):
    """A program whose model always fails."""

    def configure_model(self, config: Any) -> types.Model:
        return Breaks(config.detector)


@pytest.mark.parametrize(("attempt", "state"), [(1, "retry"), (2, "retry"), (3, "failed")])
def test_attempts_are_counted_over_all_workers(
    attempt: int,
    state: str,
    home: Path,
    one: data.Recording,
) -> None:
    config = demo.ConfigSchema()
    assignment = Assignment(
        job=1, attempt=attempt, program=program_report(Broken, config),
        recording=one.model_copy(update={"path": None}), capture=None, name="a.wav", bytes=1,
        sha256="",
    )  # fmt: skip
    assert one.path is not None

    result = Analyser(Broken, home).analyse(assignment, one.path, uuid4())

    [found] = result.analyses
    assert (found.state.value, found.attempts) == (state, attempt)
    assert found.error == "RuntimeError: no weights"
    assert not result.outputs


def analysed_here(report: ProgramReport, home: Path, one: data.Recording) -> JobResult:
    assignment = Assignment(
        job=1, attempt=1, program=report, recording=one.model_copy(update={"path": None}),
        capture=None, name="a.wav", bytes=1, sha256="",
    )  # fmt: skip
    assert one.path is not None
    return Analyser(demo.Program, home).analyse(assignment, one.path, uuid4())


def test_settings_that_mean_something_else_here_are_refused(
    home: Path, program: ProgramReport, one: data.Recording
) -> None:
    with pytest.raises(InvalidProgramError, match="cannot be built"):
        analysed_here(program.model_copy(update={"digest": "0" * 16}), home, one)
    with pytest.raises(InvalidProgramError, match="cannot be built"):
        analysed_here(program.model_copy(update={"settings": '{"detector": 3}'}), home, one)


def test_the_file_that_a_sensor_plays_in_place_of_its_microphone_is_not_needed(
    home: Path, one: data.Recording
) -> None:
    plays = demo.ConfigSchema.model_validate(
        {"microphone": {"simulated": {"path": "/media/stick/dusk.wav"}}}
    )

    result = analysed_here(program_report(demo.Program, plays), home, one)

    assert [found.state for found in result.analyses] == [data.AnalysisState.DONE]
    assert result.outputs


def test_a_worker_writes_to_its_own_jobs_only(
    hub: Hub, client: TestClient, program: ProgramReport, tmp_path: Path, one: data.Recording,
    reader: HubReader, queue: Queue, dispatcher: dispatching.Dispatcher,
) -> None:  # fmt: skip
    other = new_recording(tmp_path)
    for each in (one, other):
        leave(hub, each, program)
    dispatcher.turn()
    stranger = add_worker(hub.database, "stranger", "some.other", BROKER)
    strange = {"Authorization": f"Bearer {stranger}"}
    first, second = sorted(queue.jobs)
    told = client.post(
        f"/v1/jobs/{first}/claim",
        content=Claim(id=uuid4(), lease_s=60).model_dump_json(),
        headers=strange,
    )
    assert (told.status_code, "no such job" in told.json()["error"]) == (409, True)

    done = [analysis(one, data.AnalysisState.DONE, 1)]
    output = OutputReport(id=uuid4(), model="bats", ran_on=START)
    forged = output.model_copy(update={"ran_on": START.replace(year=2026)})
    say(client, first, JobResult(claim=uuid4(), analyses=done, outputs=[output]))
    say(client, second, JobResult(claim=uuid4(), analyses=done, outputs=[forged]))

    with hub.database.reading() as connection:
        rows = connection.execute("""
            SELECT r.id, o.created_on_us FROM model_output o
            JOIN recording r ON r.row = o.recording_row
        """).fetchall()
    assert rows == [(one.id.bytes, data.to_microseconds(START))]


def test_a_withdrawn_worker_is_let_in_nowhere(
    hub: Hub, client: TestClient, queue: Queue, dispatcher: dispatching.Dispatcher, clock: Clock
) -> None:
    assert client.get("/v1/worker").json()["broker"] == BROKER
    dispatcher.turn()
    assert queue.users == ["acoupi-worker-shed"]

    withdraw_worker(hub.database, "shed")
    clock.advance(dispatching.USERS_EVERY + 1)
    dispatcher.turn()

    assert queue.users == []
    assert client.get("/v1/worker").status_code == 401
    with pytest.raises(HubError, match="has no worker"):
        withdraw_worker(hub.database, "barn")


def test_a_program_that_no_worker_has_is_named(
    hub: Hub, program: ProgramReport, one: data.Recording, dispatcher: dispatching.Dispatcher,
    clock: Clock, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    leave(hub, one, program)
    for _ in range(3):
        dispatcher.turn()
        clock.advance(dispatching.USERS_EVERY + 1)

    assert work_of(hub).has_nobody
    said = [one.getMessage() for one in caplog.records if "No worker has" in one.getMessage()]
    assert said == [f"No worker has the program {PROGRAM}; its recordings wait"]

    token = add_worker(hub.database, "shed", PROGRAM, BROKER)
    with TestClient(make_ingest(hub)) as client:
        client.get("/v1/worker", headers={"Authorization": f"Bearer {token}"})
    assert not work_of(hub).has_nobody
