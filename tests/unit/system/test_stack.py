"""What runs, described."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, SecretStr

from acoupi.errors import ConfigurationError
from acoupi.programs import AcoupiProgram, AcoupiWorker, WorkerConfig
from acoupi.rights import Folder, ReadOnly, WrittenFile
from acoupi.services.program_hooks import hook_service
from acoupi.stack.access import Mount
from acoupi.stack.doors import door_keeper, door_roles
from acoupi.stack.rights import secret_names
from acoupi.stack.settings import CelerySettings, Settings
from acoupi.stack.stack import stack_for


def program(*workers: AcoupiWorker | None) -> Any:
    config = None if workers == (None,) else WorkerConfig(workers=list(workers))  # type: ignore[arg-type]
    return type("Program", (AcoupiProgram,), {"config_schema": BaseModel, "worker_config": config})


RECORDING = AcoupiWorker(name="recording", queues=["recording"], concurrency=1)
DETECTION = AcoupiWorker(name="detection", queues=["detection"], concurrency=2)
DEFAULT = AcoupiWorker(name="default", queues=["celery"])


def test_each_worker_is_a_service_and_beat_comes_last(settings: Settings) -> None:
    stack = stack_for(program(RECORDING, DETECTION, DEFAULT), None, settings)

    assert stack.names == ("recording", "detection", "default", "beat")
    assert [one.role for one in stack.services] == ["recorder", "worker", "worker", "beat"]
    assert stack.broker.kind == "embedded"


def test_only_the_recorder_has_the_sound_device(settings: Settings) -> None:
    stack = stack_for(program(DEFAULT, RECORDING, DETECTION), None, settings, sends=True)

    assert stack.recorder == stack.service("recording")
    assert {one.name: one.devices for one in stack.services if one.devices} == {
        "recording": ("/dev/snd",)
    }
    assert not stack.service("recording").network
    assert stack.service("default").network


def test_a_worker_that_runs_models_can_end_them(settings: Settings) -> None:
    stack = stack_for(program(RECORDING, DETECTION, DEFAULT), None, settings)

    assert [one.pool for one in stack.workers] == ["threads", "prefork", "threads"]
    assert [one.concurrency for one in stack.workers] == [1, 2, None]


def test_the_pool_that_a_program_asks_for_is_given(settings: Settings) -> None:
    solo = DETECTION.model_copy(update={"pool": "solo"})

    assert stack_for(program(RECORDING, solo), None, settings).service("detection").pool == "solo"


def test_only_a_worker_that_just_runs_models_has_a_door(settings: Settings) -> None:
    tidies = AcoupiWorker(name="tidies", queues=["celery", "detection"])
    records = AcoupiWorker(name="recording", queues=["recording", "detection"], concurrency=1)

    def doors(*workers: AcoupiWorker) -> tuple[str | None, dict[str, str]]:
        stack = stack_for(program(*workers), None, settings)
        keeper = door_keeper(stack)
        return keeper and keeper.name, door_roles(stack)

    assert doors(RECORDING, DETECTION, DEFAULT) == ("default", {"detection": "model"})
    assert doors(RECORDING, tidies) == ("tidies", {})
    assert doors(records, DEFAULT) == ("default", {})
    assert doors(RECORDING, DETECTION) == (None, {})  # nobody would answer


def test_hooks_are_called_where_the_stores_may_be_written(settings: Settings) -> None:
    online = DETECTION.model_copy(update={"network": True})
    stack = stack_for(program(RECORDING, online, DEFAULT), None, settings)

    assert hook_service(stack.services) == "default"


def test_two_workers_that_would_record_are_refused(settings: Settings) -> None:
    second = AcoupiWorker(name="second", queues=["celery", "recording"], concurrency=1)

    with pytest.raises(
        ConfigurationError, match='would record: "recording" and "second"'
    ) as caught:
        stack_for(program(RECORDING, second), None, settings)

    assert len(caught.value.lines()) == 3


def test_a_worker_for_all_queues_beside_a_recorder_is_refused(settings: Settings) -> None:
    greedy = AcoupiWorker(name="greedy")

    with pytest.raises(ConfigurationError, match="would record"):
        stack_for(program(RECORDING, greedy), None, settings)


def test_more_than_one_recording_at_once_is_refused(settings: Settings) -> None:
    double = RECORDING.model_copy(update={"concurrency": 2})

    with pytest.raises(ConfigurationError, match="2 recordings at once") as caught:
        stack_for(program(double, DEFAULT), None, settings)

    assert "concurrency=1" in (caught.value.help or "")


def test_a_recorder_that_says_nothing_of_concurrency_records_one_at_a_time(
    settings: Settings,
) -> None:
    silent = RECORDING.model_copy(update={"concurrency": None})

    assert stack_for(program(silent), None, settings).service("recording").concurrency == 1


def test_the_recorder_follows_the_queue_of_the_recording_task(settings: Settings) -> None:
    stack = stack_for(program(RECORDING, DEFAULT), None, settings, recording_queue="celery")

    assert stack.recorder == stack.service("default")
    assert stack.service("recording").devices == ()


def test_a_recording_task_that_nobody_runs_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match='listens to "audio"') as caught:
        stack_for(program(RECORDING, DEFAULT), None, settings, recording_queue="audio")

    assert "celery, recording" in (caught.value.why or "")


def test_a_program_that_does_not_record_gets_no_device(settings: Settings) -> None:
    stack = stack_for(program(DEFAULT), None, settings, recording_queue=None)

    assert stack.recorder is None
    assert not any(one.devices for one in stack.services)


def test_without_workers_one_listens_to_every_queue(settings: Settings) -> None:
    stack = stack_for(program(None), None, settings, queues=["celery", "recording"])

    assert stack.names == ("acoupi", "beat")
    assert stack.service("acoupi").queues == ("celery", "recording")
    assert stack.service("acoupi").role == "recorder"


@pytest.mark.parametrize("name", ["", "a b", "../up", "beat", "redis", "ä", "x" * 64, "-x", "a\n"])
def test_a_worker_whose_name_cannot_name_a_file_is_refused(settings: Settings, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be called"):
        stack_for(program(AcoupiWorker(name=name, queues=["celery"])), None, settings)


@pytest.mark.parametrize("queue", ["", "a/b", "a b", "ü"])
def test_a_queue_whose_name_cannot_travel_is_refused(settings: Settings, queue: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen to the queue"):
        stack_for(program(AcoupiWorker(name="one", queues=[queue])), None, settings)


def test_a_program_without_any_worker_is_refused(settings: Settings) -> None:
    empty = program(RECORDING)
    empty.get_worker_config = classmethod(lambda cls: WorkerConfig(workers=[]))

    with pytest.raises(ConfigurationError, match="has no worker"):
        stack_for(empty, None, settings)


class Recording(BaseModel):
    duration: int = 50


class Login(BaseModel):
    password: SecretStr = SecretStr("hush")


class Config(BaseModel):
    recording: Recording = Recording()
    db_metadata: Annotated[Path, WrittenFile]
    recordings: Annotated[Path, Folder]
    spool: Path
    broker: Login = Login()
    others: list[Login] = [Login()]


def test_folders_outside_the_home_are_mounted(settings: Settings, tmp_path: Path) -> None:
    config = Config(
        db_metadata=tmp_path / "disk" / "metadata",
        recordings=tmp_path / "disk" / "recordings",
        spool=settings.home / "data" / "spool",
    )

    stack = stack_for(program(RECORDING), config, settings)

    home = settings.home
    assert set(stack.service("recording").mounts) == {
        Mount(home / "config", read_only=True),
        Mount(home / "log" / "recording"),
        Mount(home / "run" / "recording"),
        Mount(home / "app.py", read_only=True),
        Mount(home / "data"),
        Mount(home / "data" / "cache", read_only=True),
        Mount(tmp_path / "disk"),
    }


class Replaying(BaseModel):
    simulated: Annotated[Path, ReadOnly]
    recordings: Path


def test_a_folder_to_write_in_below_one_to_read_is_mounted_by_itself(
    settings: Settings, tmp_path: Path
) -> None:
    config = Replaying(simulated=tmp_path / "disk", recordings=tmp_path / "disk" / "recordings")

    mounts = stack_for(program(RECORDING), config, settings).service("recording").mounts

    assert {
        Mount(tmp_path / "disk", read_only=True),
        Mount(tmp_path / "disk" / "recordings"),
    } <= set(mounts)


def test_a_folder_to_read_below_one_to_write_in_is_seen_already(
    settings: Settings, tmp_path: Path
) -> None:
    config = Replaying(simulated=tmp_path / "disk" / "wavs", recordings=tmp_path / "disk")

    mounts = stack_for(program(RECORDING), config, settings).service("recording").mounts

    assert Mount(tmp_path / "disk") in mounts
    assert len(mounts) == 7


def test_the_recorder_is_given_the_time_of_a_recording_to_stop(
    settings: Settings, tmp_path: Path
) -> None:
    config = Config(db_metadata=tmp_path, recordings=tmp_path, spool=tmp_path)

    stack = stack_for(program(RECORDING, DEFAULT), config, settings)

    assert stack.service("recording").stop_grace == 60


def test_secrets_are_named_and_never_told(settings: Settings, tmp_path: Path) -> None:
    config = Config(db_metadata=tmp_path, recordings=tmp_path, spool=tmp_path)

    stack = stack_for(program(RECORDING), config, settings)

    assert list(stack.secrets) == secret_names(config)
    assert stack.secrets == (
        "ACOUPI_CONFIG__BROKER__PASSWORD",
        "ACOUPI_CONFIG__OTHERS__0__PASSWORD",
    )
    assert "hush" not in repr(stack)


def test_a_broker_outside_is_known_by_its_url(settings: Settings) -> None:
    celery = CelerySettings(broker_url="redis://hub:6379/0")

    stack = stack_for(program(RECORDING), None, settings, celery=celery)

    assert (stack.broker.kind, stack.broker.url) == ("external", "redis://hub:6379/0")


def test_the_same_input_gives_the_same_stack(settings: Settings) -> None:
    assert stack_for(program(RECORDING, DEFAULT), None, settings).services == (
        stack_for(program(RECORDING, DEFAULT), None, settings).services
    )


def test_an_unknown_service_is_named_with_those_there_are(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match='no service "detektion"') as caught:
        stack_for(program(RECORDING), None, settings).service("detektion")

    assert "recording, beat" in (caught.value.help or "")


def test_nothing_is_written_by_describing(settings: Settings) -> None:
    stack_for(program(RECORDING, DETECTION, DEFAULT), None, settings)

    assert not settings.home.exists()
