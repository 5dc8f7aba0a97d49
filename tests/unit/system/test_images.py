"""What images are made from, and what is said when they cannot be made."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from acoupi.bundles import images
from acoupi.bundles.build_errors import explain_build
from acoupi.bundles.engine import Answer
from acoupi.errors import TargetError

ROOT = Path(__file__).parents[3]
SENSOR = ROOT / "images" / "sensor"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    text = (SENSOR / name).read_text()
    return {canonicalize_name(found[1]): found[2] for found in PIN.finditer(text)}


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    more = [line for name in ("fleet", "place", "web") for line in extras[name]]
    return [Requirement(line) for line in (*project["dependencies"], *more)]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_the_pinned_requirements_satisfy_pyproject(requirement: Requirement) -> None:
    pinned = pins("requirements.txt")

    version = pinned.get(canonicalize_name(requirement.name))

    assert version is not None, f"{requirement.name} is not pinned: run scripts/pin"
    assert requirement.specifier.contains(version, prereleases=True), "run scripts/pin"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-build.txt"])
def test_every_pinned_package_has_hashes_and_no_url(name: str) -> None:
    text = (SENSOR / name).read_text()

    packages = re.split(r"\n(?=[a-zA-Z])", text.strip())

    assert len(packages) > 10
    assert all("==" in package and "--hash=sha256:" in package for package in packages)
    assert "://" not in text
    assert "--index-url" not in text


def test_the_tools_that_build_are_pinned() -> None:
    wanted = (SENSOR / "requirements-build.in").read_text().split()

    assert set(wanted) <= set(pins("requirements-build.txt"))


def test_the_wheel_carries_what_images_are_made_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]

    assert included == {name: f"acoupi/_bundle/{name}" for name in images.CONTEXT}


def test_an_image_with_packages_has_a_name_of_its_own() -> None:
    plain = images.image_name(version="1.0+local")

    assert plain == "acoupi/sensor:1.0-local"
    assert images.image_name(["a", "b"]) == images.image_name(["b", "a"])
    assert images.image_name(["a"]) != images.image_name(["b"])


SAID = {
    "E: Unable to locate package nonsense": 'Debian has no package "nonsense"',
    "ERROR: No matching distribution found for acoupi-nonsense==9": '"acoupi-nonsense==9"',
    "ERROR: Cannot install celery<5 because these package versions have conflicting "
    "dependencies.": "does not fit this acoupi",
    "write /x: no space left on device": "no space on the disk",
    "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker "
    "daemon running?": "Cannot connect to the Docker daemon",
    "permission denied while trying to connect to the Docker daemon socket at "
    "unix:///var/run/docker.sock": "may not use its socket",
    "ERROR: failed to solve: debian:bookworm-slim: failed to resolve source metadata for "
    "docker.io/library/debian:bookworm-slim: failed to do request": '"debian:bookworm-slim"',
    "docker: 'buildx' is not a docker command.": "has no buildx",
}


@pytest.mark.parametrize("said", SAID)
def test_what_the_engine_says_becomes_an_error_of_three_lines(said: str) -> None:
    error = explain_build(Answer(1, "\n".join(["#1 something", said, "------"])))

    assert error is not None
    assert any(SAID[said] in line for line in error.lines())
    assert error.why
    assert error.help


def test_a_build_that_runs_out_of_space_says_how_much_its_packages_take() -> None:
    said = [
        "#12 5.1   Downloading https://index.example.org/torch-2.5.1-cp311-any.whl (906.4 MB)",
        "#12 9.3      ------- 906.4/906.4 MB 45.1 MB/s eta 0:00:00",
        "#12 70.2   Downloading nvidia_cudnn-9.1-any.whl (2.1 GB)",
        "#12 80.2   Downloading six-1.17-any.whl (11 kB)",
        "#12 90.0 ERROR: Could not install packages: No space left on device",
    ]

    error = explain_build(Answer(1, "\n".join(said)))

    assert error is not None
    assert "had fetched 3006 MB" in str(error.why)
    assert "about 13 GB" in str(error.why)


def test_what_is_not_known_is_not_explained() -> None:
    assert explain_build(Answer(1, "segmentation fault")) is None
    refused = "#9 0.8 Connection refused by the package index, Permission denied: /root/.cache"
    assert explain_build(Answer(1, refused)) is None, "it answered"


def test_without_docker_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(TargetError, match="cannot reach the Docker engine") as raised:
        images.build_image()

    assert raised.value.why == "the program docker is not installed."
    assert raised.value.help


def test_a_path_without_a_package_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no Python package at"):
        images.fill_program_context(tmp_path / "context", [str(tmp_path / "absent")])


def test_a_local_package_is_copied_without_its_environment(tmp_path: Path) -> None:
    source = tmp_path / "bird"
    (source / ".venv").mkdir(parents=True)
    (source / "pyproject.toml").write_text("")
    (source / "bird.py").write_text("")
    context = tmp_path / "context"
    context.mkdir()

    images.fill_program_context(context, ["acoupi-bats>=1", str(source)])

    requirements = (context / "requirements.txt").read_text().splitlines()
    assert requirements == ["acoupi-bats>=1", "./1/bird"]
    copied = sorted(path.name for path in (context / "sources" / "1" / "bird").iterdir())
    assert copied == ["bird.py", "pyproject.toml"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with a file that was fetched elsewhere, laid out as its library keeps it."""
    file = tmp_path / "weights" / "audioclass" / "24f9" / "bird.tflite"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return tmp_path / "weights"


