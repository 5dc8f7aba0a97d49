"""The house of acoupi/README.md: imports go one way, and every outside library has one door."""

import ast
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
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
    ("home",),
    (
        "captures",
        "certificates",
        "clock",
        "errors",
        "printing",
        "provenance",
        "rights",
    ),
    ("deferred", "lazy"),
)
"""The picture, from the top: a room may import from the rows below its own, and from itself."""
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}

FAKES = "testing"
ABOVE_THE_FAKES = ("cli", "web", "hub")
"""Beside the rows: the public fakes may import everything but these, and nobody imports them."""
OLD_NAMES = {"acoupi/system/provisioning/__main__.py"}
"""Rendered files of earlier versions name this module; the room behind it is higher now."""

NAMED_FROM_BELOW = {
    # What rendered files and units of every version start; the modules only hand on.
    "acoupi.system.broker_start": ("bundles/self_setup.py", "services/broker_start.py"),
    "acoupi.system.celery.beat": ("stack/stack.py", "services/beat.py"),
    "acoupi.system.celery.worker": ("stack/stack.py", "services/worker.py"),
    "acoupi.system.provisioning": ("bundles/self_setup.py",),
    "acoupi.services.serving": ("stack/extra_services.py",),
    "acoupi.web": ("stack/web.py",),
    # What runs in a process of its own, which asks the higher room and ends.
    "acoupi.cli": ("targets/process.py",),
    "acoupi.provisioning": ("services/waiting.py",),
    "acoupi.system.checks": ("targets/running.py",),
    "acoupi.system.hooks": ("targets/running.py", "services/program_hooks.py"),
    "acoupi.system.page_answers": ("services/page_door.py",),
    # A target that is not chosen by its name, as a package of its own would bring one.
    "acoupi.provisioning.target": ("targets/__init__.py",),
    # No imports: a group of entry points, the beginning of a program's name, words for people.
    "acoupi.services": ("stack/extra_services.py",),
    "acoupi.programs": ("fleet/words.py",),
    "acoupi.system.Settings": ("stack/variables.py",),
}
"""Modules of higher rooms that a text may name, and where."""

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
    "anyio": ("web/",),
    "markupsafe": ("web/",),
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
    "urllib3": ("components/messengers/",),
    # The users of a RabbitMQ are asked of its management, in four requests.
    "urllib.request": ("hub/broker.py",),
    "http.client": (),
    "psutil": ("devices/", "bundles/engine.py", "targets/"),
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

ANYWHERE = {"numpy", "pydantic", "pydantic_core", "typing_extensions"}
"""Outside libraries without a door."""

WRITTEN = ("py", "js", "css", "html", "jinja2")
"""What people write and read, by the ends of the names; scripts have none."""
MOST_LINES = 600

CLOCK = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time|clock_gettime)(_ns)?"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today"
)
"""What asks for the time; `time.localtime` and `time.gmtime` of a time that is given do not."""


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
        elif isinstance(node, ast.Call) and _loads(node):
            named = str(ast.literal_eval(node.args[0]))
            yield Import(path, node.lineno, resolve_name(named, ".".join(package)))


def names_in(text: str, path: Path) -> Iterator[Import]:
    """Every module of ours that a text in a file names, in whatever it is used."""
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = [] if id(node) in docstrings else re.findall(r"acoupi(?:\.\w+)+", node.value)
            yield from (
                Import(path, node.lineno, name)
                for name in named
                if file_of(name) not in (None, PACKAGE / "__init__.py")
                and not is_named_from_below(name, path)
            )


def _loads(call: ast.Call) -> bool:
    """Whether a call loads a module whose name stands there."""
    loaders = ("import_module", "__import__")
    is_loader = ast.unparse(call.func).rpartition(".")[2] in loaders
    first = call.args[0] if call.args else None
    return is_loader and isinstance(first, ast.Constant) and bool(first.value)


def is_named_from_below(name: str, path: Path) -> bool:
    """Whether a text in a file may name a module of a higher room."""
    places = NAMED_FROM_BELOW.get(name, ())
    return path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).as_posix() in places


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
    """Which file imports which."""
    for item in items:
        imported = file_of(item.module)
        if imported is not None and str(item.path.relative_to(ROOT)) not in OLD_NAMES:
            yield item.path, imported


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
    """Whether a library is imported where it has no door, or has none at all."""
    library, *below = item.module.split(".")
    doors = DOORS.get(".".join([library, *below[:1]]), DOORS.get(library))
    if doors is None:
        return library not in {"acoupi", *sys.stdlib_module_names, *ANYWHERE}
    place = item.path.relative_to(PACKAGE).as_posix()
    return not place.startswith(doors) if doors else True


def test_every_module_belongs_to_a_room() -> None:
    unknown = {room_of(path) for path in sources()} - set(ROW_OF) - {None, FAKES, "__main__"}

    assert unknown == set()


def test_no_import_climbs() -> None:
    named = [item for path in sources() for item in names_in(path.read_text(), path)]

    assert [row for item in [*every_import(), *named] if (row := broken_row(item))] == []


def test_what_may_be_named_from_below_is_named_there() -> None:
    for module, places in NAMED_FROM_BELOW.items():
        for place in places:
            assert module in (PACKAGE / place).read_text(), f"{place} no longer names {module}"


