"""The house of acoupi/README.md: imports go one way, and every outside library has one door."""

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "acoupi"

ROWS = (
    ("cli",),
    ("hub",),
    ("web",),
    ("backup", "provisioning"),
    ("system",),
    ("targets",),
    ("bundles",),
    ("services",),
    ("stack",),
    ("config",),
    ("programs",),
    ("tasks",),
    ("exports",),
    ("components",),
    ("devices",),
    ("audio",),
    ("reports",),
    ("backlog", "clips", "sampling", "space", "telling"),
    ("alarms", "deployed", "effort", "fleet", "heard", "pace", "provisioned"),
    ("timelines", "windows"),
    ("sun",),
    ("data",),
    ("commit", "door", "offers"),
    ("locks", "opening", "writing"),
    (
        "captures",
        "certificates",
        "clock",
        "errors",
        "home",
        "lazy",
        "printing",
        "provenance",
        "rights",
    ),
)
"""The picture, from the top: a room may import from the rows below its own, and from itself."""
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}

FAKES = "testing"
ABOVE_THE_FAKES = ("cli", "web", "hub")
"""Beside the rows: the public fakes may import everything but these, and nobody imports them."""
OLD_NAMES = {"acoupi/system/provisioning/__main__.py"}
"""Rendered files of earlier versions name this module; the room behind it is higher now."""

# An outside library, and where it may be imported (paths below acoupi/).
DOORS: dict[str, tuple[str, ...]] = {
    "celery": (
        *("programs/", "services/", "tasks/schedules.py", "system/celery/app.py"),
        *("hub/broker.py", "hub/working.py", "hub/analysing.py"),
    ),
    "kombu": ("programs/", "services/", "hub/broker.py"),
    "billiard": ("programs/", "services/"),
    "redis": ("services/",),
    "cryptography": ("backup/encryption.py", "offers.py", "hub/"),
    "jinja2": ("bundles/rendering.py", "web/"),
    "starlette": ("web/", "hub/"),
    "uvicorn": ("web/", "hub/"),
    "psycopg": ("hub/",),
    "obstore": ("hub/s3_store.py", "hub/s3_archive.py"),
    "markdown_it": ("web/help_pages.py",),
    # A worker lets a process of its own set the home up: services/waiting.py. Models run in
    # processes of their own where an archive is analysed on one machine: hub/local_workers.py.
    "subprocess": (
        *("bundles/", "targets/", "devices/", "web/"),
        *("services/waiting.py", "services/page_door.py", "hub/local_workers.py"),
    ),
    "docker": ("bundles/", "targets/", "devices/"),
    "typer": ("cli/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "sqlite3": ("components/stores/", "components/message_stores/"),
    "requests": (
        "components/messengers/",
        "exports/remote.py",
        "hub/calling.py",
        "provisioning/fetching.py",
    ),
    "paho": ("components/messengers/",),
    "apprise": ("components/messengers/",),
    "prometheus_client": ("services/metrics.py",),
    "sounddevice": ("audio/",),
    "soundfile": ("audio/",),
    "mutagen": ("audio/",),
    "astral": ("sun.py",),
    "tzfpy": ("devices/timezones.py",),
    "ruamel": ("config/yaml_documents.py",),
    "dotenv": ("config/env_files.py",),
    "soundevent": ("exports/formats/aoef.py",),
}

WRITTEN = ("py", "js", "css", "html", "jinja2")
"""What people write and read, by the ends of the names; scripts have none."""
MOST_LINES = 600

CLOCK = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "time_ns"}


