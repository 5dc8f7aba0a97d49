"""The table of `scripts/bench`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench.d"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("[!_]*.py")))
def test_every_measurement_can_be_run(name: str) -> None:
    assert callable(load(name).run)


def test_a_figure_is_compared_with_its_goal() -> None:
    table = load("__main__")
    figure = load("bundle").figure
    found = {"idle": {"all": figure(140.2, "MiB", 150)}, "slow": figure(60, "ms", 50), "n_ms": 1}

    assert list(table.figures(found)) == [
        ("idle all", "140", "MiB", "≤ 150  met"),
        ("slow", "60", "ms", "≤ 50  MISSED"),
        ("n", "1", "ms", ""),
    ]
