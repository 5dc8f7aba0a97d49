"""What a recording says about itself."""

import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio.guano import (
    INCOMPLETE,
    INCOMPLETE_DETAIL,
    RECORDING_ID,
    build_guano,
    guano_of_recording,
    parse_guano,
    recording_of_guano,
    time_expansion,
    true_samplerate,
)
from acoupi.errors import AudioError
from acoupi.testing import InMemoryStore

KEYS = st.text(st.characters(categories=["L", "N"], include_characters="| "), min_size=1).filter(
    lambda key: key == key.strip() and key != "GUANO|Version"
)
VALUES = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="\\")).map(
    str.strip
)


def make_recording(**values: object) -> data.Recording:
    settings: dict[str, object] = {
        "duration": 3.0,
        "samplerate": 48_000,
        "created_on": datetime.datetime(2024, 8, 1, 20, 30, 0, 123456, tzinfo=datetime.UTC),
        "deployment": data.Deployment(name="Wood: north", latitude=51.5, longitude=-0.02),
    }
    return data.Recording.model_validate(settings | values)


@given(st.dictionaries(KEYS, VALUES))
def test_what_is_built_is_parsed_back(fields: dict[str, str]) -> None:
    parsed = parse_guano(build_guano(fields))

    assert parsed == {"GUANO|Version": "1.0", **fields}


@given(st.binary())
def test_any_bytes_parse_to_something(content: bytes) -> None:
    assert isinstance(parse_guano(content), dict)


def test_line_breaks_survive_within_a_value() -> None:
    text = build_guano({"Note": "one\ntwo"})

    assert text.splitlines()[1] == r"Note: one\ntwo"
    assert parse_guano(text)["Note"] == "one\ntwo"


def make_capture(**changes: Any) -> data.CaptureReport:
    values: dict[str, Any] = {
        "stream_id": uuid4(),
        "first_frame": 0,
        "frames": 144_000,
        "samplerate_measured": None,
        "clock_synchronised": None,
        "clock_error_s": None,
    }
    return data.CaptureReport(**values | changes)


HEALTH = data.MicrophoneHealth(
    rms_dbfs=-40.25,
    peak_dbfs=-3.5,
    clipped_share=0.125,
    dc_offset=-0.001,
    is_silent=False,
    is_stuck=True,
    noise_floor_dbfs=data.LOWEST_DBFS,
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"first_frame": 10**12, "samplerate_measured": 48_001.25, "clock_synchronised": True},
        {"clock_synchronised": False, "clock_error_s": 0.0125, "gap_before_frames": 77},
        {"overruns": [data.Overrun(5, 20)], "health": HEALTH},
        {"incomplete": data.IncompleteReason.DISK_FULL, "incomplete_detail": "full: up"},
    ],
    ids=["little", "clock", "gap", "faults", "incomplete"],
)
def test_the_report_of_a_capture_is_read_back(changes: dict[str, Any]) -> None:
    recording = make_recording(capture=make_capture(**changes))

    again = recording_of_guano(
        parse_guano(build_guano(guano_of_recording(recording))),
        path=Path("a.wav"),
        duration=3.0,
        samplerate=48_000,
        audio_channels=1,
    )

    assert again.capture == recording.capture


def test_a_word_for_why_that_is_not_ours_is_kept_as_its_detail() -> None:
    recording = make_recording(capture=make_capture())
    fields = guano_of_recording(recording) | {INCOMPLETE: "the cable broke"}

    again = recording_of_guano(
        fields, path=Path("a.wav"), duration=3.0, samplerate=48_000, audio_channels=1
    )

    assert again.capture is not None
    assert again.capture.incomplete is data.IncompleteReason.OTHER
    assert again.capture.incomplete_words == "the cable broke"


@pytest.mark.parametrize("key", ["", " ", "a:b", "a\nb"])
def test_a_key_that_could_not_be_read_back_is_refused(key: str) -> None:
    with pytest.raises(AudioError, match="GUANO field"):
        build_guano({key: "x"})


def test_a_recording_is_described_as_the_peer_does_and_more() -> None:
    capture = make_capture(
        first_frame=1000,
        overruns=[data.Overrun(1007, 5), data.Overrun(1009, 0)],
        incomplete=data.IncompleteReason.DEVICE_LOST,
        incomplete_detail="unplugged",
    )
    recording = make_recording(time_expansion=10, capture=capture)

    fields = guano_of_recording(recording, serial="abc")

    assert fields["GUANO|Version"] == "1.0"
    assert fields["Timestamp"] == "2024-08-01T20:30:00.123456Z"
    assert fields["Make"] == "acoupi"
    assert fields["Serial"] == "abc"
    assert fields["Samplerate"] == "48000"
    assert fields["TE"] == "10"
    assert fields["Loc Position"] == "51.5 -0.02"
    assert fields["Acoupi|Deployment Name"] == "Wood: north"
    assert fields[RECORDING_ID] == str(recording.id)
    assert fields["Acoupi|Overruns"] == "7+5 9+0"
    assert fields[INCOMPLETE] == "device_lost"
    assert fields[INCOMPLETE_DETAIL] == "unplugged"


