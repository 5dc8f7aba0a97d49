"""What the commands say of a microphone that cannot record what is set."""

from pathlib import Path

import pytest

from acoupi.audio import alsa
from acoupi.devices import microphones
from tests.cli.support import Calls, Run, lines_of
from tests.unit.devices.test_microphones import add_card, add_stream

SETUP = ("setup", "--program", "connected", "--target", "fake")


@pytest.fixture(autouse=True)
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Calls) -> None:
    """A USB microphone with one channel, that another process may have open."""
    sysfs = tmp_path / "sys" / "class" / "sound"
    sysfs.mkdir(parents=True)
    add_card(sysfs, 5, "Card5", usb=("16d0", "06f3", "0001"))
    add_stream(tmp_path, 5, "Ultra Mic", 1)
    monkeypatch.setattr(microphones, "SYSFS", sysfs)
    monkeypatch.setattr(alsa, "PROC", tmp_path)


def test_setup_names_channels_that_the_microphone_has_not(run: Run, home: Path) -> None:
    result = run(*SETUP, "--microphone.audio_channels", "2")

    assert result.exit_code == 0, result.stderr
    assert 'the microphone "default" has 1 channel, and 2 are set' in result.stderr
    assert "acoupi config set microphone.audio_channels 1" in result.stderr
    assert "channel" not in run(*SETUP, "--microphone.audio_channels", "1").stderr


def test_config_set_and_check_name_them_too(run: Run, home: Path) -> None:
    run(*SETUP)

    changed = run("config", "set", "microphone.audio_channels", "2", "--apply")
    checked = run("check")

    assert "has 1 channel, and 2 are set: nothing will be recorded" in changed.stderr
    assert checked.exit_code == 3
    assert "has 1 channel, and 2 are set" in lines_of(checked)[0]


def test_a_simulated_microphone_has_as_many_as_are_set(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")

    assert "channel" not in run(*SETUP, "--microphone.audio_channels", "2").stderr