class Import(NamedTuple):
    path: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports_in(text: str, path: Path) -> Iterator[Import]:
    """Every import in a file, lazy ones and those for type checkers included."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(path, node.lineno, f"{module}.{alias.name}")


def imports_of(path: Path) -> Iterator[Import]:
    return imports_in(path.read_text(), path)


def room_of(path: Path) -> str | None:
    """The room that a file belongs to; None for acoupi/__init__.py."""
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if name == "__init__" else name


def broken_row(item: Import) -> str | None:
    """What an import breaks in the picture; None if it goes down, or stays in its room."""
    parts = item.module.split(".")
    if parts[0] != "acoupi" or len(parts) < 2:
        return None
    own, other = room_of(item.path), parts[1]
    if other == own or str(item.path.relative_to(ROOT)) in OLD_NAMES:
        return None
    if own == FAKES:
        return f"{item}: the fakes stand below {other}" if other in ABOVE_THE_FAKES else None
    if other not in ROW_OF and other != FAKES:
        return None  # a name of acoupi/__init__.py
    if own is None or other == FAKES or ROW_OF[other] <= ROW_OF[own]:
        return f"{item}: the row of {own} is not above that of {other}"
    return None


@functools.cache
def file_of(module: str) -> Path | None:
    """The file that an import of ours reads: of the module, or of the package that has the name."""
    parts = module.split(".")
    for length in (len(parts), len(parts) - 1):
        place = ROOT.joinpath(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if length and file.is_file() and PACKAGE in file.parents:
                return file
    return None


def circle_in(edges: Iterable[tuple[str, str]]) -> list[str]:
    """One circle among these, each imported by the next; none: []."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for importer, imported in edges:
        if importer != imported:
            sorter.add(importer, imported)
    try:
        sorter.prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def file_edges(items: Iterable[Import]) -> Iterator[tuple[Path, Path]]:
    """Which file imports which; faces, which only hand names on, are left out."""
    for item in items:
        imported = file_of(item.module)
        if imported is None or is_face(imported) or is_face(item.path):
            continue
        if str(item.path.relative_to(ROOT)) not in OLD_NAMES:
            yield item.path, imported


@functools.cache
def is_face(path: Path) -> bool:
    """Whether a file is a package's face: it hands on what others define, lazily."""
    return path.name == "__init__.py" and "def __getattr__" in path.read_text()


@functools.cache
def every_import() -> list[Import]:
    return [item for path in sources() for item in imports_of(path)]


def folder_circle(folder: Path, edges: list[tuple[Path, Path]]) -> list[str]:
    """A circle among what stands in a folder, where a folder in it counts as one."""
    inside = [
        (importer.relative_to(folder).parts[0], imported.relative_to(folder).parts[0])
        for importer, imported in edges
        if folder in importer.parents and folder in imported.parents
    ]
    return circle_in(inside)


def through_another_door(item: Import) -> bool:
    doors = DOORS.get(item.module.split(".")[0])
    place = item.path.relative_to(PACKAGE).as_posix()
    return doors is not None and not place.startswith(doors)


def test_every_module_belongs_to_a_room() -> None:
    unknown = {room_of(path) for path in sources()} - set(ROW_OF) - {None, FAKES, "__main__"}

    assert unknown == set()


def test_no_import_climbs() -> None:
    assert [row for item in every_import() if (row := broken_row(item))] == []


def test_no_files_import_each_other_in_a_circle() -> None:
    edges = file_edges(every_import())
    named = [(str(a.relative_to(ROOT)), str(b.relative_to(ROOT))) for a, b in edges]

    assert circle_in(named) == []


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in sources()}), ids=lambda one: str(one.name)
)
def test_no_folders_import_each_other_in_a_circle(folder: Path) -> None:
    assert folder_circle(folder, list(file_edges(every_import()))) == []


def test_tasks_know_components_by_their_interfaces_only() -> None:
    allowed = "acoupi.components.types"
    wrong = [
        str(item)
        for item in every_import()
        if room_of(item.path) == "tasks"
        and item.module.startswith("acoupi.components")
        and not item.module.startswith(allowed)
    ]

    assert wrong == []


def test_a_library_is_used_through_its_door_only() -> None:
    assert [str(item) for item in every_import() if through_another_door(item)] == []


def asks_the_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr not in CLOCK:
        return False
    owner = ast.unparse(node.value)
    if owner in ("datetime", "dt"):
        return node.attr != "time"  # datetime.time is a type
    return owner in ("time", "datetime.datetime", "datetime.date", "dt.datetime")


def prints(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "input", "breakpoint")
    )


def found(does: Callable[[ast.AST], bool], paths: Iterable[Path]) -> list[str]:
    """Where files do that."""
    return [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {ast.unparse(node)}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if does(node)
    ]


def test_nobody_but_one_module_asks_the_clock() -> None:
    assert found(asks_the_clock, [path for path in sources() if path.stem != "clock"]) == []


def test_only_the_command_line_prints() -> None:
    silent = [path for path in sources() if room_of(path) != "cli"]
    silent.remove(PACKAGE / "programs/test.py")

    assert found(prints, silent) == []


def written_files() -> list[Path]:
    places = [ROOT / name for name in ("acoupi", "compose", "images", "tests", "scripts")]
    code = [path for place in places for end in WRITTEN for path in place.rglob(f"*.{end}")]
    return sorted([*code, *(one for one in (ROOT / "scripts").iterdir() if one.is_file())])


def too_long(paths: Iterable[Path]) -> list[str]:
    """Files of more lines than one reads at a time."""
    lines = {path: path.read_text().count("\n") for path in paths}
    return [f"{path}: {number} lines" for path, number in lines.items() if number > MOST_LINES]