def test_what_is_unknown_is_left_out() -> None:
    recording = make_recording(deployment=data.Deployment(name="x"))

    fields = guano_of_recording(recording)

    assert not {"Serial", "TE", "Loc Position", "Acoupi|Overruns", INCOMPLETE} & set(fields)


def test_a_recording_is_made_again_from_its_description() -> None:
    path = Path("a.wav")
    recording = make_recording(time_expansion=2.5, path=path)

    again = recording_of_guano(
        parse_guano(build_guano(guano_of_recording(recording))),
        path=path,
        duration=3.0,
        samplerate=48_000,
        audio_channels=1,
    )

    assert again == recording


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({RECORDING_ID: None}, "Recording ID"),
        ({RECORDING_ID: "not-an-id"}, "badly formed"),
        ({"Timestamp": "yesterday"}, "yesterday"),
        ({"Timestamp": "0001-01-01T00:00:00+14:00"}, "the year is 1"),
        ({"Acoupi|Deployment ID": ""}, "badly formed"),
    ],
)
def test_a_file_of_nobody_is_not_a_recording(change: dict[str, str | None], reason: str) -> None:
    fields = {**guano_of_recording(make_recording()), **change}
    fields = {key: value for key, value in fields.items() if value is not None}

    with pytest.raises(AudioError) as caught:
        recording_of_guano(fields, path=Path("a.wav"), duration=1, samplerate=1, audio_channels=1)

    assert reason in str(caught.value.why)


ODD = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "nan",
        "inf",
        "1e400",
        "9" * 5000,
        "x y",
        "1+",
        "+1",
        "a=b",
        "rms_dbfs=inf",
        "²",
    ]
) | st.text(max_size=30)


@given(st.dictionaries(st.sampled_from(sorted(guano_of_recording(make_recording()))), ODD))
def test_odd_values_are_left_out_and_the_rest_is_taken(odd: dict[str, str]) -> None:
    whole = make_recording(
        time_expansion=10,
        capture=make_capture(overruns=[data.Overrun(5, 20)], health=HEALTH, clock_error_s=0.5),
    )
    needed = {RECORDING_ID, "Timestamp", "Acoupi|Deployment ID"}
    fields = guano_of_recording(whole) | {k: v for k, v in odd.items() if k not in needed}

    again = recording_of_guano(
        fields, path=Path("a.wav"), duration=3.0, samplerate=48_000, audio_channels=1
    )

    assert (again.id, again.created_on) == (whole.id, whole.created_on)
    assert again.capture == whole.capture


@given(st.dictionaries(st.sampled_from(sorted(guano_of_recording(
    make_recording(time_expansion=2, capture=make_capture(
        overruns=[data.Overrun(5, 20)], health=HEALTH, clock_error_s=0.5, gap_before_frames=5,
        samplerate_measured=48_000.5, clock_corrected_s=2.0, clock_synchronised=True,
        boot_clock=data.BootClock(boot_id=uuid4(), offset_s=5),
        incomplete=data.IncompleteReason.CRASHED, incomplete_detail="x",
    )),
    serial="1",
))), ODD))  # fmt: skip
def test_any_fields_give_a_recording_or_the_documented_error(odd: dict[str, str]) -> None:
    fields = guano_of_recording(make_recording(capture=make_capture(health=HEALTH))) | odd
    store = InMemoryStore()

    rate = true_samplerate(fields, 48_000)
    assert 48 <= rate <= 48_000_000
    try:
        found = recording_of_guano(
            fields, path=Path("a.wav"), duration=144_000 / rate, samplerate=rate, audio_channels=1
        )
    except AudioError:
        return

    store.store_recording(found)
    [(known, _)] = store.get_recordings([found.id])
    assert known == found
    assert (known.capture is None) == (found.capture is None)


@pytest.mark.parametrize(
    ("fields", "rate", "expansion"),
    [
        ({"TE": "10"}, 480_000, 10),
        ({"TE": "0"}, 48_000, 1),
        ({"TE": "-3"}, 48_000, 1),
        ({"TE": "nan"}, 48_000, 1),
        ({"TE": "1e300"}, 48_000, 1),
        ({"Samplerate": "480000", "TE": "10"}, 480_000, 10),
        ({"Samplerate": "0", "TE": "10"}, 480_000, 10),
        ({"Samplerate": "48000", "TE": "10"}, 480_000, 10),
        ({"Samplerate": "384005", "TE": "8"}, 384_005, 8),
        ({"Samplerate": "inf"}, 48_000, 1),
        ({"Samplerate": "480000.0", "TE": "?"}, 480_000, 1),
    ],
)
def test_rates_are_those_of_the_first_field_that_makes_sense(
    fields: dict[str, str], rate: int, expansion: float
) -> None:
    assert (true_samplerate(fields, 48_000), time_expansion(fields)) == (rate, expansion)
