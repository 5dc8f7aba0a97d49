"""Where to keep it."""

import datetime
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components.audio_recorder.clips import file_name
from acoupi.components.saving_managers import (
    NAME_BY_UTC,
    DateFileManager,
    IDFileManager,
    SaveRecordingManager,
    sanitize_filename,
)
from acoupi.testing import make_deployment, make_recording, make_wav


@pytest.fixture
def recording(tmp_path: Path) -> data.Recording:
    return make_recording(path=make_wav(tmp_path / "spool" / "a.wav"))


def outputs(*scores: float) -> list[data.ModelOutput]:
    return [
        data.ModelOutput(
            name_model="m",
            recording=make_recording(),
            detections=[data.Detection(detection_score=score)],
        )
        for score in scores
    ]


def test_dates_are_folders_without_zeros(tmp_path: Path, recording: data.Recording) -> None:
    place = DateFileManager(tmp_path).save_recording(recording)

    assert place == tmp_path / f"2024/8/1/20240801_203000_{recording.id}.wav"


def test_dates_and_names_are_in_utc(tmp_path: Path, recording: data.Recording) -> None:
    auckland = datetime.timezone(datetime.timedelta(hours=12))
    recording = recording.model_copy(
        update={"created_on": datetime.datetime(2024, 8, 2, 8, 30, tzinfo=auckland)}
    )

    place = DateFileManager(tmp_path).save_recording(recording)

    assert place == tmp_path / f"2024/8/1/20240801_203000_{recording.id}.wav"


@pytest.mark.parametrize(
    ("began", "name"),
    [("14:41:09.999998", "144110"), ("14:41:10.000002", "144110"), ("14:41:10.7", "144111")],
)
def test_the_time_in_a_name_is_rounded(
    tmp_path: Path, recording: data.Recording, began: str, name: str
) -> None:
    time = datetime.datetime.fromisoformat(f"2026-11-29T{began}Z")
    recording = recording.model_copy(update={"created_on": time})

    places = [
        manager.save_recording(recording)
        for manager in (
            SaveRecordingManager(tmp_path),
            DateFileManager(tmp_path),
            DateFileManager(tmp_path, NAME_BY_UTC),
            DateFileManager(tmp_path, "{recording.created_on:%H%M%S.%f}.wav"),
        )
    ]

    assert [place.name for place in places if place] == [
        f"20261129_{name}.wav",
        f"20261129_{name}_{recording.id}.wav",
        f"20261129_{name}Z_{recording.id}.wav",
        f"{time:%H%M%S.%f}.wav",
    ]
    assert file_name(recording) == f"20261129_{name}_{recording.id}.wav"


def test_a_name_and_its_folder_are_of_one_day(tmp_path: Path, recording: data.Recording) -> None:
    midnight = datetime.datetime(2024, 8, 1, 23, 59, 59, 999_998, tzinfo=datetime.UTC)
    recording = recording.model_copy(update={"created_on": midnight})

    place = DateFileManager(tmp_path).save_recording(recording)

    assert place == tmp_path / f"2024/8/2/20240802_000000_{recording.id}.wav"


def test_a_template_names_fields_and_leaves_out_what_is_not_there(
    tmp_path: Path, home: Path, recording: data.Recording
) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "device.json").write_text("[" * 100_000)  # no id can be read there
    recording = recording.model_copy(
        update={
            "deployment": make_deployment(name="My Site/1"),
            "created_on": datetime.datetime(2024, 8, 1, 18, 9, tzinfo=datetime.UTC),
        }
    )
    template = "{deployment.name}_{device.id}_{recording.created_on:%H%M}.wav"

    place = DateFileManager(tmp_path, template).save_recording(recording)

    assert place.name == "My Site_1__1809.wav"


def test_what_is_none_is_empty_whatever_its_format(
    tmp_path: Path, recording: data.Recording
) -> None:
    template = "x{deployment.latitude:.2f}{deployment.ended_on:%Y}.wav"

    assert DateFileManager(tmp_path, template).save_recording(recording).name == "x.wav"


@pytest.mark.parametrize(
    "template",
    [
        "{recording.nope}.wav",
        "{nope}.wav",
        "{}.wav",
        "{recording.__class__}.wav",
        "{recording.created_on:%Y",
        "{recording.samplerate:%H}.wav",
        "{deployment.latitude:%H}.wav",
        "",
    ],
)
def test_a_template_that_cannot_work_is_refused_at_setup(tmp_path: Path, template: str) -> None:
    with pytest.raises(ValueError, match="template"):
        DateFileManager(tmp_path, template)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ('a<b>c:d"e/f\\g|h?i*j.wav', "a_b_c_d_e_f_g_h_i_j.wav"),
        ("..", "_.."),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        (".wav", "_.wav"),
        ("a\x00\nb.wav", "a__b.wav"),
        ("Übersee.wav", "Übersee.wav"),
    ],
)
def test_names_hold_what_a_file_name_can(name: str, expected: str) -> None:
    assert sanitize_filename(name) == expected


def test_a_long_name_is_cut_and_keeps_its_suffix() -> None:
    name = sanitize_filename("é" * 500 + ".wav")

    assert name.endswith("é.wav")
    assert len(name.encode()) <= 240


def test_ids_are_names(tmp_path: Path, recording: data.Recording) -> None:
    assert IDFileManager(tmp_path).save_recording(recording) == tmp_path / f"{recording.id}.wav"


@pytest.mark.parametrize(
    ("scores", "folder"),
    [
        (None, "."),
        ([], "."),
        ([0.6], "true_detections"),
        ([0.59], "false_detections"),
        ([0.3], "false_detections"),
        ([0.1, 0.7], "true_detections"),
        ([0.4, 0.7], "false_detections"),
    ],
)
def test_detections_choose_the_folder(
    tmp_path: Path, recording: data.Recording, scores: list[float] | None, folder: str
) -> None:
    found = None if scores is None else outputs(*scores)

    place = SaveRecordingManager(tmp_path).save_recording(recording, found)

    assert place == tmp_path / folder / "20240801_203000.wav"


def test_nothing_sure_is_left_to_the_next_manager(
    tmp_path: Path, recording: data.Recording
) -> None:
    assert SaveRecordingManager(tmp_path).save_recording(recording, outputs(0.29)) is None


def test_folders_and_format_can_be_given(tmp_path: Path, recording: data.Recording) -> None:
    manager = SaveRecordingManager(
        tmp_path, tmp_path / "bats", tmp_path / "no_bats", timeformat="%Y-%m-%dT%H:%M"
    )

    place = manager.save_recording(recording, outputs(0.9))

    assert place == tmp_path / "bats" / "2024-08-01T20_30.wav"
