"""Setup: everything is checked first, and written last."""

import json
import stat
from pathlib import Path

import pytest

from acoupi.bundles.rendering import Manifest
from acoupi.errors import AcoupiError, ConfigurationError, ParameterError, TargetError
from acoupi.services.broker import load_celery_settings
from acoupi.stack.pulse import ServiceLock
from acoupi.system import Settings, SetupRequest, setup_diff, setup_program
from acoupi.system.config_history import history_file
from tests.unit.system.conftest import WriteModule

FILES = [
    ".generated.json",
    "app.py",
    "bin/acoupi-beat.sh",
    "bin/acoupi-workers-restart.sh",
    "bin/acoupi-workers-start.sh",
    "bin/acoupi-workers-stop.sh",
    "config/.setup.lock",
    "config/celery.json",
    "config/device.json",
    "config/env",
    "config/history.jsonl",
    "config/name",
    "config/program.json",
    "config/schedule.json",
]


def snapshot(home: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and folder of a home: content and mode."""
    if not home.exists():
        return {}
    return {
        path.relative_to(home).as_posix(): (
            path.read_bytes() if path.is_file() else b"",
            stat.S_IMODE(path.stat().st_mode),
        )
        for path in [home, *sorted(home.rglob("*"))]
        if path.name != "history.jsonl"  # it holds the time
    }


def test_a_setup_writes_what_a_sensor_needs(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)

    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert sorted(path.relative_to(settings.home).as_posix() for path in files) == FILES
    folders = [path.name for path in settings.home.iterdir() if path.is_dir()]
    assert sorted(folders) == ["bin", "config", "data", "log", "run"]
    assert settings.program_name_file.read_text() == f"{program_name}\n"
    assert all(path.stat().st_mode & 0o111 for path in (settings.home / "bin").iterdir())


def test_the_same_setup_twice_changes_nothing(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name, ["--site", "moor"])
    before, history = snapshot(settings.home), history_file(settings).read_bytes()

    setup_program(settings, program_name)

    assert snapshot(settings.home) == before
    assert history_file(settings).read_bytes() == history


def test_generated_files_do_not_depend_on_where_the_home_is(
    tmp_path: Path, program_name: str
) -> None:
    for name in ("one", "another home"):
        setup_program(Settings(home=tmp_path / name), program_name)

    one, another = (snapshot(tmp_path / name) for name in ("one", "another home"))

    assert one == another


def test_a_second_setup_keeps_earlier_answers(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name, ["--site", "moor", "--interval", "5"])

    setup_program(settings, program_name, ["--interval", "7"])

    found = json.loads(settings.program_config_file.read_text())
    assert (found["site"], found["interval"]) == ("moor", 7)


def test_the_broker_and_celery_options_are_kept_too(settings: Settings, program_name: str) -> None:
    setup_program(
        settings,
        program_name,
        ["--celery.task_time_limit", "90", "--site", "moor", "--celery.task_soft_time_limit=80"],
        broker="redis://hub:6379/1",
    )

    setup_program(settings, program_name)
    kept = load_celery_settings(settings)
    setup_program(settings, program_name, broker="embedded")

    assert (kept.task_time_limit, kept.task_soft_time_limit) == (90, 80)
    assert kept.broker_url == "redis://hub:6379/1"
    assert load_celery_settings(settings).broker_url is None
    assert json.loads(settings.program_config_file.read_text())["site"] == "moor"


def test_celery_can_be_set_by_variables(settings: Settings, program_name: str) -> None:
    environ = {"ACOUPI_CELERY__BROKER_URL": "redis://hub:6379/0"}

    setup_program(settings, program_name, environ=environ)

    assert load_celery_settings(settings).broker_url == "redis://hub:6379/0"


WRONG = [
    ["--nonsense", "1"],
    ["--interval", "soon"],
    ["--interval", "-5"],
    ["--celery.nonsense", "1"],
    ["--celery.task_time_limit", "-1"],
    ["--celery.task_time_limit", "5"],
    ["--celery.broker_url", "mqtt://guest@localhost"],
    ["--celery.broker_url", "redis:/x"],
]


@pytest.mark.parametrize("args", WRONG)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_refused_setup_changes_nothing(
    settings: Settings, program_name: str, args: list[str], is_new: bool
) -> None:
    if not is_new:
        setup_program(settings, program_name, ["--site", "moor"])
    before = snapshot(settings.home)

    with pytest.raises(AcoupiError) as caught:
        setup_program(settings, program_name, args)

    assert len(caught.value.lines()) == 3
    assert caught.value.exit_code == 2
    assert snapshot(settings.home) == before


def test_a_wrong_celery_option_is_named_as_it_was_written(
    settings: Settings, program_name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        setup_program(settings, program_name, ["--celery.task_time_limt", "5"])

    text = "\n".join(caught.value.lines())
    assert "--celery.task_time_limt" in text
    assert "--celery.task_time_limit" in text


def test_an_unknown_target_or_program_changes_nothing(
    settings: Settings, program_name: str
) -> None:
    with pytest.raises(TargetError, match='no target "proces"') as caught:
        setup_program(settings, program_name, target="proces")
    with pytest.raises(AcoupiError, match="cannot find the program"):
        setup_program(settings, "no.such.program")

    assert "--target process" in (caught.value.help or "")
    assert not settings.home.exists()


def test_two_recorders_are_refused_at_setup(settings: Settings, write_module: WriteModule) -> None:
    name = write_module(
        "two_recorders",
        """
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram, AcoupiWorker, WorkerConfig

class Config(BaseModel):
    site: str = "heath"

class Program(AcoupiProgram[Config]):
    config_schema = Config
    worker_config = WorkerConfig(workers=[
        AcoupiWorker(name="one", queues=["recording"], concurrency=1),
        AcoupiWorker(name="two", queues=["recording", "celery"], concurrency=1),
    ])

    def setup(self, config):
        def recording_task(): return None
        self.add_task(recording_task, schedule=1, queue="recording")
""",
    )

    with pytest.raises(ConfigurationError, match="2 workers of Program would record"):
        setup_program(settings, name)

    assert not settings.home.exists()


def test_an_edited_file_stops_a_setup_unless_forced(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)
    with settings.start_script_path.open("a") as script:
        script.write("# mine\n")
    before = snapshot(settings.home)

    with pytest.raises(ConfigurationError, match="edited by hand"):
        setup_program(settings, program_name, ["--site", "moor"])
    assert snapshot(settings.home) == before

    setup_program(settings, program_name, ["--site", "moor"], force=True)
    assert "# mine" not in settings.start_script_path.read_text()


def test_the_difference_of_a_setup_is_shown_and_not_made(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name)
    before = snapshot(settings.home)

    diffs = setup_diff(
        settings, SetupRequest(program_name, ["--interval", "5", "--password", "hush"])
    )

    changed = {one.path.name: one.diff for one in diffs if one.kind != "same"}
    assert sorted(changed) == ["program.json", "schedule.json"]
    assert '-        "every_s": 10.0' in changed["schedule.json"]
    assert "hush" not in "".join(changed.values())
    assert snapshot(settings.home) == before


def test_the_difference_of_a_first_setup_is_everything(
    settings: Settings, program_name: str
) -> None:
    diffs = setup_diff(settings, SetupRequest(program_name))

    assert {one.kind for one in diffs} == {"new"}
    assert not settings.home.exists()


def test_another_target_takes_its_files_and_leaves_none_of_the_old(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name, target="systemd")
    units = sorted(path.name for path in (settings.home / "systemd").iterdir())

    setup_program(settings, program_name, target="process")

    assert {"acoupi-beat.service", "acoupi.service"} <= set(units)
    assert not list((settings.home / "systemd").glob("*"))
    manifest = Manifest.read(settings.manifest_file)
    assert manifest is not None
    assert manifest.target == "process"


def test_a_sensor_is_not_moved_to_another_target_while_it_runs(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name, [], target="process")
    before = settings.manifest_file.read_bytes()

    with (
        ServiceLock(settings.run_dir, "recording"),
        pytest.raises(ConfigurationError, match="from the target process to systemd") as raised,
    ):
        setup_program(settings, program_name, [], target="systemd", force=True)

    assert "recording still run" in str(raised.value.why)
    assert settings.manifest_file.read_bytes() == before
    assert (settings.home / "bin" / "acoupi-workers-stop.sh").exists()
    setup_program(settings, program_name, [], target="systemd")


def test_the_target_of_before_is_kept(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name, target="systemd")

    setup_program(settings, program_name)

    manifest = Manifest.read(settings.manifest_file)
    assert manifest is not None
    assert manifest.target == "systemd"


def test_the_id_of_the_device_stays(settings: Settings, program_name: str) -> None:
    settings.device_file.parent.mkdir(parents=True)
    settings.device_file.write_text('{"id": "sensor-7"}\n')

    setup_program(settings, program_name)

    assert settings.device_file.read_text() == '{"id": "sensor-7"}\n'


def test_what_a_service_must_know_beside_the_home_is_written_down(
    home: Path, program_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "/sounds/it's a $wav,pace=fast")

    setup_program(Settings(home=home), program_name)

    lines = (home / "config" / "env").read_text().splitlines()[1:]
    assert lines == [
        "ACOUPI_LOG_LEVEL=DEBUG",
        'ACOUPI_SIMULATED_AUDIO="/sounds/it\'s a \\$wav,pace=fast"',
    ]


def test_a_script_that_could_not_find_its_home_is_refused(
    home: Path, tmp_path: Path, program_name: str
) -> None:
    settings = Settings(home=home, start_script_path=tmp_path / "start.sh")

    with pytest.raises(ConfigurationError, match="cannot put"):
        setup_program(settings, program_name)

    assert not home.exists()


def test_a_script_of_another_name_is_written_under_it(home: Path, program_name: str) -> None:
    settings = Settings(home=home, start_script_path=home / "bin" / "go.sh")

    setup_program(settings, program_name)

    assert (home / "bin" / "go.sh").is_file()
    assert "go.sh" in settings.restart_script_path.read_text()


@pytest.mark.parametrize("name", ["a\nb", "a\x01b"])
def test_a_home_with_a_control_character_is_refused(
    tmp_path: Path, program_name: str, name: str
) -> None:
    with pytest.raises(ConfigurationError, match="ACOUPI_HOME"):
        setup_program(Settings(home=tmp_path / name), program_name)


def test_a_home_that_is_a_file_is_refused(tmp_path: Path, program_name: str) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="ACOUPI_HOME") as caught:
        setup_program(Settings(home=tmp_path / "file"), program_name)

    assert "is a file" in (caught.value.why or "")


def test_the_password_of_a_broker_is_kept_with_the_secrets(
    settings: Settings, program_name: str
) -> None:
    url = "redis://sensor:pa55word@localhost:6379/0"

    setup_program(settings, program_name, broker=url)

    assert load_celery_settings(settings).broker_url == url
    assert [path.name for path in settings.home.rglob("*") if _holds(path, "pa55word")] == [
        "secrets.env"
    ]
    assert settings.secrets_file.stat().st_mode & 0o777 == 0o600

    setup_program(settings, program_name, broker="redis://localhost:6379/0")

    assert "pa55word" not in settings.secrets_file.read_text()


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and text in path.read_text(errors="replace")


@pytest.mark.parametrize("broken", ["celery.json", "program.json", "device.json"])
def test_a_broken_file_of_before_is_named(
    settings: Settings, program_name: str, broken: str
) -> None:
    setup_program(settings, program_name)
    (settings.home / "config" / broken).write_text("{")
    before = snapshot(settings.home)

    with pytest.raises(ConfigurationError, match=broken):
        setup_program(settings, program_name)

    assert snapshot(settings.home) == before


def test_a_value_in_the_wrong_place_is_not_swallowed(settings: Settings, program_name: str) -> None:
    with pytest.raises(ParameterError):
        setup_program(settings, program_name, ["stray", "--site", "moor"])
