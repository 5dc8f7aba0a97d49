"""What `acoupi check` says of a model: it was run, on sound as long as the recordings."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from acoupi import data
from acoupi.audio import formats
from acoupi.errors import HealthCheckError
from acoupi.system.model_trial import try_model
from tests.clocks import Clock


class Model:
    """Answers what a test says, and remembers what it was given."""

    name = "trial"

    def __init__(self, answer: Callable[[data.Recording], Any]) -> None:
        self.answer = answer
        self.given: list[data.Recording] = []

    def run(self, recording: data.Recording) -> Any:
        assert recording.path is not None
        info = formats.read_info(recording.path)
        assert info.frames == round(recording.duration * recording.samplerate)
        self.given.append(recording)
        return self.answer(recording)


def program_of(model: Model | None, interval: float = 10) -> Any:
    recorder = SimpleNamespace(duration=1.5, samplerate=16_000, audio_channels=2, time_expansion=1)
    config = SimpleNamespace(recording=SimpleNamespace(interval=interval))
    return SimpleNamespace(model=model, recorder=recorder, config=config)


def output(recording: data.Recording, *detections: Any) -> data.ModelOutput:
    made = data.ModelOutput(name_model="trial", recording=recording)
    return made.model_copy(update={"detections": list(detections)})


def test_the_model_is_run_once_on_sound_like_that_of_a_recording(clock: Clock) -> None:
    def answer(recording: data.Recording) -> data.ModelOutput:
        clock.advance(0.5)
        return output(recording, data.Detection(detection_score=0.5))

    model = Model(answer)

    assert try_model(program_of(model)) == "0.5 s for 1.5 s of sound (3 times real time)"
    (recording,) = model.given
    assert (recording.duration, recording.samplerate, recording.audio_channels) == (1.5, 16_000, 2)


def test_a_fast_model_is_told_without_an_exponent(clock: Clock) -> None:
    def answer(recording: data.Recording) -> data.ModelOutput:
        clock.advance(0.006)
        return output(recording)

    assert try_model(program_of(Model(answer))) == (
        "0.006 s for 1.5 s of sound (250 times real time)"
    )


def test_without_a_model_nothing_is_said() -> None:
    assert try_model(program_of(None)) is None


def raises(recording: data.Recording) -> data.ModelOutput:
    raise ValueError("bad weights")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (raises, "bad weights"),
        (lambda _: None, "it returned NoneType, not a ModelOutput"),
        (lambda _: [], "it returned list"),
        (lambda recording: output(recording, {"score": 1}), "detection 0 is a dict"),
        (
            lambda recording: output(
                recording, data.Detection().model_copy(update={"detection_score": 7.0})
            ),
            "detection_score of detection 0",
        ),
    ],
)
def test_a_model_that_does_not_do_its_work_is_not_ready(answer: Any, what: str) -> None:
    with pytest.raises(HealthCheckError) as found:
        try_model(program_of(Model(answer)))

    assert what in (found.value.why or "")
    assert found.value.exit_code == 3


def test_a_model_slower_than_recordings_come_is_not_ready(clock: Clock) -> None:
    def answer(recording: data.Recording) -> data.ModelOutput:
        clock.advance(12)
        return output(recording)

    with pytest.raises(HealthCheckError, match=r"too slow: it takes 12 s for 1\.5 s") as found:
        try_model(program_of(Model(answer)))

    assert "every 10 s" in (found.value.why or "")


def test_loading_the_weights_does_not_make_a_model_slow(clock: Clock) -> None:
    seconds = iter([60, 1])

    def answer(recording: data.Recording) -> data.ModelOutput:
        clock.advance(next(seconds))
        return output(recording)

    assert "1 s for 1.5 s" in (try_model(program_of(Model(answer))) or "")
