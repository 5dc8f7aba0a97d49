"""A sensor that nobody logs in to: empty volumes and variables, as balena and Compose start it."""

import contextlib
import errno
import json
from collections.abc import Iterator

import pytest

from tests.docker.bundles import SOUND, TOKEN, device_nodes
from tests.docker.fleets import QUICK, Device, balena_device, committed_device, write_overlay
from tests.docker.test_security import OPEN, WRITE
from tests.services import require

OURS = ("recording", "detection", "default", "beat")
FLEET = {
    **QUICK,
    "ACOUPI_CONFIG__MICROPHONE__SIMULATED__SEED": "7",
    "ACOUPI_CONFIG__DETECTIONS__THRESHOLD": "0.1",
    "ACOUPI_CONFIG__MESSAGING__MQTT__HOST": "mqtt",
    "ACOUPI_CONFIG__MESSAGING__MQTT__PORT": "1883",
    "ACOUPI_DEPLOYMENT__NAME": "Oak one",
    "ACOUPI_DEPLOYMENT__LATITUDE": "51.54",
    "ACOUPI_DEPLOYMENT__LONGITUDE": "-0.02",
    "ACOUPI_DEVICE_ID": "oak-1",
}
OF_SETUP = {"ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN": TOKEN}
AUDIO_GROUP = 29


@pytest.fixture(scope="module")
def card() -> Iterator[None]:
    """The nodes of a sound card: of a real one, or with nobody behind them."""
    if SOUND.exists() and any(SOUND.iterdir()):
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(device_nodes(AUDIO_GROUP))
        except PermissionError:
            require("making device nodes needs root", False)
        yield


