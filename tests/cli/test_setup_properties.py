"""Whatever setup is given, there is a valid home afterwards, or a clean error and no change.

Configurations are generated from the schemas of the shipped programs: values that fit,
values that nearly fit, and values that nobody should give, by every way in.
"""

import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from acoupi.config import ConfigTree, describe
from acoupi.errors import AcoupiError
from acoupi.home import using_home
from acoupi.services.construction import load_program
from acoupi.system import Settings, load_config, load_program_class, setup_program

PROGRAMS = ("default", "connected", "test", "demo")
SCHEMAS: dict[str, type[BaseModel]] = {
    name: load_program_class(name).get_config_schema() for name in PROGRAMS
}
PLACES: dict[str, list[ConfigTree]] = {
    name: list(describe(schema).walk()) for name, schema in SCHEMAS.items()
}

EXAMPLES = 500
"""Setups of each program."""
ENDS: Counter[bool] = Counter()
"""How many setups worked, so that a generator that only makes nonsense is noticed."""

odd = st.sampled_from(
    [
        *("", " ", "0", "-0", "-1", "1", "3.5", "1e3", "1e400", "-inf", "nan", "١٢", "0x10"),
        *("true", "no", "null", "None", "{}", "[]", '""', "{", "[[", '{"a": 1}', "[1, 2]"),
        *("8", "24:00", "7pm", "06:30", "23:59:59.9", "18:30Z", "2026-05-01", "P1D", "1h"),
        *("Europe/London", "Mars/Base", "../../etc/passwd", "~", "~nobody/x", "/", "/dev/null"),
        *("a\0b", "a\nb", "'", '"', "$HOME", "`id`", "a" * 5000, "\udcff", "ü/ö", "{{ x }}"),
        *("tcp", "newest_first", "fast", "https://user:pw@host/", "default", "**********"),
        *(str(2**63), str(10**30), str(10**400), "1" * 5000),
    ]
)
anything = st.one_of(
    odd,
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.times().map(str),
)


def bounds(node: ConfigTree) -> tuple[float, float]:
    """The least and the most that a number may be."""
    least, most = 0.0, 100_000.0
    for mark in node.info.metadata if node.info else ():
        least = max(least, getattr(mark, "ge", least), getattr(mark, "gt", least) + 1e-3)
        most = min(most, getattr(mark, "le", most), getattr(mark, "lt", most))
    return least, most


def fitting(node: ConfigTree) -> st.SearchStrategy[str]:
    """Values that are likely to be right."""
    if node.choices:
        return st.sampled_from([str(getattr(one, "value", one)) for one in node.choices])
    names = {getattr(kind, "__name__", "") for kind in node.kinds}
    least, most = bounds(node)
    if "bool" in names:
        return st.sampled_from(["true", "false"])
    if "int" in names:
        return st.integers(math.ceil(least), math.floor(most)).map(str)
    if "float" in names:
        return st.floats(least, most).map(repr)
    if "time" in names:
        return st.times().map(lambda time: time.isoformat())
    if "Path" in names:
        return st.sampled_from([f"/tmp/acoupi-x/{node.name}", f"relative/{node.name}", "~/c"])
    if node.choices_from == "timezones":
        return st.sampled_from(["UTC", "Europe/London", "Australia/Adelaide", "America/Nuuk"])
    if node.value_type is not None:
        return st.sampled_from(["{}", '{"A": "b c"}', '{"X-Key": "1", "y.z": "ü"}'])
    if "url" in node.name:
        return st.sampled_from(["http://127.0.0.1:9/x", "https://hub.example/in"])
    return st.sampled_from(["text", "a b", "it's", "ümlaut", '{"quoted"}', "null-ish"])


def needed_with(program: str, node: ConfigTree) -> list[ConfigTree]:
    """What must be given, too, because a section is begun."""
    sections = {node.place[:length] for length in range(1, len(node.place))}
    return [
        other
        for other in PLACES[program]
        if other.is_required and other.place[:-1] in sections and other.place != node.place
    ]


@st.composite
def tame_options(draw: st.DrawFn, program: str) -> list[str]:
    """Options that exist, with values that are likely to be right."""
    leaves = [node for node in PLACES[program] if not node.is_section]
    values: dict[str, str] = {}
    for node in draw(st.lists(st.sampled_from(leaves), max_size=6)):
        for one in [node, *needed_with(program, node)]:
            if one.name not in values:
                values[one.name] = draw(fitting(one))
    equals = draw(st.booleans())
    pairs = [[f"--{k}={v}"] if equals else [f"--{k}", v] for k, v in values.items()]
    return [word for pair in pairs for word in pair]


@st.composite
def wild_options(draw: st.DrawFn, program: str) -> list[str]:
    """Options that may exist, with anything."""
    args: list[str] = []
    for _ in range(draw(st.integers(0, 4))):
        node = draw(st.sampled_from(PLACES[program]))
        name = node.option
        if draw(st.integers(0, 7)) == 0:
            name += draw(st.sampled_from(["x", ".", ".0", ".x.y", "=", "-"]))
        value = draw(st.one_of(anything, fitting(node)))
        args += draw(st.sampled_from([[name, value], [f"{name}={value}"], [name]]))
    return args


@st.composite
def one_odd_value(draw: st.DrawFn, program: str) -> list[str]:
    """Options that are right but for one value."""
    leaves = [node for node in PLACES[program] if not node.is_section]
    node = draw(st.sampled_from(leaves))
    rest = [word for one in needed_with(program, node) for word in (one.option, draw(fitting(one)))]
    return [f"{node.option}={draw(anything)}", *rest]


