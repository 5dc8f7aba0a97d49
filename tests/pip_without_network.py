"""Does what ``pip install -e FOLDER`` does, without a network: for packages of a tutorial.

The package is linked, and its metadata written, into the first folder of PYTHONPATH.
"""

import os
import sys
import tomllib
from pathlib import Path


def install(folder: Path, place: Path) -> None:
    """Make a package, and its entry points, known to Python."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    for package in (folder / "src").iterdir():
        (place / package.name).symlink_to(package.resolve())
    metadata = place / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (metadata / "METADATA").write_text(head)
    lines = [
        line
        for group, places in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in places.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:3] != ["install", "-e"]:
        sys.exit(f"only install -e FOLDER is known, not {sys.argv[1:]}")
    install(Path(sys.argv[3]), Path(os.environ["PYTHONPATH"].split(":")[0]))
