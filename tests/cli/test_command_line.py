"""The command line as such: help, examples, errors, completion, and how soon it answers."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from acoupi import __version__, data
from acoupi.cli.app import app
from acoupi.cli.handler import AcoupiGroup
from acoupi.cli.home import complete
from acoupi.cli.table import COMMANDS
from acoupi.components import SqliteStore
from acoupi.errors import AcoupiError
from tests.cli.support import Run, lines_of

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).parent / "acoupi"


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, groups included."""
    command = command or typer.main.get_command(app)
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


LEAVES = [path for path in commands() if not any(o[: len(path)] == path != o for o in commands())]


def parse(words: list[str]) -> None:
    """Parse a command line and run nothing; raises if it is wrong."""
    command: Any = typer.main.get_command(app)
    context = None
    while True:
        context = command.make_context(words[0], words[1:], parent=context)
        if not hasattr(command, "commands"):
            return
        words = [*context._protected_args, *context.args]
        if not words:
            return
        _, command, rest = command.resolve_command(context, words)
        words = [words[0], *rest]


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_is_printed_for_every_command(run: Run, path: tuple[str, ...]) -> None:
    result = run(*path, "--help")

    assert result.exit_code == 0
    assert "Usage: acoupi" in result.stdout


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_one_example_and_it_parses(
    run: Run, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE", "BROKER", "BROKER_ADDRESS", "URL", "WORKER_TOKEN"):
        monkeypatch.setenv(f"ACOUPI_HUB_{name}", "set")  # as on the machine of a hub or a worker
    text = run(*path, "--help").stdout

    examples = re.findall(r"^ +(acoupi .*)$", text.partition("Example:")[2], re.MULTILINE)

    assert len(examples) == 1
    words = shlex.split(examples[0])
    assert tuple(words[1 : len(path) + 1]) == path
    parse(words)


def test_the_first_steps_parse(run: Run) -> None:
    lines = re.findall(
        r"^ +(acoupi (?:setup .*|check|start .*))$", run("--help").stdout, re.MULTILINE
    )

    assert len(lines) == 3
    for line in lines:
        parse(shlex.split(line))


def test_an_example_with_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(typer.BadParameter.__mro__[1]):
        parse(["acoupi", "deployment", "start", "--nmae", "x"])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    command: Any = typer.main.get_command(app)

    said = command.commands[name].help.partition("\n\n")[0]

    assert " ".join(said.split()) == COMMANDS[name].purpose


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout == f"acoupi {__version__}\n"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["setpu"], "'setup'"),
        (["deployment", "strat"], "'start'"),
        (["deployment", "start", "--nmae", "x"], "--nmae"),
        (["deployment", "start", "--name"], "--name"),
        (["task", "run"], "NAME"),
        (["workers", "start", "--log-level", "LOUD"], "LOUD"),
    ],
)
def test_a_command_line_that_is_wrong_gets_three_lines(
    run: Run, args: list[str], named: str
) -> None:
    result = run(*args)

    assert named in "".join(lines_of(result))
    assert result.exit_code == 2


def test_no_command_shows_the_help(run: Run) -> None:
    result = run()

    assert "Commands:" in result.output
    assert result.exit_code == 2


# ---- what goes wrong inside a command


def failing(error: BaseException) -> typer.Typer:
    """A command line with one command that fails."""
    broken = typer.Typer(cls=AcoupiGroup, rich_markup_mode=None, pretty_exceptions_enable=False)

    @broken.callback()
    def root(context: typer.Context, debug: bool = False) -> None:
        context.command.debug = debug  # type: ignore[attr-defined]

    @broken.command()
    def fail() -> None:
        raise error

    return broken


def test_an_error_of_ours_is_three_lines_and_its_exit_code() -> None:
    result = CliRunner().invoke(
        failing(AcoupiError("it broke.", "mend it", why="it was old.")), "fail"
    )

    assert result.stderr == "Error: it broke.\n  Why: it was old.\n  Try: mend it\n"
    assert result.stdout == ""
    assert result.exit_code == 1


def test_an_unexpected_error_is_one_clear_line_and_the_way_to_its_traceback() -> None:
    result = CliRunner().invoke(failing(RuntimeError("boom\nbang")), "fail")

    assert "RuntimeError: boom bang" in result.stderr
    assert "acoupi --debug fail" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.exit_code == 1


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(failing(RuntimeError("boom")), ["--debug", "fail"])

    assert "Traceback" in result.stderr
    assert result.exit_code == 1


def test_an_interrupt_ends_with_130() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()), "fail")

    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("code", [0, 3, 69])
def test_an_exit_code_is_passed_on(code: int) -> None:
    assert CliRunner().invoke(failing(typer.Exit(code)), "fail").exit_code == code


