"""Task arguments as JSON."""

import datetime
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from acoupi import data
from acoupi.programs.core.messages import (
    MARK,
    classes_of,
    decode,
    encode,
    unknown_class,
    unsendable,
)

DEPLOYMENT = data.Deployment(name="Ö wood", latitude=51.5, longitude=-0.1)
RECORDING = data.Recording(
    path=Path("/spool/a b.wav"),
    duration=3,
    samplerate=256_000,
    time_expansion=10,
    deployment=DEPLOYMENT,
)


class Quality(Enum):
    GOOD = 1
    POOR = 2


class MyRecording(data.Recording):
    gain_db: float = 0


class Report(BaseModel):
    at: datetime.datetime
    quality: Quality


@dataclass
class Level:
    db: float


def over_the_wire(value: Any, classes: dict[str, type] | None = None) -> Any:
    return decode(json.loads(json.dumps(encode(value))), classes)


@pytest.mark.parametrize(
    "value",
    [
        RECORDING,
        data.ModelOutput(
            name_model="m",
            recording=RECORDING,
            detections=[
                data.Detection(
                    location=data.BoundingBox.from_coordinates(0.1, 20_000, 0.2, 40_000),
                    detection_score=0.7,
                    tags=[data.PredictedTag(data.Tag("species", "Myotis"), 0.6)],
                )
            ],
        ),
        data.Message(content="text", message_type=data.MessageType.SUMMARY),
        data.Tag("key", "value"),
        data.PredictionType.EVENT,
        data.ResponseStatus.TIMEOUT,
        [DEPLOYMENT, {"recording": RECORDING, "n": 1}, None],
        datetime.datetime(2024, 8, 1, 20, 30, tzinfo=datetime.UTC),
        datetime.date(2024, 8, 1),
        datetime.time(20, 30),
        datetime.timedelta(seconds=1.5),
        uuid4(),
        Path("/spool"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_tasks_are_given_arrives_as_it_was(value: Any) -> None:
    arrived = over_the_wire(value)

    assert arrived == value
    assert type(arrived) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(MARK.__ne__), inner),
    )
)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    assert over_the_wire(value) == value


def test_encoding_twice_changes_nothing() -> None:
    once = encode([RECORDING])

    assert encode(once) == once


def test_a_class_in_the_annotations_is_decoded() -> None:
    def task(reports: list[Report] | None, level: "Level | None" = None) -> None: ...

    report = Report(at=data.utc_now(), quality=Quality.POOR)

    assert over_the_wire(report, classes_of(task)) == report
    assert over_the_wire(Level(-3), classes_of(task)) == Level(-3)


def test_annotations_of_methods_partials_and_callables_are_found() -> None:
    class Callback:
        def __call__(self, report: Report) -> None: ...

        def method(self, report: Report) -> None: ...

    assert classes_of(Callback()) == {"Report": Report}
    assert classes_of(Callback().method) == {"Report": Report}
    assert classes_of(partial(Callback().method)) == {"Report": Report}


def test_annotations_that_cannot_be_read_name_no_class() -> None:
    def task(recording: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert classes_of(task) == {}


def test_the_class_that_a_task_returns_is_not_one_that_it_takes() -> None:
    def task(name: str) -> Report: ...  # type: ignore[empty-body]

    assert classes_of(task) == {}


def test_a_class_that_a_task_does_not_take_is_refused() -> None:
    encoded = encode(Report(at=data.utc_now(), quality=Quality.GOOD))

    with pytest.raises(TypeError, match="'Report'"):
        decode(encoded)


@pytest.mark.parametrize("name", ["object", "Popen", "os.system", "uuid4", "utc_now", "annotated"])
def test_a_message_cannot_choose_what_is_made_of_it(name: str) -> None:
    with pytest.raises(TypeError):
        decode({MARK: name, "value": "id"})


def test_a_kind_of_recording_of_ones_own_is_a_recording_to_others() -> None:
    mine = MyRecording(**dict(RECORDING), gain_db=6)

    assert over_the_wire(mine) == RECORDING
    assert over_the_wire(mine, {"MyRecording": MyRecording}) == mine


def test_content_that_does_not_fit_its_class_is_refused() -> None:
    with pytest.raises(ValidationError):
        decode({MARK: "Recording", "value": {"duration": -1}})


@pytest.mark.parametrize("value", [object(), {1: "a"}, [lambda: None]])
def test_what_json_cannot_hold_is_refused_in_words(value: Any) -> None:
    with pytest.raises(TypeError, match="a task cannot receive"):
        encode(value)


class Peaks:
    """Of a program's own, and nothing that can be encoded."""


class Shape(ABC):
    @abstractmethod
    def area(self) -> float: ...


def returning(hint: Any) -> Any:
    def task() -> Any: ...

    task.__annotations__["return"] = hint
    return task


@pytest.mark.parametrize(
    "hint", [Peaks, list[Peaks], dict[str, Peaks | None], dict[int, str], Iterator[int], Callable]
)
def test_a_return_that_no_callback_can_be_given_is_known_beforehand(hint: Any) -> None:
    assert unsendable(returning(hint)) is not None


@pytest.mark.parametrize(
    "hint",
    [
        *(None, int, Any, object, dict, bytes, set[str], np.ndarray, np.float32, Path, Shape),
        *(data.Recording | None, list[data.ModelOutput], dict[str, Any], Literal["a"], MyRecording),
        *(tuple[str, int], datetime.datetime, "NotThere"),
    ],
)
def test_what_may_be_sent_is_not_complained_of(hint: Any) -> None:
    assert unsendable(returning(hint)) is None


def test_objects_pass_through_decoding_untouched() -> None:
    identifier = UUID(int=1)

    assert decode(RECORDING) is RECORDING
    assert decode(identifier) is identifier


@pytest.mark.parametrize(
    "value", [b"\x00\xff", {1, 2}, frozenset({"a"}), [{"a": b"x"}, {b"y"}], set()]
)
def test_bytes_and_sets_arrive_as_they_were(value: Any) -> None:
    arrived = decode(json.loads(json.dumps(encode(value))))

    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize("kind", ["float32", "int16", "bool", "complex64", ">f8"])
def test_arrays_arrive_as_they_were(kind: str) -> None:
    value = np.arange(6).reshape(2, 3).astype(kind)

    arrived = decode(json.loads(json.dumps(encode(value))))

    assert arrived.dtype == value.dtype
    np.testing.assert_array_equal(arrived, value)


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(7), np.bool_(True)])
def test_a_numpy_scalar_arrives_as_a_plain_number(value: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value.item()


def test_an_array_of_objects_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        encode(np.array([object()]))


def test_a_class_that_a_receiver_does_not_know_is_named_with_the_cure() -> None:
    sent = encode({"found": [Own(1)]})

    assert unknown_class(sent, {"Own": Own}) is None
    assert "annotate its parameter" in (unknown_class(sent, {}) or "")
    assert "value: Own" in (unknown_class(sent, {}) or "")


@dataclass
class Own:
    number: int
