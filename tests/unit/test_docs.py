"""The pages that travel with acoupi: links lead somewhere, and commands exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import acoupi
from acoupi.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = Path(acoupi.__path__[0]) / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
COMMAND = re.compile(r"(?<![\w/.\-\[])acoupi (?P<words>[a-z]+(?: [a-z]+)?)")
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
