"""What the sensor reports about itself."""

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from acoupi.errors import NotConfiguredError
from acoupi.stack.pulse import PulseFile, ServiceLock
from acoupi.system import Settings, get_celery_status, get_status, setup_program, start_deployment
from tests.clocks import Clock
from tests.services import free_port


@pytest.fixture
def sensor(settings: Settings, program_name: str) -> Settings:
    setup_program(settings, program_name)
    return settings


def pulse(settings: Settings, name: str, **known: Any) -> PulseFile:
    file = PulseFile(settings.run_dir, name)
    file.pulse = replace(file.pulse, **{"state": "ready", **known})
    file.write()
    return file


def test_a_sensor_that_was_never_started_is_stopped(sensor: Settings) -> None:
    status = get_status(sensor)

    assert status.celery.state == "unavailable"
    assert [one.state for one in status.celery.workers] == ["stopped", "stopped"]
    assert status.celery.waiting == {"celery": 0, "recording": 0}
    assert status.celery.broker == "embedded"
    assert status.deployment is None
    assert status.program.status == "ok"
    assert (status.services.target, status.services.acoupi) == ("process", "inactive")


def test_services_that_live_and_write_are_well(sensor: Settings) -> None:
    with (
        ServiceLock(sensor.run_dir, "recording"),
        ServiceLock(sensor.run_dir, "default"),
        ServiceLock(sensor.run_dir, "beat"),
    ):
        pulse(sensor, "recording", task="recording_task", done=7)
        pulse(sensor, "default")
        pulse(sensor, "beat")

        status = get_status(sensor)

    assert status.celery.state == "ok"
    recording = status.celery.workers[0]
    assert (recording.role, recording.task, recording.done) == ("recorder", "recording_task", 7)
    assert recording.memory_bytes is not None
    assert status.services.acoupi == status.services.beat == "active"


def test_the_memory_of_another_process_is_not_given_for_that_of_a_service(
    sensor: Settings,
) -> None:
    with ServiceLock(sensor.run_dir, "recording"):
        # In a container of its own it is number 7; here that is another process.
        pulse(sensor, "recording", pid=os.getppid())

        [recording, *_] = get_status(sensor).celery.workers

    assert (recording.state, recording.memory_bytes) == ("ready", None)


def test_a_service_that_died_is_not_well_whatever_its_last_pulse_said(sensor: Settings) -> None:
    with ServiceLock(sensor.run_dir, "default"), ServiceLock(sensor.run_dir, "beat"):
        pulse(sensor, "recording")
        pulse(sensor, "default")
        pulse(sensor, "beat")

        status = get_status(sensor)

    assert status.celery.state == "notok"
    assert status.celery.workers[0].state == "stopped"
    assert "stopped unexpectedly" in (status.celery.workers[0].message or "")
    assert status.celery.workers[0].pid is None
    assert status.services.acoupi == "failed"


def test_a_service_that_writes_no_more_does_not_answer(sensor: Settings, clock: Clock) -> None:
    with ServiceLock(sensor.run_dir, "default"):
        pulse(sensor, "default")
        clock.advance(45)

        worker = get_celery_status(sensor).workers[1]

    assert worker.state == "not answering"
    assert "45 s old" in (worker.message or "")


def test_one_that_is_being_started_again_is_said_to_be(sensor: Settings) -> None:
    pulse(sensor, "default")

    with ServiceLock(sensor.run_dir, "default.supervisor"):
        worker = get_celery_status(sensor).workers[1]

    assert worker.state == "restarting"


def test_one_that_would_not_be_started_again_is_not_well(sensor: Settings) -> None:
    names = ("recording", "default", "beat")
    with ExitStack() as locks:
        for name in names:
            pulse(sensor, name)
            locks.enter_context(ServiceLock(sensor.run_dir, name))
        with ExitStack() as supervisors:
            for name in names:
                supervisors.enter_context(ServiceLock(sensor.run_dir, f"{name}.supervisor"))
            assert get_status(sensor).celery.state == "ok"
        status = get_status(sensor)

    assert status.celery.state == "notok"
    assert {one.state for one in status.celery.workers} == {"unsupervised"}
    assert status.services.acoupi == "active"  # it still records
    assert "acoupi-workers-start.sh recording" in (status.celery.workers[0].message or "")


def test_failing_tasks_make_the_program_unhealthy(sensor: Settings) -> None:
    with ServiceLock(sensor.run_dir, "default"):
        pulse(sensor, "default", last_error="send_messages: no link")

        state = get_status(sensor).program

    assert state.status == "unhealthy"
    assert state.message == "default: send_messages: no link"


def test_a_program_that_cannot_be_loaded_is_an_error_and_the_rest_is_still_told(
    sensor: Settings,
) -> None:
    sensor.program_name_file.write_text("gone.program\n")

    status = get_status(sensor)

    assert status.program.status == "error"
    assert "gone.program" in (status.program.message or "")
    assert len(status.celery.workers) == 2


def test_a_broken_configuration_is_an_error(sensor: Settings) -> None:
    sensor.program_config_file.write_text('{"interval": "soon"}')

    assert get_status(sensor).program.status == "error"


def test_a_broker_that_is_down_is_said_to_be(sensor: Settings, program_name: str) -> None:
    setup_program(sensor, program_name, broker=f"redis://:hush@127.0.0.1:{free_port()}/0")

    status = get_status(sensor)

    assert status.celery.waiting is None
    assert "cannot reach the broker" in (status.celery.message or "")
    assert "hush" not in status.model_dump_json()


def test_the_deployment_that_goes_on_is_told(sensor: Settings) -> None:
    start_deployment(sensor, "heath", 51.5, -0.1)

    deployment = get_status(sensor).deployment

    assert deployment is not None
    assert deployment.name == "heath"


def test_status_opens_no_microphone_and_builds_nothing(
    sensor: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = sys.modules["small_program"].Program

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("status built the program")

    monkeypatch.setattr(program, "__init__", forbidden)
    monkeypatch.setattr(program, "check", forbidden)

    assert get_status(sensor).program.status == "ok"


def test_where_there_is_no_systemd_status_says_so(
    sensor: Settings, program_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_program(sensor, program_name, target="systemd")
    monkeypatch.setenv("PATH", "/nowhere")

    status = get_status(sensor)

    assert status.services.target == "systemd"
    assert status.services.acoupi == "uninstalled"


def test_without_a_setup_there_is_no_status(settings: Settings) -> None:
    with pytest.raises(NotConfiguredError):
        get_status(settings)
