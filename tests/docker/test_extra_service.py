"""A service that is no worker, in a container beside the workers."""

import urllib.request
from pathlib import Path

import pytest

from acoupi.bundles.variables import choose
from tests.docker.beside import hello_service
from tests.docker.beside.hello_service import ENTRY_POINTS, NAME, PORT
from tests.docker.bundles import QUICK, Bundle
from tests.docker.conftest import build_on
from tests.packages import install
from tests.services import free_port

OUTSIDE = free_port()
"""The port on this machine, chosen in ``.env``."""


@pytest.fixture
def running(fresh: Bundle, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with it, which runs; on a port that nobody else has."""
    source = Path(hello_service.__file__).read_text()
    install(monkeypatch, tmp_path / "package", ENTRY_POINTS, {"hello_service.py": source})
    monkeypatch.setenv("ACOUPI_IMAGE", build_on(image, "beside"))
    fresh.set_up(*QUICK)
    choose(fresh.home, {"ACOUPI_PORT_HELLO": str(OUTSIDE)})
    fresh.compose("up", "-d", "--wait", NAME, "default")
    return fresh


def asked_in(bundle: Bundle, service: str, url: str) -> str:
    code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=5).read())"
    return bundle.python_in(service, code)


def test_it_answers_on_this_machine_and_other_services_do_not_reach_it(running: Bundle) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{OUTSIDE}/home", timeout=10) as answer:
        assert answer.read().decode() == str(running.home)

    container = running.inspect(NAME)
    bound = container["NetworkSettings"]["Ports"][f"{PORT}/tcp"]
    assert bound == [{"HostIp": "127.0.0.1", "HostPort": str(OUTSIDE)}]
    (network,) = container["NetworkSettings"]["Networks"].values()
    address = f"http://{network['IPAddress']}:{PORT}/"
    assert "hello" in asked_in(running, NAME, address), "this is where it listens"
    for place in (address, f"http://{NAME}:{PORT}/", f"http://{network['Gateway']}:{OUTSIDE}/"):
        assert "Error" in asked_in(running, "default", place), place
    statuses = {one.name: one for one in running.target.status()}
    assert statuses[NAME].is_well
    assert statuses[NAME].role == NAME


def test_its_container_is_as_shut_as_the_others(running: Bundle) -> None:
    host = running.inspect(NAME)["HostConfig"]

    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["Devices"]
    assert not host["DeviceCgroupRules"]
    assert running.inspect(NAME)["Config"]["User"] != "0:0"
    seen = "import os; print(os.path.exists('/dev/snd'))"
    assert running.python_in(NAME, seen) == "False"
    redis = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/broker/redis.sock')"
    assert "FileNotFoundError" in running.python_in(NAME, redis)