# ---- the console script


def console(*args: str, **extra: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *args], capture_output=True, text=True, timeout=60, check=False, **extra
    )


def test_the_console_script_ends_like_the_runner(home: Path) -> None:
    result = console("check")

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 3
    assert result.stderr.startswith("Error: there is no sensor")
    assert result.stdout == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{shlex.quote(str(SCRIPT))} config schema --program connected --json | head -c 1"

    result = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.stderr == ""
    assert result.stdout == "{"


def test_a_terminal_without_utf_8_is_no_error(home: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "ACOUPI_HOME": str(home)}

    result = console("setup", "--program", "test", env=environment)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell: str) -> None:
    environment = {
        **os.environ,
        "_ACOUPI_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "acoupi dep",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "acoupi dep",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }

    result = console(env=environment)

    assert "deployment" in result.stdout


def test_names_of_programs_targets_settings_and_tasks_can_be_completed(
    run: Run, home: Path
) -> None:
    before = complete.fields(""), complete.tasks("")
    run("setup", "--program", "connected")

    assert before == ([], [])
    assert complete.programs("con") == ["connected"]
    assert complete.targets("pro") == ["process"]
    assert complete.fields("recording.dur") == ["recording.duration"]
    assert "recording_task" in complete.tasks("rec")
    assert complete.presets("b") == ["bats", "birds"]
    assert complete.recordings("") == complete.detections("") == complete.deployments("") == []


def completed(words: str, shell: str, home: Path) -> list[str]:
    """What a shell is offered for the last of these words."""
    environment = {
        **os.environ,
        "ACOUPI_HOME": str(home),
        "_ACOUPI_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_TYPER_COMPLETE_ARGS": words,
    }
    offered = console(env=environment).stdout
    return offered.split() if shell == "bash" else re.findall(r'"([^"]+)"', offered)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_settings_and_ids(run: Run, sensor: Path, shell: str) -> None:
    run("start", "Old oak", "--no-check")
    store = SqliteStore(sensor / "data" / "metadata.db")
    deployment = store.get_current_deployment()
    recording = data.Recording(
        deployment=deployment, created_on=data.utc_now(), duration=1, samplerate=8000
    )
    store.store_recording(recording)
    detection = data.Detection(detection_score=0.5)
    store.store_model_output(
        data.ModelOutput(name_model="m", recording=recording, detections=[detection])
    )
    store.close()

    assert completed("acoupi config set recording.dur", shell, sensor) == ["recording.duration"]
    assert completed("acoupi setup --recording.dur", shell, sensor) == ["--recording.duration"]
    assert completed("acoupi setup --program sounds --recording.fol", shell, sensor) == [
        "--recording.follow_sun"
    ]
    assert completed("acoupi recordings show ", shell, sensor) == [str(recording.id)]
    assert completed("acoupi detections show ", shell, sensor) == [str(detection.id)]
    assert complete.deployments("Old") == ["Old oak"]


HEAVY = {
    "celery",
    "hashlib",
    "jinja2",
    "kombu",
    "numpy",
    "paho",
    "psutil",
    "pydantic",
    "requests",
    "rich",
    "ruamel",
    "yaml",
}


def loaded_by(args: list[str], code: int = 0) -> tuple[set[str], int]:
    """The modules that a command leaves loaded, and how often garbage was looked for meanwhile."""
    program = (
        "import gc, sys\n"
        "looks = []\n"
        "gc.callbacks.append(lambda phase, info: looks.append(phase))\n"
        f"sys.argv = ['acoupi', *{args!r}]\n"
        "from acoupi.cli import main\n"
        "try:\n    main()\n"
        f"except SystemExit as error: assert error.code == {code}, error.code\n"
        "print(looks.count('start'), *sorted(sys.modules), sep='\\n', file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    looks = max(index for index, line in enumerate(lines) if line.isdigit())
    return set(lines[looks + 1 :]), int(lines[looks])


@pytest.mark.parametrize("args", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    loaded, looks = loaded_by(args)

    assert "typer" in loaded
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith("acoupi.system")} == set()
    # Python itself has 33; how long it takes is told by scripts/bench cli
    assert len(loaded) <= 160
    assert looks <= 1, "the garbage collector costs more than the help"


def test_the_state_of_a_bundle_is_told_without_what_renders_and_detects(bundle: Path) -> None:
    loaded, looks = loaded_by(["status"])

    assert {"acoupi.targets.compose", "docker"} <= loaded
    rarely = {"celery", "jinja2", "kombu", "numpy", "paho", "rich", "ruamel", "soundfile", "yaml"}
    assert loaded & rarely == set()
    assert looks <= 5, "the garbage collector costs a sixth of the time"
