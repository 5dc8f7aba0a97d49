"""The task that runs a model: one output and one message, whatever happens on the way."""

import json
import logging
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components import (
    FullModelOutputMessageBuilder,
    SqliteStore,
    ThresholdDetectionCleaner,
    types,
)
from acoupi.tasks import generate_detection_task
from acoupi.tasks.detection import model_name
from acoupi.testing import FakeModel, InMemoryMessageStore, InMemoryStore, make_recording
from tests.faulty import Faulty
from tests.message_stores import text_of

from .conftest import Crash

Capture = Callable[..., data.Recording]


class Filter(types.ProcessingFilter):
    def __init__(self, answer: bool) -> None:
        self.answer = answer

    def should_process_recording(self, recording: data.Recording) -> bool:
        return self.answer


class Builder(types.MessageBuilder[[data.ModelOutput]]):
    def __init__(self, *contents: str, errors: int = 0) -> None:
        self.contents = contents
        self.errors = errors

    def build_message(self, model_output: data.ModelOutput) -> list[data.Message]:
        if self.errors:
            self.errors -= 1
            raise RuntimeError("no message today")
        return [data.Message(content=content) for content in self.contents]


def analysis_of(store: SqliteStore, recording: data.Recording) -> data.Analysis:
    (analysis,) = store.get_analyses([recording])[recording.id]
    return analysis


def state_of(store: SqliteStore, recording: data.Recording) -> data.AnalysisState:
    return analysis_of(store, recording).state


@pytest.fixture
def task_of(store: SqliteStore, messages: types.MessageStore):
    def make(model: Any, **options: Any) -> Callable[[data.Recording], None]:
        options.setdefault("message_factories", [FullModelOutputMessageBuilder()])
        return generate_detection_task(store, model, messages, **options)

    return make


def test_an_output_and_a_message_are_stored(
    task_of, store: SqliteStore, messages: types.MessageStore, capture: Capture
) -> None:
    recording = capture()

    task_of(FakeModel())(recording)

    (output,) = store.get_recording_model_outputs(recording)
    (message,) = messages.get_unsent_messages()
    assert len(output.detections) == 1
    assert state_of(store, recording) is data.AnalysisState.DONE
    assert message.message_type is data.MessageType.DETECTION


def test_the_message_speaks_of_what_is_stored(
    task_of, store: SqliteStore, messages: types.MessageStore, capture: Capture
) -> None:
    recording = capture()

    task_of(FakeModel(), output_cleaners=[ThresholdDetectionCleaner(0.5)])(recording)

    (stored,) = store.get_recording_model_outputs(recording)
    (message,) = messages.get_unsent_messages()
    sent = data.ModelOutput.model_validate_json(message.content)
    assert sent.id == stored.id
    assert [d.id for d in sent.detections] == [d.id for d in stored.detections]


def test_a_model_is_told_what_the_recorder_lost(
    task_of, store: SqliteStore, capture: Capture
) -> None:
    recording = capture()
    report = data.CaptureReport(
        stream_id=UUID(int=1),
        first_frame=100,
        frames=800,
        samplerate_measured=None,
        clock_synchronised=None,
        clock_error_s=None,
        overruns=[data.Overrun(300, 40), data.Overrun(90, 20), data.Overrun(880, 100)],
    )
    store.store_recording(recording.model_copy(update={"capture": report}))
    sent = data.Recording.model_validate_json(recording.model_dump_json())
    heard: list[data.Recording] = []

    class Model(FakeModel):
        def run(self, recording: data.Recording) -> data.ModelOutput:
            heard.append(recording)
            return super().run(recording)

    task_of(Model())(sent)

    assert sent.lost_frames == []
    assert heard[0].lost_frames == [(0, 10), (200, 240), (780, 800)]
    assert heard[0].lost_parts[1] == (200 / 8000, 240 / 8000)


