"""The pods of a sensor for Kubernetes, as containers on one folder: they set up, and record."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acoupi.system import Settings
from acoupi.system.planning import SetupRequest, plan_setup
from tests.docker.fleets import COUNT, DEADLINE, QUICK
from tests.docker.pods import Pods
from tests.services import eventually

EVERY = ("redis", "setup", "recording", "detection", "default", "beat")


@pytest.fixture(scope="module")
def pods(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    folder = tmp_path_factory.mktemp("node")
    request = SetupRequest("demo", target="kubernetes", environ={"ACOUPI_NOTHING": "here"})
    plan = plan_setup(Settings(home=folder / "home"), request)
    text = plan.generated[Path("kubernetes/sensor.yaml")].text
    settings = {**QUICK, "ACOUPI_DEPLOYMENT__NAME": "Oak"}
    of_recorder = {"ACOUPI_SIMULATED_AUDIO": "synthetic"}
    made = Pods(
        list(yaml.safe_load_all(text)),
        folder / "volume",
        {"setup": settings, "recording": of_recorder},
    )
    for pod in made.pods.values():
        for container in (*pod["initContainers"], *pod["containers"]):
            container["image"] = image
    with made.running():
        yield made


def test_a_sensor_sets_itself_up_in_a_claim_and_records(pods: Pods) -> None:
    def recorded() -> bool:
        done = pods.run_in("default", "python", "-c", COUNT)
        return done.stdout.strip().isdigit() and int(done.stdout) > 0

    eventually(recorded, "a recording in the store", DEADLINE)

    found = pods.read("config/device.json")
    assert found["id"]


@pytest.mark.parametrize("name", EVERY)
def test_every_pod_is_found_ready_and_alive(pods: Pods, name: str) -> None:
    eventually(lambda: pods.probe(name, "readinessProbe").returncode == 0, name, DEADLINE)

    assert pods.probe(name, "livenessProbe").returncode == 0
    path = pods.pods[name]["containers"][0]["readinessProbe"]["exec"]["command"][1]
    if name != "redis":
        assert pods.run_in(name, "touch", "-d", "10 minutes ago", "/run/acoupi/old").returncode == 0
        command = pods.pods[name]["containers"][0]["livenessProbe"]["exec"]["command"]
        stale = [word.replace(path, "/run/acoupi/old") for word in command]
        assert pods.run_in(name, *stale).returncode == 1


def test_only_who_sends_has_a_network(pods: Pods) -> None:
    names = {name: pods.run_in(name, "ls", "/sys/class/net").stdout.split() for name in pods.pods}

    assert {name for name, found in names.items() if found != ["lo"]} == {"setup", "default"}


def test_a_folder_of_the_claim_is_for_the_user_of_the_pods_alone(pods: Pods) -> None:
    done = pods.run_in("setup", "stat", "-c", "%u %a", "/acoupi/config", "/acoupi/secrets")

    assert done.stdout.split("\n")[:2] == ["1000 700", "1000 700"]
