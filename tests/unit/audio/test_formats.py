"""What every file format promises, also one that is added in one module and one line."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import acoupi
from acoupi import data
from acoupi.audio import formats
from acoupi.audio.formats import FORMATS, SoundFormat, open_writer, salvage
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.components import IDFileManager
from acoupi.components.audio_recorder.limits import require_format
from acoupi.errors import ConfigurationError
from acoupi.reports import SoundReport
from acoupi.testing import make_deployment
from tests.unit.audio import au_format

SAMPLES = np.arange(-4800, 4800, dtype=np.int16)
RECORDING = data.Recording(
    duration=0.2, samplerate=48_000, audio_channels=1, deployment=make_deployment()
)
GUANO = build_guano(guano_of_recording(RECORDING))


@pytest.fixture(params=[*FORMATS, au_format], ids=lambda kind: kind.NAME)
def kind(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundFormat]:
    """Each format, beside those of acoupi in the one line where they are listed."""
    found = request.param
    monkeypatch.setattr(formats, "FORMATS", tuple(dict.fromkeys((*FORMATS, found))))
    return found


@pytest.fixture
def path(kind: SoundFormat, tmp_path: Path) -> Path:
    return tmp_path / f"a.{kind.NAME}"


def write(path: Path, guano: str = GUANO) -> formats.SoundWriter:
    writer = open_writer(path, 48_000, 1, guano=guano)
    writer.write(SAMPLES.tobytes())
    return writer


def test_what_is_written_is_read_back(kind: SoundFormat, path: Path) -> None:
    write(path).finish()

    samples, rate = formats.read_audio(path)

    assert formats.is_sound_file(path.name)
    assert path.read_bytes()[:4] in kind.MAGICS
    assert np.array_equal(samples[:, 0] * 2**15, SAMPLES)
    assert (rate, formats.read_info(path).frames) == (48_000, len(SAMPLES))
    assert formats.read_recording(path).id == RECORDING.id


def test_a_part_of_it_can_be_read(path: Path) -> None:
    write(path).finish()

    samples, _ = formats.read_audio(path, start=100, frames=50)

    assert np.array_equal(samples[:, 0] * 2**15, SAMPLES[100:150])


def test_its_text_can_be_replaced(path: Path) -> None:
    write(path).finish()

    formats.add_guano(path, build_guano({**formats.read_guano(path), "Note": "oak"}))

    assert formats.read_guano(path)["Note"] == "oak"
    assert np.array_equal(formats.read_audio(path)[0][:, 0] * 2**15, SAMPLES)


def test_pages_exports_and_a_hub_take_its_files(kind: SoundFormat, path: Path) -> None:
    assert formats.media_type(path.name.upper()) == kind.MEDIA_TYPE
    assert path.suffix in formats.endings()
    report = {"format": kind.NAME, "bytes": 1, "sha256": "0" * 64}
    assert SoundReport.model_validate(report).format == kind.NAME


@pytest.mark.parametrize("name", ["", "a/b", "..", "WAV"])
def test_a_hub_takes_no_format_that_cannot_be_the_end_of_a_name(name: str) -> None:
    with pytest.raises(ValidationError, match="format"):
        SoundReport.model_validate({"format": name, "bytes": 1, "sha256": "0" * 64})


def test_a_format_is_named_in_its_own_module_only() -> None:
    """A new one would otherwise be missing there."""
    package = Path(acoupi.__file__).parent
    named = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Constant) and node.value in ("flac", ".flac", "audio/flac")
    }

    assert named == {"audio/flac.py"}


def test_what_a_crash_leaves_is_mended(path: Path) -> None:
    write(path).leave()
    (part,) = formats.find_parts(path.parent)

    assert salvage(part) == path
    assert formats.read_info(path).frames > 0
    assert formats.read_guano(path)[formats.INCOMPLETE] == data.IncompleteReason.CRASHED.value


def test_a_head_without_sound_is_removed(path: Path) -> None:
    open_writer(path, 48_000, 1, guano=GUANO).leave()
    (part,) = formats.find_parts(path.parent)

    assert salvage(part) is None
    assert not part.exists()


def test_its_suffix_is_kept_when_it_is_saved(kind: SoundFormat, path: Path) -> None:
    recording = RECORDING.model_copy(update={"path": path})
    write(path).finish()

    saved = IDFileManager(path.parent / "kept").save_recording(recording)

    assert saved is not None
    assert saved.suffix == f".{kind.NAME}"


def test_recorders_ask_it_what_it_can_hold(kind: SoundFormat) -> None:
    require_format(kind.NAME, 48_000, 1, 1)
    refused = kind.refusal(48_000, 9)

    if refused is not None:
        with pytest.raises(ConfigurationError, match=f"as {kind.NAME.upper()}") as caught:
            require_format(kind.NAME, 48_000, 9, 1)
        assert caught.value.why == refused


def test_a_format_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='cannot record "mp3" files'):
        require_format("mp3", 48_000, 1, 1)
