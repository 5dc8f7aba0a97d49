"""Workers of a hub as processes, with a real broker; killed in the middle of everything."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acoupi import data
from acoupi.heard import Filters
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.workers import add_worker, get_work, withdraw_worker
from acoupi.services.program_report import program_report
from tests.hub import gated
from tests.hub.recorded import analysed_by_sensor, leave, new_recording
from tests.hub.running import LONG, RunningHub, kill
from tests.hubs import served
from tests.postgres import Postgres
from tests.services import RabbitMQ, Redis, eventually, make_authority

PROGRAM = "tests.hub.gated"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "redis") as broker:
        yield broker


@pytest.fixture
def running(tmp_path: Path, postgres: Postgres, broker: Redis) -> Iterator[RunningHub]:
    (tmp_path / "sound").mkdir()
    running = RunningHub(tmp_path, postgres.new_database("workers"), broker)
    yield running
    running.end()


@contextmanager
def opened(running: RunningHub) -> Iterator[Hub]:
    database = HubDatabase(running.database)
    yield Hub(database, open_store(str(running.folder / "sound")))
    database.close()


def test_each_recording_is_analysed_once_whatever_is_killed(
    running: RunningHub, broker: Redis, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gated.GATE, str(running.gate))
    config = gated.ConfigSchema()
    recordings = [new_recording(tmp_path) for _ in range(6)]
    with opened(running) as hub:
        for one in recordings:
            leave(hub, one, program_report(gated.Program, config))
        first, second = (
            add_worker(hub.database, name, PROGRAM, broker.url) for name in ("shed", "barn")
        )
        running.serve()
        dispatcher = running.dispatch()
        killed = running.work(first)
        running.work(second)

        eventually(lambda: len(running.begun()) == 2, "both at work", LONG, running.logs)
        [[victim]] = [pids for pids in running.begun().values() if pids == [killed.pid]] or [[0]]
        assert victim == killed.pid
        kill(killed)
        kill(dispatcher)
        broker.kill()
        broker.start()
        running.dispatch()
        running.work(first)
        (running.gate / "open").touch()

        eventually(
            lambda: [one.done for one in get_work(hub.database)] == [6], "all done", LONG,
            running.logs,
        )  # fmt: skip
        assert get_work(hub.database)[0].failed == 0

    [again] = [pids for pids in running.begun().values() if killed.pid in pids]
    assert len(again) == 2  # the killed one's was done by another
    with HubReader(running.database) as reader:
        found = [row.id for row in reader.detections(Filters())]
        states = [one.state for each in recordings for one in reader.analyses(each.id)]
    expected = [
        detection.id
        for one in recordings
        for output in analysed_by_sensor(gated.Program, config, one)[1]
        for detection in output.detections
    ]
    assert sorted(found) == sorted(expected)
    assert len(set(found)) == len(found) > 0
    assert states == [data.AnalysisState.DONE] * 6


def test_a_worker_whose_token_is_withdrawn_ends_by_itself(
    running: RunningHub, broker: Redis
) -> None:
    with opened(running) as hub:
        token = add_worker(hub.database, "shed", PROGRAM, broker.url)
        running.serve()
        running.dispatch()
        worker = running.work(token)
        eventually(
            lambda: "takes jobs for" in (running.folder / "work.log").read_text(), "it works",
            LONG, running.logs,
        )  # fmt: skip

        withdraw_worker(hub.database, "shed")

        assert worker.wait(LONG) != 0
        assert "does not accept this worker's token" in (running.folder / "work.log").read_text()


def test_a_worker_elsewhere_trusts_nobody_but_the_authority_that_it_is_given(
    tmp_path: Path, postgres: Postgres, home: Path
) -> None:
    tls = make_authority(tmp_path / "tls")
    (tmp_path / "sound").mkdir()
    with Redis(tmp_path / "redis", tls=tls) as broker:
        running = RunningHub(tmp_path, postgres.new_database("workers"), broker)
        with (
            opened(running) as hub,
            served(running.database, tls=tls, audio=hub.audio) as running.url,
        ):
            token = add_worker(hub.database, "shed", PROGRAM, broker.url)
            leave(hub, new_recording(tmp_path), program_report(gated.Program, gated.ConfigSchema()))
            (running.gate / "open").touch()
            try:
                running.run("dispatch", "--broker", f"{broker.url}?ssl_ca_certs={tls.ca}")
                stranger = running.work(token)
                assert stranger.wait(LONG) != 0
                assert "certificate verify failed" in (tmp_path / "work.log").read_text()

                running.work(token, "--ca", str(tls.ca))
                eventually(
                    lambda: [one.done for one in get_work(hub.database)] == [1], "it is done",
                    LONG, running.logs,
                )  # fmt: skip
            finally:
                running.end()


def test_a_worker_that_is_sooner_than_its_user_at_the_broker_waits_for_it(
    tmp_path: Path, postgres: Postgres, home: Path
) -> None:
    (tmp_path / "sound").mkdir()
    with RabbitMQ(tmp_path / "rabbit", has_management=True) as broker:
        running = RunningHub(tmp_path, postgres.new_database("workers"), broker)
        with opened(running) as hub, served(running.database, audio=hub.audio) as running.url:
            token = add_worker(hub.database, "shed", PROGRAM, broker.url)
            leave(hub, new_recording(tmp_path), program_report(gated.Program, gated.ConfigSchema()))
            (running.gate / "open").touch()
            try:
                worker = running.work(token)
                log = tmp_path / "work.log"
                eventually(
                    lambda: log.read_text().count("does not accept this worker yet") > 1,
                    "it waits", LONG, running.logs,
                )  # fmt: skip

                running.dispatch()
                eventually(
                    lambda: [one.done for one in get_work(hub.database)] == [1], "it is done",
                    LONG, running.logs,
                )  # fmt: skip
                assert worker.poll() is None
            finally:
                running.end()
