"""When a worker ends itself to be started again."""

import pytest

from acoupi.errors import ConfigurationError, DeviceUnavailableError, StoreError
from acoupi.services.restarts import NO_MICROPHONE, Leaving
from tests.unit.system.conftest import Clocks

GONE = DeviceUnavailableError("the microphone is not there.")
PATIENT = {"ACOUPI_MICROPHONE_PATIENCE": "600"}


def test_a_recorder_without_a_microphone_leaves_when_its_patience_is_over(clocks: Clocks) -> None:
    leaving = Leaving(None, PATIENT)
    leaving.failed(GONE)
    clocks.pass_time(599)
    leaving.failed(GONE)
    assert leaving() is None

    clocks.pass_time(2)
    leaving.failed(GONE)

    found = leaving()
    assert found is not None
    assert found[0] == NO_MICROPHONE
    assert "601 s" in found[1]


def test_a_recording_in_between_makes_it_patient_again(clocks: Clocks) -> None:
    leaving = Leaving(None, PATIENT)
    leaving.failed(GONE)
    clocks.pass_time(599)
    leaving.recorded()
    clocks.pass_time(2)
    leaving.failed(GONE)

    assert leaving() is None


def test_it_leaves_only_when_it_wants_to_record(clocks: Clocks) -> None:
    leaving = Leaving(None, PATIENT)
    leaving.failed(GONE)
    assert leaving() is None

    clocks.pass_time(10_000)

    assert leaving() is None
    leaving.failed(GONE)
    assert leaving() is not None


def test_another_failure_does_not_count(clocks: Clocks) -> None:
    leaving = Leaving(None, PATIENT)
    leaving.failed(StoreError("no disk."))
    clocks.pass_time(10_000)
    leaving.failed(StoreError("no disk."))

    assert leaving() is None


def test_without_being_told_it_never_leaves(clocks: Clocks) -> None:
    leaving = Leaving(None, {})
    leaving.failed(GONE)
    clocks.pass_time(100_000)
    leaving.failed(GONE)

    assert leaving() is None


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_patience_is_a_number_of_seconds(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ACOUPI_MICROPHONE_PATIENCE"):
        Leaving(None, {"ACOUPI_MICROPHONE_PATIENCE": text})
