"""The probe that the engine starts in each container: `images/sensor/health`."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from acoupi.stack.pulse import PulseFile
from tests.postgres import Postgres
from tests.services import DEADLINE, Redis, require_program

PROBE = Path(__file__).parents[3] / "images" / "sensor" / "health"
SAMPLES_ARRIVE = '"last_error":null'


class Probe:
    """The probe beside a service; instead of sleeping, what the service does meanwhile happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = PulseFile(folder, "recording")
        self.pulse = self.service.path
        self.watched = ""
        (folder / "bin").mkdir()
        (folder / "bin" / "sleep").symlink_to(folder / "meanwhile")
        self.meanwhile("true")

    def meanwhile(self, command: str) -> None:
        script = self.folder / "meanwhile"
        script.write_text(f"#!/bin/sh\necho $1 >>{self.folder}/slept\n{command}\n")
        script.chmod(0o755)

    def works(self, text: str | None = None) -> None:
        """The service writes its pulse from now on."""
        self.service.pulse.state = "ready"
        (self.folder / "next").write_text(text or self.service.pulse.to_json() + "\n")
        self.meanwhile(f"{self._time_passes}; cp {self.folder}/next {self.pulse}")

    def hangs(self, after: int = 0) -> None:
        """The service writes `after` more pulses and no more."""
        turns = f"$(wc -l <{self.folder}/slept)"
        old = f"touch -d '1 minute ago' {self.pulse}"
        self.meanwhile(f"[ {turns} -gt {after} ] && {old} || {self._time_passes}")

    @property
    def _time_passes(self) -> str:
        return f"touch -d '10 seconds ago' {self.folder}/.health-since"

    def look(self, *words: str, **variables: str) -> tuple[bool, int]:
        """Whether it is well, and how many seconds were slept until that was said."""
        slept = self.folder / "slept"
        slept.write_text("")
        path = f"{self.folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        environment = {"PATH": path, "TMPDIR": str(self.folder), **variables}
        command = ["sh", str(PROBE), self.watched or str(self.pulse), *words]
        done = subprocess.run(command, env=environment, check=False, timeout=DEADLINE)
        return done.returncode == 0, sum(map(int, slept.read_text().split()))


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    return Probe(tmp_path)


def test_a_service_that_works_is_well_at_once(probe: Probe) -> None:
    probe.works()

    assert probe.look() == (True, 1)


def test_a_pulse_of_an_earlier_life_is_none(probe: Probe) -> None:
    probe.works()
    probe.service.write()
    probe.meanwhile("true")

    assert probe.look() == (False, 8)


def test_what_writes_no_pulse_is_not_well(probe: Probe) -> None:
    assert probe.look() == (False, 8)


def test_a_later_look_lasts_as_long_as_all_is_well(probe: Probe) -> None:
    probe.works()
    probe.look()

    assert probe.look() == (True, 300)


def test_a_service_that_hangs_is_found_while_being_looked_at(probe: Probe) -> None:
    probe.works()
    probe.look()
    probe.hangs(after=3)

    assert probe.look() == (False, 60)
    assert probe.look() == (False, 8)


def test_a_service_that_works_again_is_well_at_once(probe: Probe) -> None:
    probe.works()
    probe.look()
    probe.hangs()
    probe.look()
    probe.works()

    assert probe.look() == (True, 1)


@pytest.mark.parametrize("state", ["starting", "waiting for the broker", "stopping", "stopped"])
def test_a_service_that_says_that_it_is_not_ready_is_not_well(probe: Probe, state: str) -> None:
    probe.works(probe.service.pulse.to_json().replace('"ready"', f'"{state}"'))

    assert not probe.look()[0]


def test_a_recorder_without_samples_is_not_well(probe: Probe) -> None:
    probe.works()
    assert probe.look(SAMPLES_ARRIVE)[0]
    probe.service.pulse.last_error = "recording_task: no microphone"
    probe.works()

    assert not probe.look(SAMPLES_ARRIVE)[0]
    assert probe.look()[0]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "redis", unix=True) as redis:
        yield redis


@pytest.mark.integration
def test_a_redis_that_answers_is_well(probe: Probe, redis: Redis) -> None:
    probe.pulse = redis.socket_path

    assert probe.look() == (True, 1)
    redis.kill()
    assert probe.look() == (False, 15)


@pytest.mark.integration
def test_a_redis_that_takes_and_does_not_answer_is_not_waited_for(probe: Probe) -> None:
    require_program("redis-cli")
    (probe.folder / ".health-well").touch()
    probe.pulse = probe.folder / "redis.sock"

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(probe.pulse))
        server.listen()

        assert probe.look() == (False, 15)


class Saying(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Busy(Saying):
    status = 503


@pytest.mark.parametrize(("handler", "is_well"), [(Saying, True), (Busy, False)])
def test_a_page_that_answers_200_is_well_and_no_other(
    probe: Probe, handler: type[Saying], is_well: bool
) -> None:
    (probe.folder / "bin" / "python").symlink_to(sys.executable)
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        probe.watched = f"http://127.0.0.1:{server.server_port}/v1/health"
        try:
            assert probe.look()[0] is is_well
        finally:
            server.shutdown()
            thread.join(DEADLINE)


@pytest.mark.integration
def test_a_database_is_well_while_its_server_takes_connections(
    probe: Probe, postgres: Postgres
) -> None:
    probe.pulse = postgres.folder / f".s.PGSQL.{postgres.port}"
    environment = {"PGPORT": str(postgres.port)}

    assert probe.look(**environment) == (True, 1)
    probe.pulse = probe.folder / ".s.PGSQL.5432"
    assert probe.look(**environment) == (False, 15)