def test_weights_are_copied_beside_the_requirements_with_their_digests(
    tmp_path: Path, weights: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()

    images.fill_program_context(context, ["acoupi-bird", images.weights_in(weights)])

    assert (context / "requirements.txt").read_text() == "acoupi-bird\n"
    assert (context / "weights/audioclass/24f9/bird.tflite").read_bytes() == b"weights"
    digest = hashlib.sha256(b"weights").hexdigest()
    sums = (context / "weights" / "weights.sha256").read_text()
    assert sums == f"{digest}  audioclass/24f9/bird.tflite\n"
    assert sorted(path.name for path in context.iterdir()) == ["requirements.txt", "weights"]


def test_other_weights_are_another_image(weights: Path) -> None:
    packages = images.named_packages(["acoupi-bird", images.weights_in(weights)])
    before = images._digest(packages)

    (weights / "audioclass" / "24f9" / "bird.tflite").write_bytes(b"others")

    assert images._digest(packages) != before
    assert images.image_name(packages) != images.image_name(["acoupi-bird"])


@pytest.mark.parametrize(("name", "why"), [("absent", "is not a folder"), ("", "holds no files")])
def test_a_folder_without_weights_is_refused(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(TargetError, match="there are no weights in") as raised:
        images.weights_in(tmp_path / name)

    assert why in str(raised.value.why)
    assert "acoupi help presets" in str(raised.value.help)


def test_the_layer_of_a_program_has_the_weights_before_its_model_is_loaded() -> None:
    text = (images.source_dir() / "images" / "program" / "Dockerfile").read_text()
    installs, shipped = re.split(r"(?m)^FROM ", text)[1:]
    before, loads, _ = shipped.partition("acoupi.system.prefetch")

    assert loads
    assert "COPY --chown=1000:1000 weights /opt/acoupi/acoupi-cache/" in before
    assert "requirements" not in shipped, "they may hold passwords"
    assert "COPY requirements.txt source[s] /context/" in installs, "what pip did outlives weights"


def test_what_is_not_built_from_does_not_make_an_image_old(tmp_path: Path) -> None:
    source = tmp_path / "bird"
    source.mkdir()
    (source / "pyproject.toml").write_text("")
    before = images._digest([str(source)])

    for name in (".venv", ".pytest_cache", "node_modules"):
        (source / name).mkdir()
        (source / name / "file").write_text("x")
    assert images._digest([str(source)]) == before

    (source / "bird.py").write_text("")
    assert images._digest([str(source)]) != before


def test_passwords_of_an_address_do_not_get_into_a_label() -> None:
    requirement = "bird @ git+https://me:secret@example.org/bird.git"

    assert "secret" not in images.without_password(requirement)


def build(network: str | None) -> images._Build:
    return images._Build("acoupi/sensor:x", Path("Dockerfile"), Path(), {"A": "b"}, network)


def test_an_index_of_this_machine_is_asked_in_the_build_and_its_password_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@index.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/wheels")

    one = build("host")

    assert one.pip["PIP_INDEX_URL"] == "https://me:secret@index.example/simple"
    assert "PIP_INDEX_URL" in one.words
    assert "secret" not in " ".join(one.words)
    assert not any("wheels" in text for text in one.pip.values())
    assert build(None).pip == {}


@pytest.mark.parametrize("name", ["sensor", "program"])
def test_only_stages_that_are_not_shipped_know_the_index(name: str) -> None:
    text = (images.source_dir() / "images" / name / "Dockerfile").read_text()
    stages = re.split(r"(?m)^FROM ", text)[1:]

    assert "PIP_INDEX_URL" in text
    assert "PIP_INDEX_URL" not in stages[-1]


def test_a_base_image_made_here_has_no_settings_of_pip() -> None:
    script = (images.source_dir() / "scripts" / "docker-host").read_text()

    assert "pip.conf" not in script
    assert "pip config" not in script
