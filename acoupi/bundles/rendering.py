"""From descriptions to files: render them, and compare them with what is there.

A tree of templates mirrors its output: ``bin/start.sh.jinja2`` gives ``bin/start.sh``; a name
with an underscore is only included by others. The same input always gives the same output
(sorted, LF, no times), so that an edited file is recognised by its digest.
"""

import difflib
import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from acoupi.commit import read_whole
from acoupi.config.env_files import quoted
from acoupi.errors import ConfigurationError
from acoupi.services.applied import applied_digests
from acoupi.stack.stack import Service
from acoupi.writing import (
    READABLE,
    RUNNABLE,
    RenderedFile,
    disk_error,
    write_atomic,
    write_files,
)

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "TEMPLATES",
    "FileDiff",
    "Manifest",
    "RenderedFile",
    "Yaml",
    "check_not_edited",
    "compare_files",
    "compose_text",
    "disk_error",
    "edited_files",
    "render_template",
    "render_tree",
    "write_atomic",
    "write_files",
]

TEMPLATES = Path(__file__).parent.parent / "templates"
SUFFIX = ".jinja2"


class Yaml(str):
    """Text that is YAML already, and is not quoted again in a compose file."""

    __slots__ = ()


@dataclass(frozen=True)
class FileDiff:
    """How a file would change."""

    path: Path
    kind: str
    """"new", "changed", "same" or "removed"."""
    diff: str
    """Unified; empty when nothing changes."""


