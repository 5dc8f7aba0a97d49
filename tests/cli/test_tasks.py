"""``acoupi task``: listed, run and profiled by hand."""

import logging
import struct
from pathlib import Path

import pytest

from acoupi import data
from acoupi.audio import formats
from acoupi.components import SqliteStore
from acoupi.system.tasks import told
from acoupi.tasks.failures import FAILED
from acoupi.testing import make_wav
from tests.cli.support import Calls, Run, data_of, lines_of, tree_of
from tests.services import free_port


@pytest.fixture
def detector(run: Run, home: Path, target: Calls, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a program that has a model."""
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
    result = run("setup", "--program", "demo", "--target", "fake", "--recording.duration", "1")
    assert result.exit_code == 0, result.stderr
    return home


def test_tasks_are_listed(run: Run, detector: Path) -> None:
    rows = data_of(run("task", "list", "--json"))

    needs = {row["name"]: row["takes_recording"] for row in rows}
    assert needs["recording_task"] is False
    assert needs["detection_task"] is True
    assert "detection_task" in run("task", "list").stdout


def test_detection_runs_on_any_wav_and_stores_nothing(
    run: Run, detector: Path, tmp_path: Path
) -> None:
    wav = make_wav(tmp_path / "foreign.wav", samplerate=48_000)
    before = tree_of(detector)

    result = run("task", "run", "detection_task", "--recording", str(wav))
    answer = data_of(run("task", "run", "detection_task", "--recording", str(wav), "--json"))

    assert result.exit_code == 0, result.stderr
    assert answer["model_outputs"][0]["recording"]["path"] == str(wav)
    assert tree_of(detector) == before
    assert wav.exists()


def test_detection_knows_what_a_file_of_others_says_of_itself(
    run: Run, detector: Path, tmp_path: Path
) -> None:
    wav = make_wav(tmp_path / "foreign.wav", samplerate=38_400)
    text = "Timestamp: 2019-04-30 21:02:44+0100\nLoc Position: 51.5 -0.06\nTE: 10\nLength: odd\n"
    formats.add_guano(wav, f"GUANO|Version: 1.0\n{text}")

    result = run("task", "run", "detection_task", "--recording", str(wav), "--json")

    [output] = data_of(result)["model_outputs"]
    recording = data.Recording.model_validate(output["recording"])
    assert (recording.samplerate, recording.time_expansion) == (384_000, 10)
    assert recording.created_on.isoformat() == "2019-04-30T20:02:44+00:00"
    assert (recording.deployment.latitude, recording.deployment.longitude) == (51.5, -0.06)


def test_detection_runs_on_a_stored_recording(run: Run, detector: Path) -> None:
    recorded = run("task", "run", "recording_task", "--json")
    recording = data_of(recorded)["result"]

    result = run("task", "run", "detection_task", "--recording", recording["id"], "--json")

    assert result.exit_code == 0, result.stderr
    assert data_of(result)["model_outputs"][0]["recording"]["id"] == recording["id"]
    store = SqliteStore(detector / "data" / "metadata.db")
    stored = data.Recording.model_validate(recording)
    assert len(store.get_recording_model_outputs(stored)) == 1


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["nope"], '"nope"'),
        (["detection_task"], "needs a recording"),
        (["detection_task", "--recording", "nowhere.wav"], "nowhere.wav"),
        (["detection_task", "--recording", "9a0e4e6c-7d0e-4b1a-8a53-2f6a3c0f1b11"], "9a0e4e6c"),
    ],
)
@pytest.mark.parametrize("command", ["run", "profile"])
def test_a_task_that_cannot_be_run_is_refused(
    run: Run, detector: Path, command: str, args: list[str], named: str
) -> None:
    result = run("task", command, *args)

    assert named in lines_of(result)[0]
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"not a WAV", b"RIFF" + struct.pack("<I", 4) + b"WAVE", b"RIFF\xff\xff\xff\xffWAVEfmt "],
)
def test_a_file_that_is_no_wav_is_refused(
    run: Run, detector: Path, tmp_path: Path, content: bytes
) -> None:
    wav = tmp_path / "x.wav"
    wav.write_bytes(content)

    result = run("task", "run", "detection_task", "--recording", str(wav))

    assert "x.wav" in lines_of(result)[0]
    assert result.exit_code == 1


def test_messages_that_could_not_be_sent_are_named(
    run: Run, home: Path, target: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
    nobody = f"http://127.0.0.1:{free_port()}/"
    result = run(
        "setup", "--program", "demo", "--target", "fake", "--messaging.http.base_url", nobody
    )
    assert result.exit_code == 0, result.stderr
    assert run("task", "run", "heartbeat_task").exit_code == 0

    said = run("task", "run", "send_messages_task")
    run("task", "run", "heartbeat_task")
    answer = run("task", "run", "send_messages_task", "--json")

    assert said.exit_code == answer.exit_code == 3
    assert "could not reach the server" in said.stderr
    assert "is done" not in said.stdout
    assert data_of(answer)["failures"]


def test_what_a_task_logs_while_it_runs_by_hand_is_told(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("someone.program")

    with told() as log:
        logger.debug("by the way")
        logger.warning("%d files went", 3)
        logger.debug("no answer", extra=FAILED)
        try:
            raise OSError("full")
        except OSError:
            logger.exception("cannot write")
    logger.error("later")

    assert log.notes == ["3 files went"]
    assert log.failures == ["no answer", "cannot write: OSError: full"]


def test_a_task_is_profiled(run: Run, detector: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.prof"

    text = run("task", "profile", "file_management_task", "--output", str(figures), "--lines", "3")
    answer = data_of(run("task", "profile", "file_management_task", "--json"))
    quiet = run("task", "profile", "file_management_task", "--quiet")

    assert "cumulative" in text.stdout
    assert figures.stat().st_size > 0
    assert answer["functions"][0]["total_s"] >= 0
    assert quiet.stdout == ""


def test_figures_that_cannot_be_kept_are_an_error(run: Run, detector: Path) -> None:
    result = run("task", "profile", "file_management_task", "--output", "/nowhere/x.prof")

    assert "/nowhere/x.prof" in lines_of(result)[0]
    assert result.exit_code == 1


def test_detection_runs_on_a_folder_and_a_damaged_file_costs_only_itself(
    run: Run, detector: Path, tmp_path: Path
) -> None:
    night = tmp_path / "night"
    wavs = [make_wav(night / name, samplerate=48_000) for name in ("a.wav", "deep/b.WAV")]
    before = tree_of(detector)

    answer = data_of(run("task", "run", "detection_task", "--recording", str(night), "--json"))
    (night / "broken.wav").write_bytes(b"RIFF")
    result = run("task", "run", "detection_task", "--recording", str(night))

    assert [one["file"] for one in answer["results"]] == [str(one) for one in wavs]
    assert all(len(one["model_outputs"]) == 1 for one in answer["results"])
    assert "detection_task is done with 2 of 3 files" in result.stdout
    assert "broken.wav" in result.stderr
    assert result.exit_code == 3
    assert tree_of(detector) == before


def test_a_folder_without_recordings_is_refused(run: Run, detector: Path, tmp_path: Path) -> None:
    result = run("task", "run", "detection_task", "--recording", str(tmp_path / "."))

    assert "there is no recording in" in lines_of(result)[0]
    assert result.exit_code == 2
