"""What is printed fits terminals of 60 to 200 columns: no name is cut; no colour if unwanted."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from acoupi import data
from acoupi.cli.app import WIDEST_HELP, app
from acoupi.cli.tables import layout_table
from acoupi.components import SqliteStore
from acoupi.system import Settings
from acoupi.system.deployments import read_deployment
from tests.cli.on_a_terminal import on_a_terminal
from tests.cli.support import Run

WIDTHS = (60, 80, 120, 200)
SITE = "Old oak at the north-western corner of the lower meadow"
SPECIES = "Rhinolophus ferrumequinum"


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, with the groups above it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


EVERY = list(commands(typer.main.get_command(app)))


def too_long(text: str, width: int) -> list[str]:
    """Lines that are longer, and not because of one word that cannot be broken."""
    return [line for line in text.splitlines() if len(line) > width and " " in line.strip()]


def help_of(command: Any, path: tuple[str, ...], width: int) -> str:
    """The help as a terminal of that width has it; `CliRunner` has one of 80 columns only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        name = " ".join(["acoupi", *path])
        context = command.context_class(command, info_name=name, max_content_width=WIDEST_HELP)
        return str(command.get_help(context))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_help_of_every_command_names_everything_whole(width: int) -> None:
    for path, command in EVERY:
        text = help_of(command, path, width)

        words = text.split()
        options = [name for one in command.params for name in one.opts if name.startswith("--")]
        shown = [*options, *getattr(command, "commands", {})]
        hidden = {name for one in command.params if getattr(one, "hidden", 0) for name in one.opts}
        bare = {part for word in words for part in word.strip(",").split("/")}
        assert [name for name in shown if name not in bare | hidden] == [], path
        assert "…" not in text
        assert [line for line in text.splitlines() if re.search(r"\w\.\.\.$", line)] == [], path
        examples = text.partition("Example:")[2]
        assert too_long(text.removesuffix(examples), width) == [], path
        assert too_long(examples, 80) == [], path


@pytest.fixture
def recorded(run: Run, sensor: Path) -> Path:
    started = run("start", SITE, "--at", "51.54,-0.02", "--no-check")
    assert started.exit_code == 0, started.stderr
    deployment = read_deployment(Settings(home=sensor))
    assert deployment is not None
    store = SqliteStore(sensor / "data" / "metadata.db")
    recording = data.Recording(
        deployment=deployment, created_on=data.utc_now(), duration=1, samplerate=8000
    )
    store.store_recording(recording)
    tag = data.PredictedTag(tag=data.Tag(key="species", value=SPECIES), confidence_score=0.9)
    found = data.Detection(detection_score=0.9, tags=[tag])
    store.store_model_output(
        data.ModelOutput(name_model="m", recording=recording, detections=[found])
    )
    store.close()
    return sensor


TABLES = {
    "status": SITE,
    "deployment status": SITE,
    "deployment list": SITE,
    "recordings list": SITE,
    "detections list": SPECIES,
    "detections count --by species": SPECIES,
    "effort": SITE,
    "config schema": "--recording_saving.before_dawndusk_duration",
    "config history": "acoupi setup",
    "program list": "acoupi.programs.connected",
    "task list": "file_management_task",
    "messages list": "",
    "review list": "",
}
"""Commands that print tables, with the longest name in each."""


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_and_records_fit_and_hold_every_name(run: Run, recorded: Path, width: int) -> None:
    for command, name in TABLES.items():
        result = run(*command.split(), env={"COLUMNS": str(width)})

        assert result.exit_code in {0, 3}, result.stderr
        one_line = " ".join(result.stdout.split())
        assert all(word in one_line for word in name.split()), command
        assert name in result.stdout or " " in name, command
        assert not re.search(r"\w…", result.stdout), command
        assert too_long(result.stdout, width) == [], command


def test_in_a_pipe_a_row_is_a_line_without_control_characters(run: Run, recorded: Path) -> None:
    for command, name in TABLES.items():
        result = run(*command.split())

        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stdout), command
        assert not any(line != line.rstrip() for line in result.stdout.splitlines()), command
        assert not result.stdout.startswith("\n"), command
        assert name in result.stdout, command


def printed_on_a_terminal(*args: str, home: Path, **environment: str) -> str:
    """What a command prints on a terminal, stderr with it."""
    with on_a_terminal(*args, ACOUPI_HOME=str(home), **environment) as terminal:
        terminal.ended()
        return terminal.shown


@pytest.mark.parametrize("command", ["statuss", "program list", "program new Not-A-Name"])
def test_no_colour_where_none_is_wanted(home: Path, command: str) -> None:
    plain = printed_on_a_terminal(*command.split(), home=home, NO_COLOR="1")

    assert "\x1b" not in plain
    assert plain


def test_errors_are_coloured_on_a_terminal(home: Path) -> None:
    assert "\x1b[31m" in printed_on_a_terminal("statuss", home=home)


def test_a_long_text_is_wrapped_between_words_and_a_name_is_never_cut() -> None:
    heads, row = ["option", "meaning"], ["--recording.duration", "Length of a recording, seconds."]

    beside = list(layout_table(heads, [row], 50))
    below = list(layout_table(heads, [row], 30))

    assert beside[2:] == [
        "--recording.duration  Length of a recording,",
        "                      seconds.",
    ]
    assert below == ["--recording.duration", "    meaning: Length of a", "    recording, seconds."]
