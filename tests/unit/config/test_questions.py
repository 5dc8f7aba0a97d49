"""Configurations from the answers of a person."""

from typing import Any

import pytest
from pydantic import BaseModel, Field, model_validator

from acoupi.config import Question, parse_config_from_args
from acoupi.errors import ConfigurationError
from tests.unit.config.schema import Mqtt, Schema, parse, refusal


class Person:
    """Answers questions by name, and keeps the default of all others."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name.replace("__", "."): answer for name, answer in answers.items()}
        self.asked: list[Question] = []

    def __call__(self, question: Question) -> Any:
        self.asked.append(question)
        answer = self.answers.get(question.name, question.default)
        return (
            answer.pop(0) if isinstance(answer, list) and question.name in self.answers else answer
        )

    @property
    def names(self) -> list[str]:
        return [question.name for question in self.asked]


def test_what_is_not_given_is_asked_in_the_order_of_the_schema() -> None:
    person = Person(recording=True)

    config = parse("--name", "x", prompt=True, ask=person)

    assert config == Schema(name="x")
    assert person.names[:4] == [
        "recording",
        "recording.duration",
        "recording.interval",
        "recording.start",
    ]
    assert "name" not in person.names
    assert "recording.chunksize" not in person.names


def test_an_answer_is_asked_for_until_it_is_valid() -> None:
    person = Person(recording=True, recording__duration=["0", "soon", "7"])

    config = parse(prompt=True, ask=person)

    assert config.recording.duration == 7
    problems = [q.problem for q in person.asked if q.name == "recording.duration"]
    assert problems[0] is None
    assert "greater than 0" in str(problems[1].why if problems[1] else "")
    assert "number" in str(problems[2].why if problems[2] else "")


def test_an_optional_section_is_asked_about_before_its_settings() -> None:
    person = Person(messaging=True, messaging__mqtt=True, messaging__mqtt__host="broker")

    config = parse(prompt=True, ask=person)

    assert config.messaging.mqtt == Mqtt(host="broker")
    assert config.messaging.http is None
    host = next(q for q in person.asked if q.name == "messaging.mqtt.host")
    password = next(q for q in person.asked if q.name == "messaging.mqtt.password")
    assert host.required
    assert password.secret
    assert "messaging.http.base_url" not in person.names


def test_previous_answers_are_the_defaults_of_questions() -> None:
    before = parse("--messaging.mqtt.host", "h", "--messaging.mqtt.password", "hunter2")
    person = Person(messaging=True)

    config = parse(prompt=True, ask=person, previous=before)

    assert config == before
    password = next(q for q in person.asked if q.name == "messaging.mqtt.password")
    assert password.default is True
    assert all("hunter2" not in str(q) for q in person.asked)


def test_settings_that_do_not_go_together_are_asked_again() -> None:
    class Slots(BaseModel):
        duration: float = 3
        interval: float = 10

        @model_validator(mode="after")
        def check(self) -> "Slots":
            if self.interval < self.duration:
                raise ValueError("interval must be at least duration")
            return self

    person = Person(duration=["20", "5"], interval=["10", "10"])

    config = parse_config_from_args(Slots, [], True, environ={}, ask=person)

    assert config.duration == 5
    assert person.names == ["duration", "interval", "duration", "interval"]


def test_nobody_is_asked_when_an_option_is_wrong_anyway() -> None:
    person = Person()

    lines = refusal("--recording.duration", "0", prompt=True, ask=person)

    assert "greater than 0" in lines[1]
    assert person.asked == []


def test_without_anyone_to_ask_a_missing_setting_is_named() -> None:
    class Needs(BaseModel):
        device: str = Field(description="The microphone.")

    with pytest.raises(ConfigurationError) as caught:
        parse_config_from_args(Needs, environ={})

    assert caught.value.lines() == [
        "Error: --device is missing.",
        "  Why: The microphone.",
        "  Try: --device VALUE",
    ]