@pytest.fixture(scope="module")
def device(
    card: None, image: str, servers_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    """A device of a balena fleet, started on empty volumes."""
    folder = tmp_path_factory.mktemp("balena") / "fleet"
    with balena_device(folder, image, servers_image, {"": FLEET, "setup": OF_SETUP}) as device:
        device.compose("up", "-d")
        yield device


def detections(device: Device, server: str) -> list[dict[str, object]]:
    return [one for one in device.received(server) if '"name_model"' in one["content"]]


def test_a_device_of_a_fleet_sets_itself_up_and_reports_what_it_hears(device: Device) -> None:
    device.eventually(lambda: detections(device, "http"), "a detection at the HTTP server")
    device.eventually(lambda: detections(device, "mqtt"), "a detection at the MQTT broker")

    assert detections(device, "http")[0]["more"] == f"Bearer {TOKEN}"
    assert "Oak " in str(detections(device, "http")[0]["content"])
    assert "oak-1" in str(device.read("config/device.json"))
    # Although the folder of the supervisor's lock belongs to root:
    assert device.run_in("recording", "stat", "-c", "%u", "/tmp/balena").stdout.strip() == "0"


def test_every_service_of_a_device_works(device: Device) -> None:
    for name in ("setup", *OURS):
        device.eventually(
            lambda name=name: (
                (device.read(f"run/{name}/{name}.json") or {}).get("state") == "ready"
            ),  # type: ignore[misc]
            f"{name} is ready",
        )


def test_it_is_given_nothing_but_its_volumes(device: Device) -> None:
    for name in device.services:
        mounts = device.inspect(name)["Mounts"]

        assert {one["Type"] for one in mounts} == {"volume"}, name


@pytest.mark.parametrize("service", ["redis", "setup", *OURS])
def test_it_has_no_rights_and_cannot_write_but_to_its_volumes(device: Device, service: str) -> None:
    text = device.run_in(service, "cat", "/proc/1/status").stdout
    status = dict(line.split(":", 1) for line in text.splitlines())

    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    for path in ("/usr/bin/mine", "/opt/acoupi/mine", "/mine", "/tmp/mine"):
        assert device.python_in(service, WRITE, path) == "EROFS"


@pytest.mark.parametrize("service", OURS)
def test_only_setup_writes_the_configuration(device: Device, service: str) -> None:
    assert device.python_in(service, WRITE, "/acoupi/config/program.json") == "EROFS"
    assert device.python_in(service, WRITE, "/run/key/password") == "EROFS"


def test_only_who_sends_or_sets_up_has_a_network(device: Device) -> None:
    networked = [
        name
        for name in device.services
        if "eth0" in device.run_in(name, "ls", "/sys/class/net").stdout.split()
    ]

    assert networked == ["setup", "default"]


def test_only_the_recorder_of_a_device_reaches_the_card(device: Device) -> None:
    answers = {name: device.python_in(name, OPEN) for name in device.services}

    # Behind the nodes is nobody, or a card that the test must not use.
    assert answers.pop("recording") in {errno.errorcode[errno.ENXIO], "opened", "EBUSY", "ENOENT"}
    assert set(answers.values()) <= {"ENOENT", "EPERM", "EACCES"}
    granted = [name for name in device.services if device.inspect(name)["HostConfig"]["Devices"]]
    assert granted == ["recording"]


def test_a_secret_is_given_to_setup_alone(device: Device) -> None:
    shown = [name for name in device.services if TOKEN in json.dumps(device.inspect(name))]

    assert shown == ["setup"]


def test_secrets_are_seen_by_setup_and_by_who_sends(device: Device) -> None:
    """In no file of any other service, whatever it looks through; nor in its environment."""
    search = ("grep", "-rsl", TOKEN, "/acoupi", "/run", "/proc/1/environ")
    holders = [name for name in device.services if device.run_in(name, *search).stdout.strip()]

    assert holders == ["setup", "default"]
    for name in ("recording", "detection", "beat"):
        assert "Permission denied" not in device.run_in(name, *search).stderr


@pytest.mark.parametrize("service", OURS)
def test_a_service_of_a_device_writes_what_the_table_says(device: Device, service: str) -> None:
    is_written = {"recording": True, "default": True, "detection": False}.get(service)
    mounts = {one["Destination"]: one["RW"] for one in device.inspect(service)["Mounts"]}
    others = [name for name in OURS if name != service]

    assert mounts.get("/acoupi/data") is is_written
    said = device.python_in(service, WRITE, "/acoupi/data/tried")
    assert said == ("written" if is_written else "EROFS")
    assert device.python_in(service, WRITE, f"/acoupi/run/{service}/tried") == "written"
    for kind in ("run", "log"):
        for name in others:
            assert device.python_in(service, WRITE, f"/acoupi/{kind}/{name}/tried") == "EROFS"


def test_a_variable_that_changes_for_setup_alone_takes_effect_everywhere(
    device: Device, image: str, servers_image: str
) -> None:
    moved = {**OF_SETUP, "ACOUPI_DEPLOYMENT__NAME": "Oak two"}

    write_overlay(device, image, servers_image, {"": FLEET, "setup": moved})
    device.compose("up", "-d")

    device.eventually(
        lambda: any("Oak two" in one["content"] for one in device.received("http")),
        "a message about the new deployment",
    )


def test_an_invalid_variable_stops_no_recording(
    device: Device, image: str, servers_image: str
) -> None:
    wrong = {**FLEET, "ACOUPI_CONFIG__RECORDING__DURATION": "soon"}
    device.goes_on("a recording with good settings")

    write_overlay(device, image, servers_image, {"": wrong, "setup": OF_SETUP})
    device.compose("up", "-d")

    def is_said() -> bool:
        pulse = device.read("run/setup/setup.json") or {}
        named = "ACOUPI_CONFIG__RECORDING__DURATION" in str(pulse.get("message"))
        return pulse.get("state") == "degraded" and named

    device.eventually(is_said, "setup says what is wrong")
    device.goes_on("a recording with the last good settings")

    write_overlay(device, image, servers_image, {"": FLEET, "setup": OF_SETUP})
    device.compose("up", "-d")
    device.eventually(
        lambda: device.is_ready("setup"),
        "setup is ready again",
    )


# --- compose/docker-compose.yml ---


@pytest.fixture(scope="module")
def committed(
    image: str, servers_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    """What is in the checkout, started by Compose alone."""
    folder = tmp_path_factory.mktemp("committed") / "compose"
    variables = {
        **QUICK,
        "ACOUPI_PROGRAM": "connected",
        "ACOUPI_CONFIG__MESSAGING__HEARTBEAT_INTERVAL": "2",
        "ACOUPI_DEPLOYMENT__NAME": "Young elm",
    }
    with committed_device(folder, image, servers_image, variables) as device:
        device.compose("up", "-d")
        yield device


def test_the_bundle_of_the_checkout_sets_itself_up_and_reports(committed: Device) -> None:
    committed.eventually(lambda: committed.recordings() > 0, "a recording")
    committed.eventually(lambda: committed.received("http"), "a sign of life at the server")

    assert committed.read("config/deployment.json")["name"] == "Young elm"


def test_the_bundle_of_the_checkout_is_clean_and_without_a_microphone(committed: Device) -> None:
    shown = committed.compose("config", "--format", "json")
    recorder = json.loads(shown.stdout)["services"]["recording"]

    assert "warning" not in shown.stderr.lower()
    assert "device_cgroup_rules" not in recorder
    assert recorder["environment"]["ACOUPI_SIMULATED_AUDIO"] == "synthetic"


def test_it_starts_again_as_it_was(committed: Device) -> None:
    committed.eventually(lambda: committed.recordings() > 0, "a recording")
    before = committed.recordings()

    committed.compose("down")
    committed.compose("up", "-d")

    committed.eventually(lambda: committed.recordings() > before, "what was there, and more")
