"""Packages for acoupi that give their program no name: what they bring, and their licences."""

from pathlib import Path

import pytest

from acoupi.stack.published import licences_of, published_packages
from tests.cli.support import Run, lines_of

PROGRAM = '''
from acoupi.programs.default import ConfigSchema, Program as Default


class Owls(Default):
    """Records owls."""

    config_schema = ConfigSchema
'''


def installed(folder: Path, name: str, *metadata: str, files: dict[str, str] | None = None) -> None:
    """Install a package as pip would, with a record of its files."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.2", *metadata]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files or {}))


@pytest.fixture
def owls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The package acoupi-owls, whose program has no entry point; it needs weights."""
    folder = tmp_path / "packages"
    installed(
        folder, "acoupi-owls", "License: MIT", "Requires-Dist: acoupi>=0.3",
        "Requires-Dist: owl_weights>=1", "Requires-Dist: pydantic",
        files={"of_owls/__init__.py": "", "of_owls/program.py": PROGRAM},
    )  # fmt: skip
    installed(folder, "owl-weights", "License: CC BY-NC 4.0", files={"owl_weights.py": ""})
    monkeypatch.syspath_prepend(folder)
    return "of_owls.program"


def test_an_unknown_program_names_what_such_packages_bring(run: Run, home: Path, owls: str) -> None:
    what, why, fix = lines_of(run("setup", "--program", "mine", "--no-prompt"))

    assert "mine" in what
    assert "The package acoupi-owls 1.2" in why
    assert "it brings of_owls, of_owls.program" in why
    assert fix == f"  Try: acoupi setup --program {owls}"


@pytest.mark.parametrize("given", [("--program", "acoupi-owls"), ()])
def test_it_is_set_up_by_the_name_of_its_package_and_its_licences_are_shown(
    run: Run, home: Path, owls: str, given: tuple[str, ...]
) -> None:
    result = run("setup", *given, "--no-prompt", "--target", "process")

    assert result.exit_code == 0, result.stderr
    assert (home / "config" / "name").read_text() == f"{owls}\n"
    assert "Licence of acoupi-owls 1.2: MIT" in result.stdout
    assert "Licence of owl-weights 1.2: CC BY-NC 4.0" in result.stdout
    assert "pydantic" not in result.stdout


def test_it_is_in_the_list_to_choose_from(run: Run, home: Path, owls: str) -> None:
    result = run("setup", "--prompt", "--target", "process", input="n\n")

    assert "Records owls." in result.stdout
    assert owls in run("program", "list").stdout


def test_packages_that_name_their_program_or_have_nothing_to_do_with_acoupi_are_left_out() -> None:
    names = {one.name for one in published_packages()}

    assert "acoupi" not in names
    assert "pydantic" not in names
    assert licences_of("acoupi.programs.demo") == []
