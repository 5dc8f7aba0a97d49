"""What programs made from the templates do, from their start to their end."""

import importlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from pydantic import ValidationError

from acoupi import __version__, components, data
from acoupi.components import types
from acoupi.components.messengers import FileConfig
from acoupi.errors import ConfigurationError, HealthCheckError
from acoupi.programs.core import AcoupiWorker, WorkerConfig
from acoupi.programs.templates import (
    AudioConfiguration,
    BasicProgramConfiguration,
    DetectionProgramConfiguration,
    DetectionsConfiguration,
    MessagingConfig,
    MessagingProgramConfiguration,
    PathsConfiguration,
)
from acoupi.programs.templates.digests import section_digests, settings_digest
from acoupi.testing import FakeModel, ListMessenger, make_recording
from tests.clocks import RunningClock
from tests.unit.programs.templates import (
    DEPLOYMENT,
    Basic,
    Detecting,
    Messaging,
    kept,
    to_file,
    waiting,
)

# What it does.


def test_a_basic_program_keeps_what_it_records(app: Celery, all_day: AudioConfiguration) -> None:
    config = BasicProgramConfiguration(recording=all_day)
    program = Basic(config, app)
    program.on_start(DEPLOYMENT)

    program.tasks["recording_task"].delay()
    program.tasks["file_management_task"].delay()

    assert len(kept(config)) == 1
    assert waiting(config) == []


def test_from_a_recording_to_a_message(app: Celery, all_day: AudioConfiguration) -> None:
    config = DetectionProgramConfiguration(recording=all_day, messaging=to_file())
    program = Detecting(config, app)
    program.on_start(DEPLOYMENT)

    program.tasks["recording_task"].delay()
    program.tasks["send_messages_task"].delay()
    program.tasks["file_management_task"].delay()

    sent = (config.paths.db_metadata.parent / "messages.jsonl").read_text().splitlines()
    assert len(sent) == 1
    assert '"name_model": "fake"' in sent[0]
    assert len(kept(config)) == 1


def test_a_recording_waits_for_its_model(
    app: Celery, queued: Celery, all_day: AudioConfiguration
) -> None:
    config = DetectionProgramConfiguration(recording=all_day)
    program = Detecting(config, queued)
    program.on_start(DEPLOYMENT)

    program.tasks["recording_task"]()
    program.tasks["file_management_task"]()

    assert len(waiting(config)) == 1
    assert program.count_waiting_recordings() == 1


def test_what_the_broker_lost_is_sent_again(app: Celery, all_day: AudioConfiguration) -> None:
    config = DetectionProgramConfiguration(recording=all_day)
    program = Detecting(config, app)
    program.on_start(DEPLOYMENT)
    recording = program.tasks["recording_task"].function()
    assert recording is not None

    program.resend(recording)

    assert program.model.runs == [recording]  # type: ignore[attr-defined]


def test_what_was_recorded_in_a_queue_of_another_name_is_sent_again(
    app: Celery, all_day: AudioConfiguration
) -> None:
    class Elsewhere(Detecting):
        worker_config = WorkerConfig(workers=[AcoupiWorker(name="all", concurrency=1)])

        def register_recording_task(self, config: DetectionProgramConfiguration) -> None:
            self.add_task(
                self.create_recording_task(config),
                callbacks=self.get_recording_callbacks(config),
                schedule=10,
                queue="audio",
            )

    program = Elsewhere(DetectionProgramConfiguration(recording=all_day), app)
    program.on_start(DEPLOYMENT)
    recording = program.tasks["recording_task"].function()
    assert recording is not None

    program.resend(recording)

    assert program.model.runs == [recording]  # type: ignore[attr-defined]


def test_recovery_sends_again_what_the_broker_lost(
    app: Celery, all_day: AudioConfiguration, running_clock: RunningClock
) -> None:
    class Lost(Detecting):
        def count_waiting(self, queue: str) -> int:
            return 0

    config = DetectionProgramConfiguration(recording=all_day)
    program = Lost(config, app)
    program.on_start(DEPLOYMENT)
    recording = program.tasks["recording_task"].function()
    running_clock.step(300)

    program.tasks["recovery_task"].delay()
    program.tasks["recovery_task"].delay()
    program.tasks["file_management_task"].delay()

    assert [run.id for run in program.model.runs] == [recording.id]  # type: ignore[attr-defined]
    assert len(kept(config)) == 1


def test_recovery_leaves_alone_what_still_waits(
    queued: Celery, all_day: AudioConfiguration, running_clock: RunningClock
) -> None:
    config = DetectionProgramConfiguration(recording=all_day)
    program = Detecting(config, queued)
    program.on_start(DEPLOYMENT)
    program.tasks["recording_task"]()
    running_clock.step(300)

    program.tasks["recovery_task"]()

    assert program.count_waiting_recordings() == 1


