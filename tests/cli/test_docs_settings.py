"""The pages tell of settings that there are, with values that they take."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import acoupi
from acoupi import data
from tests.cli.support import Calls, Run

DOCS = Path(acoupi.__path__[0]) / "docs"
LINE = re.compile(r"^(?: {4,}|\$ )acoupi config set (.+)$", re.MULTILINE)
SETTING = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)(?: [^`]*)?`")
PAGES = sorted(page for page in DOCS.rglob("*.md") if page.parent.name != "reference")
EVERY = (DOCS / "reference" / "all-settings.md").read_text()
LISTED = set(re.findall(r"^\| `([^`]+)` \|", EVERY, re.MULTILINE))
SECTIONS = {"sensor", *re.findall(r"^## ([a-z_.]+)$", EVERY, re.MULTILINE)} - {"celery"}

OF_A_RECORDING = {f"recording.{field}" for field in data.Recording.model_fields}
"""Fields of messages."""


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS))


def told(page: Path) -> Iterator[list[str]]:
    """The words after ``acoupi config set`` in each example that is whole."""
    for found in LINE.findall(page.read_text()):
        line = re.sub(r"\$\(.*?\)|\$\w+", "TOKEN", found).removesuffix(" &&")
        if line.count('"') % 2:  # it ends the words of another command
            line = line.removesuffix('"')
        if not re.search(r"…(?!\"$)|NAME|\\$", line):
            yield shlex.split(line, comments=True)


ASSUMED = {
    "disk": {"paths.recordings": "/media/usb/recordings"},
    "hub": {"messaging.mqtt.host": "broker.example.org"},
    "hub-analysis": {"sensor.hub.token": "TOKEN", "sensor.hub.url": "https://hub.example.org"},
}
"""What a reader of a page has set already."""

SETTING_PAGES = [page for page in PAGES if any(told(page))]


@pytest.mark.parametrize("page", SETTING_PAGES, ids=name_of)
def test_the_examples_are_taken(
    page: Path, run: Run, target: Calls, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
    sends = any(words[0].startswith("messaging.") for words in told(page))
    program = "connected" if sends else "demo"
    assert run("setup", "--program", program, "--target", "fake", "--no-prompt").exit_code == 0

    for setting, value in ASSUMED.get(page.stem, {}).items():
        assert run("config", "set", setting, value).exit_code == 0
    for words in told(page):
        result = run("config", "set", *words)
        is_taken = result.exit_code == 0 or "no disk is mounted at" in result.stderr
        assert is_taken, (words, result.stderr)


def test_the_how_to_pages_are_among_them() -> None:
    pages = {page.stem for page in SETTING_PAGES if page.parent.name == "howto"}
    assert pages == {
        *("gain-and-sample-rate", "grafana", "node-red", "phone-alerts", "power-and-cards"),
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    firsts = {section.partition(".")[0] for section in SECTIONS}
    named = {
        name
        for name in SETTING.findall(page.read_text())
        if name.partition(".")[0] in firsts and not name.endswith((".csv", ".json"))
    }
    assert sorted(named - LISTED - SECTIONS - OF_A_RECORDING) == []
