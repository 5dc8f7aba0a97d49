"""Pages about the parts of a program: each example is set up as one, and does what it says."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import acoupi
from acoupi.components import types
from acoupi.stack.settings import Settings
from acoupi.system import load_program, setup_program

PAGES = sorted((Path(acoupi.__path__[0]) / "docs" / "components").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^Save this as `(\w+)\.py`", re.MULTILINE)


def example_of(page: Path) -> tuple[str, str, str]:
    """The name of the module of a page, its text, and what is tried with it."""
    text = page.read_text()
    (name,) = NAME.findall(text)
    module, trial = BLOCK.findall(text)
    return name, module, trial


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, which modules are imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def written(page: Path, folder: Path) -> ModuleType:
    name, module, _ = example_of(page)
    (folder / f"{name}.py").write_text(module)
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_does_what_is_tried_with_it(page: Path, here: Path) -> None:
    module = written(page, here)
    trial = compile(example_of(page)[2], str(page), "exec")

    exec(trial, dict(vars(module)))

    assert "assert" in example_of(page)[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_sensor_can_be_set_up_with_the_example(page: Path, here: Path) -> None:
    module = written(page, here)
    settings = Settings(home=here / "home")

    setup_program(settings, module.__name__, target="process")

    assert type(load_program(settings)) is module.Program
    assert "recording_task" in load_program(settings).tasks


def test_every_type_of_component_has_a_page(here: Path) -> None:
    shown = {
        base.__name__
        for page in PAGES
        for kind in vars(written(page, here)).values()
        if inspect.isclass(kind) and kind.__module__ == example_of(page)[0]
        for base in kind.__mro__[1:]
        if base.__module__ == types.__name__
    }

    assert set(types.__all__) - shown == set()
