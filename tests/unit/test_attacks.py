"""The table of attacks: what counts as refused, and what `scripts/attacks` makes of it."""

import io
import re
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

import acoupi
from tests.docker.attacks import doors, inside
from tests.docker.attacks.__main__ import report
from tests.docker.attacks.table import ATTEMPTS, INSIDE, Attempt

PAGE = (Path(acoupi.__path__[0]) / "docs" / "security.md").read_text()
TESTS = Path(__file__).parents[1]
FILES = {path.stem for path in TESTS.rglob("test_*.py")}
ATTEMPT = Attempt("open a door", frozenset({"EPERM", "ENOENT"}), "rights")


@pytest.mark.parametrize(
    ("got", "is_refused"),
    [(["EPERM"], True), (["EPERM", "ENOENT"], True), (["EPERM", "DONE"], False), ([], False)],
)
def test_all_that_was_got_must_be_expected(got: list[str], is_refused: bool) -> None:
    assert ATTEMPT.is_refused(got) is is_refused


def test_what_was_not_refused_is_counted_and_shown() -> None:
    said = io.StringIO()
    rows = [("compose", ATTEMPT, "beat", [word]) for word in ("EPERM", "DONE")]

    assert report(rows, Console(file=said, width=120)) == 1
    assert "ENOENT or EPERM" in said.getvalue()
    assert "2 attempts, 1 refused, 1 not" in said.getvalue()
    assert report(rows[:1], Console(file=said)) == 0


def test_every_attempt_is_there_once() -> None:
    assert max(Counter(one.name for one in ATTEMPTS).values()) == 1
    there = vars(inside) | vars(doors)
    assert [one.name for one in INSIDE if not callable(there.get(one.name))] == []


def test_the_page_names_attacks_that_exist() -> None:
    named = re.findall(r"`attacks`:\s+((?:`\w+`[^`;|.]*)+)", PAGE)
    names = {name for some in named for name in re.findall(r"`(\w+)`", some)}

    assert len(names) > 20
    assert {name for name in names if not name.startswith("test_")} <= {
        one.name for one in ATTEMPTS
    }


def test_every_attack_backs_a_sentence_of_the_page() -> None:
    assert [one.name for one in ATTEMPTS if f"`{one.name}`" not in PAGE] == []


def rows_of_the_page() -> list[str]:
    """What services and others can and cannot do, a row of a table each."""
    tables = PAGE[PAGE.index("## What a service can do when") : PAGE.index("## Secrets")]
    lines = [line for line in tables.splitlines() if line.startswith("|")]
    return [line for line in lines if "tried by" not in line and "---" not in line]


@pytest.mark.parametrize("row", rows_of_the_page())
def test_every_sentence_of_the_tables_names_what_tries_it(row: str) -> None:
    named = re.findall(r"`(\w+)`", row.rstrip(" |").rpartition(" | ")[2])
    tried = {one.name for one in ATTEMPTS}
    tests = {name for name in named if name.startswith("test_") and name not in FILES}

    assert {name for name in named if name in tried or name in tests}
    assert {name for name in named if name not in tried | tests | FILES | {"attacks"}} == set()


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE)) - FILES
    text = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))

    assert len(named) > 20
    assert [name for name in sorted(named) if f"def {name}(" not in text] == []