@st.composite
def documents(draw: st.DrawFn, program: str, *, tame: bool) -> dict[str, Any]:
    """Documents as a file may hold them."""
    document: dict[str, Any] = {}
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd)
    nested = st.recursive(
        scalars,
        lambda one: (
            st.lists(one, max_size=2) | st.dictionaries(st.text(max_size=5), one, max_size=2)
        ),
        max_leaves=4,
    )
    leaves = [node for node in PLACES[program] if not node.is_section]
    for chosen in draw(st.lists(st.sampled_from(leaves if tame else PLACES[program]), max_size=3)):
        for node in [chosen, *needed_with(program, chosen)]:
            if tame and node.value_type is not None:
                continue  # a table in a file is no text
            put(document, node, draw(fitting(node) if tame else st.one_of(fitting(node), nested)))
    return document


def put(document: dict[str, Any], node: ConfigTree, value: Any) -> None:
    into = document
    for key in node.place[:-1]:
        into = into.setdefault(str(key), {})
        if not isinstance(into, dict):
            return
    into[str(node.place[-1])] = value


@st.composite
def variables(draw: st.DrawFn, program: str, *, tame: bool) -> dict[str, str]:
    """Variables of the environment."""
    found: dict[str, str] = {}
    leaves = [node for node in PLACES[program] if not node.is_section]
    for chosen in draw(st.lists(st.sampled_from(leaves if tame else PLACES[program]), max_size=2)):
        for node in [chosen, *needed_with(program, chosen)]:
            suffix = "" if tame else draw(st.sampled_from(["", "", "", "__X", "__", "__0"]))
            value = draw(fitting(node) if tame else st.one_of(fitting(node), anything))
            found[node.variable + suffix] = value
    return found


WAYS = {"tame": tame_options, "odd value": one_odd_value, "wild": wild_options}


@st.composite
def setups(draw: st.DrawFn, program: str) -> dict[str, Any]:
    """All that a setup of a program may be given."""
    way = draw(st.sampled_from(["tame", "tame", "odd value", "wild"]))
    tame = way != "wild"
    brokers = [None, "embedded", "redis://h/0"] + ([] if tame else ["x", ""])
    return {
        "program_name": program,
        "way": way,
        "args": draw(WAYS[way](program)),
        "environ": draw(st.one_of(st.just({}), variables(program, tame=tame))),
        "document": draw(st.one_of(st.just({}), documents(program, tame=tame))),
        "broken": "" if tame else draw(st.sampled_from(["", "", "{", "]", "\x00", "\ufeff"])),
        "broker": draw(st.sampled_from(brokers)),
        "twice": draw(st.booleans()),
    }


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder for all homes; in memory where there is such a place."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None)
    yield Path(folder)
    shutil.rmtree(folder)


@contextmanager
def fresh(base: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


OURS = (".generated.json", ".setup.lock")
"""Hidden files of a home."""


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def attempt(folder: Path, given_: dict[str, Any], file: Path) -> bool:
    """Set up; return whether it worked. Anything but a clean error is raised."""
    place = Settings(home=folder / "home")
    before = contents(folder)
    refusal: AcoupiError | None = None
    try:
        setup_program(
            place,
            given_["program_name"],
            list(given_["args"]),
            environ=given_["environ"],
            file=file,
            broker=given_["broker"],
        )
    except AcoupiError as error:
        refusal = error
    if refusal is None:
        return True
    lines = refusal.lines()
    assert 2 <= len(lines) <= 3, lines
    assert not any(char in line for line in lines for char in "\n\r"), lines
    assert refusal.exit_code in (1, 2), lines
    assert contents(folder) == before
    return False


def is_valid(folder: Path, name: str) -> None:
    """A home that can be loaded: the same configuration again, and the program with it."""
    place = Settings(home=folder / "home")
    with using_home(place.home):
        config = load_config(place.program_config_file, SCHEMAS[name])
        again = load_config(place.program_config_file, SCHEMAS[name])
        assert config == again
        assert load_program(place).config == config
    leftovers = [path for path in place.home.rglob(".*") if path.name not in OURS]
    assert leftovers == []


def check_setup(base: Path, given_: dict[str, Any]) -> None:
    with fresh(base) as folder:
        file = folder / "given.json"
        file.write_text(given_["broken"] + json.dumps(given_["document"]))

        worked = attempt(folder, given_, file)

        event(f"{given_['way']}: {'a home' if worked else 'refused'}")
        ENDS[worked] += 1
        if worked:
            is_valid(folder, given_["program_name"])
            before = contents(folder / "home")
            if given_["twice"]:  # the same again, with nothing given, changes nothing
                file.write_text("{}")
                again = {**given_, "args": [], "environ": {}, "broker": None}
                assert attempt(folder, again, file)
                assert contents(folder / "home") == before


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", PROGRAMS)  # one by one: each has a time limit of its own
def test_a_setup_ends_in_a_valid_home_or_in_a_clean_error(base: Path, program: str) -> None:
    ENDS.clear()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=bool(os.environ.get("CI")),  # a landing is not the time for luck
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(given_=setups(program))
    def set_up(given_: dict[str, Any]) -> None:
        check_setup(base, given_)

    set_up()

    total = ENDS.total()
    assert total >= EXAMPLES
    assert ENDS[True] > total / 5, "the generator should make valid setups, too"
    assert ENDS[False] > total / 5, "the generator should make invalid setups, too"
