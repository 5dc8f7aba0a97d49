"""When a worker ends itself to be started again."""

import pytest

from acoupi.errors import ConfigurationError, DeviceUnavailableError, StoreError
from acoupi.services.restarts import NO_MICROPHONE, RestartPolicy
from tests.clocks import Clock

GONE = DeviceUnavailableError("the microphone is not there.")
PATIENT = {"ACOUPI_MICROPHONE_PATIENCE": "600"}


def test_a_recorder_without_a_microphone_leaves_when_its_patience_is_over(clock: Clock) -> None:
    policy = RestartPolicy(None, PATIENT)
    policy.task_failed(GONE)
    clock.advance(599)
    policy.task_failed(GONE)
    assert policy.due() is None

    clock.advance(2)
    policy.task_failed(GONE)

    found = policy.due()
    assert found is not None
    assert found[0] == NO_MICROPHONE
    assert "601 s" in found[1]


def test_a_recording_in_between_makes_it_patient_again(clock: Clock) -> None:
    policy = RestartPolicy(None, PATIENT)
    policy.task_failed(GONE)
    clock.advance(599)
    policy.recorded()
    clock.advance(2)
    policy.task_failed(GONE)

    assert policy.due() is None


def test_it_leaves_only_when_it_wants_to_record(clock: Clock) -> None:
    policy = RestartPolicy(None, PATIENT)
    policy.task_failed(GONE)
    assert policy.due() is None

    clock.advance(10_000)

    assert policy.due() is None
    policy.task_failed(GONE)
    assert policy.due() is not None


def test_another_failure_does_not_count(clock: Clock) -> None:
    policy = RestartPolicy(None, PATIENT)
    policy.task_failed(StoreError("no disk."))
    clock.advance(10_000)
    policy.task_failed(StoreError("no disk."))

    assert policy.due() is None


def test_without_being_told_it_never_leaves(clock: Clock) -> None:
    policy = RestartPolicy(None, {})
    policy.task_failed(GONE)
    clock.advance(100_000)
    policy.task_failed(GONE)

    assert policy.due() is None


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_patience_is_a_number_of_seconds(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ACOUPI_MICROPHONE_PATIENCE"):
        RestartPolicy(None, {"ACOUPI_MICROPHONE_PATIENCE": text})


def test_the_settings_of_the_sensor_are_stronger_than_the_variable(clock: Clock) -> None:
    policy = RestartPolicy(None, PATIENT, patience=1)
    policy.task_failed(GONE)
    clock.advance(2)
    policy.task_failed(GONE)

    assert policy.due() is not None
