"""What others wrote or a person typed is read, or refused by the documented error."""

import contextlib
import datetime
import json
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.simulated import SimulatedAudio
from acoupi.bundles.rendering import Manifest
from acoupi.commit import settle
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.messengers import HTTPConfig, MQTTConfig
from acoupi.components.messengers.config import check_host, check_topic, split_url
from acoupi.components.messengers.http import _retry_after
from acoupi.config import Document, parse_config_from_args
from acoupi.config.env_files import read_env
from acoupi.deployed import read_deployed
from acoupi.devices import read_device_file
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.programs.fields import Duration, LocalPath, TimeOfDay, TimeZoneName
from acoupi.programs.templates import DetectionProgramConfiguration
from acoupi.provisioned import (
    CACHE,
    FROM_HUB,
    MARKER,
    Fetched,
    read_cache,
    read_from_hub,
    read_provisioned,
)
from acoupi.provisioning.sources import read_sources
from acoupi.services.address import check_broker_url, masked_url
from acoupi.services.broker import load_celery_settings
from acoupi.services.declared_deployments import read_called
from acoupi.services.entries import read_schedule
from acoupi.stack.configured import read_program_name
from acoupi.stack.pulse import read_pulse
from acoupi.system import Settings
from acoupi.system.deployments import new_deployment

few = settings(max_examples=25, derandomize=True, database=None)

# --- files

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ["id", "name", "version", "entries", "files", "remove", "url", "text", "generation"]
named = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4)
deep = st.sampled_from(["[" * 3000, '{"a":' * 1500, "9" * 5000, "1e999", "a: &a [*a]"])
contents = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    (json_values | named).map(lambda value: json.dumps(value).encode()),
    deep.map(str.encode),
)

READERS: dict[str, Callable[[Path], object]] = {
    "a.json": lambda path: Document.read(path).parsed(),
    "a.yaml": lambda path: Document.read(path).parsed(),
    "a.toml": lambda path: Document.read(path).parsed(),
    "secrets.env": read_env,
    "deployment.json": read_deployed,
    "deployments.json": lambda path: read_deployed(path.with_name("deployment.json")),
    "device.json": read_device_file,
    ".generated.json": Manifest.read,
    "schedule.json": read_schedule,
    "called.json": read_called,
    MARKER: lambda path: read_provisioned(path.parent),
    FROM_HUB: lambda path: read_from_hub(path.parent),
    CACHE: lambda path: read_cache(path.parent),
    "recording.json": lambda path: read_pulse(path.parent, "recording"),
    ".decided.json": lambda path: settle(path.parent),
    ".staging.json": lambda path: settle(path.parent),
    "a.db": lambda path: SqliteStore(path).get_deployments(),
    "b.db": lambda path: SqliteMessageStore(path).get_unsent_messages(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


def refused(error: AcoupiError) -> None:
    assert len(error.lines()) == 3, error.lines()


def check_reader(read: Callable[[Path], object], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read(path)
    except AcoupiError as error:
        refused(error)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", READERS)
def test_a_file_is_read_or_refused_in_three_lines(folder: Path, name: str) -> None:
    @few
    @given(contents)
    def check(content: bytes) -> None:
        check_reader(READERS[name], folder / name, content)

    check()


@pytest.mark.parametrize("name", ["name", "celery.json"])
def test_a_file_of_a_home_is_read_or_refused_in_three_lines(home: Path, name: str) -> None:
    path = home / "config" / name
    path.parent.mkdir(parents=True)
    read = {"name": read_program_name, "celery.json": load_celery_settings}[name]

    @few
    @given(contents)
    def check(content: bytes) -> None:
        check_reader(lambda _: read(Settings(home=home)), path, content)

    check()


READ_SOUND = (formats.read_info, formats.read_guano, formats.read_audio)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_sound_file_with_any_bytes_changed_is_read_or_refused(folder: Path, suffix: str) -> None:
    path = folder / f"a.{suffix}"
    soundfile.write(path, np.zeros(600, dtype=np.int16), 8000)
    sound = bytearray(path.read_bytes())

    @few
    @given(
        st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6),
        st.integers(0, len(sound)),
    )
    def check(changes: list[tuple[int, int]], length: int) -> None:
        changed = bytearray(sound)
        for place, value in changes:
            changed[place] = value
        path.write_bytes(changed[:length])
        for read in READ_SOUND:
            try:
                read(path)
            except AcoupiError as error:
                refused(error)

    check()


# --- what a person types

OWN = "0123456789:.-+eE/@ ,;[]{}%~\0\nhttp mqtt redis amqp pm"
typed = st.text(max_size=20) | st.text(OWN, max_size=20) | st.text(string.digits, max_size=400)
VALUES: dict[str, tuple[Callable[[str], object], tuple[type[Exception], ...]]] = {
    "host": (check_host, (ValueError,)),
    "topic": (check_topic, (ValueError,)),
    "url": (split_url, (ValueError,)),
    "http": (lambda text: HTTPConfig(base_url=text), (ValidationError,)),
    "mqtt": (lambda text: MQTTConfig(host=text, topic=text), (ValidationError,)),
    "broker": (check_broker_url, (AcoupiError,)),
    "shown broker": (masked_url, ()),
    "simulated": (SimulatedAudio.parse, (AcoupiError,)),
    "deployment": (new_deployment, (AcoupiError,)),
    "retry-after": (lambda text: _retry_after({"Retry-After": text}), ()),
    "time": (TypeAdapter(TimeOfDay).validate_python, (ValidationError,)),
    "zone": (TypeAdapter(TimeZoneName).validate_python, (ValidationError,)),
    "path": (TypeAdapter(LocalPath).validate_python, (ValidationError,)),
    "length": (TypeAdapter(Duration).validate_python, (ValidationError,)),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_typed_value_is_taken_or_refused(name: str) -> None:
    read, refusals = VALUES[name]

    @few
    @given(typed)
    def check(text: str) -> None:
        with contextlib.suppress(*refusals):
            read(text)

    check()


OPTIONS = [
    *(
        "recording.duration",
        "recording.interval",
        "recording.chunksize",
        "recording.schedule_start",
    ),
    *("recording.ring_seconds", "recording.ring_bytes", "microphone.samplerate", "timezone"),
    *("microphone.device_name", "paths.recordings", "messaging.http.base_url", "messaging.http"),
    *("messaging.mqtt.host", "messaging.mqtt.port", "messaging.heartbeat_interval", "paths"),
]


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_with_any_value_is_taken_or_refused_in_three_lines(
    home: Path, option: str
) -> None:
    @few
    @given(typed | json_values.map(json.dumps))
    def check(text: str) -> None:
        try:
            config = parse_config_from_args(
                DetectionProgramConfiguration, [f"--{option}", text], False, environ={}
            )
        except AcoupiError as error:
            refused(error)
        else:
            json.loads(config.model_dump_json(), parse_constant=pytest.fail)

    check()


def away(url: str) -> Fetched:
    raise ConfigurationError("cannot fetch it.", "wait", why=f"{url} is away.")


@few
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("ACOUPI_DEPLOYMENT__NAME", "ACOUPI_DEPLOYMENT__LATITUDE", "ACOUPI_PROGRAM"),
                *("ACOUPI_DEPLOYMENT__LONGITUDE", "ACOUPI_DEVICE_ID", "ACOUPI_CONFIG_URL"),
                *("ACOUPI_CONFIG_FILE", "ACOUPI_SERVICES", "ACOUPI_LOG_LEVEL", "ACOUPI_NEW"),
                "ACOUPI_CONFIG__RECORDING__DURATION",
            ]
        ),
        st.text(max_size=20) | st.text(OWN, max_size=20),
    )
)
def test_variables_are_taken_or_refused_in_three_lines(given: dict[str, str]) -> None:
    try:
        read_sources(given, Path("/nowhere"), away)
    except AcoupiError as error:
        refused(error)