def test_two_models_each_look_at_every_recording(app: Celery, all_day: AudioConfiguration) -> None:
    class Two(Detecting):
        def configure_model(self, config: DetectionProgramConfiguration) -> types.Model:
            self.both = [FakeModel("bats"), FakeModel("birds")]
            return self.both[0]

        def get_recording_callbacks(
            self, config: DetectionProgramConfiguration
        ) -> list[Callable[..., Any]]:
            callbacks = []
            for model in self.both:
                self.model = model
                callbacks += super().get_recording_callbacks(config)
            return callbacks

        def get_required_models(self, config: DetectionProgramConfiguration) -> list[str]:
            return [model.name for model in self.both]

    config = DetectionProgramConfiguration(recording=all_day)
    program = Two(config, app)
    program.on_start(DEPLOYMENT)

    program.tasks["recording_task"].delay()
    program.tasks["file_management_task"].delay()

    assert [len(model.runs) for model in program.both] == [1, 1]
    assert {"detection_task", "detection_task_2"} <= program.tasks.keys()
    assert len(kept(config)) == 1


# Beginning and end.


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (Basic, BasicProgramConfiguration),
        (Messaging, MessagingProgramConfiguration),
        (Detecting, DetectionProgramConfiguration),
    ],
)
def test_building_a_program_touches_nothing(
    kind: Any, schema: Any, app: Celery, tmp_path: Path
) -> None:
    kind(schema(), app)

    assert list(tmp_path.iterdir()) == []


def test_databases_in_new_folders_are_made_at_the_start(app: Celery, tmp_path: Path) -> None:
    paths = PathsConfiguration(
        db_metadata=tmp_path / "a" / "metadata.db",
        recordings=tmp_path / "b" / "recordings",
        tmp_audio=tmp_path / "c" / "spool",
    )
    messaging = MessagingConfig(messages_db=tmp_path / "d" / "messages.db", file=FileConfig())
    program = Messaging(MessagingProgramConfiguration(paths=paths, messaging=messaging), app)

    program.on_start(DEPLOYMENT)

    assert program.store.get_current_deployment() == DEPLOYMENT
    assert paths.recordings.is_dir()
    assert (tmp_path / "d").is_dir()


