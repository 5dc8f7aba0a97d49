"""A season of ten sensors: the whole of a hub at once, on real servers and two engines.

PostgreSQL, RabbitMQ (over TLS), redis and an S3 server run on this machine, with `acoupi hub serve`
and `dispatch`; the sensors beside them, as processes. Nothing is analysed where it is recorded:
one worker is in a container here, the other in one on a machine of its own. That one is withdrawn
in the middle of the season. In the end everything is counted.
"""

import hashlib
import importlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import frictionless
import psycopg
import pytest
import requests
from amqp.exceptions import AccessRefused
from moto.server import ThreadedMotoServer

from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.data import AnalysisState
from acoupi.exports.formats.camtrap_columns import schema_of
from acoupi.heard import Filters
from acoupi.hub.audio import find_sound, read_audio
from acoupi.hub.audio_store import open_store
from acoupi.hub.broker import make_hub_app
from acoupi.hub.bundle.choices import HubChoices
from acoupi.hub.bundle.setting_up import wanted_packages
from acoupi.hub.database import HubDatabase
from acoupi.hub.parts import Hub
from acoupi.hub.reader import HubReader
from acoupi.hub.workers import broker_password, broker_user, login_url
from acoupi.stack.settings import Settings
from acoupi.system.reading import reader_of
from tests.docker.bundles import Done, docker
from tests.docker.machines import other_machine
from tests.hub.running import RunningHub
from tests.postgres import Postgres
from tests.services import RabbitMQ, Redis, eventually, make_authority

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "fleet.d"))
fleet_hub, fleet = (importlib.import_module(one) for one in ("hub", "sensors"))

pytestmark = pytest.mark.timeout(900)

SENSORS = 10
LONG = 240.0
"""Longest wait for something of the season, seconds: there are forty processes on two cores."""
PAUSE = 0.5
"""Seconds from one look to the next: what a look costs, the hub lacks."""
AT_ONCE = 2
"""Commands of sensors that run at the same time."""
PROGRAM = "demo"
PLACE = "acoupi.programs.demo"
BUCKET = "s3://season/sound"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
QUICK = {"samplerate": 16_000, "seed": 1, "duration": 1, "interval": 8, "send_interval": 3}
STAYS, GOES = "shed", "barn"
"""The worker that works all the season, and the one that is withdrawn."""
BARE = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
"""Options of docker run: all that a worker needs is in its image."""
BARRED = "does not accept this worker's token"
TABLES = ("deployments", "media", "observations")


@dataclass
class Worker:
    """A worker in a container, on one of the engines."""

    name: str
    token: str
    docker: Callable[..., Done]
    """With the engine of its machine."""
    hub: RunningHub

    def start(self, image: str) -> None:
        """Start it as on a machine that knows nothing but the hub, its authority and its token."""
        assert self.hub.tls is not None
        words = ("acoupi", "hub", "work", "--program", PROGRAM, "--lease", "30")
        told = {
            "ACOUPI_HUB_URL": self.hub.url,
            "ACOUPI_HUB_WORKER_TOKEN": self.token,
            "ACOUPI_HUB_CA": "/ca.pem",
        }
        variables = [word for key, text in told.items() for word in ("--env", f"{key}={text}")]
        self.docker(
            "run", "--detach", "--name", self.container, *BARE, *variables,
            "--volume", f"{self.hub.tls.ca}:/ca.pem:ro", image, *words,
        )  # fmt: skip

    @property
    def container(self) -> str:
        """Its name, no other test's."""
        return f"acoupi-test-{self.name}-{self.hub.port}"

    def log(self) -> str:
        """What it said so far."""
        said: Done = self.docker("logs", self.container, check=False)
        return said.stdout + said.stderr

    def wait(self) -> int:
        """Wait until it has ended; return its exit code."""
        return int(self.docker("wait", self.container, timeout=LONG).stdout)

    def end(self) -> None:
        """Remove it."""
        self.docker("rm", "--force", "--volumes", self.container, check=False)

    def is_let_in(self) -> bool:
        """Whether the broker still knows it."""
        assert self.hub.tls is not None
        address = f"{address_of(self.hub.broker)}?ssl_ca_certs={self.hub.tls.ca}"
        url = login_url(address, broker_user(self.name), broker_password(self.token))
        with make_hub_app(url, PLACE).connection_for_read() as connection:
            try:
                connection.ensure_connection(max_retries=1, timeout=10)
            except AccessRefused:
                return False
        return True


def address_of(broker: Any) -> str:
    """Return where workers find it."""
    return f"amqps://{broker.host}:{broker.port}//"


