"""Where an output comes from: what is known of a model from outside, and from itself."""

import hashlib
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from acoupi import __version__, data
from acoupi.components import FullModelOutputMessageBuilder
from acoupi.provenance import Provenance, provenance_of
from acoupi.tasks import generate_detection_task
from acoupi.testing import FakeModel, InMemoryMessageStore, InMemoryStore, make_recording

NET, MORE = b"weights of a net", b"more weights"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def distribution(folder: Path, name: str, files: dict[str, bytes], requires: str = "") -> None:
    """Install a distribution of one package with these files, as pip leaves it."""
    meta = folder / f"{name}-1.2.dist-info"
    meta.mkdir(parents=True)
    need = f"Requires-Dist: {requires}\n" if requires else ""
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{need}")
    (meta / "top_level.txt").write_text(name)
    every = {"__init__.py": b"class Model:\n    pass\n", **files}
    for path, content in every.items():
        place = folder / name / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (meta / "RECORD").write_text("".join(f"{name}/{path},,\n" for path in every))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A model of a published program: its package ships a net, and requires another package."""
    folder = tmp_path / "site"
    distribution(folder, "quiet_bats", {"nets/net.onnx": NET, "readme.txt": b""}, "quiet_netz>=1")
    distribution(folder, "quiet_netz", {"more.pt": MORE})
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    yield import_module("quiet_bats").Model()
    for name in ("quiet_bats", "quiet_netz"):
        sys.modules.pop(name, None)


def test_a_published_model_is_known_by_its_package_and_the_weights_in_it(model: object) -> None:
    found = provenance_of(model, "bats", "c0")

    assert found == Provenance(
        model="bats",
        model_version="quiet_bats 1.2",
        weights=sha256(NET),
        configuration="c0",
        acoupi=__version__,
    )


def test_weights_of_a_package_that_it_requires_count_once_that_is_imported(model: object) -> None:
    import_module("quiet_netz")
    lines = f"{sha256(NET)}  quiet_bats/nets/net.onnx\n{sha256(MORE)}  quiet_netz/more.pt\n"

    assert provenance_of(model, "bats").weights == sha256(lines.encode())


def test_weights_in_the_cache_of_its_package_count(model: object, tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "quiet_bats" / "v2" / "big.tflite"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(MORE)
    lines = f"{sha256(NET)}  quiet_bats/nets/net.onnx\n{sha256(MORE)}  quiet_bats/v2/big.tflite\n"

    assert provenance_of(model, "bats").weights == sha256(lines.encode())


def test_a_model_may_say_it_itself(model: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_bytes(MORE)
    model.model_version, model.model_files = "2024-05", [tmp_path / "mine.bin"]

    found = provenance_of(model, "bats")

    assert (found.model_version, found.weights) == ("2024-05", sha256(MORE))


def test_what_cannot_be_known_stops_nothing(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.model_files = [tmp_path / "gone.bin"]

    assert provenance_of(model, "bats").weights is None
    assert "gone.bin" in caplog.text


def test_our_own_models_have_no_weights(model: object) -> None:
    found = provenance_of(FakeModel(), "fake")

    assert (found.model_version, found.weights) == (f"acoupi {__version__}", None)


@pytest.mark.parametrize(
    ("source", "noted", "expected"),
    [
        (None, "sha256:1@abc", None),  # not in an image of acoupi
        ("abc", "sha256:1@abc", "sha256:1"),
        ("abc", "sha256:1@old", "source:abc"),  # plain docker compose, after a build
        ("abc", "", "source:abc"),
        ("abc", None, "source:abc"),
    ],
)
def test_the_image_is_the_one_that_was_started(
    monkeypatch: pytest.MonkeyPatch, source: str | None, noted: str | None, expected: str | None
) -> None:
    for name, value in (("ACOUPI_IMAGE_SOURCE", source), ("ACOUPI_IMAGE_ID", noted)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    assert provenance_of(FakeModel(), "fake").image == expected


def test_every_output_and_its_message_tell_how_they_were_made(tmp_path: Path) -> None:
    store, messages = InMemoryStore(), InMemoryMessageStore()
    model = FakeModel("bats")
    task = generate_detection_task(
        store,
        model,
        messages,
        configuration="c0",
        message_factories=[FullModelOutputMessageBuilder()],
    )
    recordings = [make_recording(path=tmp_path / name) for name in ("a.wav", "b.wav")]
    for recording in recordings:
        store.store_recording(recording)
        task(recording)

    made = [one.provenance for one in store.get_model_outputs()]
    expected = provenance_of(model, "bats", "c0")
    assert made == [expected, expected]
    assert made[0] is not None
    [sent, _] = messages.get_unsent_messages()
    assert json.loads(sent.content)["provenance"] == expected.model_dump()
    assert data.ModelOutput.model_validate_json(sent.content).provenance == expected


def test_a_detection_tells_it_in_a_few_words() -> None:
    known = Provenance(model="bats", model_version="1.2", weights=sha256(NET))

    assert known.words == f"bats 1.2 sha256:{sha256(NET)[:12]}"
    assert Provenance(model="bats").words == "bats"
