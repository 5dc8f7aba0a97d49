"""What a bundle needs of the machine before it starts; what can wait."""

from pathlib import Path

import pytest

from acoupi.bundles.engine import Answer, Host, compose_command
from acoupi.bundles.preflight import failure, run_preflight
from acoupi.bundles.preflight.engine import version_of
from acoupi.bundles.preflight.machine_state import Bundle
from acoupi.system import Sensor, Settings
from tests.preflight import FakeHost


def test_of_several_failures_the_first_is_raised_and_the_others_are_counted(
    sensor: Settings,
) -> None:
    host = FakeHost(writable=False, answers={"info": Answer(127)})

    error = failure(list(run_preflight(sensor, host, Sensor.at(sensor).manifest)))

    assert error is not None
    assert "cannot write" in error.message
    assert "shows 1 more" in (error.help or "")
    assert error.exit_code == 3
    assert failure([]) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [("20.10.24+dfsg1", (20, 10)), ("v2.26.1-4", (2, 26)), ("29-rc1", (29,)), ("dev", ())],
)
def test_versions_are_read_whatever_is_added_to_them(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"services": []}', "no json"])
def test_what_is_no_bundle_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its subclass for JSON too
        Bundle.parse(text)


def test_the_override_is_part_of_the_command_only_if_it_is_there(sensor: Settings) -> None:
    without = compose_command(sensor, "up")
    (sensor.home / "docker-compose.override.yml").write_text("services: {}\n")

    assert "docker-compose.override.yml" not in " ".join(without)
    assert compose_command(sensor, "up")[-3:] == [
        "-f",
        str(sensor.home / "docker-compose.override.yml"),
        "up",
    ]


def test_this_machine_answers_every_question(tmp_path: Path) -> None:
    host = Host()

    assert host.can_write(tmp_path / "not" / "there")
    assert (host.free_bytes(tmp_path / "not" / "there") or 0) > 0
    assert host.memory_bytes() > 0
    assert host.is_folder(tmp_path)
    assert not host.is_folder(tmp_path / ("a name that no disk takes" * 20))
    assert host.storage(tmp_path) is not None
    assert isinstance(host.cards(), list)
    assert host.is_clock_synchronised() in (True, False, None)
    assert host.is_port_free("127.0.0.1", 0, "tcp")