class Season:
    """Ten sensors and their hub, from the first recording to the end of the deployments.

    Parameters
    ----------
    hub
        Not started yet.
    servers
        Lets sensors in.
    redis
        The broker of all sensors, of which each has a database of its own.
    """

    def __init__(self, hub: RunningHub, servers: Any, redis: Redis) -> None:
        self.hub, self.servers, self.redis = hub, servers, redis
        self.sensors: list[Any] = []
        self.workers: dict[str, Worker] = {}
        self.when_gone: dict[str, int] = {}
        """Jobs that each worker had done when the one was gone."""
        self.let_in: dict[str, bool] = {}
        """Whether the broker knew each worker in the end."""

    def set_up_sensors(self) -> None:
        """Let the hub know the sensors, and set each up as a home of its own."""
        for number in range(SENSORS):
            name = f"oak-{number:02}"
            settings = {
                **fleet.variables(number, name, {}, QUICK),
                "ACOUPI_SENSOR__HUB__URL": self.hub.url,
                "ACOUPI_SENSOR__HUB__TOKEN": self.servers.add(name),
                "ACOUPI_SENSOR__HUB__CA_CERTIFICATE": str(self.authority),
                "ACOUPI_SENSOR__HUB__INTERVAL_SECONDS": "5",
                "ACOUPI_SENSOR__HUB__AUDIO": "all",
                "ACOUPI_SENSOR__ANALYSIS__WHERE": "hub",
            }
            self.sensors.append(fleet.Sensor(name, self.hub.folder / name, settings))
        place = self.redis.url.removesuffix("/0")
        self._each(lambda one: one.set_up("--broker", f"{place}/{self.sensors.index(one)}"))

    def start_worker(self, name: str, engine: Callable[..., Done], image: str) -> None:
        """Make a token for a worker, and start it."""
        place = address_of(self.hub.broker)
        words = ("hub", "add-worker", name, "--program", PROGRAM, "--broker", place)
        self.workers[name] = Worker(name, self.hub.acoupi(*words), engine, self.hub)
        self.workers[name].start(image)

    def live(self) -> None:
        """Let the sensors record; withdraw a worker; end it when all have recorded enough."""
        self._each(lambda one: one.start())
        self._until(lambda: min(self.done().values()) > 0, "work of both workers")
        self.hub.acoupi("hub", "withdraw-worker", GOES)
        assert self.workers[GOES].wait() != 0
        self.when_gone = self.done()
        enough = self.when_gone[STAYS] + SENSORS
        self._until(lambda: self.done()[STAYS] >= enough, "work of the one that is left")
        self._until(lambda: len(self.ask(_ANALYSED)) == SENSORS, "a recording of every sensor")
        self._each(lambda one: one.stop("--drain", "--drain-limit", "4"), at_once=SENSORS)
        self._until(lambda: self.ask(_LEFT) == [(0,)], "the analysis of what came last")
        self.let_in = {name: one.is_let_in() for name, one in self.workers.items()}

    @property
    def authority(self) -> Path:
        """By which everything on the network is trusted."""
        assert self.hub.tls is not None
        return self.hub.tls.ca

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the database of the hub."""
        with psycopg.connect(self.hub.database) as connection:
            return connection.execute(statement).fetchall()

    def done(self) -> dict[str, int]:
        """How many jobs each worker has done."""
        found = {str(name): int(count) for name, count in self.ask(_DONE)}
        return {name: found.get(name, 0) for name in self.workers}

    def recordings(self) -> dict[str, list[UUID]]:
        """What each sensor has recorded, by its own store."""
        found = {}
        for one in self.sensors:
            with reader_of(Settings(home=one.home)) as reader:
                found[one.name] = [each.id for each in reader.recordings(Filters())]
        return found

    def _each(self, work: Callable[[Any], object], at_once: int = AT_ONCE) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(work, self.sensors))

    def _until(self, claim: Callable[[], object], what: str) -> None:
        def looked() -> bool:
            time.sleep(PAUSE)
            return bool(claim())

        eventually(looked, what, LONG, self.told)

    def told(self) -> str:
        """What everything said last, and how far it is."""
        logs = {name: one.log() for name, one in self.workers.items()}
        for one in self.sensors:
            file = one.home / "log" / "default.log"
            logs[one.name] = file.read_text() if file.exists() else "no log"
        said = "\n".join(f"--- {name}\n{text[-1500:]}" for name, text in logs.items())
        return f"{self.ask(_JOBS)}\n{self.hub.logs()}\n{said}"

    def end(self) -> None:
        """End whatever still runs."""
        for worker in self.workers.values():
            worker.end()
        fleet.end_processes([one.home for one in self.sensors])
        self.hub.end()


_DONE = "SELECT worker, count(*) FROM job WHERE state = 'done' GROUP BY 1"
_JOBS = "SELECT state, worker, error, count(*) FROM job GROUP BY 1, 2, 3"
_LEFT = "SELECT count(*) FROM job WHERE state <> 'done'"
_ANALYSED = """
    SELECT DISTINCT w.sensor_row FROM job j JOIN recording r ON r.row = j.recording_row
        JOIN deployment w ON w.row = r.deployment_row WHERE j.state = 'done'
