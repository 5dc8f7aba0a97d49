"""Analysis at the hub, from the settings of the sensor to what it says to the hub."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import types
from acoupi.components.models import BandEnergyModel
from acoupi.components.stores.reporting import Reporter
from acoupi.components.stores.unreported import Unreported
from acoupi.heard import Filters
from acoupi.hub.audio_store import open_store
from acoupi.hub.database import HubDatabase
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.hub.workers import get_work
from acoupi.programs import demo
from acoupi.services.construction import load_program
from acoupi.services.duties import duties_of
from acoupi.services.hub import make_reporter
from acoupi.services.program_report import program_report
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.settings import Settings
from acoupi.stack.stack import stack_of_program
from acoupi.system.checks import check_parts
from acoupi.tasks.detection import model_name
from acoupi.testing import make_recording, make_wav
from tests.cli.support import Run, lines_of
from tests.hubs import served
from tests.postgres import Postgres

MODEL = model_name(BandEnergyModel())
HUB = ("--sensor.hub.url", "https://hub.example.org", "--sensor.hub.token", "a-token")
AT_HUB = (*HUB, "--sensor.hub.audio", "all", "--sensor.analysis.where", "hub")


def recorded(program: Any) -> data.Recording:
    """Return a recording whose file waits in the spool."""
    path: Path = program.config.paths.tmp_audio / "a.wav"
    make_wav(path, samplerate=48_000)
    return make_recording(path=path, samplerate=48_000)


def set_up(run: Run, *options: str, program: str = "demo") -> Any:
    return run("setup", "--program", program, "--target", "fake", "--no-prompt", *options)


def test_that_the_sensors_own_servers_get_no_detections_is_said(run: Run, target: object) -> None:
    server = ("--messaging.http.base_url", "http://127.0.0.1:9/")
    words = "messages about detections stay there"

    first = set_up(run, *AT_HUB, *server)
    again = run("config", "set", "recording.duration", "2")
    checked = run("check")
    both = run("config", "set", "sensor.analysis.where", "both")

    assert first.exit_code == 0, first.stderr
    assert words in first.stderr
    assert "messaging.http" in first.stderr
    assert words in again.stderr
    assert words in checked.stderr
    assert words not in both.stderr


@pytest.mark.parametrize(
    ("program", "options", "why"),
    [
        ("demo", (), "the sensor has no hub"),
        ("demo", HUB, "set sensor.hub.audio to all"),
        ("demo", (*HUB, "--sensor.hub.audio", "detections"), "set sensor.hub.audio to all"),
        ("connected", (*HUB, "--sensor.hub.audio", "all"), "it has no model"),
    ],
)
@pytest.mark.parametrize("where", ["hub", "both"])
def test_sound_that_would_not_be_analysed_is_refused_at_setup(
    run: Run, sensor: Path, where: str, program: str, options: tuple[str, ...], why: str
) -> None:
    before = {path: path.read_bytes() for path in (sensor / "config").glob("*.json")}

    result = set_up(run, *options, "--sensor.analysis.where", where, program=program)

    assert result.exit_code == 2
    assert {path: path.read_bytes() for path in (sensor / "config").glob("*.json")} == before
    said = lines_of(result)
    assert said[0] == f"Error: this program cannot use sensor.analysis.where {where}."
    assert why in said[1]


class Unloadable(BandEnergyModel):
    """A model that no test may touch."""

    def check(self) -> None:
        raise AssertionError("loaded")

    def run(self, recording: data.Recording) -> data.ModelOutput:
        raise AssertionError("run")


def test_a_sensor_that_leaves_its_analysis_to_the_hub_loads_no_model(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configure_model(self: Any, config: Any) -> types.Model:
        return Unloadable(config.detector)

    monkeypatch.setattr(demo.Program, "configure_model", configure_model)
    name = model_name(Unloadable())
    result = set_up(run, *AT_HUB)
    assert result.exit_code == 0, result.stderr
    program: Any = load_program(Settings(home=sensor))
    program.app.conf.update(task_always_eager=True, task_eager_propagates=True)
    program.validate_dirs(program.config)
    assert check_parts(program, ["model", "rest"]) is None
    recording = recorded(program)
    program.store.store_deployment(recording.deployment)
    program.store.store_recording(recording)

    program.resend(recording)
    program.resend(recording)  # recovery may

    [left] = program.store.get_analyses([recording])[recording.id]
    assert (left.name_model, left.state, left.attempts) == (name, data.AnalysisState.HUB, 0)
    assert not list(program.message_store.get_unsent_messages())
    manifest = json.loads(Settings(home=sensor).manifest_file.read_text())
    assert [one["name"] for one in manifest["services"]] == ["recording", "default", "beat"]
    stack = stack_of_program(program, Settings(home=sensor), CelerySettings(), "demo")
    duties = duties_of(program, stack.service("default"))
    assert {task.name for task in program.tasks_of_recordings()} <= duties.served
    assert report_of(program, leaves_all=False) == [program_report(demo.Program, program.config)]


def report_of(program: Any, *, leaves_all: bool) -> list[Any]:
    """Return the programs that a report names; each recording is left to one of them, or none."""
    path = program.store.db_path
    unreported = Unreported(path)
    unreported.start("hub:there")
    reporter: Reporter = make_reporter(path, program, leaves_all=leaves_all)
    report = reporter.report(unreported.next(100), unreported.stamp())
    reporter.close()
    [recording] = report.recordings
    assert [one.digest for one in report.programs] == list(filter(None, [recording.analyse]))
    return list(report.programs)


def test_what_is_analysed_here_is_left_to_the_hub_only_where_both_are_to(
    run: Run, sensor: Path
) -> None:
    assert set_up(run).exit_code == 0
    program: Any = load_program(Settings(home=sensor))
    program.app.conf.update(task_always_eager=True, task_eager_propagates=True)
    program.validate_dirs(program.config)
    recording = recorded(program)
    program.store.store_deployment(recording.deployment)
    program.store.store_recording(recording)
    program.resend(recording)

    [analysis] = program.store.get_analyses([recording])[recording.id]
    assert (analysis.name_model, analysis.state) == (MODEL, data.AnalysisState.DONE)
    assert report_of(program, leaves_all=False) == []
    assert len(report_of(program, leaves_all=True)) == 1


def test_what_a_hub_is_told_of_a_program_holds_no_secret_and_no_path() -> None:
    config = demo.ConfigSchema.model_validate(
        {
            "messaging": {
                "http": {
                    "base_url": "https://a.example.org",
                    "username": "u",
                    "password": "hunter2",
                }
            }
        }
    )

    report = program_report(demo.Program, config)

    assert report.program == "acoupi.programs.demo"
    assert report.settings == program_report(demo.Program, demo.ConfigSchema()).settings
    assert "hunter2" not in report.settings
    assert "paths" not in report.settings


def test_a_recording_goes_to_the_hub_with_its_sound_and_then_from_the_disk(
    run: Run, sensor: Path, tmp_path: Path, postgres: Postgres
) -> None:
    database = postgres.new_database("left")
    (tmp_path / "sound").mkdir()
    audio = open_store(str(tmp_path / "sound"))
    with closing(HubDatabase(database)) as hub, served(database, audio=audio) as url:
        add_sensor(hub, "oak-1")
        token = make_token(hub, "oak-1")
        at_hub = [{HUB[1]: url, HUB[3]: token}.get(one, one) for one in AT_HUB]
        assert set_up(run, *at_hub).exit_code == 0
        program: Any = load_program(Settings(home=sensor))
        program.app.conf.update(task_always_eager=True, task_eager_propagates=True)
        program.validate_dirs(program.config)
        recording = recorded(program)
        program.store.store_deployment(recording.deployment)
        program.store.store_recording(recording)
        program.resend(recording)

        tasks = {name: task.function for name, task in program.tasks.items()}
        tasks["file_management_task"]()
        [(kept, _)] = program.store.get_recordings([recording.id])
        assert kept.path is not None
        assert kept.path.exists()  # the hub has not got it
        tasks["hub_task"]()

        [work] = get_work(hub)
        assert (work.program, work.waiting, work.without_sound) == ("acoupi.programs.demo", 1, 0)
        tasks["file_management_task"]()
        assert not kept.path.exists()
        tasks["hub_task"]()  # it says so: nothing is to be done again

        assert [one.waiting for one in get_work(hub)] == [1]
        with closing(HubReader(database)) as reader:
            [analysis] = reader.analyses(recording.id)
            [heard] = reader.recordings(Filters())
        assert analysis.state is data.AnalysisState.HUB
        assert heard.state is data.RecordingState.KEPT  # at the hub