@dataclass(frozen=True)
class Manifest:
    """What the last setup generated: ``.generated.json``."""

    version: str
    """Of acoupi."""
    target: str
    program: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Digest of each generated file, by its path below the home."""
    services: tuple[Service, ...] = ()
    """Name, role, queues, network and stop grace of each; everything else needs the program."""
    adopted: tuple[str, ...] = ()
    """Files in the home's folder before the first setup: acoupi does not change their owners."""

    def to_file(self) -> RenderedFile:
        """Return the file that holds it."""
        content: dict[str, Any] = {
            "acoupi": self.version,
            "files": dict(sorted(self.files.items())),
            "program": self.program,
            "services": [
                {
                    "name": service.name,
                    "network": service.network,
                    "queues": list(service.queues),
                    "role": service.role,
                    "stop_grace_s": service.stop_grace,
                }
                for service in self.services
            ],
            "target": self.target,
        }
        if self.adopted:
            content["adopted"] = list(self.adopted)
        return RenderedFile(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Manifest | None":
        """Return the manifest of a home; None if nothing was generated there.

        Raises
        ------
        ConfigurationError
            If the file is not valid.
        """
        try:
            content = json.loads(read_whole(path))
            return cls(
                version=str(content["acoupi"]),
                target=str(content["target"]),
                program=str(content["program"]),
                files={str(name): str(digest) for name, digest in content["files"].items()},
                services=tuple(
                    Service(
                        name=str(one["name"]),
                        role=one["role"],
                        command=(),
                        queues=tuple(one["queues"]),
                        stop_grace=float(one["stop_grace_s"]),
                        network=bool(one.get("network", False)),
                    )
                    for one in content["services"]
                ),
                adopted=tuple(str(name) for name in content.get("adopted", ())),
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error("read", path, error) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationError(
                f'cannot read "{path}".',
                f"rm {shlex.quote(str(path))} && acoupi setup --force",
                why=f"its contents are not as acoupi writes them ({error}).",
            ) from error


def render_tree(
    folder: Path, context: Mapping[str, Any], *, below: Iterable[str] = ("",)
) -> dict[PurePath, RenderedFile]:
    """Render the templates of a folder.

    Parameters
    ----------
    folder
        Root of the tree of templates.
    context
        The names that the templates use; one that is missing is an error.
    below
        Only templates whose path starts with one of these.

    Returns
    -------
    dict
        By path relative to the root, sorted. Scripts may be run by everyone.
    """
    environment = _environment(folder)
    prefixes = tuple(below)
    files = {}
    for name in sorted(environment.list_templates(extensions=[SUFFIX[1:]])):
        path = PurePath(name.removesuffix(SUFFIX))
        if path.name.startswith("_") or not name.startswith(prefixes):
            continue
        text = environment.get_template(name).render(context)
        files[path] = RenderedFile(text, RUNNABLE if path.suffix == ".sh" else READABLE)
    return files


def render_template(folder: Path, name: str, context: Mapping[str, Any]) -> str:
    """Render one template of a folder, by its path there without the suffix."""
    return _environment(folder).get_template(f"{name}{SUFFIX}").render(context)


def _environment(folder: Path) -> "jinja2.Environment":
    import jinja2  # noqa: PLC0415 - most commands render nothing

    # The output is shell, Python, YAML and unit files, which have quoting rules of their own.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        newline_sequence="\n",
        autoescape=False,  # noqa: S701
        comment_start_string="<#",  # the usual ones have a meaning in shells
        comment_end_string="#>",
    )
    environment.filters.update(sh=_shell, env=quoted, py=repr)
    environment.filters.update(unit=_unit, unit_path=_unit_path, unit_word=_unit_word)
    environment.filters.update(
        compose=compose_text, compose_list=_compose_list, seconds=_seconds, cell=_cell
    )
    return environment


def _shell(value: object) -> str:
    """Quote for a shell."""
    return shlex.quote(str(value))


def _unit(value: object) -> str:
    """Quote one word of a command line in a systemd unit."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("%", "%%").replace("$", "$$") + '"'


def _unit_word(value: object) -> str:
    """Quote one word of a setting of a systemd unit in which variables are not replaced."""
    return _unit(value).replace("$$", "$")


def _unit_path(value: object) -> str:
    """Quote a path in a setting of a systemd unit that takes the rest of its line."""
    return str(value).replace("%", "%%")


def compose_text(value: object) -> str:
    """Quote as a scalar of a compose file: a string in YAML, without variables for Compose."""
    if isinstance(value, Yaml):
        return value
    text = json.dumps(str(value), ensure_ascii=False).replace("$", "$$")
    # YAML admits fewer characters than JSON does.
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)


def _compose_list(values: Iterable[object]) -> str:
    """Write as a list of a compose file."""
    return "[" + ", ".join(map(compose_text, values)) + "]"


def _seconds(value: float) -> str:
    """Write as a duration of a compose file, rounded up."""
    return f"{math.ceil(value)}s"


def _cell(value: object) -> str:
    """Write into a cell of a table in Markdown."""
    return " ".join(str(value).split()).replace("|", "\\|")


# --- edited files -------------------------------------------------------------


def edited_files(
    home: Path, files: Mapping[PurePath, RenderedFile], manifest: Manifest | None
) -> list[PurePath]:
    """Return the generated files that were edited by hand, sorted.

    A file that setup did not write, in the place of one that it would generate,
    counts too, unless the content is the same.
    """
    known = manifest.files if manifest else {}
    applied = applied_digests(home / "config")
    edited = []
    for path in sorted({*files, *map(PurePath, known)}):
        digest = _digest(home / path)
        wanted = files[path].digest if path in files else None
        name = path.as_posix()
        if digest not in (None, known.get(name), applied.get(name), wanted):
            edited.append(path)
    return edited


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise disk_error("read", path, error) from error


def check_not_edited(
    home: Path,
    files: Mapping[PurePath, RenderedFile],
    manifest: Manifest | None,
    help_: str = "acoupi setup --force to overwrite it, acoupi setup --diff to see the difference",
) -> None:
    """Raise if a file that would be overwritten was edited by hand.

    Parameters
    ----------
    help_
        What to try.

    Raises
    ------
    ConfigurationError
        Naming the files.
    """
    edited = edited_files(home, files, manifest)
    if edited:
        names = ", ".join(path.as_posix() for path in edited)
        raise ConfigurationError(
            f"{names} in {home} {'was' if len(edited) == 1 else 'were'} edited by hand.",
            help_,
            why="setup generates it, and the changes would be lost.",
        )


def compare_files(
    home: Path, files: Mapping[PurePath, RenderedFile], manifest: Manifest | None = None
) -> list[FileDiff]:
    """Return how writing the files would change a home, in order of their paths."""
    gone = [
        path
        for path in map(PurePath, manifest.files if manifest else {})
        if path not in files and (home / path).exists()
    ]
    diffs = []
    for path in sorted({*files, *gone}):
        old = _read(home / path)
        new = files[path].text if path in files else None
        if new is None:
            kind = "removed"
        elif old is None:
            kind = "new"
        else:
            kind = "same" if old == new else "changed"
        diffs.append(FileDiff(home / path, kind, _unified(path, old or "", new or "")))
    return diffs


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _unified(path: PurePath, old: str, new: str) -> str:
    return "".join(
        difflib.unified_diff(
            old.splitlines(keepends=True),
            new.splitlines(keepends=True),
            f"a/{path.as_posix()}",
            f"b/{path.as_posix()}",
        )
    )