def test_a_folder_that_cannot_be_made_is_named_with_its_option(app: Celery, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    paths = PathsConfiguration(recordings=tmp_path / "file" / "recordings")
    config = BasicProgramConfiguration(paths=paths)

    with pytest.raises(ConfigurationError, match="recordings") as caught:
        Basic(config, app).check(config)

    assert caught.value.help == "acoupi config set paths.recordings PATH"
    assert caught.value.why


def test_the_end_stores_the_deployment_and_sends_what_waits(
    app: Celery, all_day: AudioConfiguration, caplog: pytest.LogCaptureFixture
) -> None:
    config = DetectionProgramConfiguration(recording=all_day, messaging=to_file())
    program = Detecting(config, app)
    program.on_start(DEPLOYMENT)
    program.tasks["recording_task"].delay()
    waits = program.tasks["recording_task"].function()
    ended = DEPLOYMENT.model_copy(update={"ended_on": data.utc_now()})

    with caplog.at_level(logging.WARNING):
        program.on_end(ended)

    (stored, outputs) = program.store.get_recordings([waits.id])[0]
    assert stored.deployment.ended_on == ended.ended_on
    assert outputs == []  # no model is run at the end...
    assert waiting(config) == [waits.path]  # ...and what waits for it is still there
    assert "to be processed at the next start: 1" in caplog.text
    assert len(kept(config)) == 1
    assert (config.paths.db_metadata.parent / "messages.jsonl").read_text().count("\n") == 1


def test_a_failure_at_the_end_does_not_keep_the_rest_from_being_done(
    app: Celery, all_day: AudioConfiguration, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Messaging):
        def create_file_management_task(
            self, config: MessagingProgramConfiguration
        ) -> Callable[[], None]:
            def file_management_task() -> None:
                raise OSError("the disk is gone")

            return file_management_task

    config = MessagingProgramConfiguration(recording=all_day, messaging=to_file())
    program = Broken(config, app)
    program.on_start(DEPLOYMENT)
    program.message_store.store_message(data.Message(content="{}"))

    program.on_end(DEPLOYMENT)

    assert 'task "file_management_task" failed' in caplog.text
    assert (config.paths.db_metadata.parent / "messages.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("broken", ["recorder", "messenger", "model"])
def test_a_check_checks_every_component(app: Celery, broken: str) -> None:
    program = Detecting(DetectionProgramConfiguration(messaging=to_file()), app)

    def fail() -> None:
        raise HealthCheckError(f"the {broken} is broken.")

    program.check(program.config)
    setattr(getattr(program, broken), "check", fail)  # noqa: B010

    with pytest.raises(HealthCheckError, match=broken):
        program.check(program.config)


def test_a_heartbeat_tells_of_the_device(app: Celery) -> None:
    config = MessagingProgramConfiguration(messaging=to_file())
    program = Messaging(config, app)
    program.on_start(DEPLOYMENT)

    figures = [metric() for metric in program.get_heartbeat_metrics(config)]
    names = {figure.name for figure in figures if figure is not None}

    assert {"remaining_storage", "free_memory", "cpu_usage"} <= names


def test_a_heartbeat_says_nothing_of_a_destination_that_was_corrected(app: Celery) -> None:
    program = Messaging(MessagingProgramConfiguration(messaging=to_file()), app)
    program.on_start(DEPLOYMENT)
    message = data.Message(content="{}")
    program.message_store.store_message(message)
    refused = data.Response(
        status=data.ResponseStatus.ERROR, message=message, is_access_refused=True
    )
    program.message_store.settle_message("http:hub/wrong", refused)

    assert "http:hub/wrong" not in program.status_report()


def test_a_heartbeat_waits_for_its_delivery_and_says_what_is_wrong(app: Celery) -> None:
    program = Messaging(MessagingProgramConfiguration(messaging=to_file()), app)
    program.on_start(DEPLOYMENT)
    program.store.store_recording(make_recording(path=Path("/spool/old.wav")))

    program.tasks["heartbeat_task"].delay()

    (message,) = program.message_store.get_unsent_messages()
    heartbeat = json.loads(message.content)
    assert message.message_type is data.MessageType.HEARTBEAT
    assert "1 recordings are waiting, the oldest for" in heartbeat["status"]
    assert {"name": "recordings_waiting", "value": 1.0}.items() <= heartbeat["metrics"][3].items()
    assert (heartbeat["version"], heartbeat["interval_s"]) == (__version__, 3600)
    assert heartbeat["program"] == Messaging.__module__
    assert heartbeat["configuration"] == settings_digest(program.config)
    assert heartbeat["sections"] == section_digests(program.config)


def test_other_settings_give_a_recording_another_output(
    all_day: AudioConfiguration,
) -> None:
    def outputs(threshold: float) -> set[Any]:
        detections = DetectionsConfiguration(threshold=threshold)
        config = DetectionProgramConfiguration(recording=all_day, detections=detections)
        program = Detecting(config, Celery("other", set_as_current=False))
        recording = make_recording(id=UUID(int=7))
        memory = components.SqliteStore(Path(config.paths.recordings, f"{threshold}.db"))
        program.store = memory
        memory.store_recording(recording)
        program.create_detection_task(config)(recording)
        return {output.id for output in memory.get_model_outputs()}

    first, again, other = outputs(0.2), outputs(0.2), outputs(0.3)

    assert len(first) == 1
    assert first == again
    assert first != other


def test_without_callbacks_there_is_nothing_to_send_again(app: Celery) -> None:
    program = Basic(BasicProgramConfiguration(), app)

    program.resend(make_recording())

    assert program.count_waiting_recordings() == 0


def test_a_messenger_that_a_program_puts_in_its_place_is_checked(app: Celery) -> None:
    class Own(Messaging):
        def setup(self, config: MessagingProgramConfiguration) -> None:
            super().setup(config)
            self.messenger = Broken("own")

    class Broken(ListMessenger):
        def check(self) -> None:
            raise HealthCheckError("it is broken.")

    program = Own(MessagingProgramConfiguration(messaging=to_file()), app)

    with pytest.raises(HealthCheckError, match="it is broken"):
        program.check(program.config)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("basic", "AudioConfiguration BasicProgramConfiguration PathsConfiguration"),
        ("messaging", "MessagingConfig MessagingProgramConfiguration"),
        ("detection", "DetectionProgramConfiguration DetectionsConfiguration"),
    ],
)
def test_configurations_are_where_published_programs_import_them(module: str, names: str) -> None:
    found = importlib.import_module(f"acoupi.programs.templates.{module}")

    assert set(names.split()) <= set(found.__all__)


@pytest.mark.parametrize("field", ["duration", "interval"])
@pytest.mark.parametrize("seconds", [1e9, 86_401])
def test_a_recording_that_nobody_could_stop_is_refused(field: str, seconds: float) -> None:
    with pytest.raises(ValidationError, match=field):
        AudioConfiguration.model_validate({field: seconds})
