"""Whatever setup is given, there is a valid home afterwards, or a clean error and no change.

Configurations are generated from the schemas of the shipped programs: values that fit,
values that nearly fit, and values that nobody should give, by every way in.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from acoupi.errors import AcoupiError
from acoupi.home import using_home
from acoupi.system import Settings, load_config, load_program_class, setup_program
from acoupi.system.config import ConfigTree, describe
from acoupi.system.programs import load_program

PROGRAMS = ("default", "connected", "test", "demo")
SCHEMAS: dict[str, type[BaseModel]] = {
    name: load_program_class(name).get_config_schema() for name in PROGRAMS
}
PLACES: dict[str, list[ConfigTree]] = {
    name: list(describe(schema).walk()) for name, schema in SCHEMAS.items()
}

EXAMPLES = 2_000

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


def fitting(node: ConfigTree) -> st.SearchStrategy[str]:
    """Values that are likely to be right."""
    if node.choices:
        return st.sampled_from([str(getattr(one, "value", one)) for one in node.choices])
    names = {getattr(kind, "__name__", "") for kind in node.kinds}
    if "bool" in names:
        return st.sampled_from(["true", "false"])
    if names & {"int", "float"}:
        return st.one_of(st.integers(0, 100_000).map(str), st.floats(0, 1e5).map(str))
    if "time" in names:
        return st.times().map(lambda time: time.isoformat())
    if "Path" in names:
        return st.sampled_from(["/tmp/acoupi-x/a", "relative/b", "~/c", "/tmp/acoupi-x/a/d.db"])
    if node.choices_from == "timezones":
        return st.sampled_from(["UTC", "Europe/London", "Australia/Adelaide", "America/Nuuk"])
    return st.sampled_from(["text", "a b", "http://127.0.0.1:9/x", "ümlaut"])


@st.composite
def options(draw: st.DrawFn, program: str) -> list[str]:
    """Options, mostly of the program, mostly right."""
    args: list[str] = []
    for _ in range(draw(st.integers(0, 6))):
        node = draw(st.sampled_from(PLACES[program]))
        name = node.option
        kind = draw(st.integers(0, 9))
        if kind == 0:
            name += draw(st.sampled_from(["x", ".", ".0", ".x.y", "=", "-"]))
        value = draw(fitting(node) if kind < 7 and not node.is_section else anything)
        args += draw(st.sampled_from([[name, value], [f"{name}={value}"], [name]]))
    return args


@st.composite
def documents(draw: st.DrawFn, program: str) -> dict[str, Any]:
    """Documents as a file may hold them."""
    document: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 4))):
        node = draw(st.sampled_from(PLACES[program]))
        into = document
        for key in node.place[:-1]:
            into = into.setdefault(str(key), {})
            if not isinstance(into, dict):
                break
        else:
            scalars = st.one_of(
                st.none(), st.booleans(), st.integers(), st.floats(), odd, fitting(node)
            )
            into[str(node.place[-1])] = draw(
                st.one_of(
                    fitting(node),
                    st.recursive(
                        scalars,
                        lambda one: (
                            st.lists(one, max_size=2)
                            | st.dictionaries(st.text(max_size=5), one, max_size=2)
                        ),
                        max_leaves=4,
                    ),
                )
            )
    return document


@st.composite
def variables(draw: st.DrawFn, program: str) -> dict[str, str]:
    """Variables of the environment."""
    found: dict[str, str] = {}
    for _ in range(draw(st.integers(0, 2))):
        node = draw(st.sampled_from(PLACES[program]))
        suffix = draw(st.sampled_from(["", "", "", "__X", "__", "__0"]))
        found[node.variable + suffix] = draw(st.one_of(fitting(node), anything))
    return found


@st.composite
def setups(draw: st.DrawFn) -> dict[str, Any]:
    """All that a setup may be given."""
    program = draw(st.sampled_from([*PROGRAMS, "connected", "demo"]))
    return {
        "program_name": program,
        "args": draw(options(program)),
        "environ": draw(variables(program)),
        "document": draw(st.one_of(st.just({}), documents(program))),
        "broken": draw(st.sampled_from(["", "", "", "", "", "{", "]", "\x00", "\ufeff"])),
        "broker": draw(st.sampled_from([None, None, None, "embedded", "redis://h/0", "x", ""])),
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


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def attempt(folder: Path, given_: dict[str, Any], file: Path) -> bool:
    """Set up; return whether it worked. Anything but a clean error is raised."""
    place = Settings(home=folder / "home")
    before = contents(folder)
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
        lines = error.lines()
        assert 2 <= len(lines) <= 3, lines
        assert not any(char in line for line in lines for char in "\n\r"), lines
        assert error.exit_code in (1, 2), lines
        assert contents(folder) == before
        return False
    return True


def is_valid(folder: Path, name: str) -> None:
    """A home that can be loaded: the same configuration again, and the program with it."""
    place = Settings(home=folder / "home")
    with using_home(place.home):
        config = load_config(place.program_config_file, SCHEMAS[name])
        again = load_config(place.program_config_file, SCHEMAS[name])
        assert config == again
        assert load_program(place).config == config
    leftovers = [path for path in place.home.rglob(".*") if path.name != ".generated.json"]
    assert leftovers == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(given_=setups())
def test_a_setup_ends_in_a_valid_home_or_in_a_clean_error(
    base: Path, given_: dict[str, Any]
) -> None:
    with fresh(base) as folder:
        file = folder / "given.json"
        file.write_text(given_["broken"] + json.dumps(given_["document"]))

        worked = attempt(folder, given_, file)

        if worked:
            is_valid(folder, given_["program_name"])
            before = contents(folder / "home")
            if given_["twice"]:  # the same again, with nothing given, changes nothing
                file.write_text("{}")
                again = {**given_, "args": [], "environ": {}, "broker": None}
                assert attempt(folder, again, file)
                assert contents(folder / "home") == before