def test_no_file_is_too_long_to_be_read() -> None:
    assert too_long(written_files()) == []


# --- each rule is seen when it is broken --------------------------------------------------


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("acoupi/data.py", "acoupi.effort"),
        ("acoupi/clock.py", "acoupi.errors"),
        ("acoupi/components/types.py", "acoupi.tasks.recording"),
        ("acoupi/tasks/recording.py", "acoupi.system.files"),
        ("acoupi/config/tree.py", "acoupi.stack.settings"),
        ("acoupi/stack/stack.py", "acoupi.services.broker"),
        ("acoupi/services/worker.py", "acoupi.bundles.engine"),
        ("acoupi/bundles/engine.py", "acoupi.targets.process"),
        ("acoupi/targets/compose.py", "acoupi.system.state"),
        ("acoupi/system/state.py", "acoupi.provisioning.apply"),
        ("acoupi/provisioning/apply.py", "acoupi.cli.main"),
        ("acoupi/programs/core/base.py", "acoupi.testing"),
        ("acoupi/testing/stores.py", "acoupi.cli.app"),
        ("acoupi/__init__.py", "acoupi.data"),
    ],
)
def test_a_climb_is_noticed(importer: str, imported: str) -> None:
    assert broken_row(Import(ROOT / importer, 1, imported))


def test_a_climb_names_the_row_that_it_breaks() -> None:
    item = Import(PACKAGE / "stack/stack.py", 7, "acoupi.services.broker.make_app")

    assert broken_row(item) == (
        "acoupi/stack/stack.py:7 imports acoupi.services.broker.make_app: "
        "the row of stack is not above that of services"
    )


@pytest.mark.parametrize(("higher", "lower"), list(combinations([row[0] for row in ROWS], 2)))
def test_every_row_stands_above_those_below_it(higher: str, lower: str) -> None:
    up = Import(PACKAGE / lower / "some.py", 1, f"acoupi.{higher}.thing")
    down = Import(PACKAGE / higher / "some.py", 1, f"acoupi.{lower}.thing")

    assert broken_row(up)
    assert broken_row(down) is None


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    from ...system import files\n",
        "def f():\n    import acoupi.system.files\n",
        "if TYPE_CHECKING:\n    from acoupi.system import files\n",
    ],
)
def test_a_lazy_import_that_climbs_is_seen(text: str) -> None:
    path = PACKAGE / "components/stores/sqlite.py"

    assert [broken_row(item) is not None for item in imports_in(text, path)] == [True]


def test_a_circle_of_files_is_seen() -> None:
    imports = [
        Import(PACKAGE / "audio/ring.py", 1, "acoupi.audio.clock.SampleClock"),
        Import(PACKAGE / "audio/clock.py", 1, "acoupi.audio.stream"),
        Import(PACKAGE / "audio/stream.py", 1, "acoupi.audio.clock"),
    ]
    edges = [(a.name, b.name) for a, b in file_edges(imports)]

    assert set(circle_in(edges)) == {"clock.py", "stream.py"}


def test_a_circle_of_folders_is_seen_where_no_files_make_one() -> None:
    edges = [
        (PACKAGE / "audio/a.py", PACKAGE / "devices/b.py"),
        (PACKAGE / "devices/c.py", PACKAGE / "audio/d.py"),
    ]

    assert set(folder_circle(PACKAGE, edges)) == {"audio", "devices"}
    assert folder_circle(PACKAGE, edges[:1]) == []


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("cli/status.py", "celery.app"),
        ("targets/compose.py", "jinja2"),
        ("tasks/recording.py", "sqlite3"),
        ("bundles/rendering.py", "typer"),
    ],
)
def test_a_library_behind_another_door_is_seen(path: str, module: str) -> None:
    assert through_another_door(Import(PACKAGE / path, 1, module))


def test_the_clock_and_printing_are_seen() -> None:
    tree = ast.parse("import time\nprint(time.time(), datetime.now())")

    assert sum(asks_the_clock(node) for node in ast.walk(tree)) == 2
    assert sum(prints(node) for node in ast.walk(tree)) == 1


def test_a_file_that_is_too_long_is_seen(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("x = 1\n" * MOST_LINES)
    (tmp_path / "long.py").write_text("x = 1\n" * (MOST_LINES + 1))

    assert too_long(sorted(tmp_path.iterdir())) == [f"{tmp_path / 'long.py'}: 601 lines"]
    assert {PACKAGE / "data.py", Path(__file__), ROOT / "scripts/check"} <= {*written_files()}
