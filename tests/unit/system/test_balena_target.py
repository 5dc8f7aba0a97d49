"""The folder of a balena fleet: what goes into it, and what is refused by name."""

from pathlib import Path

import pytest
import yaml

from acoupi.errors import ConfigurationError, TargetError
from acoupi.system import Settings, setup_program, target_for
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.targets.balena import write_balena_folder

TOKEN = "sesame-4711"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def services(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load(
        (folder / "docker-compose.yml").read_text()
    )["services"]
    return found


def test_setup_makes_a_folder_to_be_pushed_with_what_the_image_is_built_from(
    settings: Settings,
) -> None:
    setup_program(settings, "default", target="balena", environ={})
    folder = settings.home / "balena"

    assert {"docker-compose.yml", "balena.yml", "README.md", "sensor"} == {
        path.name for path in folder.iterdir()
    }
    assert (folder / "sensor" / "images" / "sensor" / "Dockerfile").is_file()
    assert (folder / "sensor" / "acoupi" / "__init__.py").is_file()
    assert not list((folder / "sensor").rglob("__pycache__"))


def test_who_writes_nothing_of_others_writes_to_memory_of_a_bounded_size(
    settings: Settings,
) -> None:
    setup_program(settings, "demo", target="balena", environ={})

    content = yaml.safe_load((settings.home / "balena" / "docker-compose.yml").read_text())
    bounded = {name for name, kind in content["volumes"].items() if kind}
    own = {f"{kind}-{name}" for kind in ("log", "run") for name in ("detection", "beat")}
    assert bounded == {*own, "waiting-detection"}
    for name in ("detection", "beat"):
        mounts = [one.split(":") for one in content["services"][name]["volumes"]]
        written = {source for source, _, *mode in mounts if mode != ["ro"]}
        assert written <= bounded


def test_the_time_zone_of_this_machine_is_not_given_to_the_devices(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Lima")
    folder = settings.home / "balena"

    def given() -> object:
        environment = services(folder)["setup"]["environment"]
        assert isinstance(environment, dict)
        return environment.get("ACOUPI_CONFIG__TIMEZONE")

    setup_program(settings, "default", target="balena", environ={})
    assert given() is None
    assert "TIMEZONE" not in (folder / "balena.yml").read_text()
    setup_program(settings, "default", ["--recording.duration", "5"], target="balena", environ={})
    assert given() is None  # nobody has answered yet
    for _ in range(2):  # an answer stays, also one that is the default
        setup_program(settings, "default", ["--timezone", "Europe/London"], target="balena")
        assert given() == "Europe/London"
    setup_program(settings, "default", target="balena", environ={})
    assert given() == "Europe/London"


def test_answers_are_given_to_setup_and_secrets_are_only_named(settings: Settings) -> None:
    options = ["--recording.duration", "5", "--messaging.http.base_url", "https://here/$in"]
    options += ["--messaging.http.token", TOKEN, "--paths.recordings", f"{settings.home}/data/kept"]

    setup_program(settings, "connected", options, target="balena", environ={})
    folder = settings.home / "balena"
    given = services(folder)["setup"]["environment"]
    others = [one for name, one in services(folder).items() if name != "setup"]

    assert isinstance(given, dict)
    assert given["ACOUPI_CONFIG__RECORDING__DURATION"] == "5.0"
    assert given["ACOUPI_CONFIG__MESSAGING__HTTP__BASE_URL"] == "https://here/$$in"
    assert given["ACOUPI_CONFIG__PATHS__RECORDINGS"] == "/acoupi/data/kept"
    assert "ACOUPI_CONFIG__" not in str(others)
    for path in folder.glob("*.*"):
        assert TOKEN not in path.read_text()
        assert str(settings.home) not in path.read_text()
    assert "ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN VALUE" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("program", "option", "value"),
    [
        ("default", "--paths.recordings", "/media/usb/recordings"),
        ("default", "--microphone.simulated.path", "/srv/sounds"),
        ("connected", "--messaging.messages_db", "/var/lib/messages.db"),
    ],
)
def test_what_is_outside_the_volumes_is_refused_by_name(
    settings: Settings, program: str, option: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match="balena device") as caught:
        setup_program(settings, program, [option, value], target="balena", environ={})

    assert str(Path(value).parent) in caught.value.message
    assert not settings.home.exists()


def test_a_secret_folder_of_the_home_is_not_carried(settings: Settings) -> None:
    place = str(settings.home / "secrets" / "x")

    with pytest.raises(ConfigurationError, match="secrets"):
        setup_program(settings, "default", ["--paths.recordings", place], target="balena")


def test_another_broker_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="another broker"):
        setup_program(settings, "default", target="balena", broker="redis://hub:6379/0", environ={})