"""


@pytest.fixture(scope="module")
def worker_image(image: str) -> str:
    """The image of a hub, which its workers have, too."""
    packages = wanted_packages(HubChoices(name="hub", project="hub"))
    name = image_name(packages)
    return build_image(packages) if why_build(name, packages) else name


@pytest.fixture(scope="module")
def season(
    worker_image: str, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Season]:
    """A season that is over; its servers still run."""
    folder = tmp_path_factory.mktemp("season")
    with ExitStack() as stack:
        machine = stack.enter_context(other_machine(folder / "barn"))
        machine.load(worker_image)
        tls = make_authority(folder / "tls", machine.host)
        broker = RabbitMQ(folder / "rabbit", has_management=True, tls=tls, host=machine.host)
        stack.enter_context(broker)
        servers = fleet_hub.HubServers(folder, database_port=postgres.port)
        postgres.new_database(fleet_hub.NAME)
        hub = RunningHub(folder, servers.url, broker, host=machine.host, tls=tls)
        season = Season(hub, servers, stack.enter_context(Redis(folder / "redis")))
        stack.callback(season.end)

        hub.serve(BUCKET, **stack.enter_context(_bucket()))
        hub.dispatch()
        season.set_up_sensors()
        season.start_worker(STAYS, docker, worker_image)
        season.start_worker(GOES, machine.docker, worker_image)
        season.live()
        yield season


@contextmanager
def _bucket() -> Iterator[dict[str, str]]:
    """Run an S3 server with a bucket; provide the variables that lead to it, and set them."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a failure shows every request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    variables = {**KEYS, "AWS_ENDPOINT_URL": url}
    try:
        assert requests.put(f"{url}/{urlsplit(BUCKET).netloc}", timeout=60).ok
        with pytest.MonkeyPatch.context() as patch:
            for name, text in variables.items():
                patch.setenv(name, text)
            yield variables
    finally:
        server.stop()


def test_the_hub_has_everything_of_every_sensor_once(season: Season) -> None:
    recordings = season.recordings()
    rows = season.ask("SELECT id FROM recording")
    every = [one for each in recordings.values() for one in each]
    assert sorted(row[0] for row in rows) == sorted(one.bytes for one in every)
    assert all(recordings.values())
    assert len(recordings) == SENSORS

    found = fleet_hub.compare(season.servers, season.sensors, time.time())
    wrong = {
        (name, key): value
        for name, row in found.items()
        for key, value in row.items()
        if key.startswith(("recordings_", "messages_", "effort_wrong")) and value
    }
    assert wrong == {}
    assert all(row["effort_s"] > 0 for row in found.values())
    assert season.ask("SELECT count(*), count(ended_on_us) FROM deployment") == [(SENSORS, SENSORS)]


def test_the_bucket_has_all_sound_as_it_was_recorded(season: Season) -> None:
    every = [one for each in season.recordings().values() for one in each]
    database = HubDatabase(season.hub.database)
    hub = Hub(database, open_store(BUCKET))
    try:
        for one in every:
            sound = find_sound(hub, one)
            digest = hashlib.sha256(b"".join(read_audio(hub, one))).digest()
            assert (sound.place, digest) == ("", sound.sha256)
    finally:
        database.close()
    assert season.ask("SELECT count(*) FROM audio") == [(len(every),)]


def test_each_recording_was_analysed_once_and_both_workers_took_part(season: Season) -> None:
    every = [one for each in season.recordings().values() for one in each]
    with HubReader(season.hub.database) as reader:
        states = [[each.state for each in reader.analyses(one)] for one in every]

    assert states == [[AnalysisState.DONE]] * len(every)
    assert season.ask("SELECT count(*), count(DISTINCT recording_row) FROM model_output") == [
        (len(every), len(every))
    ]
    assert sum(season.done().values()) == len(every)
    assert min(season.when_gone.values()) > 0


def test_a_worker_that_was_withdrawn_got_nothing_more(season: Season) -> None:
    gone = season.workers[GOES]

    assert BARRED in gone.log()
    assert season.done()[GOES] == season.when_gone[GOES]
    assert season.done()[STAYS] > season.when_gone[STAYS]
    assert season.let_in == {STAYS: True, GOES: False}


def test_one_export_of_all_is_a_valid_package(season: Season, tmp_path: Path) -> None:
    token = season.hub.acoupi("hub", "add-person", "ana", "--role", "operator")
    known = {"ACOUPI_HUB_TOKEN": token, "REQUESTS_CA_BUNDLE": str(season.authority)}
    words = ("export", "camtrap-dp", "--hub", season.hub.url, "-o", str(tmp_path / "out"))
    season.hub.acoupi(*words, ACOUPI_HOME=str(tmp_path), **known)

    described = json.loads((tmp_path / "out" / "datapackage.json").read_text())
    described["profile"] = "data-package"
    for resource in described["resources"]:
        if resource["name"] in TABLES:
            resource["schema"] = schema_of(resource["name"], "1.0.2")
    report = frictionless.Package(described, basepath=str(tmp_path / "out")).validate()
    assert report.flatten(["name", "rowNumber", "fieldName", "type", "note"]) == []
    rows = {task.name: task.stats.get("rows") for task in report.tasks}
    assert rows["deployments"] == SENSORS
    [(detections,)] = season.ask("SELECT count(*) FROM detection")
    assert rows["observations"] == detections > 0