SCORES = st.floats() | st.floats(width=32).map(np.float32) | st.floats().map(np.float64)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(score=SCORES, certainty=SCORES, sides=st.tuples(SCORES, SCORES, SCORES, SCORES))
def test_whatever_a_model_gives_is_refused_or_stored_and_sent_alike(
    score: Any, certainty: Any, sides: tuple[Any, Any, Any, Any]
) -> None:
    store, messages = InMemoryStore(), InMemoryMessageStore()
    recording = make_recording()
    store.store_recording(recording)
    box = data.BoundingBox.model_construct(type="BoundingBox", coordinates=sides)
    tag = data.PredictedTag(data.Tag("species", np.str_("Myotis")), certainty)
    odd = data.Detection(location=box, tags=[tag]).model_copy(update={"detection_score": score})

    class Model(FakeModel):
        def run(self, recording: data.Recording) -> data.ModelOutput:
            return super().run(recording).model_copy(update={"detections": [odd]})

    builders = [FullModelOutputMessageBuilder()]
    task = generate_detection_task(store, Model(), messages, message_factories=builders)
    left, bottom, right, top = map(float, sides)
    is_valid = 0 <= score <= 1 and all(map(math.isfinite, sides)) and left < right and bottom < top

    if not is_valid:
        with pytest.raises(ValueError, match="1 validation error"):
            task(recording)
        assert messages.get_unsent_messages() == []
        return
    task(recording)

    [output] = store.get_recording_model_outputs(recording)
    [message] = messages.get_unsent_messages()
    sent = json.loads(message.content, parse_constant=pytest.fail)
    assert sent["detections"] == output.model_dump(mode="json")["detections"]
    [kept] = output.detections
    [label] = kept.tags
    assert 0 <= label.confidence_score <= 1 or math.isfinite(certainty)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(math.nan, 0), (math.inf, 1), (-math.inf, 0), (np.float32(0.5), 0.5), (1, 1)],
)
def test_the_score_of_a_tag_is_a_plain_number(given: Any, kept: float) -> None:
    score = data.PredictedTag(data.Tag("species", "Myotis"), given).confidence_score

    assert type(score) is float
    assert score == kept


def test_ids_come_from_recording_model_and_configuration(
    task_of, store: SqliteStore, capture: Capture
) -> None:
    recording = capture()

    task_of(FakeModel(emits="other"), configuration="c1")(recording)

    (output,) = store.get_recording_model_outputs(recording)
    assert output.id == data.derived_id(recording.id, "fake", "c1")
    assert output.detections[0].id == data.derived_id(output.id, 0)
    assert output.name_model == "other"


def test_a_second_delivery_changes_nothing(
    task_of, store: SqliteStore, messages: types.MessageStore, capture: Capture
) -> None:
    recording, model = capture(), FakeModel()
    task = task_of(model)

    task(recording)
    task(recording)

    assert len(model.runs) == 1
    assert len(store.get_recording_model_outputs(recording)) == 1
    assert len(messages.get_unsent_messages()) == 1


def test_a_model_that_emits_another_name_is_done(
    task_of, store: SqliteStore, capture: Capture
) -> None:
    recording = capture()

    task_of(FakeModel("birds", emits="BirdNET 2.4"))(recording)

    assert analysis_of(store, recording).name_model == "birds"
    assert state_of(store, recording) is data.AnalysisState.DONE


def test_a_model_may_have_a_dunder_name_or_only_a_class() -> None:
    class Named:
        name = "a"

    class Dunder:
        __name__ = "b"

    class Plain:
        pass

    assert [model_name(each()) for each in (Named, Dunder, Plain)] == ["a", "b", "Plain"]


@pytest.mark.parametrize("answers", [[False], [True, False], [False, True]])
def test_all_filters_must_hold(
    task_of, store: SqliteStore, capture: Capture, answers: list[bool]
) -> None:
    recording, model = capture(), FakeModel()

    task_of(model, processing_filters=[Filter(answer) for answer in answers])(recording)

    assert model.runs == []
    assert state_of(store, recording) is data.AnalysisState.SKIPPED
    assert store.get_recording_model_outputs(recording) == []


def test_cleaners_work_in_order(task_of, store: SqliteStore, capture: Capture) -> None:
    class Append(types.ModelOutputCleaner):
        def __init__(self, text: str) -> None:
            self.text = text

        def clean(self, model_output: data.ModelOutput) -> data.ModelOutput:
            name = model_output.name_model + self.text
            return model_output.model_copy(update={"name_model": name})

    recording = capture()

    task_of(FakeModel(emits="m"), output_cleaners=[Append("1"), Append("2")])(recording)

    (output,) = store.get_recording_model_outputs(recording)
    assert output.name_model == "m12"


