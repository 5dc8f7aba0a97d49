"""One sensor at a time has the sound devices that containers share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from acoupi.audio.sharing import SoundShare
from acoupi.errors import DeviceUnavailableError
from acoupi.home import home_mark

OTHER = """
import os, sys
from pathlib import Path
from acoupi.audio.sharing import SoundShare
os.path.ismount = lambda path: True
SoundShare(Path(sys.argv[1])).take("default")
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like one that containers share."""
    monkeypatch.setattr(os.path, "ismount", lambda _: True)
    monkeypatch.setattr("acoupi.audio.sharing.PATIENCE", 0.0)
    return tmp_path


@contextmanager
def sensor(devices: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another sensor that has the devices, until it is killed."""
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(devices)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ACOUPI_HOME": str(home)},
    )  # fmt: skip
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        try:
            yield other
        finally:
            other.kill()


def test_the_second_sensor_is_told_which_has_the_microphone(devices: Path, tmp_path: Path) -> None:
    home = tmp_path / "other"

    with (
        sensor(devices, home),
        pytest.raises(DeviceUnavailableError, match='microphone "default"') as raised,
    ):
        SoundShare(devices).take("default")

    assert f'another sensor of this machine, "...-{home_mark(home)}"' in raised.value.message
    assert "docker ps" in str(raised.value.help)


def test_a_second_container_of_one_sensor_is_told_so(devices: Path, home: Path) -> None:
    with (
        sensor(devices, home),
        pytest.raises(DeviceUnavailableError, match="microphone") as raised,
    ):
        SoundShare(devices).take("default")

    assert "the same sensor" in raised.value.message


def test_nothing_is_left_of_a_sensor_that_was_killed(devices: Path, tmp_path: Path) -> None:
    with sensor(devices, tmp_path / "other") as other:
        other.kill()
        other.wait()
        share = SoundShare(devices)
        share.take("default")

    share.take("default")  # ours already
    share.give_back()
    assert list(devices.iterdir()) == []


def test_what_was_given_back_can_be_had(devices: Path, tmp_path: Path) -> None:
    share = SoundShare(devices)
    share.take("default")
    share.give_back()

    with sensor(devices, tmp_path / "other"):
        pass


def test_outside_of_a_container_sensors_may_have_a_card_each(tmp_path: Path) -> None:
    one, two = SoundShare(tmp_path), SoundShare(tmp_path)

    one.take("left")
    two.take("right")
