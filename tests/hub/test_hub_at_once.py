"""What happens at a hub at the same moment, in two of its processes; with a real PostgreSQL."""

import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from acoupi import data
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.hub.audio import put_chunk, read_audio, take_sound
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.dispatching import Dispatcher
from acoupi.hub.jobs import Claim, JobResult, claim_job, put_program
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor, locked_row_of, make_token
from acoupi.hub.taking_in import put_report, take_in, take_in_result
from acoupi.hub.tokens import Caller, caller_of
from acoupi.hub.verdicts import put_verdict
from acoupi.hub.workers import add_worker
from acoupi.provenance import Provenance
from acoupi.reports import (
    DeploymentReport,
    MessageReport,
    OutputReport,
    ProgramReport,
    RecordingReport,
    Report,
    SoundReport,
)
from tests.services import DEADLINE, eventually
from tests.stores import SITE, at, deployment, detection

PROGRAM = "acoupi.programs.demo"


@pytest.fixture
def processes(url: str) -> Iterator[list[HubDatabase]]:
    """The database as two processes have it: each writes by a connection of its own."""
    two = [HubDatabase(url), HubDatabase(url)]
    yield two
    for one in two:
        one.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def report(
    site: data.Deployment = SITE, program: ProgramReport | None = None, **fields: Any
) -> Report:
    given = {
        "id": uuid4(), "deployment": site.id, "reported_on": at(10), "created_on": at(0),
        "duration_s": 3, "samplerate_hz": 48_000, "state": data.RecordingState.CAPTURED,
        "analyse": program and program.digest, **fields,
    }  # fmt: skip
    return Report(
        programs=[] if program is None else [program],
        deployments=[DeploymentReport(deployment=site)],
        recordings=[RecordingReport.model_validate(given)],
    )


def an_output(**fields: Any) -> OutputReport:
    found = [detection(0.9, ("species", "Myotis", 0.9))]
    return OutputReport(
        **{"id": uuid4(), "model": "bats", "ran_on": at(5), "detections": found, **fields}
    )