@few
@given(st.floats(), st.floats())
def test_coordinates_are_on_earth_or_refused(latitude: float, longitude: float) -> None:
    try:
        made = new_deployment("Oak", latitude, longitude)
    except AcoupiError as error:
        refused(error)
    else:
        assert abs(made.latitude or 0) <= 90
        assert abs(made.longitude or 0) <= 180


# --- what a model gives

numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.floats(width=32).map(np.float32),
    st.sampled_from(
        [np.float64(0.5), np.int64(1), np.bool_(True), None, "x", b"x", math.nan, True]
    ),
)
RECORDING = data.Recording(
    path=Path("/a.wav"), duration=3, samplerate=8000, deployment=data.Deployment(name="Oak")
)


@settings(few, max_examples=100)
@given(st.lists(numbers, min_size=4, max_size=4), numbers, numbers, st.text(max_size=5) | numbers)
def test_a_value_of_a_model_is_plain_or_refused(
    sides: list[Any], score: Any, confidence: Any, value: Any
) -> None:
    try:
        box = data.BoundingBox.from_coordinates(*sides)
        detection = data.Detection(
            location=box,
            detection_score=score,
            tags=[
                data.PredictedTag(tag=data.Tag(key="a", value=value), confidence_score=confidence)
            ],
        )
        output = data.ModelOutput(name_model="m", recording=RECORDING, detections=[detection])
    except (ValidationError, ValueError, TypeError):
        return
    text = output.model_dump_json()
    json.loads(text, parse_constant=pytest.fail)
    assert data.ModelOutput.model_validate_json(text) == output
    assert type(detection.detection_score) is float


@few
@given(
    st.integers() | st.floats(), st.integers() | st.floats(), st.datetimes() | st.text(max_size=5)
)
def test_a_recording_is_possible_or_refused(duration: float, rate: float, created_on: Any) -> None:
    try:
        made = RECORDING.model_validate(
            {**dict(RECORDING), "duration": duration, "samplerate": rate, "created_on": created_on}
        )
    except ValidationError:
        return
    assert made.duration > 0
    assert made.samplerate > 0
    assert made.created_on.tzinfo is datetime.UTC
