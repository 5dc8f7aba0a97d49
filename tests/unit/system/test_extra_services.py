"""Services that are no workers: where they come from, and what each target makes of them."""

import datetime
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from acoupi.bundles.bundle_checks import bundle_problems
from acoupi.bundles.rendering import Manifest
from acoupi.cli.deployment import service_rows
from acoupi.config.sensor import sensor_schema
from acoupi.errors import ConfigurationError
from acoupi.stack.pulse import PulseFile, ServiceLock
from acoupi.system import Sensor, Settings, get_status, setup_program, target_for
from acoupi.system.state import celery_status
from acoupi.system.summary import Summary
from acoupi.targets import ServiceStatus, systemd
from acoupi.targets.systemd import every_unit
from acoupi.testing import make_deployment
from tests.docker.beside.hello_service import ENTRY_POINTS
from tests.golden.balena_rules import balena_problems
from tests.packages import install

SOURCE = Path(__file__).parents[2] / "docker" / "beside" / "hello_service.py"


@pytest.fixture
def _hello(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with such a service, installed."""
    files = {"hello_service.py": SOURCE.read_text()}
    install(monkeypatch, tmp_path / "package", ENTRY_POINTS, files)


@pytest.fixture
def settings(home: Path, _hello: None) -> Settings:
    return Settings(home=home)


def test_no_sensor_has_one_of_itself(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "demo", target="process", environ={})

    manifest = Manifest.read(settings.manifest_file)

    assert manifest is not None
    assert {one.role for one in manifest.services} == {"recorder", "worker", "beat"}


def test_in_containers_it_has_a_port_of_this_machine_and_a_network_of_its_own(
    settings: Settings,
) -> None:
    setup_program(settings, "demo", target="compose", environ={})

    text = (settings.home / "docker-compose.yml").read_text()
    content = yaml.safe_load(text)
    hello = content["services"]["hello"]
    assert hello["ports"] == ["127.0.0.1:${ACOUPI_PORT_HELLO:-8931}:8931"]
    assert hello["networks"] == ["hello"]
    masquerade = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert content["networks"] == {"hello": {"driver_opts": masquerade}}
    assert hello["read_only"] is True
    assert hello["cap_drop"] == ["ALL"]
    assert not {"devices", "device_cgroup_rules", "depends_on"} & set(hello)
    assert not any("broker" in str(one) for one in hello["volumes"])
    assert not any(name.startswith("ACOUPI_BROKER") for name in hello["environment"])
    assert hello["environment"]["ACOUPI_SECRETS"] == "withheld"
    assert bundle_problems(text) == []
    assert "#ACOUPI_PORT_HELLO=8931" in (settings.home / ".env").read_text()


def test_a_bundle_without_one_has_no_network_of_that_kind(home: Path) -> None:
    setup_program(Settings(home=home), "demo", target="compose", environ={})

    assert "networks:" not in (home / "docker-compose.yml").read_text()
    assert "ACOUPI_PORT" not in (home / ".env").read_text()


def test_on_balena_it_is_a_service_like_the_others(settings: Settings) -> None:
    setup_program(settings, "demo", target="balena", environ={})

    text = (settings.home / "balena" / "docker-compose.yml").read_text()
    hello = yaml.safe_load(text)["services"]["hello"]
    assert hello["ports"] == ["127.0.0.1:8931:8931"]
    assert hello["command"][-2:] == ["hello", "hello_service"]
    assert not any(volume.startswith(("key-", "broker:")) for volume in hello["volumes"])
    assert bundle_problems(text) == []
    assert balena_problems(text) == []
    readme = (settings.home / "balena" / "README.md").read_text()
    assert "hello" in readme
    assert "no network but the port 8931" in readme


def test_under_systemd_it_is_a_unit(settings: Settings) -> None:
    setup_program(settings, "demo", target="systemd", environ={})

    unit = (settings.home / "systemd" / "acoupi-hello.service").read_text()
    assert f'ExecStart="{settings.start_script_path}" "--foreground" "hello"\n' in unit
    assert "TimeoutStopSec=25\n" in unit
    assert every_unit(settings, Sensor.read(settings).services) == (
        "acoupi.service",
        "acoupi-beat.service",
        "acoupi-hello.service",
    )


def test_the_state_of_the_sensor_tells_how_it_is(settings: Settings) -> None:
    setup_program(settings, "demo", target="process", environ={})
    with ExitStack() as locks:
        for name in ("recording", "detection", "default", "beat"):
            locks.enter_context(ServiceLock(settings.run_dir, name))
            file = PulseFile(settings.run_dir, name)
            file.pulse = replace(file.pulse, state="ready")
            file.write()
        state = get_status(settings)

    assert [(one.name, one.state) for one in state.celery.others] == [("hello", "stopped")]
    assert state.celery.state == "notok"
    assert [(one["name"], one["state"]) for one in service_rows(state.celery)][-1] == (
        "hello",
        "stopped",
    )


def test_a_sensor_records_whether_it_runs_or_not(settings: Settings) -> None:
    ready = [
        ServiceStatus(name=name, role=role, state="ready")
        for name, role in (("recording", "recorder"), ("default", "worker"), ("beat", "beat"))
    ]
    hello = ServiceStatus(name="hello", role="hello", state="restarting")
    setup_program(settings, "demo", target="process", environ={})

    def told(*services: ServiceStatus) -> str:
        state = get_status(settings)
        state.celery = celery_status(Sensor.read(settings), list(services))
        state.deployment = make_deployment(name="Oak")
        now = {
            "status": state.model_dump(mode="json"),
            "next_recording": None,
            "disks": [],
            "version": "1",
            "clock": {"synchronised": None, "error_s": None},
            "timezone": "UTC",
        }
        return Summary(now, datetime.UTC, {}, {}, {}).rows()["recording"]

    assert told(*ready, replace(hello, state="ready")).startswith('at "Oak", since ')
    assert told(*ready, hello).startswith('at "Oak", since ')
    assert told(*ready, hello).endswith(" (hello restarting)")
    assert told(*ready[1:], replace(ready[0], state="stopped"), hello).startswith("should be at")


def test_its_unit_is_started_and_stopped_with_the_others(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    program = tmp_path / "fake" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>"{said}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr(systemd, "BOOTED", Path("/"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/")
    setup_program(settings, "demo", target="systemd", environ={})
    target = target_for(settings)

    target.up()
    target.down()

    lines = [line.split()[2:] for line in said.read_text().splitlines()]
    units = ["acoupi.service", "acoupi-beat.service", "acoupi-hello.service"]
    assert lines[1:3] == [["enable", *units], ["start", *units]]
    assert ["stop", "acoupi-hello.service"] in lines
    assert (systemd.unit_folder() / "acoupi-hello.service").is_file()


def test_as_a_process_it_is_started_by_the_same_script(settings: Settings) -> None:
    setup_program(settings, "demo", target="process", environ={})

    script = settings.start_script_path.read_text()
    assert "hello) service=(-m acoupi.services.serving hello hello_service) ;;" in script
    assert "services=(recording detection default beat hello)" in script
    assert "workers=(recording detection default)" in script


EXTRA = "from acoupi.stack.extra_services import extra_service as extra\n"
WRONG = {
    "fails": ("1 / 0", "ZeroDivisionError"),
    "is_none": ("def service(settings): return 3", "returned int"),
    "is_called_redis": (
        f"{EXTRA}def service(settings): return extra(settings, 'redis', 'x')",
        "redis",
    ),
    "has_the_name_of_a_worker": (
        f"{EXTRA}def service(settings): return extra(settings, 'default', 'x')",
        "declare default",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_declaration_that_is_wrong_is_named_at_setup(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    source, why = WRONG[case]
    name = f"service_that_{case}"
    place = {"acoupi.services": {name: f"{name}:service"}}
    install(monkeypatch, tmp_path / "package", place, {f"{name}.py": source})

    with pytest.raises(ConfigurationError) as caught:
        setup_program(Settings(home=home), "demo", target="process", environ={})

    assert len(caught.value.lines()) == 3
    assert why in caught.value.lines()[1]
    assert not home.exists()


GREETING = '''
from pydantic import BaseModel

from acoupi.config.sensor import load_sensor
from acoupi.stack.extra_services import extra_service


class Greet(BaseModel):
    """Whether somebody is greeted."""

    enabled: bool = False


def service(settings):
    if not load_sensor(settings).greet.enabled:
        return None
    return extra_service(settings, "greet", "greeting_of_a_test")
'''


def test_a_service_follows_the_settings_that_setup_is_given(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {
        "acoupi.services": {"greet": "greeting_of_a_test:service"},
        "acoupi.sensor": {"greet": "greeting_of_a_test:Greet"},
    }
    install(monkeypatch, tmp_path / "package", places, {"greeting_of_a_test.py": GREETING})
    sensor_schema.cache_clear()
    try:
        names = []
        for enabled in ("true", "false"):
            options = ["--sensor.greet.enabled", enabled]
            setup_program(Settings(home=home), "demo", options, target="process", environ={})
            manifest = Manifest.read(Settings(home=home).manifest_file)
            assert manifest is not None
            names.append("greet" in {one.name for one in manifest.services})
        assert names == [True, False]
    finally:
        sensor_schema.cache_clear()
