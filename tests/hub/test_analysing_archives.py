"""``acoupi hub analyse`` from end to end: real PostgreSQL, real processes, killed on the way."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import frictionless
import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

from acoupi.cli.app import app
from acoupi.errors import ParameterError
from acoupi.exports.formats.camtrap_columns import schema_of
from acoupi.hub import local_workers
from acoupi.hub.archive_rows import Season
from acoupi.hub.archive_runs import Order, Watcher, analyse_archive, program_of, zone_of
from tests.hub.recorders import RATE, song_meter, wav_bytes, write
from tests.postgres import Postgres
from tests.services import eventually, free_port

FILES = 12
Say = Callable[..., Any]


@pytest.fixture
def url(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    url = postgres.new_database("analysing")
    monkeypatch.setenv("ACOUPI_HUB_DATABASE", url)
    return url


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Files with a tone of a tenth of a second each, and one that is cut off."""
    for number in range(FILES):
        content = bytearray(wav_bytes(1, number))
        tone = 20000 * np.sin(2 * np.pi * 2000 * np.arange(RATE // 10) / RATE)
        content[-RATE : -RATE + RATE // 5] = tone.astype("<i2").tobytes()
        write(tmp_path / "card" / f"20240701_22{number:02}00.WAV", bytes(content))
    song_meter(tmp_path / "card" / "SM_20240701_230000.wav", "2024-07-01 23:00:00+0000", 130)
    write(tmp_path / "card" / "20240701_233000.WAV", wav_bytes(1, 0)[:-4000])
    return tmp_path / "card"


def say(*words: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code in (0, 3), result.output
    return result.exit_code, result.stdout


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def analysing(card: Path) -> Iterator[Callable[[], "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = [str(Path(sys.executable).parent / "acoupi"), "hub", "analyse", str(card)]
        words = ["--program", "sounds", "--deployment", "Old oak", "--workers", "1"]
        started.append(subprocess.Popen([*command, *words], stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def done(url: str) -> int:
    if ask(url, "SELECT to_regclass('public.job')") == [(None,)]:
        return 0
    return int(ask(url, "SELECT count(*) FROM job WHERE state = 'done'")[0][0])


def test_a_killed_run_goes_on_and_ends_with_every_recording_once(
    url: str, card: Path, analysing: Callable[[], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    killed = analysing()
    eventually(lambda: done(url) >= 2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    words = ("--program", "sounds", "--deployment", "Old oak", "--workers", "1", "--json")
    code, text = say("hub", "analyse", str(card), *words)

    said = json.loads(text)
    assert code == 3
    assert [one["key"] for one in said["troubles"]] == ["20240701_233000.WAV"]
    assert said["recordings"] | {"new": 0} == {
        "new": 0, "done": FILES + 3, "failed": 0, "left": 0,
    }  # fmt: skip
    assert said["files"]["known"] + said["files"]["taken"] == FILES + 1
    for statement in (
        "SELECT count(*), count(DISTINCT recording_row) FROM job WHERE state = 'done'",
        "SELECT count(*), count(DISTINCT recording_row) FROM model_output",
        "SELECT count(*), count(DISTINCT start_time) FROM v_effort WHERE effort_state = 'recorded'",
    ):
        assert ask(url, statement) == [(FILES + 3, FILES + 3)], statement
    assert sum(said["species"].values()) >= FILES
    assert ask(url, "SELECT count(*) FROM worker") == [(0,)]

    say("export", "camtrap-dp", "--deployment", "Old oak", "-o", str(tmp_path / "out"))
    described = json.loads((tmp_path / "out" / "datapackage.json").read_text())
    described["profile"] = "data-package"
    for resource in described["resources"]:
        name = resource["name"]
        if name in ("deployments", "media", "observations"):
            resource["schema"] = schema_of(name, "1.0.2")
    report = frictionless.Package(described, basepath=str(tmp_path / "out")).validate()
    assert report.flatten(["name", "rowNumber", "fieldName", "type", "note"]) == []
    rows = {task.name: task.stats.get("rows") for task in report.tasks}
    assert rows["media"] == FILES + 3


def test_a_recording_that_workers_die_of_has_failed_and_the_others_are_analysed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for number, seconds in enumerate((1, 0.5, 1)):
        write(tmp_path / "card" / f"20240701_22000{number}.WAV", wav_bytes(seconds, number))

    words = ("--program", "tests.hub.deadly", "--deployment", "Oak", "--workers", "1", "--json")
    code, text = say("hub", "analyse", str(tmp_path / "card"), *words)

    said = json.loads(text)
    assert (code, said["recordings"]["done"], said["recordings"]["failed"]) == (3, 2, 1)
    assert said["troubles"] == [
        {"key": "20240701_220001.WAV", "fate": "failed",
         "why": "3 workers died at it (exit code 9)"},
    ]  # fmt: skip
    assert ask(url, "SELECT count(*) FROM model_output") == [(2,)]
    assert ask(url, "SELECT count(*) FROM job WHERE state = 'waiting'") == [(0,)]
    say("hub", "analyse", str(tmp_path / "card"), *words[:4], "--no-wait", "--retry-failed")
    assert ask(url, "SELECT count(*) FROM job WHERE state = 'waiting'") == [(1,)]


def test_workers_that_die_of_everything_end_the_run(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(local_workers, "MOST_IN_A_ROW", 2)
    write(tmp_path / "card" / "20240701_220000.WAV", wav_bytes(0.5, 0))

    words = ("--program", "tests.hub.deadly", "--deployment", "Oak", "--workers", "1")
    result = CliRunner().invoke(app, ["hub", "analyse", str(tmp_path / "card"), *words])

    assert result.exit_code == 1
    assert "the workers on this machine die at every recording" in result.output
    assert "2 died one after another (exit code 9)" in result.output
    assert ask(url, "SELECT state FROM job") == [("waiting",)]


@pytest.mark.usefixtures("url")
def test_what_waits_for_workers_is_said_and_how_to_export_it(card: Path) -> None:
    words = ("--program", "sounds", "--deployment", "Old oak", "--no-wait")
    code, text = say("hub", "analyse", str(card), *words)

    assert code == 3
    assert f"{FILES + 3} recordings wait for a worker: acoupi hub workers" in text
    assert "refused: 20240701_233000.WAV: its header promises 1.000 s" in text
    assert "acoupi export csv --deployment 'Old oak' -o Old-oak" in text
    sensors = json.loads(say("hub", "sensors", "--json")[1])
    assert [one["name"] for one in sensors] == ["Old-oak"]


class Told(Watcher):
    """Is told that nobody works, and ends the run instead of waiting."""

    def __init__(self) -> None:
        self.alone: list[str] = []

    def without_workers(self, program: str) -> None:
        self.alone.append(program)

    def sleep(self, _: float) -> None:
        raise InterruptedError


def test_that_no_worker_has_the_program_is_said_instead_of_waiting_in_silence(
    url: str, card: Path
) -> None:
    told, program = Told(), program_of("sounds", [])
    order = Order(str(card), Season("oak", "Old oak", program))

    with pytest.raises(InterruptedError):
        analyse_archive(url, order, told, told.sleep)

    assert told.alone == ["acoupi.programs.sounds"]


def test_settings_of_the_program_are_options_and_decide_what_is_the_same() -> None:
    plain, other = program_of("sounds", []), program_of("sounds", ["--saving_threshold", "0.9"])

    assert plain.program == "acoupi.programs.sounds"
    assert plain.digest != other.digest
    with pytest.raises(ParameterError):
        program_of("sounds", ["--no-such-thing", "1"])


def test_what_is_not_there_from_the_first_is_said_at_once(
    url: str, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    nowhere = f"postgresql://127.0.0.1:{free_port()}/acoupi"
    for place, database, code, what in (
        (tmp_path / "empty", url, 2, "there is no file in"),
        (tmp_path / "gone", url, 2, "there is no folder"),
        (card, nowhere, 1, "the database of the hub does not answer"),
        ("s3://bats/2024", url, 1, "does not answer (s3://bats/2024)"),
    ):
        words = ("--database", database, "--program", "sounds", "--deployment", "Oak")
        result = CliRunner().invoke(app, ["hub", "analyse", str(place), *words])
        assert (result.exit_code, what in result.output) == (code, True), result.output


@pytest.mark.parametrize("text", ["Atlantis/City", "+1", "../etc/passwd", ""])
def test_a_time_zone_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="no time zone"):
        zone_of(text)
