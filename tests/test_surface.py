"""What the package shows: complete, sorted, documented, as published programs know it."""

import importlib
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import acoupi

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(acoupi.__path__, "acoupi.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_complete_and_importable(name: str) -> None:
    module = importlib.import_module(name)

    exported = getattr(module, "__all__", [])

    assert list(exported) == sorted(
        exported, key=lambda n: (not n.isupper(), not n[0].isupper(), n)
    )
    assert [n for n in exported if not hasattr(module, n)] == []


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)

    silent = [
        n
        for n in getattr(module, "__all__", [])
        if (isinstance(getattr(module, n), type) or callable(getattr(module, n)))
        and getattr(getattr(module, n), "__module__", "").startswith("acoupi")
        and not (getattr(module, n).__doc__ or "").strip()
    ]

    assert module.__doc__
    assert silent == []


def test_published_programs_find_every_name_they_import() -> None:
    checker = ROOT.parent / "shared" / "api" / "check"
    if not checker.exists():
        if os.environ.get("CI"):
            pytest.fail("shared/api/check is missing beside the project")
        pytest.skip("shared/api/check is not beside this clone")

    result = subprocess.run(
        [sys.executable, str(checker), "-v"], capture_output=True, text=True, check=False
    )

    assert result.stdout.splitlines()[-1:] == ["1227 of 1227"], result.stdout + result.stderr


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    names = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    top = {name.split("/")[0] for name in names if not name.startswith(".")}

    assert top == {
        "pyproject.toml",
        "acoupi",
        "compose",
        "images",
        "tests",
        "scripts",
        "README.md",
    }


@pytest.mark.parametrize("name", ["guano", "pytz"])
def test_what_published_programs_import_without_saying_so_is_a_dependency(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (ROOT / "images" / "sensor" / "requirements.txt").read_text()

    importlib.import_module(name)
    assert any(line.startswith(f"{name}>=") for line in project["dependencies"])
    assert f"\n{name}==" in pinned
