"""A sensor to try: the home it takes, and how a program is made to show itself in a minute."""

from pathlib import Path

import pytest

from acoupi.errors import AcoupiError
from acoupi.system.trying import MARKER, OLD_MARKER, TriedSensor, clear, own_home


class Told(TriedSensor):
    """Notes the commands instead of running them."""

    asked: tuple[str, ...] = ()

    def acoupi(self, *arguments: str) -> str:
        self.asked = arguments
        return ""


def given(sensor: Told) -> dict[str, str]:
    """The options of the last command, with what follows each."""
    words = sensor.asked
    return {
        word: after
        for word, after in zip(words, [*words[1:], ""], strict=True)
        if word.startswith("--")
    }


def test_a_program_records_at_once_and_often_and_writes_its_messages_to_a_file(
    tmp_path: Path,
) -> None:
    sensor = Told(tmp_path, "connected")

    sensor.set_up()

    options = given(sensor)
    assert options["--recording.schedule_start"] == options["--recording.schedule_end"] == "00:00"
    assert options["--recording.interval"] == "5"
    assert options["--messaging.file.path"] == str(tmp_path / "data" / "messages.jsonl")


def test_what_is_given_wins_and_what_a_program_does_not_have_is_left_out(tmp_path: Path) -> None:
    sensor = Told(tmp_path, "default", ["--recording.interval", "20", "--recording.duration=9"])

    sensor.set_up()

    options = given(sensor)
    assert options["--recording.interval"] == "20"
    assert "--recording.duration" not in options
    assert "--recording.duration=9" in options
    assert "--messaging.file.path" not in options


def test_the_demo_stays_as_it_is(tmp_path: Path) -> None:
    sensor = Told(tmp_path)

    sensor.set_up()

    assert not any("recording" in word for word in sensor.asked)


def test_only_a_folder_that_a_try_made_is_cleared(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "photographs"
    other.mkdir()
    (other / "otter.jpg").touch()
    with own_home(own):
        (own / "data").mkdir()
        (own / "spectrogram.png").touch()

    with pytest.raises(AcoupiError, match="cannot try"), own_home(other):
        pass
    with own_home(own):
        clear(own)

    assert [one.name for one in own.iterdir()] == [MARKER]
    assert [one.name for one in other.iterdir()] == ["otter.jpg"]


def test_two_tries_do_not_share_a_folder(tmp_path: Path) -> None:
    with own_home(tmp_path), pytest.raises(AcoupiError) as caught, own_home(tmp_path):
        pass

    assert caught.value.why == "another one is running there."


def test_the_folder_of_an_earlier_demo_is_taken(tmp_path: Path) -> None:
    (tmp_path / OLD_MARKER).touch()

    with own_home(tmp_path):
        assert (tmp_path / MARKER).exists()