def waits(database: HubDatabase) -> None:
    """Wait until a transaction waits for another one."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    def is_waiting() -> bool:
        with database.reading() as connection:
            return bool(connection.one(statement)[0])

    eventually(is_waiting, "a transaction that waits for another one")


def test_the_same_report_of_a_sensor_many_times_at_once_is_stored_once(
    processes: list[HubDatabase], pool: ThreadPoolExecutor, url: str
) -> None:
    add_sensor(processes[0], "oak-1")
    message = MessageReport(id=uuid4(), created_on=at(0), content="{}")
    said = report(outputs=[an_output()]).model_copy(update={"messages": [message]})

    sent = [
        pool.submit(take_in, database, "oak-1", said) for database in processes for _ in range(8)
    ]

    assert [one.result(DEADLINE) for one in sent] == [True] * 16
    with HubReader(url) as reader, processes[0].reading() as connection:
        assert len(list(reader.detections(Filters()))) == 1
        assert connection.one("SELECT count(*) FROM message") == (1,)


def test_sensors_that_name_the_same_programs_do_not_wait_in_a_circle(
    processes: list[HubDatabase], pool: ThreadPoolExecutor
) -> None:
    add_sensor(processes[0], "elm-2")
    programs = [ProgramReport(program=PROGRAM, settings="{}", digest=one) for one in "cba"]
    theirs = report(program=programs[0]).model_copy(update={"programs": programs})

    with processes[0].writing() as connection:
        put_program(connection, programs[-1])
        sent = pool.submit(take_in, processes[1], "elm-2", theirs)
        waits(processes[1])
        for one in programs:
            put_program(connection, one)

    assert sent.result(DEADLINE) is True


def test_sensors_with_the_same_models_do_not_wait_in_a_circle(
    processes: list[HubDatabase], pool: ThreadPoolExecutor
) -> None:
    for name in ("oak-1", "elm-2"):
        add_sensor(processes[0], name)
    models = [Provenance(model=f"model {number}") for number in range(8)]
    here, there = deployment(), deployment()

    with processes[0].writing() as connection:
        put_report(connection, "oak-1", report(here, outputs=[an_output(provenance=models[0])]))
        theirs = report(there, outputs=[an_output(provenance=one) for one in models])
        sent = pool.submit(take_in, processes[1], "elm-2", theirs)
        waits(processes[1])
        mine = report(here, outputs=[an_output(provenance=one) for one in models])
        put_report(connection, "oak-1", mine)

    assert sent.result(DEADLINE) is True


@pytest.fixture
def hub(processes: list[HubDatabase], tmp_path: Path) -> Hub:
    return Hub(processes[0], open_store(str(tmp_path)))


@pytest.fixture
def said(hub: Hub) -> Report:
    """A recording of a sensor, with its sound, that is left to the hub."""
    program = ProgramReport(program=PROGRAM, settings="{}", digest="ab")
    said = report(program=program)
    add_sensor(hub.database, "oak-1")
    take_in(hub.database, "oak-1", said)
    return said


def sensor(hub: Hub) -> Caller:
    caller = caller_of(hub.database, make_token(hub.database, "oak-1"))
    assert caller is not None
    return caller


SOUND = b"RIFF" * 5000
OFFERED = SoundReport(format="wav", bytes=len(SOUND), sha256=hashlib.sha256(SOUND).hexdigest())


def test_a_sound_many_times_at_once_is_stored_once(
    hub: Hub, said: Report, pool: ThreadPoolExecutor
) -> None:
    row, sound = sensor(hub).row, said.recordings[0].id

    sent = [pool.submit(put_chunk, hub, row, sound, OFFERED.sha256, 0, SOUND) for _ in range(8)]
    assert [one.result(DEADLINE) for one in sent] == [None] * 8
    taken = [pool.submit(take_sound, hub, row, sound, OFFERED) for _ in range(8)]
    assert [one.result(DEADLINE) for one in taken] == [None] * 8
    assert b"".join(read_audio(hub, sound)) == SOUND


@pytest.fixture
def worker(hub: Hub) -> Caller:
    token = add_worker(hub.database, "shed", PROGRAM, "redis://broker.example.org")
    caller = caller_of(hub.database, token)
    assert caller is not None
    return caller


@pytest.fixture
def job(hub: Hub, said: Report) -> int:
    """That recording, which can be analysed."""
    row, sound = sensor(hub).row, said.recordings[0].id
    put_chunk(hub, row, sound, OFFERED.sha256, 0, SOUND)
    assert take_sound(hub, row, sound, OFFERED) is None
    with hub.database.reading() as connection:
        return int(connection.one("SELECT row FROM job")[0])


def done(said: Report, claim: Claim) -> JobResult:
    """Return what a worker found in that recording."""
    analysis = data.Analysis(
        recording_id=said.recordings[0].id, name_model="bats", state=data.AnalysisState.DONE,
        attempts=1, updated_on=at(20),
    )  # fmt: skip
    message = MessageReport(id=uuid4(), created_on=at(20), content="{}")
    return JobResult(claim=claim.id, analyses=[analysis], outputs=[an_output()], messages=[message])


def test_a_job_that_is_claimed_and_done_by_many_at_once_is_done_once(
    hub: Hub, processes: list[HubDatabase], said: Report, worker: Caller, job: int,
    pool: ThreadPoolExecutor, url: str,
) -> None:  # fmt: skip
    claims = [Claim(id=uuid4(), lease_s=60) for _ in range(8)]
    asked = [
        pool.submit(claim_job, database, worker, job, claim)
        for database, claim in zip(itertools.cycle(processes), claims, strict=False)
    ]
    errors = [one.exception(DEADLINE) for one in asked]
    assert sum(one is None for one in errors) == 1

    claim = claims[errors.index(None)]
    told = [
        pool.submit(take_in_result, database, worker, job, done(said, claim))
        for database in processes
        for _ in range(4)
    ]
    assert [one.result(DEADLINE) for one in told] == [None] * 8
    with HubReader(url) as reader, processes[0].reading() as connection:
        assert len(list(reader.detections(Filters()))) == 1
        assert connection.one("SELECT count(*) FROM message") == (1,)


def test_a_report_and_a_result_of_one_recording_do_not_wait_in_a_circle(
    hub: Hub, processes: list[HubDatabase], said: Report, worker: Caller, job: int,
    pool: ThreadPoolExecutor,
) -> None:  # fmt: skip
    claim = Claim(id=uuid4(), lease_s=60)
    claim_job(hub.database, worker, job, claim)
    result = done(said, claim)
    [known] = said.recordings
    newer = known.model_copy(update={"reported_on": at(30), "outputs": result.outputs})

    with processes[0].writing() as connection:
        locked_row_of(connection, "oak-1")
        told = pool.submit(take_in_result, processes[1], worker, job, result)
        waits(processes[1])
        put_report(connection, "oak-1", said.model_copy(update={"recordings": [newer]}))

    assert told.result(DEADLINE) is None


class Queue:
    """What a broker has got."""

    def __init__(self) -> None:
        self.jobs: list[int] = []

    def send(self, program: str, jobs: list[int]) -> None:
        self.jobs += jobs

    def settle_users(self, users: object) -> None:
        """Let everybody in."""


def test_two_dispatchers_at_once_send_each_job_once(
    processes: list[HubDatabase], job: int, pool: ThreadPoolExecutor
) -> None:
    queue = Queue()
    dispatchers: list[Any] = [Dispatcher(one, queue) for one in processes]  # type: ignore[arg-type]

    turns = [pool.submit(one.turn) for one in dispatchers]

    assert sum(one.result(DEADLINE) for one in turns) == 1
    assert queue.jobs == [job]


def test_two_people_who_judge_at_once_are_both_heard(
    processes: list[HubDatabase], said: Report, pool: ThreadPoolExecutor, url: str
) -> None:
    judged = [
        VerdictRow(
            recording_id=said.recordings[0].id, detection_id=None, verdict=Verdict.WRONG,
            species=None, reviewer=reviewer, note="", given_on=at(60),
        )
        for reviewer in ("ana", "bob", "ana", "bob")
    ]  # fmt: skip

    put = [
        pool.submit(put_verdict, database, one)
        for database, one in zip(itertools.cycle(processes), judged, strict=False)
    ]

    assert [one.result(DEADLINE) for one in put] == [True] * 4
    with HubReader(url) as reader:
        assert sorted(one.reviewer for one in reader.verdicts(Filters())) == ["ana", "bob"]