def test_the_group_of_the_sound_devices_can_be_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_AUDIO_GID", "17")
    setup_program(settings, "default", target="balena", environ={})

    assert services(settings.home / "balena")["recording"]["group_add"] == ["17"]

    monkeypatch.setenv("ACOUPI_AUDIO_GID", "audio")
    with pytest.raises(ConfigurationError, match="ACOUPI_AUDIO_GID"):
        setup_program(settings, "default", target="balena", environ={})


def test_nothing_of_a_fleet_is_started_or_known_here(settings: Settings) -> None:
    setup_program(settings, "default", target="balena", environ={})
    target = target_for(settings)

    for act in (target.up, target.down, target.check, target.logs):
        with pytest.raises(TargetError, match="here"):
            act()
    assert {one.state for one in target.status()} == {"unknown"}
    assert [one.name for one in target.status()] == ["recording", "default", "beat"]


def test_a_folder_can_be_written_anywhere_and_again(tmp_path: Path, settings: Settings) -> None:
    stack = plan_setup(settings, SetupRequest("default", target="balena", environ={})).stack
    folder = tmp_path / "fleet"

    write_balena_folder(folder, stack, settings)
    write_balena_folder(folder, stack, settings)
    (folder / "balena.yml").write_text("name: mine\n")

    with pytest.raises(ConfigurationError, match=r"balena\.yml"):
        write_balena_folder(folder, stack, settings)
    write_balena_folder(folder, stack, settings, force=True)
    assert "mine" not in (folder / "balena.yml").read_text()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, settings: Settings) -> None:
    stack = plan_setup(settings, SetupRequest("default", target="balena", environ={})).stack
    (tmp_path / "sensor").mkdir()

    for force in (False, True):
        with pytest.raises(ConfigurationError, match="write into"):
            write_balena_folder(tmp_path, stack, settings, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["sensor"]


def test_a_package_that_is_not_there_is_said_before_anything_is_written(
    tmp_path: Path, settings: Settings
) -> None:
    stack = plan_setup(settings, SetupRequest("default", target="balena", environ={})).stack
    folder = tmp_path / "fleet"

    with pytest.raises(TargetError, match="no Python package"):
        write_balena_folder(folder, stack, settings, packages=["./absent"])

    assert not folder.exists()


def test_a_program_of_others_is_part_of_what_is_built(tmp_path: Path, settings: Settings) -> None:
    stack = plan_setup(settings, SetupRequest("default", target="balena", environ={})).stack
    folder = tmp_path / "fleet"

    write_balena_folder(folder, stack, settings, packages=["acoupi-birdnet>=1"])
    build = yaml.safe_load((folder / "docker-compose.yml").read_text())["x-service"]["build"]
    sources = folder / build["context"]

    assert (sources / "program" / "requirements.txt").read_text() == "acoupi-birdnet>=1\n"
    lines = (sources / build["dockerfile"]).read_text().splitlines()
    assert lines.count("COPY program/requirements.txt program/source[s] /context/") == 1
    assert any(" program/weights /opt/acoupi/" in line for line in lines)
    assert [*(sources / "program" / "weights").iterdir()], "empty folders may not be sent"
    assert not any("${SENSOR}" in line for line in lines)
