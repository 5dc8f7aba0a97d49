"""The pages that travel with acoupi: links lead somewhere, and commands exist."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hatchling.builders.wheel import WheelBuilder

import acoupi
from acoupi.cli.app import app
from acoupi.cli.deployment import microphone_words
from acoupi.services.metrics import FAMILIES, PREFIX
from acoupi.system.state import MicrophoneState
from tests.unit.alarms.field_sound import health

ROOT = Path(__file__).parents[2]
DOCS = Path(acoupi.__path__[0]) / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
COMMAND = re.compile(r"(?<![\w/.\-\[])acoupi (?P<words>[a-z]+(?: [a-z]+(?:-[a-z]+)*)?)")
CODE = re.compile(r"```[\s\S]*?```|`[^`\n]+`|^    .+$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS if DOCS in page.parents else ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = [link for link, _ in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    named = {link for link, _ in LINK.findall((DOCS / "index.md").read_text())}
    assert {name_of(page) for page in PAGES[1:]} - named == {"index.md"}


def commands_in(page: Path) -> Iterator[list[str]]:
    for code in CODE.findall(page.read_text()):
        if code.startswith("```python"):
            continue
        for line in code.splitlines():
            if line.strip().startswith(("Error:", "Why:", "✓")):
                continue
            for found in COMMAND.finditer(line):
                yield found["words"].split()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists(page: Path) -> None:
    root: typer.core.TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]
    unknown = []
    for first, *second in commands_in(page):
        command = root.commands.get(first)
        known = getattr(command, "commands", {})
        if command is None or (second and known and second[0] not in known and first != "compose"):
            unknown.append(" ".join([first, *second]))
    assert unknown == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_wheel() -> None:
    wheel = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    here = {f"acoupi/{path.relative_to(DOCS.parent)}" for path in DOCS.rglob("*") if path.is_file()}

    assert {f"acoupi/docs/{name_of(page)}" for page in PAGES[1:]} <= here
    assert here <= wheel


def test_images_are_made_with_the_pages() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    dockerfile = (ROOT / "images" / "sensor" / "Dockerfile").read_text()

    assert "!acoupi" in ignored
    assert [line for line in ignored if "docs" in line or line.endswith(".md")] == ["!README.md"]
    assert "COPY acoupi /src/acoupi" in dockerfile


def test_metrics_that_dashboards_are_told_to_ask_for_are_published() -> None:
    asked = set(re.findall(r"\bacoupi_[a-z_]+(?=[{ `\[])", (DOCS / "howto/grafana.md").read_text()))
    names = {PREFIX + one.name + ("_total" if one.kind == "counter" else "") for one in FAMILIES}

    assert len(asked) >= 4
    assert asked <= names


# --- Node-RED ---


@pytest.fixture
def flow() -> dict[str, Any]:
    """The nodes of the flow on the page, by their ids."""
    text = (DOCS / "howto" / "node-red.md").read_text()
    nodes = json.loads(re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    return {node["id"]: node for node in nodes}


def test_the_nodes_of_the_flow_are_connected(flow: dict[str, Any]) -> None:
    wires = {to for node in flow.values() for out in node.get("wires", []) for to in out}

    assert wires | {flow["acoupi-in"]["broker"], "acoupi-in"} == set(flow)


@pytest.mark.parametrize(
    ("score", "said"),
    [(0.9, "Barbastella barbastellus at Old oak, 2024-08-01T20:30:00Z"), (0.5, None)],
)
def test_the_flow_passes_on_what_it_says(flow: dict[str, Any], score: float, said: str) -> None:
    if shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing")
        pytest.skip("there is no node here")
    tag = {
        "tag": {"key": "species", "value": "Barbastella barbastellus"},
        "confidence_score": score,
    }
    recording = {"created_on": "2024-08-01T20:30:00Z", "deployment": {"name": "Old oak"}}
    message = {"payload": {"recording": recording, "detections": [{"tags": [tag]}]}}
    function = json.dumps(flow["acoupi-choose"]["func"])
    script = (
        f"const answer = new Function('msg', {function})({json.dumps(message)});"
        "console.log(JSON.stringify(answer && answer.payload))"
    )

    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == said


# --- Gain and sample rate ---

GAIN = (DOCS / "howto" / "gain-and-sample-rate.md").read_text()


def test_the_microphone_is_told_of_as_the_page_shows_it() -> None:
    shown = re.search(r"# microphone +(.+)…\)", GAIN)
    faults = [
        *health(-66, is_silent=True, clipped_share=0.1).faults(),
        *health(-66, is_stuck=True).faults(),
    ]

    assert shown
    assert microphone_words(MicrophoneState(health=health(-66, rms_dbfs=-41))).startswith(shown[1])
    quoted = re.findall(r'"([a-z]+)"', GAIN)
    assert len(quoted) == 3
    assert [word for word in quoted if not any(one.startswith(word) for one in faults)] == []


def test_the_megabytes_of_an_hour_are_those_of_the_sample_rate() -> None:
    rows = re.findall(r"^\|[^|]+\|[^|]+\| ([\d or]+) \| ([\d or]+) \|$", GAIN, re.MULTILINE)
    said = {
        int(rate): int(size)
        for rates, sizes in rows
        for rate, size in zip(rates.split(" or "), sizes.split(" or "), strict=True)
    }

    assert len(said) >= 7
    assert said == {rate: round(rate * 2 * 3600 / 1e6) for rate in said}
