"""Services that start on an empty home, in any order, with their variables and nothing else."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from acoupi.commit import is_there
from acoupi.errors import ConfigurationError
from acoupi.provisioned import Provisioned, read_provisioned
from acoupi.provisioning.fetching import fetch
from acoupi.stack.pulse import read_pulse
from acoupi.stack.settings import RENEW
from tests.sensors import SERVICES, Sensor, sensor_at, wait_for
from tests.servers import endless_server
from tests.services import DEADLINE, eventually, free_port

SETUP = "setup"
EVERY = (*SERVICES, SETUP)

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACOUPI_TARGET")  # of commands; here it is a variable that there is not


class Fleet:
    """The services of a sensor as an engine would run them: started again when they end.

    Parameters
    ----------
    sensor
        Whose services.
    variables
        Of all services.
    """

    def __init__(self, sensor: Sensor, variables: dict[str, str]) -> None:
        self.sensor = sensor
        self.variables = variables
        self.ended: list[tuple[str, int]] = []
        """Services that ended, with their exit codes."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, *names: str) -> None:
        """Keep services running."""
        for name in names:
            self._running[name] = self.spawn(name)
            thread = threading.Thread(target=self._supervise, args=(name,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def spawn(self, name: str) -> subprocess.Popen[bytes]:
        module = {
            SETUP: ["acoupi.system.provisioning"],
            "beat": ["acoupi.system.celery.beat"],
        }.get(name, ["acoupi.system.celery.worker", name])
        own = {} if name == SETUP else {"ACOUPI_SERVICE": name}
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**os.environ, "ACOUPI_PROGRAM": "metronome", **self.variables, **own},
            stderr=subprocess.DEVNULL,
        )

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End one; it is started again, with the variables as they are then."""
        self._running[name].send_signal(number)

    def _supervise(self, name: str) -> None:
        while True:
            self.ended.append((name, self._running[name].wait()))
            if self._stopping.is_set():
                return
            self._running[name] = self.spawn(name)

    def end(self) -> None:
        self._stopping.set()
        for _ in self._threads:
            for process in self._running.values():
                with contextlib.suppress(OSError):
                    process.kill()
        for thread in self._threads:
            thread.join(timeout=DEADLINE)


@pytest.fixture
def sensor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    with sensor_at(home, monkeypatch) as sensor:
        yield sensor


@pytest.fixture
def fleet(sensor: Sensor) -> Iterator[Fleet]:
    fleet = Fleet(
        sensor,
        {
            "ACOUPI_CONFIG__DIARY": str(sensor.diary),
            "ACOUPI_CONFIG__INTERVAL": "0.3",
            "ACOUPI_DEPLOYMENT__NAME": "Oak",
        },
    )
    try:
        yield fleet
    finally:
        fleet.end()


def provisioned(sensor: Sensor) -> Provisioned:
    return read_provisioned(sensor.home / "config") or Provisioned()


def says(sensor: Sensor, service: str, state: str) -> bool:
    pulse = read_pulse(sensor.settings.run_dir, service)
    return pulse is not None and pulse.state == state


def is_told(sensor: Sensor, variable: str) -> bool:
    """Whether setup says that a variable is wrong: between two attempts, but not during one."""
    return says(sensor, SETUP, "degraded") and variable in sensor.message(SETUP)


def is_working(sensor: Sensor) -> bool:
    return all(map(sensor.is_ready, SERVICES)) and bool(sensor.events("detected"))


@pytest.mark.parametrize("seed", range(2))
def test_in_whatever_order_the_services_start_they_are_one_sensor(
    sensor: Sensor, fleet: Fleet, seed: int
) -> None:
    names = list(EVERY)
    random.Random(seed).shuffle(names)

    fleet.start(*names)

    wait_for(lambda: is_working(sensor), "a detection", sensor)
    assert provisioned(sensor).generation == 1
    assert [event["deployment"] for event in sensor.events("started")] == ["Oak"]
    assert fleet.ended == []


def test_without_a_service_that_does_it_the_first_worker_sets_the_home_up(
    sensor: Sensor, fleet: Fleet
) -> None:
    fleet.start(*SERVICES)

    wait_for(lambda: is_working(sensor), "a detection", sensor)
    assert provisioned(sensor).generation == 1
    assert fleet.ended == []


def test_a_changed_variable_reaches_every_service_and_ends_the_deployment(
    sensor: Sensor, fleet: Fleet
) -> None:
    fleet.start(*EVERY)
    wait_for(lambda: is_working(sensor), "a detection", sensor)
    fleet.variables |= {"ACOUPI_CONFIG__INTERVAL": "0.2", "ACOUPI_DEPLOYMENT__NAME": "Elm"}

    fleet.stop(SETUP)

    wait_for(lambda: provisioned(sensor).generation == 2, "the second configuration", sensor)
    wait_for(
        lambda: len([one for one in fleet.ended if one[1] == RENEW]) == len(SERVICES),
        "every service to begin anew",
        sensor,
    )
    count = len(sensor.events("detected"))
    wait_for(lambda: len(sensor.events("detected")) > count, "another detection", sensor)
    wait_for(lambda: len(sensor.events("started")) == 2, "the second deployment", sensor)
    assert [event["deployment"] for event in sensor.events("started")] == ["Oak", "Elm"]
    assert [event["deployment"] for event in sensor.events("ended")] == ["Oak"]
    assert sorted({name for name, code in fleet.ended if code == RENEW}) == sorted(SERVICES)


def test_an_invalid_variable_is_reported_and_stops_nothing(sensor: Sensor, fleet: Fleet) -> None:
    fleet.start(*EVERY)
    wait_for(lambda: is_working(sensor), "a detection", sensor)
    pids = {name: fleet.pid(name) for name in SERVICES}
    fleet.variables |= {"ACOUPI_CONFIG__INTERVAL": "often"}

    fleet.stop(SETUP)

    wait_for(lambda: provisioned(sensor).fault is not None, "the fault", sensor)
    wait_for(lambda: is_told(sensor, "ACOUPI_CONFIG__INTERVAL"), "the pulse", sensor)
    count = len(sensor.events("recorded"))
    wait_for(lambda: len(sensor.events("recorded")) > count + 2, "more recordings", sensor)
    assert "ACOUPI_CONFIG__INTERVAL" in sensor.log(SETUP)
    assert {name: fleet.pid(name) for name in SERVICES} == pids


def test_a_wrong_variable_of_the_services_themselves_stops_none(
    sensor: Sensor, fleet: Fleet
) -> None:
    fleet.start(*EVERY)
    wait_for(lambda: is_working(sensor), "a detection", sensor)
    fleet.variables |= {"ACOUPI_LOG_LEVEL": "loud", "ACOUPI_MICROPHONE_PATIENCE": "long"}
    count = len(sensor.events("recorded"))

    for name in EVERY:
        fleet.stop(name)

    wait_for(lambda: is_told(sensor, "ACOUPI_LOG_LEVEL"), "the fault", sensor)
    wait_for(lambda: len(sensor.events("recorded")) > count + 2, "more recordings", sensor)


def test_a_service_that_is_killed_begins_no_second_deployment(sensor: Sensor, fleet: Fleet) -> None:
    fleet.start(*EVERY)
    wait_for(lambda: is_working(sensor), "a detection", sensor)

    for name in EVERY:
        fleet.stop(name, signal.SIGKILL)

    wait_for(lambda: len(fleet.ended) >= len(EVERY), "all to end", sensor)
    wait_for(lambda: all(map(sensor.is_ready, SERVICES)), "all to be back", sensor)
    assert [event["deployment"] for event in sensor.events("started")] == ["Oak"]
    assert sensor.events("ended") == []


def test_killed_again_and_again_while_it_is_set_up_the_home_is_never_half_done(
    sensor: Sensor, fleet: Fleet
) -> None:
    fleet.start("recording", "default", "beat")
    rng = random.Random(7)
    for _ in range(12):
        process = fleet.spawn(SETUP)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0.2, 1.2))
        process.kill()
        process.wait()
        config = sensor.home / "config"
        if provisioned(sensor).generation:
            names = ("name", "program.json", "schedule.json", "device.json", "deployment.json")
            assert all(is_there(config / name) for name in names)
    fleet.start(SETUP, "detection")

    wait_for(lambda: is_working(sensor), "a detection", sensor)
    assert [event["deployment"] for event in sensor.events("started")] == ["Oak"]


def test_nothing_valid_at_the_first_start_is_waited_out(sensor: Sensor, fleet: Fleet) -> None:
    fleet.variables |= {"ACOUPI_CONFIG__INTERVAL": "often"}
    fleet.start("recording", "beat", SETUP)
    wait_for(lambda: says(sensor, SETUP, "degraded"), "the fault", sensor)
    wait_for(
        lambda: "ACOUPI_CONFIG__INTERVAL" in sensor.message("beat"),
        "beat to say what it waits for",
        sensor,
    )
    assert not (sensor.home / "config" / "name").exists()
    fleet.variables |= {"ACOUPI_CONFIG__INTERVAL": "0.3"}
    for name in ("recording", "beat", SETUP):
        fleet.stop(name)
    fleet.start("detection", "default")

    wait_for(lambda: is_working(sensor), "a detection", sensor)


# --- a real server


class Server:
    """Gives a configuration; or misbehaves."""

    def __init__(self) -> None:
        self.mode = "good"
        self.text = ""
        self.asked = 0
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/sensor.yaml?token=geheim"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode == "silent":
            self.closing.wait(60)
            return
        if self.mode.startswith("to ") and handler.path != "/here.yaml":
            handler.send_response(302)
            handler.send_header("Location", self.mode.removeprefix("to "))
            handler.end_headers()
            return
        handler.send_response({"error": 500, "refusal": 409, "nothing": 204}.get(self.mode, 200))
        if self.mode == "short":
            handler.send_header("Content-Length", str(len(self.text) + 1))
        handler.end_headers()
        with contextlib.suppress(OSError):
            if self.mode == "trickle":
                while not self.closing.wait(0.1):
                    handler.wfile.write(b"#")
                    handler.wfile.flush()
            if self.mode == "endless":
                for _ in range(30):
                    handler.wfile.write(b"# " * 50_000)
            text = {
                "nonsense": "<html>Please log in</html>",
                "refusal": json.dumps({"error": "another key signed it."}),
            }.get(self.mode, self.text)
            handler.wfile.write(text.encode())


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.closing.set()
        server.server.shutdown()
        server.server.server_close()


def test_a_configuration_is_fetched_and_a_login_page_in_its_place_changes_nothing(
    sensor: Sensor, fleet: Fleet, server: Server
) -> None:
    server.text = json.dumps({"diary": str(sensor.diary), "interval": 0.3})
    fleet.variables = {"ACOUPI_CONFIG_URL": server.url}
    fleet.start(*EVERY)
    wait_for(lambda: is_working(sensor), "a detection", sensor)
    pids = {name: fleet.pid(name) for name in SERVICES}
    server.mode = "nonsense"

    fleet.stop(SETUP)

    wait_for(lambda: says(sensor, SETUP, "degraded"), "the fault", sensor)
    asked = server.asked
    wait_for(lambda: server.asked > asked, "another attempt", sensor)
    server.mode = "good"
    wait_for(lambda: says(sensor, SETUP, "ready"), "the fault to go", sensor, 60)
    assert {name: fleet.pid(name) for name in SERVICES} == pids
    assert "geheim" not in sensor.log(SETUP)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("silent", "there was no complete answer"),
        ("trickle", "there was no complete answer"),
        ("error", "the server answered 500"),
        ("refusal", "the server answered 409 Conflict: another key signed it."),
        ("endless", "longer than"),
        ("empty", "the answer is empty"),
        ("nonsense", "it is a web page"),
        ("nothing", "the server answered 204"),
        ("short", "broke off before its end"),
        ("to http://localhost:1/sensor.yaml", "another server, http://localhost:1/sensor.yaml"),
        (
            "to https://127.0.0.1/sensor.yaml?geheim",
            "another server, https://127.0.0.1/sensor.yaml",
        ),
        ("to /round.yaml", "redirects without end"),
    ],
)
def test_a_server_that_misbehaves_is_told_by_what_it_does(
    server: Server, mode: str, words: str
) -> None:
    server.mode = mode
    server.text = "" if mode == "empty" else "recording: {duration: 4}"
    patience = 0.5 if mode in ("silent", "trickle") else 10.0

    with pytest.raises(ConfigurationError) as caught:
        fetch(server.url, patience)

    assert words in (caught.value.why or "")
    assert "ACOUPI_CONFIG_URL" in caught.value.message
    assert "geheim" not in "".join(caught.value.lines())


def test_a_digest_beside_the_address_says_what_must_come(server: Server) -> None:
    server.text = "recording: {duration: 4}"
    digest = hashlib.sha256(server.text.encode()).hexdigest()

    assert fetch(f"{server.url}#sha256={digest}").text == server.text
    server.text = "recording: {duration: 5}"
    with pytest.raises(ConfigurationError) as caught:
        fetch(f"{server.url}#sha256={digest}")
    assert "the SHA-256 of the document differs" in (caught.value.why or "")
    for bad in ("#sha256=12", "#md5=" + digest, "#" + digest):
        with pytest.raises(ConfigurationError) as caught:
            fetch(server.url + bad)
        assert "must be sha256=" in (caught.value.why or "")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a"),
    ],
)
def test_a_server_without_end_is_left_with_nothing_that_waits_for_it(
    first: bytes, again: bytes
) -> None:
    with endless_server(first, again) as port:
        with pytest.raises(ConfigurationError) as caught:
            fetch(f"http://127.0.0.1:{port}/sensor.yaml", 0.3)
        eventually(lambda: not [one for one in threading.enumerate() if one.name == "acoupi-http"])

    assert "there was no complete answer" in (caught.value.why or "")


def test_a_redirection_on_the_same_server_is_followed(server: Server) -> None:
    server.mode, server.text = "to /here.yaml", "recording: {duration: 4}"

    assert fetch(server.url).text == server.text


def test_a_server_that_is_not_there_is_told_so() -> None:
    with pytest.raises(ConfigurationError) as caught:
        fetch(f"http://127.0.0.1:{free_port()}/sensor.yaml")

    assert "refused" in (caught.value.why or "").lower()


@pytest.mark.parametrize(
    "query", ["token=ge heim", "token=geheim\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_an_address_that_is_none_does_not_give_its_secrets_away(query: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fetch(f"http://127.0.0.1:{free_port()}/sensor.yaml?{query}")

    assert "not allowed in addresses" in (caught.value.why or "")
    assert "heim" not in "".join(caught.value.lines())