def test_no_files_import_each_other_in_a_circle() -> None:
    edges = file_edges(every_import())
    named = [(str(a.relative_to(ROOT)), str(b.relative_to(ROOT))) for a, b in edges]

    assert circle_in(named) == []


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in sources()}), ids=lambda one: str(one.name)
)
def test_no_folders_import_each_other_in_a_circle(folder: Path) -> None:
    assert folder_circle(folder, list(file_edges(every_import()))) == []


def knows_a_component(item: Import) -> bool:
    """Whether a task imports more of components than their interfaces."""
    others = item.module.startswith("acoupi.components")
    is_type = item.module.startswith("acoupi.components.types")
    return room_of(item.path) == "tasks" and others and not is_type


def test_tasks_know_components_by_their_interfaces_only() -> None:
    assert [str(item) for item in every_import() if knows_a_component(item)] == []


def test_a_library_is_used_through_its_door_only() -> None:
    assert [str(item) for item in every_import() if through_another_door(item)] == []


def asks_the_clock(tree: ast.AST) -> list[str]:
    """Where a file asks for the time, whatever it calls the modules."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            above = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            known |= {one.asname or one.name: above + one.name for one in node.names}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(node).partition(".")
            if CLOCK.fullmatch(known.get(first, "") + dot + rest):
                found.append(f"{node.lineno} {ast.unparse(node)}")
    return found


def reads_home_folders(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "expanduser"


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
        for node in ast.walk(_tree(path))
        if does(node)
    ]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_nobody_but_one_module_asks_the_clock() -> None:
    others = [path for path in sources() if path != PACKAGE / "clock.py"]

    assert [f"{path}:{at}" for path in others for at in asks_the_clock(_tree(path))] == []


def test_only_one_module_knows_what_a_tilde_means() -> None:
    others = [path for path in sources() if path != PACKAGE / "home.py"]

    assert found(reads_home_folders, others) == []


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
        "import_module('acoupi.system.files')\n",
        "importlib.import_module('...system.files', __package__)\n",
        "__import__('acoupi.system.files')\n",
        "COMMAND = ('-m', 'acoupi.system.files')\n",
        "PLACE = 'acoupi.system.files:move_recording'\n",
        "attach(__name__, {'acoupi.system.files': 'move_recording'})\n",
        "f'from acoupi.system import {name}; acoupi.system.files'\n",
    ],
)
def test_an_import_that_climbs_is_seen_however_it_is_written(text: str) -> None:
    path = PACKAGE / "components/stores/sqlite.py"
    found = [*imports_in(text, path), *names_in(text, path)]

    assert {broken_row(item) is not None for item in found} == {True}
    assert all(
        "the row of components is not above that of system" in str(broken_row(item))
        for item in found
    )


def test_a_name_from_below_is_allowed_in_its_place_only() -> None:
    text = "MODULE = 'acoupi.system.hooks'\n"

    assert list(names_in(text, PACKAGE / "targets/running.py")) == []
    assert [broken_row(item) for item in names_in(text, PACKAGE / "targets/compose.py")] != [None]


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
        ("cli/status.py", "urllib.request.urlopen"),
        ("data.py", "http.client"),
        ("data.py", "pandas.DataFrame"),
    ],
)
def test_a_library_behind_another_door_is_seen(path: str, module: str) -> None:
    assert through_another_door(Import(PACKAGE / path, 1, module))
    assert not through_another_door(Import(PACKAGE / path, 1, "urllib.parse.quote"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("import time\nprint(time.time())", ["2 time.time"]),
        ("import time as t\nt.monotonic_ns()", ["2 t.monotonic_ns"]),
        ("from time import monotonic as now\nnow()", ["2 now"]),
        ("import datetime\ndatetime.datetime.now()", ["2 datetime.datetime.now"]),
        ("import datetime as dt\ndt.date.today()", ["2 dt.date.today"]),
        ("from datetime import date as d, datetime\nd.today(), datetime.utcnow()", [
            "2 d.today", "2 datetime.utcnow",
        ]),
        ("import datetime, time\ndatetime.time(8), time.localtime(0), time.sleep(1)", []),
        ("from acoupi.clock import monotonic\nmonotonic()", []),
    ],
)  # fmt: skip
def test_asking_the_clock_is_seen(text: str, named: list[str]) -> None:
    assert sorted(asks_the_clock(ast.parse(text))) == named


def test_printing_and_tildes_are_seen() -> None:
    tree = ast.parse("print(path.expanduser())")

    assert sum(prints(node) for node in ast.walk(tree)) == 1
    assert sum(reads_home_folders(node) for node in ast.walk(tree)) == 1


@pytest.mark.parametrize(
    ("module", "is_wrong"),
    [
        ("acoupi.components.stores.SqliteStore", True),
        ("acoupi.components.types.Store", False),
        ("acoupi.data.Recording", False),
    ],
)
def test_a_task_that_knows_a_component_is_seen(module: str, is_wrong: bool) -> None:
    assert knows_a_component(Import(PACKAGE / "tasks/recording.py", 1, module)) == is_wrong


def test_a_file_that_is_too_long_is_seen(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("x = 1\n" * MOST_LINES)
    (tmp_path / "long.py").write_text("x = 1\n" * (MOST_LINES + 1))

    assert too_long(sorted(tmp_path.iterdir())) == [f"{tmp_path / 'long.py'}: 601 lines"]
    assert {PACKAGE / "data.py", Path(__file__), ROOT / "scripts/check"} <= {*written_files()}
