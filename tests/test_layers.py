"""Imports go one way, and every outside library has one door (design §2)."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "acoupi"

# The lower number may not import the higher one; equals may not import each other.
LAYERS = {
    "clock": -1,
    "errors": 0,
    "home": 0,
    "writing": 0,
    "data": 0,
    "audio": 1,
    "effort": 1,
    "provisioned": 1,
    "devices": 2,
    "components": 3,
    "tasks": 4,
    "programs": 5,
    "config": 6,
    "stack": 7,
    "services": 8,
    "bundles": 9,
    "targets": 10,
    "system": 11,
    "provisioning": 12,
    "testing": 13,
    "cli": 14,
}

# An outside library, and where it may be imported (paths below acoupi/).
DOORS = {
    "celery": ("programs/", "services/", "tasks/schedules.py"),
    "kombu": ("programs/", "services/"),
    "billiard": ("programs/", "services/"),
    "redis": ("services/",),
    "jinja2": ("bundles/rendering.py",),
    "subprocess": ("bundles/", "targets/", "devices/"),
    "docker": ("bundles/", "targets/", "devices/"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "sqlite3": ("components/stores/", "components/message_stores/"),
    "requests": ("components/messengers",),
    "paho": ("components/messengers",),
    "sounddevice": ("audio/",),
    "soundfile": ("audio/",),
    "astral": ("components/sun.py",),
    "ruamel": ("config/yaml_documents.py",),
    "dotenv": ("config/env_files.py",),
}

CLOCK = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "time_ns"}


class Import(NamedTuple):
    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> Iterator[Import]:
    """Every import in a file, lazy ones and those of type checkers included."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(path, node.lineno, f"{module}.{alias.name}")


def layer_of(path: Path) -> str | None:
    """The layer a file belongs to; None for acoupi/__init__.py."""
    first = path.relative_to(PACKAGE).parts[0]
    name = first.removesuffix(".py")
    return None if name == "__init__" else name


def climbs(item: Import) -> bool:
    parts = item.module.split(".")
    if parts[0] != "acoupi" or len(parts) < 2 or parts[1] not in LAYERS:
        return False
    own = layer_of(item.path)
    return own is None or (own != parts[1] and LAYERS[own] <= LAYERS[parts[1]])


def test_every_module_belongs_to_a_layer() -> None:
    unknown = {layer_of(path) for path in sources()} - set(LAYERS) - {None, "__main__"}

    assert unknown == set()


def test_no_import_climbs() -> None:
    assert [str(item) for path in sources() for item in imports_of(path) if climbs(item)] == []


def test_tasks_know_components_by_their_interfaces_only() -> None:
    allowed = "acoupi.components.types"
    wrong = [
        str(item)
        for path in sources()
        if layer_of(path) == "tasks"
        for item in imports_of(path)
        if item.module.startswith("acoupi.components") and not item.module.startswith(allowed)
    ]

    assert wrong == []


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_is_used_through_its_door_only(library: str) -> None:
    wrong = [
        str(item)
        for path in sources()
        for item in imports_of(path)
        if item.module.split(".")[0] == library
        and not path.relative_to(PACKAGE).as_posix().startswith(DOORS[library])
    ]

    assert wrong == []


def asks_the_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in CLOCK:
        return False
    owner = ast.unparse(node.value)
    if owner in ("datetime", "dt"):
        return node.attr != "time"  # datetime.time is a type
    return owner in ("time", "datetime.datetime", "datetime.date", "dt.datetime")


def test_nobody_but_one_module_asks_the_clock() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
        for path in sources()
        if path != PACKAGE / "clock.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if asks_the_clock(node)
    ]

    assert wrong == []


def test_only_the_command_line_prints() -> None:
    allowed = ("cli", "__main__")
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        if layer_of(path) not in allowed and path != PACKAGE / "programs" / "test.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "input", "breakpoint")
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("acoupi/data.py", "acoupi.errors"),
        ("acoupi/components/types.py", "acoupi.tasks.recording"),
        ("acoupi/tasks/recording.py", "acoupi.system.files"),
        ("acoupi/system/state.py", "acoupi.cli.main"),
        ("acoupi/programs/core/base.py", "acoupi.testing.stores"),
    ],
)
def test_a_climb_is_noticed(importer: str, imported: str) -> None:
    assert climbs(Import(ROOT / importer, 1, imported))


def test_a_lazy_relative_import_is_seen(tmp_path: Path) -> None:
    path = PACKAGE / "components" / "stores" / "__init__.py"
    tree = ast.parse("def f():\n    from ...system import files\n")

    found = ast.walk(tree)

    node = next(node for node in found if isinstance(node, ast.ImportFrom))
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    assert [*package[: len(package) - node.level + 1], node.module] == ["acoupi", "system"]
