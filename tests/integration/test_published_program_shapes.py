"""Programs as other people publish them run unchanged, from a recording to a message."""

import datetime
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import Celery

from acoupi import components, data
from acoupi.clips import ClipSettings
from acoupi.components import types
from acoupi.testing import FakeRecorder
from tests.clips import numbers
from tests.clocks import Clock

PUBLISHED = Path(__file__).parent / "published"
NIGHT = datetime.datetime(2024, 6, 1, 23, 30, tzinfo=datetime.UTC)
DEPLOYMENT = data.Deployment(
    name="heath", latitude=51.5, longitude=-0.1, started_on=NIGHT - datetime.timedelta(days=1)
)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, as installed."""
    monkeypatch.syspath_prepend(str(PUBLISHED))
    yield importlib.import_module("acoupi_nightjar")
    for name in [name for name in sys.modules if name.partition(".")[0] == "acoupi_nightjar"]:
        del sys.modules[name]


@pytest.fixture
def app() -> Celery:
    app = Celery("published", set_as_current=False, broker="memory://")
    app.conf.update(task_always_eager=True, task_eager_propagates=True, accept_content=["json"])
    return app


def with_fake_recorder(program_class: Any) -> Any:
    """The program, its microphone replaced."""

    def configure_recorder(self: Any, config: Any) -> types.AudioRecorder:
        return FakeRecorder(config.paths.tmp_audio)

    return type("Program", (program_class,), {"configure_recorder": configure_recorder})


def configured(package: ModuleType, **settings: Any) -> Any:
    schema = package.Program.get_config_schema()
    required = {
        "microphone": {"device_name": "AudioMoth", "samplerate": 8000},
        "messaging": {"file": {"path": "sent.jsonl"}},
    }
    return schema.model_validate(required | settings)


def sent(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "sent.jsonl").read_text().splitlines()]


def run(program: Any, *names: str) -> None:
    for name in names:
        program.tasks[name].delay()


@pytest.fixture
def night(clock: Clock) -> None:
    clock.now = NIGHT


@pytest.mark.usefixtures("night")
def test_from_a_recording_to_a_message(package: ModuleType, app: Celery, home: Path) -> None:
    config = configured(package)
    program = with_fake_recorder(package.Program)(config, app)
    program.on_start(DEPLOYMENT)

    run(program, "recording_task", "send_messages_task", "file_management_task")

    (message,) = [line["content"] for line in sent(home)]
    (detection,) = message["detections"]
    assert message["name_model"] == "Nightjar"
    assert message["recording"]["deployment"]["name"] == "heath"
    assert detection["prediction_type"] == "presence"
    assert detection["tags"][0]["tag"] == {"key": "species", "value": "Caprimulgus europaeus"}
    assert [path.name for path in (config.paths.recordings / "nightjars").iterdir()] == [
        "20240601_233000.wav"
    ]
    assert list(config.paths.tmp_audio.glob("*")) == []


@pytest.mark.usefixtures("night")
def test_a_message_is_about_what_is_stored(package: ModuleType, app: Celery, home: Path) -> None:
    program = with_fake_recorder(package.Program)(configured(package), app)
    program.on_start(DEPLOYMENT)

    run(program, "recording_task", "send_messages_task")

    (message,) = [line["content"] for line in sent(home)]
    (output,) = program.store.get_model_outputs()
    assert str(output.id) == message["id"]
    assert {d["id"] for d in message["detections"]} <= {str(d.id) for d in output.detections}


@pytest.mark.usefixtures("night")
def test_a_summary_is_made_and_sent(
    package: ModuleType, app: Celery, home: Path, clock: Clock
) -> None:
    program = with_fake_recorder(package.Program)(configured(package), app)
    program.on_start(DEPLOYMENT)
    run(program, "recording_task", "recording_task")

    clock.advance(1800)
    run(program, "summary_task", "send_messages_task")

    summaries = [line for line in sent(home) if line["message_type"] == "summary"]
    assert len(summaries) == 1
    assert "Caprimulgus europaeus" in json.dumps(summaries[0]["content"])


@pytest.mark.usefixtures("night")
def test_what_only_the_wind_made_is_deleted(
    package: ModuleType, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(
        package,
        saving_filters={"starttime": "03:00", "endtime": "04:00", "saving_threshold": 0.9},
    )
    program = with_fake_recorder(package.Program)(config, app)
    program.on_start(DEPLOYMENT)

    run(program, "recording_task", "file_management_task")

    assert list(config.paths.recordings.rglob("*.wav")) == []
    assert list(config.paths.tmp_audio.glob("*")) == []


@pytest.mark.usefixtures("night")
def test_delivering_a_message_twice_changes_nothing(
    package: ModuleType, app: Celery, home: Path
) -> None:
    program = with_fake_recorder(package.Program)(configured(package), app)
    program.on_start(DEPLOYMENT)
    recording = program.tasks["recording_task"].function()

    program.tasks["detection_task"].delay(recording)
    program.tasks["detection_task"].delay(recording)
    run(program, "send_messages_task")

    assert len(program.store.get_model_outputs()) == 1
    assert len(sent(home)) == 1


def test_it_keeps_clips_of_the_recorders_stream(
    package: ModuleType, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "counter,pace=fast")
    detect = package.model.Nightjar.run

    def short(self: Any, recording: data.Recording) -> data.ModelOutput:
        """Hear it in the last tenth of a recording."""
        output = detect(self, recording)
        box = data.BoundingBox.from_coordinates(0.9, 0, 1, 4000)
        found = [one.model_copy(update={"location": box}) for one in output.detections]
        return output.model_copy(update={"detections": found})

    monkeypatch.setattr(package.model.Nightjar, "run", short)
    always = {"schedule_start": "00:00", "schedule_end": "00:00", "duration": 1, "interval": 1}
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
    never = {"starttime": f"{now:%H:%M}", "endtime": f"{now:%H:%M}:01"}
    config = configured(package, recording=always, saving_filters=never, timezone="UTC")
    program = package.Program(config, app)
    program.store.clips = ClipSettings(True, before=0.1, after=0.2)
    program.on_start(DEPLOYMENT)

    for _ in range(3):
        program.resend(program.tasks["recording_task"].function())
    program.on_end(DEPLOYMENT.model_copy(update={"ended_on": data.utc_now()}))

    clips = [numbers(path) for path in sorted((config.paths.recordings / "nightjars").iterdir())]
    assert [len(one) for one in clips] == [3200, 3200, 1600]
    assert [one[0] % 8000 for one in clips] == [6400] * 3
    assert all(one == list(range(one[0], one[0] + len(one))) for one in clips)
    counts = program.store.count_recordings()
    assert counts[data.RecordingState.CLIPPED] == 3
    assert [one for one in config.paths.tmp_audio.rglob("*") if one.is_file()] == []


def test_it_records_with_our_recorder_what_is_simulated(
    package: ModuleType, app: Celery, home: Path
) -> None:
    config = configured(
        package,
        microphone={"samplerate": 8000, "simulated": {"pace": "fast"}},
        recording={"schedule_start": "00:00", "schedule_end": "00:00"},
    )
    program = package.Program(config, app)
    program.on_start(DEPLOYMENT)

    run(program, "recording_task", "send_messages_task", "file_management_task")

    assert isinstance(program.recorder, components.PARecorder)
    assert len(sent(home)) == 1
    assert len(list((config.paths.recordings / "nightjars").glob("*.wav"))) == 1


def test_by_day_it_does_not_record(package: ModuleType, app: Celery, clock: Clock) -> None:
    clock.now = NIGHT + datetime.timedelta(hours=12)
    program = with_fake_recorder(package.Program)(configured(package), app)
    program.on_start(DEPLOYMENT)

    run(program, "recording_task")

    assert program.recorder.recordings == []


@pytest.mark.usefixtures("night")
def test_the_weights_are_loaded_when_the_model_first_runs(package: ModuleType, app: Celery) -> None:
    model = importlib.import_module("acoupi_nightjar.model").Nightjar
    program = with_fake_recorder(package.Program)(configured(package), app)
    program.on_start(DEPLOYMENT)
    before = model.loads

    run(program, "recording_task", "recording_task")

    assert (before, model.loads) == (0, 1)


def test_building_it_touches_nothing(package: ModuleType, app: Celery, tmp_path: Path) -> None:
    package.Program(configured(package), app)

    assert list(tmp_path.iterdir()) == []


def test_its_folders_are_made_with_ours(package: ModuleType, app: Celery) -> None:
    config = configured(package)
    program = with_fake_recorder(package.Program)(config, app)

    program.on_start(DEPLOYMENT)

    for folder in (config.paths.recordings / "nightjars", config.paths.tmp_audio):
        assert folder.is_dir()


def test_its_schedule_has_every_task_in_a_queue_with_a_worker(
    package: ModuleType, app: Celery
) -> None:
    program = package.Program(configured(package), app)

    entries = {name: entry["options"] for name, entry in app.conf.beat_schedule.items()}
    assert {name: options["queue"] for name, options in entries.items()} == {
        "recording_task": "recording",
        "file_management_task": "celery",
        "recovery_task": "celery",
        "send_messages_task": "celery",
        "heartbeat_task": "celery",
        "summary_task": "celery",
    }
    assert entries["summary_task"]["expires"] == 3600
    assert program.get_queue_names() == ["recording", "celery", "detection"]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        (None, []),
        (
            {
                "before_dawndusk_duration": 30,
                "after_dawndusk_duration": 30,
                "frequency_duration": 5,
                "frequency_interval": 30,
                "tags": ["Caprimulgus europaeus"],
            },
            [
                "SaveIfInInterval",
                "Before_DawnDuskTimeInterval",
                "After_DawnDuskTimeInterval",
                "FrequencySchedule",
                "SavingThreshold",
                "DetectionTagValue",
            ],
        ),
    ],
)
def test_its_filters_are_those_of_the_components(
    package: ModuleType, app: Celery, section: dict[str, Any] | None, names: list[str]
) -> None:
    config = configured(package, saving_filters=section)
    program = package.Program(config, app)

    filters = program.get_recording_filters(config)

    assert [type(each) for each in filters] == [getattr(components, name) for name in names]
