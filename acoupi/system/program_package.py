"""A new package with a program, as a start for one's own."""

import re
from pathlib import Path, PurePath

from acoupi.bundles.rendering import TEMPLATES, render_tree
from acoupi.errors import ParameterError
from acoupi.stack.loading import available_programs
from acoupi.writing import RenderedFile, write_files

__all__ = ["write_package"]

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
PREFIX = "acoupi-"


def write_package(name: str, folder: Path) -> tuple[str, Path, list[PurePath]]:
    """Write a package with a working program.

    Parameters
    ----------
    name
        Name of the program, such as "owls"; the package is called "acoupi-owls".
    folder
        Where to make the folder of the package.

    Returns
    -------
    tuple
        The name of the program, the folder of the package, and the files in it.

    Raises
    ------
    ParameterError
        If there is a program with that name, or the folder exists.
    DeviceError
        After a disk error.
    """
    short = name.strip().removeprefix(PREFIX).removeprefix("acoupi_").replace("_", "-")
    if not NAME.fullmatch(short):
        raise ParameterError(
            name,
            f'a program cannot be called "{name}".',
            "acoupi program new owls",
            why="a name has lower-case letters and digits, in words joined by hyphens.",
        )
    if short in available_programs():
        raise ParameterError(
            name,
            f'there is already a program "{short}".',
            f"acoupi program new {short}-2",
            why=f"it is installed: {available_programs()[short]}.",
        )
    package = f"acoupi_{short.replace('-', '_')}"
    place = folder / f"{PREFIX}{short}"
    if place.exists():
        raise ParameterError(
            name,
            f'"{place}" already exists.',
            "choose another name, or another folder: --folder DIR",
            why="files are not overwritten.",
        )
    context = {"name": f"{PREFIX}{short}", "short": short, "package": package}
    files = {
        PurePath(
            path.as_posix()
            .replace("package/init", "package/__init__")
            .replace("src/package/", f"src/{package}/")
        ): file
        for path, file in render_tree(TEMPLATES / "program", context).items()
    }
    _write(place, files)
    return short, place, list(files)


def _write(place: Path, files: dict[PurePath, RenderedFile]) -> None:
    write_files({place / path: file for path, file in files.items()})
