"""What the pages show is what is printed: their marked blocks are run, in order, by a new user."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import acoupi
from tests.consoles import IN_CONTAINERS, Console, fits, steps_of
from tests.sensors import Sensor
from tests.web.heard_home import set_up

DOCS = Path(acoupi.__path__[0]) / "docs"
PAGES = {
    str(path.relative_to(DOCS)): path.read_text()
    for path in sorted(DOCS.rglob("*.md"))
    if steps_of(path.read_text()) and path.name not in IN_CONTAINERS
}
HEARD = ("backup.md", "howto/r-and-python.md", "howto/moving-and-updating.md")
"""Pages for which something was heard before they begin."""

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of a user; what was started there is ended."""
    place = tmp_path / "pi"
    place.mkdir()
    yield place
    for home in (".acoupi", "oak-01"):
        Sensor(place / home, place / "none").end()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_what_is_printed(name: str, folder: Path) -> None:
    if name in HEARD:
        set_up(folder / ".acoupi")
    variables = {"ACOUPI_TARGET": "process", "ACOUPI_SIMULATED_AUDIO": "synthetic"}

    assert Console(folder, variables).follow(PAGES[name]) > 0


def test_the_tutorials_are_among_them() -> None:
    assert {
        f"tutorials/{name}.md" for name in ("first-night", "own-model", "twenty-sensors")
    } <= set(PAGES)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("✓ set up in /home/pi/.acoupi", "✓ set up in /home/pi/.acoupi.d"),
        ("a\nb", "a"),
        ("a", "a\nb"),
        ("3 recordings", "3 detections"),
    ],
)
def test_another_shape_is_noticed(printed: str, shown: str) -> None:
    assert not fits(printed, shown)


def test_a_page_that_shows_something_else_fails(folder: Path) -> None:
    page = "```console runs\n$ echo 3 bats\n4 birds\n```\n"

    with pytest.raises(AssertionError, match="4 birds"):
        Console(folder, {}).follow(page)
