"""``acoupi setup``: from options, files, variables and answers to a home, or to nothing."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from acoupi.cli.setup import app
from acoupi.config.names import SETUP_OPTIONS
from acoupi.stack.pulse import ServiceLock
from acoupi.system import Settings
from tests.cli.support import Calls, Run, Sound, data_of, lines_of, tree_of
from tests.packages import install


def config_in(home: Path) -> dict[str, object]:
    config: dict[str, object] = json.loads((home / "config" / "program.json").read_text())
    return config


@pytest.mark.parametrize("program", ["default", "connected", "test", "demo"])
def test_every_shipped_program_is_set_up_without_a_question(
    run: Run, home: Path, program: str
) -> None:
    result = run("setup", "--program", program)

    assert result.exit_code == 0, result.stderr
    assert (home / "config" / "name").read_text() == f"{program}\n"
    assert str(home) in result.stdout


def test_options_a_file_and_variables_come_together(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sensor.yaml"
    file.write_text("timezone: Europe/Paris\nrecording:\n  duration: 4\n  interval: 40\n")
    monkeypatch.setenv("ACOUPI_CONFIG__RECORDING__INTERVAL", "50")

    result = run(
        "setup", "--program", "default", "--config", str(file), "--recording.duration", "5"
    )

    assert result.exit_code == 0, result.stderr
    config = config_in(home)
    assert config["timezone"] == "Europe/Paris"
    assert isinstance(config["recording"], dict)
    assert (config["recording"]["duration"], config["recording"]["interval"]) == (5, 50)


@pytest.mark.parametrize("written", ["TASK_TIME_LIMIT=abc", "TASK_TIME_LIMT=600"])
def test_a_wrong_variable_of_celery_is_named_and_what_is_advised_works(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    name, _, value = f"ACOUPI_CELERY__{written}".partition("=")
    monkeypatch.setenv(name, value)

    result = run("setup", "--program", "default")

    assert result.exit_code == 2
    lines = lines_of(result)
    assert name in lines[0]
    advice = lines[2].removeprefix("  Try: ")
    wanted = "ACOUPI_CELERY__TASK_TIME_LIMIT" + ("=600" if value == "abc" else "")
    assert advice == wanted
    monkeypatch.delenv(name)
    better, _, number = advice.partition("=")
    monkeypatch.setenv(better, number or value)
    assert run("setup", "--program", "default").exit_code == 0
    assert json.loads((home / "config" / "celery.json").read_text())["task_time_limit"] == 600


def test_a_wrong_option_of_celery_is_named(run: Run) -> None:
    result = run("setup", "--program", "default", "--celery.task_time_limit", "abc")

    assert "--celery.task_time_limit cannot be" in lines_of(result)[0]
    assert lines_of(result)[2] == "  Try: --celery.task_time_limit 600"


def test_a_second_setup_keeps_the_answers_of_the_first(run: Run, home: Path) -> None:
    run("setup", "--program", "default", "--recording.duration", "5")

    result = run("setup", "--recording.interval", "30")

    assert result.exit_code == 0, result.stderr
    recording = config_in(home)["recording"]
    assert isinstance(recording, dict)
    assert (recording["duration"], recording["interval"]) == (5, 30)


def test_a_secret_is_kept_apart(run: Run, home: Path) -> None:
    options = ["--messaging.mqtt.host", "hub", "--messaging.mqtt.username", "bat"]
    options += ["--messaging.mqtt.password", "hunter2"]

    result = run("setup", "--program", "connected", *options)

    assert result.exit_code == 0, result.stderr
    secrets = home / "config" / "secrets.env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    holders = [name for name, content in tree_of(home).items() if b"hunter2" in content]
    assert holders == ["config/secrets.env"]
    assert "hunter2" not in run("config", "get").stdout
    assert "hunter2" not in run("setup", "--diff", "--messaging.mqtt.password", "other").stdout


@pytest.mark.parametrize(
    ("args", "named", "why", "help_"),
    [
        (["--program", "defualt"], '"defualt"', "default", "acoupi setup --program default"),
        (["--recording.duratoin", "3"], "--recording.duratoin", "duration", "--recording.duration"),
        (["--recording.duration", "-3"], '"-3"', "greater than 0", "--recording.duration 3"),
        (["--recording.schedule_start", "25:00"], '"25:00"', "time of day", "06:00"),
        (["--microphone.samplerate", "0"], '"0"', "greater than 0", "48000"),
        (["--timezone", "Europe/Londno"], "Europe/Londno", "Europe/London", "Europe/London"),
        (
            ["--paths.tmp_audio", "/a", "--paths.recordings", "/a"],
            "--paths",
            "different folders",
            "--paths",
        ),
        (["--config", "nowhere.yaml"], "nowhere.yaml", "No such file", "nowhere.yaml"),
        (["--config", "https://a.org/x.yaml"], "x.yaml", "it is a URL", "curl -fLo"),
        (["--target", "proces"], '"proces"', "process", "--target process"),
        (["--broker", "http://x"], "http://x", "redis", "redis"),
        (["extra"], '"extra"', "quotes", "acoupi setup --help"),
        (["--config"], "--config", "acoupi setup", "--help"),
    ],
)
def test_bad_input_gets_three_lines_and_changes_nothing(
    run: Run, home: Path, args: list[str], named: str, why: str, help_: str
) -> None:
    program = [] if "--program" in args else ["--program", "default"]

    result = run("setup", *program, *args)

    lines = lines_of(result)
    assert named in lines[0]
    assert why in lines[1]
    assert help_ in lines[2]
    assert result.exit_code in (1, 2)
    assert "--target" in args or result.exit_code == 2
    assert not home.exists()


def test_a_program_whose_import_fails_says_what_is_missing(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_bats.py").write_text("import a_model_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)

    result = run("setup", "--program", "my_bats")

    assert "a_model_nobody_has" in lines_of(result)[1]
    assert result.exit_code == 2
    assert not home.exists()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("c.json", '{"recording": {"duration": 3,}}', "line 1"),
        ("c.yaml", "recording:\n  duration: [3\n", "line 3"),
        ("c.toml", "[recording\nduration = 3", "line 1"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    run: Run, home: Path, tmp_path: Path, name: str, text: str, line: str
) -> None:
    file = tmp_path / name
    file.write_text(text)

    result = run("setup", "--program", "default", "--config", str(file))

    lines = lines_of(result)
    assert line in lines[0]
    assert str(file) in lines[2]
    assert result.exit_code == 2
    assert not home.exists()


def test_a_broken_home_is_not_made_worse(run: Run, home: Path) -> None:
    run("setup", "--program", "default")
    (home / "config" / "program.json").write_text('{"recording": ')
    before = tree_of(home)

    result = run("setup", "--recording.duration", "5")

    assert "program.json" in lines_of(result)[0]
    assert result.exit_code == 2
    assert tree_of(home) == before


def test_a_file_edited_by_hand_stops_setup_unless_forced(run: Run, home: Path) -> None:
    run("setup", "--program", "default")
    script = home / "bin" / "acoupi-beat.sh"
    script.write_text(script.read_text() + "# mine\n")

    stopped = run("setup", "--recording.duration", "5")
    forced = run("setup", "--recording.duration", "5", "--force")

    assert "bin/acoupi-beat.sh" in lines_of(stopped)[0]
    assert stopped.exit_code == 2
    assert forced.exit_code == 0
    assert "# mine" not in script.read_text()


def test_a_home_that_cannot_be_written_gets_a_clean_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ACOUPI_HOME", str(tmp_path / "file" / "home"))

    result = run("setup", "--program", "default")

    assert "file" in "".join(lines_of(result))


@pytest.mark.parametrize(("number", "said"), [(28, "No space left"), (30, "Read-only file")])
def test_a_disk_that_refuses_leaves_the_home_as_it_was(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    run("setup", "--program", "default")
    before = tree_of(home)
    calls = []

    def refuse(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 4:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)

    result = run("setup", "--recording.duration", "5")

    assert said.lower() in lines_of(result)[1].lower()
    assert result.exit_code == 1
    assert tree_of(home) == before


def test_diff_shows_what_would_change_and_changes_nothing(run: Run, home: Path) -> None:
    run("setup", "--program", "default")
    before = tree_of(home)

    text = run("setup", "--diff", "--recording.duration", "5")
    changes = data_of(run("setup", "--diff", "--json", "--recording.duration", "5"))
    nothing = run("setup", "--diff")

    assert '-    "duration": 3.0' in text.stdout
    assert '+    "duration": 5.0' in text.stdout
    assert {"path", "kind", "diff"} == set(changes[0])
    assert "Nothing would change" in nothing.stdout
    assert tree_of(home) == before


def test_a_variable_that_is_none_of_ours_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_CONFIG__RECORDING__DURATOIN", "3")

    lines = lines_of(run("setup", "--program", "default"))

    assert lines[2] == "  Try: ACOUPI_CONFIG__RECORDING__DURATION"


def test_a_wrong_variable_of_the_settings_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_CELERY_POOL_TYPE", "swimming")

    result = run("setup", "--program", "default")

    assert "ACOUPI_CELERY_POOL_TYPE" in lines_of(result)[0]
    assert result.exit_code == 2


def test_a_setting_is_never_hidden_by_an_option_of_setup() -> None:
    declared = [one for param in get_command(app).params for one in param.opts]
    declared += [one for param in get_command(app).params for one in param.secondary_opts]

    assert {one.removeprefix("--") for one in declared} | {"help"} == SETUP_OPTIONS


@pytest.mark.parametrize(
    "args",
    [["--verbosity", "5"], ["--recording.zzz", "5"], ["--config", "wrong.yaml"]],
)
def test_the_settings_are_listed_as_advised_before_there_is_a_sensor(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text("recording: {zzz: 5}\n")

    failed = run("setup", "--program", "default", "--target", "process", "--no-prompt", *args)

    advice = lines_of(failed)[-1].removeprefix("  Try: acoupi ")
    assert failed.exit_code == 2
    assert advice.startswith("config schema --program default")
    assert run(*advice.split()).exit_code == 0


def test_without_a_program_the_programs_are_named(run: Run) -> None:
    result = run("setup")

    lines = lines_of(result)
    assert "connected" in lines[1]
    assert lines[2] == "  Try: acoupi setup --program default"
    assert result.exit_code == 2


def test_a_running_deployment_is_reminded_of_a_restart(run: Run, sensor: Path) -> None:
    run("deployment", "start", "--name", "oak")

    result = run("setup", "--recording.duration", "2")

    assert "acoupi workers restart" in result.stderr


def test_services_that_run_without_a_deployment_are_too(run: Run, sensor: Path) -> None:
    with ServiceLock(Settings(home=sensor).run_dir, "recording"):
        told = run("setup", "--recording.duration", "2")
    silent = run("setup", "--recording.duration", "3")

    assert "keep the old settings" in told.stderr
    assert "old settings" not in silent.stderr


# ---- answers


def test_the_program_can_be_chosen_from_a_list(run: Run, home: Path) -> None:
    result = run("setup", "--prompt", input="test\n\n\n")

    assert result.exit_code == 0, result.stderr
    assert "What should the sensor do?" in result.stdout
    assert (home / "config" / "name").read_text() == "test\n"


def test_a_wrong_answer_is_asked_again(run: Run, home: Path) -> None:
    given = [
        "--timezone",
        "UTC",
        "--microphone",
        "{}",
        "--paths",
        "{}",
        "--recording_saving",
        "null",
    ]
    answers = "y\n0\n7\n\n\n\n\n"

    result = run("setup", "--program", "default", "--prompt", *given, input=answers)

    assert result.exit_code == 0, result.stderr
    assert "greater than 0" in result.stderr
    recording = config_in(home)["recording"]
    assert isinstance(recording, dict)
    assert recording["duration"] == 7


MQTT_ONLY = [
    *("--timezone", "UTC", "--microphone", "{}", "--paths", "{}", "--recording", "{}"),
    *("--recording_saving", "null", "--messaging.http", "null", "--messaging.file", "null"),
    *("--messaging.mqtt.host", "hub", "--messaging.mqtt.username", "bat"),
]


def test_a_secret_is_asked_for_unseen_and_kept_apart(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: list[str] = []

    def prompt(
        text: str, default: object = None, *, hide_input: bool = False, **_: object
    ) -> object:
        if hide_input:
            hidden.append(text)
            return "hunter2"
        return default

    monkeypatch.setattr("typer.prompt", prompt)

    result = run("setup", "--program", "connected", "--prompt", *MQTT_ONLY)

    assert result.exit_code == 0, result.stderr
    assert [text.partition(": ")[0] for text in hidden] == ["messaging > mqtt > password"]
    assert "hunter2" not in result.output
    assert "hunter2" in (home / "config" / "secrets.env").read_text()


def test_an_input_that_ends_changes_nothing(run: Run, home: Path) -> None:
    result = run("setup", "--program", "default", "--prompt", input="UTC\n")

    assert result.stderr.splitlines()[-3:] == [
        "Error: not finished; nothing was changed.",
        "  Why: the input ended before the last question.",
        "  Try: give the answers as options, and --no-prompt",
    ]
    assert result.exit_code == 2
    assert not home.exists()


def test_microphones_are_listed_with_their_rates(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Sound("UltraMic: USB Audio (hw:7,0)", rates=(192_000, 384_000))
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    given = [
        "--timezone",
        "UTC",
        "--recording",
        "{}",
        "--paths",
        "{}",
        "--recording_saving",
        "null",
    ]

    result = run(
        "setup", "--program", "default", "--prompt", *given, input="y\n1\n384000\n\n\n\n\n\n"
    )

    assert result.exit_code == 0, result.stderr
    assert "192000, 384000" in result.stdout
    microphone = config_in(home)["microphone"]
    assert isinstance(microphone, dict)
    assert (microphone["device_name"], microphone["samplerate"]) == ("UltraMic", 384000)


@pytest.mark.parametrize("option", ["--defaults", "--yes", "--non-interactive", "--no-prompts"])
def test_who_wants_to_be_asked_nothing_is_told_how(
    run: Run, target: Calls, home: Path, option: str
) -> None:
    result = run("setup", "--program", "connected", "--target", "fake", option)

    assert "acoupi setup --no-prompt" in lines_of(result)[2]
    assert result.exit_code == 2


def test_setup_never_clears_the_screen(run: Run, target: Calls) -> None:
    assert "\x1b[2J" not in run("setup", "--program", "test", color=True).output


TARGET = """
from pathlib import Path

