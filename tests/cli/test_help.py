"""``acoupi help``: the pages that travel with acoupi, in a terminal and in a pipe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import acoupi
from acoupi.cli.help import complete_topics
from tests.cli.support import Run, lines_of

DOCS = Path(acoupi.__path__[0]) / "docs"
SCRIPT = Path(sys.executable).parent / "acoupi"


def on_terminal(*words: str, columns: int) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "xterm"}
    with subprocess.Popen([SCRIPT, *words], stdout=theirs, env=environment) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # its last writer is gone
                break
            if not more:
                break
            text += more
    os.close(ours)
    assert process.returncode == 0
    return text.decode()


def test_without_a_topic_every_page_is_listed_with_its_title(run: Run) -> None:
    lines = run("help").stdout.splitlines()

    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}

    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert set(listed) == pages == set(complete_topics())
    assert listed["settings"].endswith("  Settings")


def test_the_list_of_pages_is_wrapped_on_a_narrow_terminal() -> None:
    lines = on_terminal("help", columns=60).splitlines()

    assert max(map(len, lines)) <= 60
    assert any(line.startswith(" " * 32) for line in lines)


@pytest.mark.parametrize("name", complete_topics())
def test_every_page_can_be_read_and_is_plain_in_a_pipe(run: Run, name: str) -> None:
    result = run("help", name)

    assert result.stdout == (DOCS / f"{name}.md").read_text()
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "topic", ["exit-codes", "reference/exit-codes", "Exit-Codes", "exit-codes.md"]
)
def test_the_last_part_of_a_name_is_enough(run: Run, topic: str) -> None:
    assert run("help", topic).stdout.startswith("# Exit codes\n")


def test_of_two_pages_the_one_at_the_top_is_meant(run: Run) -> None:
    assert run("help", "settings").stdout.startswith("# Settings\n")


def test_a_command_without_a_page_shows_its_own_help(run: Run) -> None:
    assert run("help", "start").stdout.startswith("Usage: acoupi start")


@pytest.mark.parametrize(
    ("topic", "why", "help"),
    [
        ("setings", "the nearest are settings", "acoupi help settings"),
        ("Outbox", "the word is on the pages hub, messages", "acoupi help hub"),
        ("xyzzy", "no page has the word", "acoupi help"),
        ("../errors", "no page", "acoupi help"),
    ],
)
def test_an_unknown_topic_gets_three_lines(run: Run, topic: str, why: str, help: str) -> None:
    result = run("help", topic)

    lines = lines_of(result)
    assert topic in lines[0]
    assert why in lines[1]
    assert lines[2].endswith(f"Try: {help}")
    assert result.exit_code == 2


@pytest.mark.parametrize("columns", [60, 100])
def test_on_a_terminal_it_is_wrapped_and_names_the_pages_it_leads_to(columns: int) -> None:
    text = on_terminal("help", "effort-states", columns=columns)

    lines = [line.rstrip("\r") for line in text.split("\n")]
    assert max(map(len, map(plain, lines))) <= columns
    assert "See also: stores, deployments" in text
    assert "](" not in text


def plain(line: str) -> str:
    """A line without what makes it bold."""
    return re.sub(r"\x1b\[[\d;]*m", "", line)
