"""What the compose target renders: what is in it, what is never, and what outlives a setup."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from acoupi.bundles import rendering
from acoupi.bundles.ownership import host_owner
from acoupi.bundles.rendering import Manifest
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.services.address import broker_from_environment
from acoupi.services.broker import load_celery_settings
from acoupi.stack.broker_users import broker_rules
from acoupi.stack.mounting import own_files
from acoupi.system import Settings, setup_program, target_for
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.targets import load_target
from acoupi.targets.compose import ComposeTarget, project_name
from tests.services import require

MQTT = ["--messaging.mqtt.host", "localhost", "--messaging.mqtt.topic", "acoupi"]


def setup(settings: Settings, program: str = "demo", *args: str) -> None:
    setup_program(settings, program, list(args), target="compose", environ={})


def bundle(settings: Settings) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((settings.home / "docker-compose.yml").read_text())
    return content


def services(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = bundle(settings)["services"]
    return found


def sources(service: dict[str, Any]) -> dict[str, bool]:
    """Where the bind mounts of a service are from, and whether they are read-only."""
    return {
        one["source"]: one.get("read_only", False)
        for one in service["volumes"]
        if one["type"] == "bind"
    }


def env_file(settings: Settings) -> dict[str, str]:
    lines = (settings.home / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# --- one container for each worker ------------------------------------------------------


def test_every_worker_is_a_service_beside_redis_and_beat(settings: Settings) -> None:
    setup(settings)

    assert list(services(settings)) == ["redis", "recording", "detection", "default", "beat"]


def test_a_service_sees_of_the_home_what_it_needs(settings: Settings) -> None:
    setup(settings)

    home = str(settings.home)
    found = sources(services(settings)["default"])
    assert found == {
        f"{home}/secrets/broker/default": True,
        f"{home}/secrets/config": True,
        f"{home}/config": True,
        f"{home}/app.py": True,
        f"{home}/data": False,
        f"{home}/data/cache": True,
        f"{home}/log/default": False,
        f"{home}/run/default": False,
        f"{home}/run/door/detection": False,
    }


@pytest.mark.parametrize("name", ["detection", "beat"])
def test_who_writes_nothing_of_others_has_files_of_a_bounded_size_and_no_folder(
    settings: Settings, name: str
) -> None:
    setup(settings)

    service = services(settings)[name]
    written = {Path(path) for path, read_only in sources(service).items() if not read_only}
    assert written == {*own_files(settings, name)}
    assert all(path.is_file() for path in written)
    assert service["ulimits"] == {"fsize": 64 * 1024 * 1024}
    assert "ulimits" not in services(settings)["default"]


def test_calls_wait_in_memory_for_the_door(settings: Settings) -> None:
    setup(settings)

    options = bundle(settings)["volumes"]["waiting-detection"]["driver_opts"]
    assert (options["type"], options["device"]) == ("tmpfs", "tmpfs")
    assert "size=64m,nr_inodes=16384," in options["o"]
    target = str(settings.home / "waiting" / "detection")
    for name in ("detection", "default"):
        mounts = {one["target"]: one for one in services(settings)[name]["volumes"]}
        assert mounts[target] == {
            "type": "volume",
            "source": "waiting-detection",
            "target": target,
        }


def test_a_folder_outside_the_home_is_mounted_at_its_own_path(
    settings: Settings, tmp_path: Path
) -> None:
    disk = tmp_path / "disk $HOME"

    setup(settings, "demo", "--paths.recordings", str(disk))

    text = (settings.home / "docker-compose.yml").read_text()
    assert f"{tmp_path}/disk $$HOME" in text
    assert disk.is_dir()


@pytest.mark.parametrize(
    "place", ["/etc/recordings.db", "{home}/metadata.db", "{home}/secrets/a.db"]
)
def test_what_holds_more_than_a_container_may_see_is_not_mounted(
    settings: Settings, place: str
) -> None:
    path = place.format(home=settings.home)

    with pytest.raises(ConfigurationError, match="cannot have") as caught:
        setup(settings, "demo", "--paths.db_metadata", path)

    assert len(caught.value.lines()) == 3
    assert not settings.manifest_file.exists()


def test_nobody_has_a_network_who_sends_nothing(settings: Settings) -> None:
    setup(settings)

    assert {one.get("network_mode") for one in services(settings).values()} == {"none"}


def test_only_the_service_that_sends_messages_has_a_network(settings: Settings) -> None:
    setup(settings, "demo", *MQTT)

    found = services(settings)
    assert [name for name, one in found.items() if "network_mode" not in one] == ["default"]
    manifest = Manifest.read(settings.manifest_file)
    assert manifest is not None
    assert [one.name for one in manifest.services if one.network] == ["default"]


def test_the_recorder_is_given_the_time_of_a_recording_to_stop(settings: Settings) -> None:
    setup(settings, "demo", "--recording.duration", "45.5", "--recording.interval", "60")

    assert services(settings)["recording"]["stop_grace_period"] == "56s"


def test_models_are_ended_first_when_memory_runs_out_and_the_recorder_last(
    settings: Settings,
) -> None:
    setup(settings)

    scores = {name: one["oom_score_adj"] for name, one in services(settings).items()}
    assert sorted(scores, key=lambda name: scores[name]) == [
        "recording",
        "redis",
        "beat",
        "default",
        "detection",
    ]
    assert min(scores.values()) >= 0  # less needs a capability that not every engine has


def test_a_model_does_not_starve_the_recorder_of_the_processor(settings: Settings) -> None:
    setup(settings)

    shares = {name: one["cpu_shares"] for name, one in services(settings).items()}
    assert sorted(shares, key=lambda name: (-shares[name], name)) == [
        "recording",
        "beat",
        "redis",
        "default",
        "detection",
    ]
    assert shares["recording"] >= 16 * shares["detection"]


def test_the_health_of_a_service_is_its_pulse(settings: Settings) -> None:
    setup(settings)
    probes = {name: one["healthcheck"]["test"] for name, one in services(settings).items()}

    pulse = str(settings.run_dir / "recording" / "recording.json")
    assert probes["recording"] == ["CMD", "acoupi-health", pulse, '"last_error":null']
    pulse = str(settings.run_dir / "default" / "default.json")
    assert probes["default"] == ["CMD", "acoupi-health", pulse]


def test_redis_listens_on_a_socket_and_keeps_nothing(settings: Settings) -> None:
    setup(settings)

    command = services(settings)["redis"]["command"]
    assert command[command.index("--port") + 1] == "0"
    assert command[command.index("--save") + 1] == ""
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "${ACOUPI_BROKER_APPENDONLY:-no}"


def test_setup_gives_the_same_files_twice(settings: Settings) -> None:
    setup(settings)
    before = {path: path.read_bytes() for path in settings.home.rglob("*") if path.is_file()}

    setup(settings)

    assert {path: path.read_bytes() for path in before} == before


def test_homes_have_projects_of_their_own() -> None:
    names = [project_name(Path(home)) for home in ("/home/a/.acoupi", "/home/b/.acoupi", "/ü_$ 1")]

    assert len(set(names)) == 3
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)


def test_a_broker_of_somebody_else_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="another broker"):
        setup_program(settings, "demo", target="compose", environ={}, broker="redis://hub:6379/0")


# --- what compose says ---------------------------------------------------------------------


def compose_config(home: Path) -> dict[str, Any]:
    require("docker compose is not installed", shutil.which("docker") is not None)
    result = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    require("docker compose is not installed", "is not a docker command" not in result.stderr)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    content: dict[str, Any] = yaml.safe_load(result.stdout)
    return content


@pytest.mark.parametrize("program", ["test", "default", "connected", "demo", "sounds"])
def test_compose_reads_every_shipped_program_without_a_word(
    settings: Settings, program: str
) -> None:
    setup(settings, program)

    content = compose_config(settings.home)

    assert content["name"] == project_name(settings.home)
    assert set(content["services"]) == set(services(settings))


@pytest.mark.parametrize(
    "name", ["on", "a $b ${c} $$", 'it\'s "quoted" #no: {x}', "ü \U0001f987", "1"]
)
def test_a_home_of_any_name_is_what_compose_reads(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name)
    setup(settings)

    content = compose_config(settings.home)

    # What it writes is to be read by it again, so it writes each $ twice.
    beat, written = content["services"]["beat"], str(settings.home).replace("$", "$$")
    assert f"{written}/run/beat/beat.json" in [one["source"] for one in beat["volumes"]]
    assert beat["environment"]["ACOUPI_HOME"] == written


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(blacklist_categories=["Cs"])))
def test_any_text_survives_yaml(text: str) -> None:
    assert yaml.safe_load(rendering.compose_text(text)) == text.replace("$", "$$")


# --- .env ----------------------------------------------------------------------------------


def test_what_was_chosen_in_env_outlives_a_setup(settings: Settings) -> None:
    setup(settings)
    path = settings.home / ".env"
    path.write_text(path.read_text() + "ACOUPI_MEMORY_DETECTION=2g\nMINE='a b'\n")

    setup(settings)

    found = env_file(settings)
    assert found["ACOUPI_MEMORY_DETECTION"] == "2g"
    assert found["MINE"] == "'a b'"
    assert "ACOUPI_IMAGE" not in found


def test_env_may_be_edited_and_the_bundle_may_not(settings: Settings) -> None:
    setup(settings)
    target = target_for(settings)
    assert isinstance(target, ComposeTarget)
    (settings.home / ".env").write_text("ACOUPI_UID=7\nACOUPI_GID=8\n")
    target.check_files()

    (settings.home / "docker-compose.yml").write_text("services: {}\n")

    with pytest.raises(ConfigurationError, match="edited by hand"):
        target.check_files()


def test_env_may_have_comments_behind_what_is_chosen(settings: Settings) -> None:
    setup(settings)
    (settings.home / ".env").write_text(
        "ACOUPI_UID=7 # me\nACOUPI_GID='8' # mine\nACOUPI_IMAGE=heath/sensor:1 # of the heath\n"
    )

    setup(settings)

    target = target_for(settings)
    assert isinstance(target, ComposeTarget)
    assert (target.owner, target.image) == ((7, 8), "heath/sensor:1")
    assert env_file(settings)["ACOUPI_UID"] == "7 # me", "it stays as it was written"
    assert compose_config(settings.home)["services"]["beat"]["user"] == "7:8"


def test_a_user_that_is_no_number_is_refused(settings: Settings) -> None:
    setup(settings)
    (settings.home / ".env").write_text("ACOUPI_UID=pi\n")

    with pytest.raises(ConfigurationError, match="ACOUPI_UID"):
        setup(settings)


def test_the_override_is_left_alone(settings: Settings) -> None:
    setup(settings)
    override = settings.home / "docker-compose.override.yml"
    override.write_text("services: {beat: {mem_limit: 1g}}\n")

    setup_program(settings, "demo", target="compose", environ={}, force=True)

    assert override.read_text() == "services: {beat: {mem_limit: 1g}}\n"


def test_simulated_audio_is_written_down_and_its_folder_mounted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", f"{tmp_path}/wavs,pace=fast")

    setup(settings)

    assert env_file(settings)["ACOUPI_SIMULATED_AUDIO"] == f"{tmp_path}/wavs,pace=fast"
    found = services(settings)
    assert sources(found["recording"])[f"{tmp_path}/wavs"] is True
    assert f"{tmp_path}/wavs" not in sources(found["default"])


def test_sound_from_a_folder_that_is_written_leaves_it_to_be_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = str(tmp_path / "disk")
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", disk)

    setup(settings, "demo", "--paths.tmp_audio", disk)

    assert sources(services(settings)["recording"])[disk] is False


def test_root_sets_up_for_who_owns_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert host_owner(tmp_path / "none")[0] == 1000

    monkeypatch.setattr(os, "getuid", lambda: 501)
    monkeypatch.setattr(os, "getgid", lambda: 20)
    assert host_owner(tmp_path) == (501, 20)


# --- the broker ------------------------------------------------------------------------------


def stack_of(settings: Settings, program: str = "demo") -> Any:
    return plan_setup(settings, SetupRequest(program, target="compose", environ={})).stack


def keys(rules: str) -> set[str]:
    return {word[1:] for word in rules.split() if word.startswith("~")}


def test_only_beat_may_send_to_the_recorder(settings: Settings) -> None:
    rules = broker_rules(stack_of(settings))

    reach = {name for name, rule in rules.items() if "recording" in keys(rule)}
    assert reach == {"recording", "beat", "_host"}
    assert keys(rules["default"]) == {
        "celery",
        "detection",
        "unacked:default",
    }
    assert all(" -@all " in rule and "+@" not in rule for rule in rules.values())
    assert keys(rules["detection"]) == {"detection", "unacked:detection"}


def test_what_is_of_others_may_be_sent_to_and_not_be_taken(settings: Settings) -> None:
    for name, rule in broker_rules(stack_of(settings)).items():
        own, _, others = rule.partition(" ( ")
        if name == "_host":
            continue
        mine = {"default": "celery", "beat": ""}.get(name, name)
        assert keys(own) == ({mine, f"unacked:{name}"} if mine else set())
        assert {word for word in others.split() if word[0] == "+"} <= {"+lpush", "+llen", "+exists"}


def test_a_model_may_send_to_where_its_results_go(settings: Settings) -> None:
    stack = stack_of(settings)
    assert stack.result_queues == ()

    followed = replace(stack, result_queues=("celery",))
    assert broker_rules(followed)["detection"].endswith("( +lpush +llen +exists ~celery )")
    unknown = broker_rules(replace(stack, result_queues=None))["detection"]
    assert unknown.endswith("( +lpush +llen +exists ~celery )")


def test_passwords_are_made_once_and_only_their_digest_is_with_redis(settings: Settings) -> None:
    setup(settings)
    folder = settings.home / "secrets" / "broker"
    before = {path.name: path.read_text() for path in folder.iterdir()}

    setup(settings)

    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    acl = before.pop("users.acl")
    assert "user default off" in acl
    assert "user acoupi-default on #" in acl
    assert len(set(before.values())) == len(before) == 5
    public = [path for path in settings.home.rglob("*") if path.is_file() and path.parent != folder]
    for password in before.values():
        assert password.strip() not in acl
        assert all(password.strip() not in path.read_text() for path in public)


def test_nobody_else_reads_the_secrets(settings: Settings) -> None:
    setup(settings)
    folder = settings.home / "secrets" / "broker"

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} <= {0o600, 0o640}
    manifest = Manifest.read(settings.manifest_file)
    assert manifest is not None
    assert not any("secrets" in name or name == ".env" for name in manifest.files)


def test_the_broker_is_taken_from_the_environment(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("p/w@1\n")
    monkeypatch.setenv("ACOUPI_BROKER", "redis+socket:///run/broker/redis.sock")
    monkeypatch.setenv("ACOUPI_BROKER_USER", "acoupi-default")
    monkeypatch.setenv("ACOUPI_BROKER_PASSWORD_FILE", str(tmp_path / "password"))

    url = load_celery_settings(settings).broker_url

    assert url == "redis+socket://acoupi-default:p%2Fw%401@/run/broker/redis.sock"


def test_a_password_that_is_not_there_is_said() -> None:
    environ = {"ACOUPI_BROKER": "redis://x", "ACOUPI_BROKER_PASSWORD_FILE": "/none"}

    with pytest.raises(AcoupiError, match="cannot read the password"):
        broker_from_environment(environ)


# --- what is never started ---------------------------------------------------------------------


def test_the_target_is_found_by_its_name(settings: Settings) -> None:
    assert isinstance(load_target("compose", settings), ComposeTarget)


# --- sound without a microphone ------------------------------------------------------------


def test_the_overlay_of_simulated_audio_names_the_recorder_of_its_bundle(
    settings: Settings,
) -> None:
    setup_program(settings, "tests.unit.system.other_recorder", target="compose", environ={})

    text = (settings.home / "simulated-audio.yml").read_text()
    assert '"ears":' in text
    assert "recording:" not in text


def test_the_committed_overlay_is_that_of_the_default_program(settings: Settings) -> None:
    setup(settings, "default")

    committed = Path(__file__).parents[3] / "compose" / "simulated-audio.yml"
    assert (settings.home / "simulated-audio.yml").read_text() == committed.read_text()


def test_a_program_that_does_not_record_has_no_such_overlay(settings: Settings) -> None:
    setup(settings, "test")

    assert not (settings.home / "simulated-audio.yml").exists()
