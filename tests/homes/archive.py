"""Homes that versions of acoupi left in the field, unpacked wherever a test has room.

A home holds its own path, and that of its Python, in many places: in scripts, settings,
databases and messages. `Home.unpack` writes the new one into all of them, and nothing else.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoupi.home import home_mark

HERE = Path(__file__).parent
MANIFEST = ".generated.json"
"""Holds the digest of each generated file, by which setup knows those that were edited."""
Rewrite = Callable[[str], str]


@dataclass(frozen=True)
class Home:
    """One home of an archive.

    Parameters
    ----------
    archive
        Where it is packed.
    name
        What it is called there.
    made
        What make noted of it: ``target``, ``root`` (where it was), what was in it.
    common
        The same of all homes of the archive: ``commit``, ``python``, ``token``.
    """

    archive: Path
    name: str
    made: Mapping[str, Any]
    common: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.common['commit']}-{self.name}"

    def raw(self, place: Path) -> Path:
        """Unpack it as it was, into a folder; root gives each file to whom it belonged."""
        with tarfile.open(self.archive) as file:
            file.extraction_filter = lambda member, _: member  # the archive is our own
            members = [one for one in file if one.name.partition("/")[0] == self.name]
            file.extractall(place, members=members, numeric_owner=True)
        return place / self.name

    def unpack(self, place: Path, url: str | None = None) -> Path:
        """Unpack it into a folder as if it had been made there; return the home.

        Parameters
        ----------
        place
            The folder, not there yet.
        url
            Where its messages go from now on; None: where they went.
        """
        return self.settle(self.raw(place.with_name(f"{place.name}-raw")), place, url)

    def settle(self, unpacked: Path, place: Path, url: str | None = None) -> Path:
        """Move what was unpacked to where it is to be; the volumes of a fleet become a home."""
        shutil.move(unpacked / "volumes" if self.made["target"] == "balena" else unpacked, place)
        rewrite_home(place, self.rewriting(place, url))
        return place

    def rewriting(self, place: Path, url: str | None) -> Rewrite:
        """Return what puts the new place, Python, project and server into a text."""
        root = Path(self.made["root"])
        new = {
            rf"(?<![\w.]){re.escape(str(root))}(?![\w.-])": str(place),
            rf"\b{root.name}-{home_mark(root)}\b": f"{place.name}-{home_mark(place)}",
            re.escape(self.common["python"]): sys.executable,
        }
        if url is not None and "url" in self.made:
            bare = self.made["url"].removeprefix("http://")  # in the name of a messenger
            new[rf"\b{re.escape(bare)}"] = url.removeprefix("http://")
        if os.geteuid() != 0:  # the files belong to whoever unpacks them
            new[r"(?m)(?<=^ACOUPI_UID=)\d+$"] = str(os.geteuid())
            new[r"(?m)(?<=^ACOUPI_GID=)\d+$"] = str(os.getegid())

        def rewrite(text: str) -> str:
            for pattern, value in new.items():
                text = re.sub(pattern, lambda _, value=value: value, text)  # type: ignore[misc]
            return text

        return rewrite


def find_homes() -> list[Home]:
    """Return every home of every archive, oldest version first by its file's name."""
    found = []
    for path in sorted(HERE.glob("*.tar.xz")):
        with tarfile.open(path) as file:
            made = file.extractfile("made.json")
            assert made is not None
            common = json.loads(made.read())
        homes = common.pop("homes")
        found += [Home(path, name, content, common) for name, content in homes.items()]
    return found


# --- rewriting ---


def rewrite_home(home: Path, rewrite: Rewrite) -> None:
    """Rewrite every text of a home, in files and databases; times and owners stay."""
    digests = {
        path: digest
        for path, digest in _digests(home).items()
        if (home / path).is_file() and _digest(home / path) == digest
    }
    for path in _files(home):
        before = path.stat()
        if path.suffix == ".db":
            _rewrite_database(path, rewrite)
        elif path.suffix == ".msg":
            _rewrite_task(path, rewrite)
        else:
            _rewrite_text(path, rewrite)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    text = (home / MANIFEST).read_text() if digests else ""
    for path, digest in digests.items():
        text = text.replace(digest, _digest(home / path))
    if text:
        (home / MANIFEST).write_text(text)


def _files(home: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


def _digests(home: Path) -> dict[str, str]:
    path = home / MANIFEST
    files: dict[str, str] = json.loads(path.read_text())["files"] if path.exists() else {}
    return files


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rewrite_text(path: Path, rewrite: Rewrite) -> None:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return
    if "\0" not in text and (new := rewrite(text)) != text:
        path.write_bytes(new.encode())


def _rewrite_task(path: Path, rewrite: Rewrite) -> None:
    """Rewrite a message of the broker in a folder: its content is in base64."""
    task = json.loads(rewrite(path.read_text()))
    body = rewrite(base64.b64decode(task["body"]).decode())
    path.write_text(json.dumps({**task, "body": base64.b64encode(body.encode()).decode()}))


def _rewrite_database(path: Path, rewrite: Rewrite) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("rewrite", 1, rewrite, deterministic=True)
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        for (table,) in tables.fetchall():
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            for column in columns:
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = rewrite("{column}")'
                    f""" WHERE typeof("{column}") = 'text'"""
                )
        connection.commit()
