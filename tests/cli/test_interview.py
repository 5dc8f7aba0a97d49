"""The questions of setup on a terminal: explained, taken back, summed up, kept for the next try."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from acoupi.cli.interviews import Answer, Interview
from tests.cli.on_a_terminal import Terminal, on_a_terminal

MQTT = (
    *("setup", "--program", "connected", "--target", "process", "--timezone", "UTC"),
    *("--microphone", "{}", "--paths", "{}", "--recording_saving", "null"),
    *("--messaging.http", "null", "--messaging.file", "null", "--messaging.mqtt.host", "hub"),
    *("--messaging.mqtt.username", "bat", "--messaging.messages_db", "messages.db"),
    *("--messaging.message_send_interval", "120", "--messaging.max_messages", "null"),
    *("--messaging.message_order", "oldest_first", "--messaging.heartbeat_interval", "3600"),
)
"""A setup that asks for the settings of recording, and then for a password."""
CTRL_C = "\x03"


@pytest.fixture
def setup(home: Path, tmp_path: Path) -> Any:
    def setup(*args: str, **options: Any) -> AbstractContextManager[Terminal]:
        state = {"ACOUPI_HOME": str(home), "XDG_STATE_HOME": str(tmp_path / "state")}
        return on_a_terminal(*args, **state, **options)

    return setup


@pytest.fixture
def recording(setup: Any) -> Any:
    """A setup that asks for the settings of recording alone."""
    given = (
        "--microphone",
        "{}",
        "--paths",
        "{}",
        "--recording_saving",
        "null",
        "--timezone",
        "UTC",
    )
    return lambda **more: setup(
        "setup", "--program", "default", "--target", "process", *given, **more
    )


def recording_in(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "config" / "program.json").read_text())["recording"]
    return found


def test_a_question_is_explained_and_taken_back_and_all_is_summed_up(
    recording: Any, home: Path
) -> None:
    with recording() as terminal:
        terminal.until("settings of recording")
        terminal.type("y\n")
        terminal.until("[3]")
        terminal.type("?\n")
        assert "--recording.duration" in terminal.until("< goes back")
        terminal.until("[3]")
        terminal.type("7\n")
        terminal.until("interval")
        terminal.type("<\n")
        terminal.until("recording > duration")
        terminal.type("5\n")
        for name in ("interval", "schedule_start", "schedule_end"):
            terminal.until(f"recording > {name}")
            terminal.type("\n")
        summary = terminal.until("Set up the sensor like this?")
        terminal.type("<\n")
        terminal.until("recording > schedule_end")
        terminal.type("04:00\n")
        again = terminal.until("Set up the sensor like this?")
        assert not (home / "config").exists()
        terminal.type("y\n")
        code = terminal.ended()

    assert code == 0, terminal.shown
    assert "recording.duration        5" in summary
    assert "recording.schedule_end    22:30:00" in summary
    assert "recording.schedule_end    04:00" in again
    assert (recording_in(home)["duration"], recording_in(home)["schedule_end"]) == (5, "04:00:00")


def test_questions_are_wrapped_between_words(recording: Any) -> None:
    with recording(columns=60) as terminal:
        terminal.until("settings of recording")
        terminal.type("y\n")
        terminal.until("[3]")
        terminal.type("\n")
        question = terminal.until("[10]")

    assert "multiples of it\nsince midnight UTC" in question
    assert max(map(len, question.splitlines())) <= 60


def test_a_declined_summary_sets_nothing_up(recording: Any, home: Path) -> None:
    with recording() as terminal:
        terminal.until("settings of recording")
        terminal.type("n\n")
        terminal.until("Set up the sensor like this?")
        terminal.type("n\n")
        code = terminal.ended()

    assert code == 1
    assert not (home / "config").exists()


def test_what_was_answered_is_kept_when_it_is_interrupted_but_no_secret(
    setup: Any, home: Path, tmp_path: Path
) -> None:
    with setup(*MQTT) as terminal:
        terminal.until("settings of recording")
        terminal.type("y\n")
        terminal.until("recording > duration")
        terminal.type("8\n")
        for name in ("interval", "schedule_start", "schedule_end"):
            terminal.until(f"recording > {name}")
            terminal.type("\n")
        terminal.until("(Enter for none): ")
        terminal.type("hunter2\n")
        terminal.until("mqtt > topic")
        terminal.type(CTRL_C)
        code = terminal.ended()

    assert code == 130, terminal.shown
    assert "answers are kept" in terminal.shown
    (file,) = (tmp_path / "state" / "acoupi").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert "hunter2" not in file.read_text()
    assert not (home / "config").exists()
    with setup(*MQTT) as terminal:
        terminal.until("answers of last time?")
        terminal.type("\n")
        terminal.until("messaging > mqtt > password")
        assert "recording" not in terminal.shown


def test_an_interruption_between_two_questions_keeps_the_answers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    interview = Interview("a home")
    interview.answers.append(Answer("recording.duration", is_section=False, value="8"))
    with pytest.raises(KeyboardInterrupt), interview.kept():
        raise KeyboardInterrupt

    assert "recording.duration" in interview.file.read_text()