from acoupi.bundles.rendering import render_tree
from acoupi.targets import Target


class Pager(Target):
    name = "pager"
    next_step = "ring the pager"

    def files(self, stack):
        return render_tree(Path(__file__).parent / "pager_templates", {"names": stack.names})

    def up(self): ...

    def down(self): ...

    def status(self):
        return []

    def logs(self, service=None, lines=50):
        return {}
"""


def test_a_target_of_another_package_is_a_module_and_a_folder_of_templates(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"acoupi.targets": {"pager": "acoupi_pager:Pager"}}
    files = {"acoupi_pager.py": TARGET, "pager_templates/list.txt.jinja2": "{{ names | join }}\n"}
    install(monkeypatch, tmp_path / "package", place, files, name="acoupi-pager")

    result = run("setup", "--program", "test", "--target", "pager", "--no-prompt")

    assert result.exit_code == 0, result.stderr
    assert "Next: ring the pager" in result.stdout
    assert (home / "list.txt").read_text() == "acoupibeat\n"
    assert run("compose", "up").exit_code == 1
    assert run("doctor").exit_code == 0


def test_units_of_the_system_are_asked_for_and_kept(run: Run, home: Path) -> None:
    first = run("setup", "--program", "test", "--target", "systemd", "--system", "--no-prompt")
    again = run("setup", "--no-prompt")

    assert (first.exit_code, again.exit_code) == (0, 0), first.stderr + again.stderr
    assert "\nUser=" in (home / "systemd" / "acoupi.service").read_text()


def test_only_systemd_has_units_of_the_system(run: Run, home: Path) -> None:
    result = run("setup", "--program", "test", "--target", "process", "--system", "--no-prompt")

    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == "Error: --system cannot be used with --target process."
    assert len(lines) == 3
    assert not home.exists()
