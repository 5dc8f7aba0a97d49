"""A program of one's own: begun from a template, tried on recordings."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.support import Run, data_of

BROKEN = """
from acoupi.programs.demo import ConfigSchema, Program as Demo

class Program(Demo):
    def configure_model(self, config):
        model = super().configure_model(config)
        run = model.run
        def fails(recording):
            if "bad" in recording.path.name:
                raise RuntimeError("no weights for this one")
            return run(recording)
        model.run = fails
        return model
"""


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Noise, and noise with a loud moment."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    noise = np.random.default_rng(1).normal(0, 0.001, 48_000)
    soundfile.write(folder / "quiet.wav", noise, 48_000, subtype="PCM_16")
    noise[24_000:28_800] *= 30
    soundfile.write(folder / "loud.wav", noise, 48_000, subtype="PCM_16")
    return folder


@pytest.fixture
def package(run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    result = run("program", "new", "two-owls", "--folder", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    monkeypatch.syspath_prepend(tmp_path / "acoupi-two-owls" / "src")
    return tmp_path / "acoupi-two-owls"


def test_a_new_package_passes_its_own_test(package: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=package, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    project = (package / "pyproject.toml").read_text()
    assert 'two-owls = "acoupi_two_owls:Program"' in project


def test_it_is_tried_on_recordings_which_stay(run: Run, package: Path, recordings: Path) -> None:
    before = {one.name: one.read_bytes() for one in recordings.iterdir()}

    found = data_of(run("program", "test", "acoupi_two_owls", str(recordings), "--json"))

    loud, quiet = found["files"]
    assert (loud["found"], loud["tags"], loud["kept"]) == (1, "loud", True)
    assert (quiet["found"], quiet["kept"]) == (0, False)
    assert len(found["messages"]) == 1
    assert found["times_real_time"] > 0
    assert found["memory_bytes"] > 10_000_000
    assert {one.name: one.read_bytes() for one in recordings.iterdir()} == before


def test_its_options_are_taken_and_pictures_drawn(
    run: Run, package: Path, recordings: Path, tmp_path: Path
) -> None:
    result = run(
        "program", "test", "acoupi_two_owls", str(recordings), "--keep_above", "0.9",
        "--pictures", str(tmp_path / "pictures"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "yes" not in result.stdout
    assert "It would send 1 message." in result.stdout
    names = [one.name for one in sorted((tmp_path / "pictures").iterdir())]
    assert names == ["loud.png", "quiet.png"]


def test_a_recording_that_fails_is_named_with_the_place_in_the_code(
    run: Run, home: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_of_a_test.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    (recordings / "quiet.wav").rename(recordings / "bad.wav")
    (recordings / "no_sound.wav").write_text("no")

    result = run("program", "test", "broken_of_a_test", str(recordings))

    assert result.exit_code == 3
    assert "bad.wav: RuntimeError: no weights for this one" in " ".join(result.stderr.split())
    assert 'raise RuntimeError("no weights' in result.stderr
    assert "1 of 3 recordings" in result.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [("Owls!", "lower-case letters"), ("demo", "already"), ("two-owls", "already exists")],
)
def test_a_name_that_cannot_be(
    run: Run, package: Path, tmp_path: Path, name: str, said: str
) -> None:
    result = run("program", "new", name, "--folder", str(tmp_path))
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_folder_without_recordings_and_a_program_that_is_none(
    run: Run, home: Path, tmp_path: Path, recordings: Path
) -> None:
    assert "no recording in" in run("program", "test", "demo", str(tmp_path / "none")).stderr
    unknown = run("program", "test", "dmo", str(recordings)).stderr
    assert "cannot find the program" in unknown
    assert f"  Try: acoupi program test demo {recordings}\n" in unknown


def test_installed_programs_are_listed(run: Run) -> None:
    assert {"name": "default", "place": "acoupi.programs.default"} in data_of(
        run("program", "list", "--json")
    )
