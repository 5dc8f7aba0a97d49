"""The licences that setup shows before it builds an image."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from acoupi.bundles.licences import Metadata, licences_before

INDEX: dict[str, Metadata] = {
    "acoupi-owls": {
        "name": "acoupi-owls", "version": "1.2", "license": "MIT",
        "requires_dist": ["acoupi>=0.3", "owl-weights>=1", "torch; extra == 'gpu'", "numpy<2"],
    },
    "owl-weights>=1": {"name": "owl-weights", "version": "3", "license_expression": "CC-BY-NC-4.0"},
    "numpy<2": {"name": "numpy", "version": "1.26", "license": "BSD"},
}  # fmt: skip
PROJECT = """\
[project]
name = "acoupi-mine"
version = "0.1"
classifiers = ["License :: OSI Approved :: MIT License"]
dependencies = ["owl-weights>=1"]
"""


def ask(requirements: Sequence[str]) -> list[Metadata] | None:
    """Answer as an index would; None where it does not know one of them."""
    if not set(requirements) <= set(INDEX):
        return None
    return [INDEX[one] for one in requirements]


def test_those_of_a_package_and_of_the_weights_that_it_needs() -> None:
    found = [*licences_before(["acoupi-owls"], ask)]

    assert found == ["acoupi-owls 1.2: MIT", "owl-weights 3: CC-BY-NC-4.0"]


def test_what_nobody_knows_is_said_and_a_password_is_not() -> None:
    found = [*licences_before(["acoupi-none", "git+https://me:secret@example.org/mine"], ask)]

    assert found == [
        "acoupi-none: unknown until it is installed",
        "git+https://example.org/mine: unknown until it is installed",
    ]


def test_a_folder_is_read_and_nothing_of_it_runs(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "setup.py").write_text("raise SystemExit('it ran')")

    found = [*licences_before([str(tmp_path)], ask)]

    assert found == ["acoupi-mine 0.1: MIT License", "owl-weights 3: CC-BY-NC-4.0"]


@pytest.mark.parametrize(("line", "stated"), [("License: CC0", "CC0"), ("", "not stated")])
def test_a_wheel_is_read(tmp_path: Path, line: str, stated: str) -> None:
    wheel = tmp_path / "acoupi_bats-2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        fields = ["Metadata-Version: 2.1", "Name: acoupi-bats", "Version: 2", line]
        file.writestr("acoupi_bats-2.dist-info/METADATA", "\n".join(filter(None, fields)) + "\n")

    assert [*licences_before([str(wheel)], ask)] == [f"acoupi-bats 2: {stated}"]


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")

    assert [*licences_before([str(tmp_path)], ask)] == [
        f"{tmp_path}: unknown until it is installed"
    ]
