"""Writes the reference, or says what of it is out of date."""

import os
import sys
from pathlib import Path

HOME = "/ACOUPI_HOME"
os.environ["ACOUPI_HOME"] = HOME
os.environ.pop("ACOUPI_TARGET", None)

from api import api  # noqa: E402 - the home comes first
from commands import commands  # noqa: E402
from facts import effort_states, exit_codes, guano, metric_families  # noqa: E402
from messages import messages, schemas  # noqa: E402
from settings import settings, variables  # noqa: E402

from acoupi.components.stores.views import dictionary  # noqa: E402

FOLDER = Path(__file__).parents[2] / "acoupi" / "docs" / "reference"


def pages() -> dict[str, str]:
    """Return every file of the reference by its name."""
    found = {
        "commands.md": commands(),
        "all-settings.md": settings(),
        "variables.md": variables(),
        "message-fields.md": messages(),
        "guano.md": guano(),
        "effort-states.md": effort_states(),
        "exit-codes.md": exit_codes(),
        "metric-families.md": metric_families(),
        "api.md": api(),
        "../stores.md": dictionary(),
        **schemas(),
    }
    return {name: text.replace(HOME, HOME[1:]) for name, text in found.items()}


def main(words: list[str]) -> int:
    """Write what has changed; with --check, only say so. Return the exit code."""
    made = pages()
    old = {path.name: path.read_text() for path in FOLDER.glob("*.*")}
    old["../stores.md"] = (FOLDER.parent / "stores.md").read_text()
    changed = [name for name in {**old, **made} if old.get(name) != made.get(name)]
    for name in changed:
        print(f"acoupi/docs/reference/{name}: {'out of date' if '--check' in words else 'written'}")
        if "--check" in words:
            continue
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / name).write_text(made[name]) if name in made else (FOLDER / name).unlink()
    if changed and "--check" in words:
        print("Try: scripts/reference")
    return int(bool(changed) and "--check" in words)


sys.exit(main(sys.argv[1:]))
