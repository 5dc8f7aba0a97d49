"""Weights of published programs: loaded while the image is built, found by the workers."""

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from acoupi.bundles import images
from acoupi.bundles.build_errors import explain_build
from acoupi.bundles.engine import Answer
from acoupi.stack.prefetched import carried_folder, use_carried
from acoupi.system.prefetch import main, prefetch
from tests.cli.test_published import installed

PROGRAM = """
from acoupi.programs.templates import DetectionProgram, DetectionProgramConfiguration
from acoupi.components import types


class Fetching(types.Model):
    name = "Fetching"

    def run(self, recording):
        {run}


class Program(DetectionProgram[DetectionProgramConfiguration]):
    config_schema = DetectionProgramConfiguration

    def configure_model(self, config):
        return Fetching()
"""
FETCHES = """
        import os
        from pathlib import Path
        from acoupi import data
        folder = Path(os.environ["XDG_CACHE_HOME"]) / "weights"
        folder.mkdir(parents=True)
        (folder / "one.bin").write_bytes(bytes(1000))
        return data.ModelOutput(name_model="Fetching", recording=recording)
"""
UNREACHABLE = """
        import socket
        try:
            address = "https://example.org" + "/weights" * 30 + "/model.tflite"
            raise socket.gaierror(-3, f"Temporary failure in name resolution: {address}")
        except OSError as error:
            raise RuntimeError("no weights") from error
"""
NO_DEVICE = """
        raise OSError("no accelerator")
"""


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own, in which an image would carry what was fetched."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nowhere"))
    return tmp_path / "prefix"


@pytest.fixture
def said(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of an installed program with a model that does this."""
    name = f"fetcher_{len(request.param)}"
    text = PROGRAM.format(run=request.param.strip())
    folder = tmp_path / "packages"
    installed(folder, name, "Requires-Dist: acoupi", files={f"{name}/program.py": text})
    monkeypatch.syspath_prepend(folder)
    return f"{name}.program"


@pytest.mark.parametrize("said", [FETCHES], indirect=True)
def test_what_a_model_fetches_is_carried_by_the_image(
    prefix: Path, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0

    assert (prefix / "acoupi-cache" / "weights" / "one.bin").stat().st_size == 1000
    assert f"The model of {said} took" in capsys.readouterr().out


@pytest.mark.parametrize("said", [UNREACHABLE], indirect=True)
def test_weights_that_cannot_be_fetched_end_the_build_with_their_program_named(
    prefix: Path, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 1

    out = capsys.readouterr().out.splitlines()
    error = explain_build(Answer(1, "\n".join(f"#12 3.4 {line}" for line in out)))
    assert error is not None
    what, why, fix = error.lines()
    assert f"the weights of {said} could not be fetched" in what
    assert "Temporary failure in name resolution" in why
    assert "/model.tflite" in why, "the address, for who fetches it elsewhere"
    assert "--weights FOLDER" in fix


@pytest.mark.parametrize("said", [NO_DEVICE], indirect=True)
def test_a_model_that_lacks_something_else_is_named_and_the_build_ends_well(
    prefix: Path, said: str
) -> None:
    lines: list[str] = []

    assert prefetch(said, lines.append)

    assert len(lines) == 1
    assert said in lines[0]
    assert "no accelerator" in lines[0]


def test_the_layer_of_a_program_loads_its_model_as_the_user_of_the_workers() -> None:
    text = (images.source_dir() / "images" / "program" / "Dockerfile").read_text()
    shipped = re.split(r"(?m)^FROM ", text)[-1]
    before, step, _ = shipped.partition("RUN python -m acoupi.system.prefetch")

    assert step
    assert re.findall(r"(?m)^USER (.+)$", before)[-1] == "1000:1000"
    assert f"install -d -o 1000 -g 1000 /opt/acoupi/{carried_folder().name}" in before


@pytest.fixture
def carried(prefix: Path) -> Path:
    folder = prefix / "acoupi-cache"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "one.bin").write_bytes(b"weights")
    return folder


def test_a_worker_that_may_not_write_reads_the_weights_and_can_keep_what_it_compiles(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / "own"
    (own / "weights").mkdir(parents=True)
    (own / "weights" / "one.bin").touch()  # a download that broke off
    (own / "weights" / "other.bin").write_bytes(b"other")
    monkeypatch.setattr(os, "access", lambda path, mode: path != own)  # as root may write it
    variables = {"XDG_CACHE_HOME": str(own)}

    use_carried(variables)
    first = Path(variables["XDG_CACHE_HOME"])
    use_carried(variables)

    assert Path(variables["XDG_CACHE_HOME"]) == first
    assert (first / "weights" / "one.bin").read_bytes() == b"weights"
    assert (first / "weights" / "other.bin").read_bytes() == b"other"
    (first / "weights" / "compiled").touch()
    assert sorted(path.name for path in (own / "weights").iterdir()) == ["one.bin", "other.bin"]


def test_a_worker_without_a_folder_and_weights_can_keep_what_it_compiles(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    variables = {"XDG_CACHE_HOME": str(tmp_path / "absent")}

    use_carried(variables)

    assert os.access(variables["XDG_CACHE_HOME"], os.W_OK)
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_can_be_written_is_completed_and_used(carried: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "weights").mkdir(parents=True)
    (own / "weights" / "one.bin").touch()  # a download that broke off
    (own / "other.bin").write_bytes(b"other")
    variables = {"XDG_CACHE_HOME": str(own)}

    use_carried(variables)

    assert variables["XDG_CACHE_HOME"] == str(own)
    assert (own / "weights" / "one.bin").read_bytes() == b"weights"
    assert (own / "other.bin").read_bytes() == b"other"


def test_where_nothing_at_all_can_be_written_a_program_can_still_be_looked_at(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    variables = {"XDG_CACHE_HOME": str(tmp_path / "own")}

    use_carried(variables)

    assert variables == {"XDG_CACHE_HOME": str(tmp_path / "own")}


def test_where_no_image_carries_anything_nothing_changes(prefix: Path) -> None:
    variables: dict[str, str] = {}

    use_carried(variables)

    assert variables == {}