def test_a_failing_model_is_tried_three_times_and_then_given_up(
    task_of, store: SqliteStore, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    recording = capture()
    model = FakeModel(errors=[RuntimeError(f"out of memory {n}") for n in range(9)])
    task = task_of(model)

    states = []
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(RuntimeError, match="out of memory"):
                task(recording)
            states.append(state_of(store, recording))
        task(recording)  # final: nothing happens

    assert [state.value for state in states] == ["retry", "retry", "failed"]
    assert analysis_of(store, recording).error == "RuntimeError: out of memory 2"
    assert len(model.runs) == 3
    assert "out of memory 0" in caplog.text


def test_a_model_that_recovers_is_done_without_an_error(
    task_of, store: SqliteStore, capture: Capture
) -> None:
    recording = capture()
    task = task_of(FakeModel(errors=[RuntimeError("hiccup")]))
    with pytest.raises(RuntimeError):
        task(recording)

    task(recording)

    assert state_of(store, recording) is data.AnalysisState.DONE
    assert analysis_of(store, recording).error is None


def test_a_recording_that_kills_its_worker_is_given_up(
    task_of, store: SqliteStore, capture: Capture
) -> None:
    class Killer(FakeModel):
        def run(self, recording: data.Recording) -> data.ModelOutput:
            self.runs.append(recording)
            raise Crash

    recording, model = capture(), Killer()
    task = task_of(model)
    for _ in range(3):
        with pytest.raises(Crash):
            task(recording)
        assert state_of(store, recording) is data.AnalysisState.RUNNING

    task(recording)

    assert len(model.runs) == 3
    assert state_of(store, recording) is data.AnalysisState.FAILED
    assert "worker died" in str(analysis_of(store, recording).error)


STEPS = [
    ("store", "begin_analysis"),
    ("store", "get_recording_model_outputs"),
    ("model", "run"),
    ("store", "store_model_output"),
    ("messages", "store_message"),
    ("store", "end_analysis"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_a_crash_at_any_step_and_a_second_run_end_in_one_output_and_one_message(
    task_of,
    store: Faulty,
    messages: Faulty,
    capture: Capture,
    owner: str,
    step: str,
    when: str,
) -> None:
    recording, model = capture(), Faulty(FakeModel())
    target = {"store": store, "model": model, "messages": messages}[owner]

    with target.failing(step, Crash(), after=when == "after"), pytest.raises(Crash):
        task_of(model)(recording)

    task_of(model)(recording)

    assert len(store.get_recording_model_outputs(recording)) == 1
    assert len(messages.get_unsent_messages()) == 1
    assert state_of(store, recording) is data.AnalysisState.DONE


def test_a_stored_output_is_not_computed_again(
    task_of,
    store: SqliteStore,
    messages: Faulty,
    capture: Capture,
) -> None:
    recording, model = capture(), FakeModel()
    full = OSError("No space left on device")

    with messages.failing("store_message", full), pytest.raises(OSError, match="No space"):
        task_of(model)(recording)
    assert state_of(store, recording) is data.AnalysisState.RETRY

    task_of(model)(recording)

    assert len(model.runs) == 1
    assert len(messages.get_unsent_messages()) == 1


def test_each_message_of_a_list_is_stored_once(
    task_of, messages: types.MessageStore, capture: Capture
) -> None:
    recording = capture()
    builders = [Builder("a", "b"), Builder("c"), Builder()]

    task_of(FakeModel(), message_factories=builders)(recording)

    assert sorted(text_of(m) for m in messages.get_unsent_messages()) == ["a", "b", "c"]


def test_a_failing_builder_does_not_silence_the_others(
    task_of, store: SqliteStore, messages: types.MessageStore, capture: Capture
) -> None:
    recording, model = capture(), FakeModel()
    task = task_of(model, message_factories=[Builder("a", errors=1), Builder("b")])

    with pytest.raises(RuntimeError, match="no message today"):
        task(recording)
    assert [text_of(m) for m in messages.get_unsent_messages()] == ["b"]
    task(recording)

    assert sorted(text_of(m) for m in messages.get_unsent_messages()) == ["a", "b"]
    assert len(model.runs) == 1
    assert state_of(store, recording) is data.AnalysisState.DONE


def test_two_models_on_one_device_do_not_get_in_each_others_way(
    task_of, store: SqliteStore, messages: types.MessageStore, capture: Capture
) -> None:
    recording = capture()

    task_of(FakeModel("bats"))(recording)
    task_of(FakeModel("birds"))(recording)

    assert {a.name_model for a in store.get_analyses([recording])[recording.id]} == {
        "bats",
        "birds",
    }
    assert len(store.get_recording_model_outputs(recording)) == 2
    assert len(messages.get_unsent_messages()) == 2


def test_what_waited_while_the_clock_was_set_is_told_with_the_right_time(
    task_of, store: SqliteStore, messages: types.MessageStore, capture: Capture
) -> None:
    recording = capture()
    right = recording.created_on + timedelta(hours=1)
    store.store_recording(recording.model_copy(update={"created_on": right}))

    task_of(FakeModel())(recording)

    (message,) = messages.get_unsent_messages()
    told = data.ModelOutput.model_validate_json(message.content)
    assert told.recording.created_on == right


def test_a_late_message_finds_the_file_where_it_is_now(
    task_of, store: SqliteStore, capture: Capture, kept
) -> None:
    recording, model = capture(), FakeModel()
    assert recording.path is not None
    kept.mkdir()
    now_at = recording.path.rename(kept / "a.wav")
    store.update_recording_path(recording, now_at)

    task_of(model)(recording)

    assert [run.path for run in model.runs] == [now_at]


def test_an_unstorable_failure_still_raises_and_stays_counted(
    task_of, store: SqliteStore, capture: Capture
) -> None:
    recording = capture()
    with pytest.raises(ValueError, match="max_attempts"):
        task_of(FakeModel(), max_attempts=0)

    with pytest.raises(RuntimeError):
        task_of(FakeModel(errors=[RuntimeError("x")]), max_attempts=1)(recording)

    assert state_of(store, recording) is data.AnalysisState.FAILED
