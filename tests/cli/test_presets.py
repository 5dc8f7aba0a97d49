"""Presets: settings for a group of animals, and what a program says when it is chosen."""

from pathlib import Path
from typing import Any

import pytest

from acoupi.config.presets import PRESETS
from acoupi.system import Settings
from acoupi.system.sensor import Sensor
from tests.cli.support import Run, lines_of, tree_of

QUICK = ("--no-prompt", "--target", "process")


def config_of(home: Path) -> Any:
    return Sensor.read(Settings(home=home)).config


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_a_sensor_up_and_is_shown_before(run: Run, home: Path, name: str) -> None:
    result = run("setup", "--preset", name, *QUICK)

    assert result.exit_code == 0, result.stderr
    shown, _, after = result.stdout.partition("The sensor is set up")
    assert after
    config = config_of(home)
    assert Sensor.read(Settings(home=home)).program_name == PRESETS[name].program
    assert config.microphone.samplerate == PRESETS[name].settings["microphone.samplerate"]
    for setting in ("microphone.samplerate", "recording.duration", "recording.interval"):
        assert setting in shown


def test_bats_are_heard_at_night_by_the_sun(run: Run, home: Path) -> None:
    run("setup", "--preset", "bats", *QUICK)

    config = config_of(home)
    assert (config.recording.follow_sun, config.recording.sun_margin) == ("night", 30)
    assert (config.detector.low_freq, config.detector.high_freq) == (15_000, 150_000)


def test_a_program_that_does_not_follow_the_sun_has_hours(run: Run, home: Path) -> None:
    result = run("setup", "--program", "connected", "--preset", "bats", *QUICK)

    recording = config_of(home).recording
    assert f"{recording.schedule_start} to {recording.schedule_end}" == "18:00:00 to 08:00:00"
    assert "detector" not in result.stdout
    assert "follow_sun" not in result.stdout


def test_what_is_given_wins_wherever_it_is_given(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recording:\n  duration: 7\n")
    monkeypatch.setenv("ACOUPI_CONFIG__MICROPHONE__SAMPLERATE", "256000")

    options = ("--recording.interval", "20", "--config", str(file))
    result = run("setup", "--preset", "bats", *QUICK, *options)

    config = config_of(home)
    assert (config.recording.interval, config.recording.duration) == (20, 7)
    assert config.microphone.samplerate == 256_000
    assert "recording.interval" not in result.stdout


def test_a_preset_replaces_earlier_answers_and_leaves_the_others(run: Run, home: Path) -> None:
    run(
        "setup",
        "--program",
        "sounds",
        "--recording.duration",
        "9",
        "--recording.bits",
        "24",
        *QUICK,
    )

    run("setup", "--preset", "bats", "--no-prompt")

    assert (config_of(home).recording.duration, config_of(home).recording.bits) == (5, 24)


def test_a_preset_that_is_declined_changes_nothing(run: Run, home: Path) -> None:
    run("setup", "--program", "sounds", *QUICK)
    before = tree_of(home)

    result = run("setup", "--program", "sounds", "--preset", "bats", "--prompt", input="n\n")

    assert result.exit_code == 1
    assert tree_of(home) == before


def test_an_unknown_preset_and_one_that_a_program_cannot_take_are_refused_by_name(
    run: Run, home: Path
) -> None:
    unknown = run("setup", "--preset", "bat", *QUICK)
    other = run("setup", "--program", "test", "--preset", "bats", *QUICK)

    assert lines_of(unknown)[0] == 'Error: there is no preset "bat".'
    assert lines_of(unknown)[2] == "  Try: --preset bats"
    assert lines_of(other)[0] == 'Error: the program "test" cannot use the preset "bats".'
    assert "no setting microphone.samplerate" in lines_of(other)[1]
    assert (unknown.exit_code, other.exit_code) == (2, 2)
    assert not (home / "config").exists()


def test_a_program_says_what_a_detection_means_when_it_is_chosen(run: Run, home: Path) -> None:
    result = run("setup", "--program", "sounds", *QUICK)

    assert "never which animal it was" in " ".join(result.stdout.split())
