"""A hub in containers, a sensor for which it analyses, and what each of its services may reach."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi.hub.bundle.choices import HubHome
from tests.docker.bundles import DEADLINE, Done, docker, environment
from tests.services import eventually, free_port

SERVICES = ("database", "broker", "ingest", "dispatch", "worker-demo")
ACOUPI = Path(sys.executable).with_name("acoupi")
QUICK = (
    *("--recording.duration", "1", "--recording.interval", "2", "--detections.threshold", "0.1"),
    *("--microphone.simulated.seed", "7", "--sensor.hub.interval_seconds", "5"),
    *("--sensor.hub.audio", "all", "--sensor.analysis.where", "hub"),
)
REACH = """
import socket, sys
for place in sys.argv[1:]:
    host, port = place.split(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(place)
    except OSError:
        pass
"""


class Hub:
    """A hub that runs from a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = HubHome(folder)

    def acoupi(self, *words: str, home: Path | None = None, **variables: str) -> Done:
        """Run a command of acoupi, as the operator or (with its home) at a sensor."""
        own = {"ACOUPI_HUB_HOME": str(self.home.path), "ACOUPI_HOME": str(home or ""), **variables}
        done = subprocess.run(
            [str(ACOUPI), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=500, check=False, env={**environment(), **own, "NO_COLOR": "1"},
        )  # fmt: skip
        assert done.returncode == 0, f"acoupi {' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    def compose(self, *words: str, check: bool = True) -> Done:
        """Run docker compose on it."""
        return docker("compose", *words, check=check, timeout=120, cwd=self.home.path)

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine says of the container of a service."""
        name = self.compose("ps", "--quiet", service).stdout.split()[0]
        found: dict[str, Any] = json.loads(docker("inspect", name).stdout)[0]
        return found

    def address(self, service: str) -> str:
        """The address of a service on any of its networks."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    def detections(self) -> set[str]:
        """The ids of all detections that it has."""
        listed = self.acoupi(
            "detections", "list", "--hub", self.home.host_database, "--limit", "1000", "--json"
        )
        return {one["detection_id"] for one in json.loads(listed.stdout)}


@pytest.fixture(scope="module")
def hub(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    found = Hub(tmp_path_factory.mktemp("hub") / "home")
    found.acoupi("hub", "setup", "--listen", f"127.0.0.1:{free_port()}", "--worker", "demo=2")
    try:
        found.acoupi("hub", "up")
        yield found
    finally:
        found.compose("down", "--remove-orphans", "--timeout", "0", check=False)


def test_every_service_has_the_rights_of_a_services_container_and_no_more(hub: Hub) -> None:
    for name in SERVICES:
        found = hub.inspect(name)
        host = found["HostConfig"]
        assert found["Config"]["User"].split(":")[0] != "0", name
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (
            True,
            ["ALL"],
            False,
        )
        assert "no-new-privileges:true" in host["SecurityOpt"]


def test_only_ingest_is_published_and_a_worker_does_not_reach_the_database(hub: Hub) -> None:
    published = [name for name in SERVICES if hub.inspect(name)["HostConfig"]["PortBindings"]]
    database = hub.address("database")
    asked = [f"{database}:5432", "database:5432", "broker:6379", "ingest:8090"]

    def reached(service: str) -> list[str]:
        done = hub.compose("exec", "-T", service, "python", "-c", REACH, *asked)
        return done.stdout.split()

    assert published == ["ingest"]
    assert reached("worker-demo") == ["broker:6379", "ingest:8090"]
    assert reached("dispatch") == asked
    image = hub.inspect("ingest")["Config"]["Image"]
    stranger = docker("run", "--rm", image, "python", "-c", REACH, f"{database}:5432")
    assert stranger.stdout == ""


def test_a_sensor_that_only_records_has_its_detections_at_the_hub_also_after_it_was_down(
    hub: Hub, tmp_path: Path
) -> None:
    home = tmp_path / "sensor"
    token = hub.acoupi("hub", "add-sensor", "oak-1").stdout.strip()
    url = hub.home.read().address
    setup = ("setup", "--program", "demo", "--target", "process", *QUICK)
    trusted = (hub.home.path / "ca" / "ca.pem").read_text()
    variables = {"ACOUPI_SENSOR__HUB__TOKEN": token, "ACOUPI_SENSOR__HUB__CA_CERTIFICATE": trusted}
    hub.acoupi(*setup, "--sensor.hub.url", url, home=home, **variables)
    hub.acoupi("start", "Old oak", home=home)
    try:
        eventually(hub.detections, "a detection at the hub", DEADLINE)
    finally:
        hub.acoupi("stop", home=home)
    known = hub.detections()

    hub.acoupi("hub", "down")
    hub.acoupi("hub", "up")

    assert hub.detections() >= known
    status = json.loads(hub.acoupi("hub", "status", "--json").stdout)
    assert status["problems"] == []
    assert status["database"]["sensors"] == 1


def test_a_copy_is_put_back_and_the_hub_works_again_with_its_workers(
    hub: Hub, tmp_path: Path
) -> None:
    copy, cut = tmp_path / "hub.dump", tmp_path / "cut.dump"
    known = hub.detections()
    hub.acoupi("hub", "backup", str(copy))
    assert copy.stat().st_mode & 0o077 == 0
    cut.write_bytes(copy.read_bytes()[:-40])
    hub.acoupi("hub", "add-sensor", "added-later")

    with pytest.raises(AssertionError, match="not a complete copy"):
        hub.acoupi("hub", "restore", str(cut), "--replace")
    with pytest.raises(AssertionError, match="already has data"):
        hub.acoupi("hub", "restore", str(copy))
    hub.acoupi("hub", "restore", str(copy), "--replace")

    assert hub.detections() == known
    listed = json.loads(hub.acoupi("hub", "sensors", "--json").stdout)
    assert "added-later" not in {one["name"] for one in listed}
    status = json.loads(hub.acoupi("hub", "status", "--json").stdout)
    assert status["problems"] == []
    assert all(one["health"] == "healthy" for one in status["services"])
