"""A ``docker`` on the PATH that answers like the real one, and starts nothing."""

import json
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import acoupi

SCRIPT = """\
#!{python} -SE
import json, sys
script = json.load(open({answers!r}))
words = sys.argv[1:]
line = " ".join(words)
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[0] == "compose":  # without the files that are given
    rest = words[1:]
    while rest and rest[0] in ("--project-directory", "-f"):
        rest = rest[2:]
    line = " ".join(["compose", *rest])
for start, (code, out, err) in script:
    if line.startswith(start):
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
sys.exit("fake docker: no answer to " + line)
"""


@dataclass
class FakeDocker:
    """The fake: what it answers, and what it was asked.

    Parameters
    ----------
    folder
        Where to put it; to be the first on the PATH.
    """

    folder: Path
    taken_port: int = 0
    """A port on which somebody listens."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.answers: list[tuple[str, tuple[int, str, str]]] = []
        self.program = self.folder / "docker"
        self.program.write_text(
            SCRIPT.format(
                python=sys.executable,
                answers=str(self.folder / "answers.json"),
                log=str(self.folder / "asked"),
            )
        )
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        self._usual()

    def _usual(self) -> None:
        info = {
            "ServerVersion": "24.0.7",
            "DockerRootDir": "/",
            "MemoryLimit": True,
            "SecurityOptions": ["name=seccomp,profile=default"],
            "Name": "fake",
        }
        labels = {"org.opencontainers.image.version": acoupi.__version__}
        self.answer("info", json.dumps(info))
        self.answer("compose version", "2.26.1\n")
        self.answer("compose ls", "[]")
        self.answer("buildx version", "github.com/docker/buildx 0.13.1 abc\n")
        self.answer("image inspect", json.dumps({"Config": {"Labels": labels}}))
        for quiet in ("ps", "run", "compose", "buildx build"):
            self.answer(quiet, "")

    def answer(self, start: str, out: str = "", *, code: int = 0, err: str = "") -> None:
        """Answer so from now on to what begins with these words; what is said last goes first."""
        self.answers.insert(0, (start, (code, out, err)))
        # What is more exact stands before what is less so, whenever it was said.
        self.answers.sort(key=lambda one: -len(one[0]))
        (self.folder / "answers.json").write_text(json.dumps(self.answers))

    def knows(self, home: Path) -> None:
        """Answer ``docker compose config`` as the home's own file has it."""
        for words in ("compose config", "compose --profile * config"):
            self.answer(words, json.dumps(resolved(home)))

    @property
    def asked(self) -> list[str]:
        """The command lines it was given, without the files of the home."""
        log = self.folder / "asked"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [re.sub(r"(--project-directory|-f) \S+ ", "", " ".join(line)) for line in lines]

    @property
    def built(self) -> list[str]:
        """The packages of each image that was built on top of that of acoupi."""
        lines = [line for line in self.asked if line.startswith("buildx build")]
        found = [re.search(r"--build-arg PACKAGES=(.*?) --build-arg", line) for line in lines]
        return [one[1] for one in found if one]

    @property
    def started(self) -> list[str]:
        """Those of them that start or change something."""
        doing = ("compose up", "compose pull", "compose restart", "compose down", "buildx build")
        return [line for line in self.asked if line.startswith(doing)]

    def remove(self) -> None:
        """Be no longer installed."""
        self.program.unlink()


def resolved(home: Path) -> Mapping[str, Any]:
    """Return a compose file as ``docker compose config`` gives it, near enough."""
    text = (home / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{ACOUPI_IMAGE[^}]*\}", "acoupi/sensor:test", text)
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
    content: dict[str, Any] = yaml.safe_load(text)
    for service in content["services"].values():
        service["mem_limit"] = "100000000"
        service["volumes"] = [
            one for one in service.get("volumes", ()) if one.get("type") == "bind"
        ]
    return content


def put_first(monkeypatch: Any, folder: Path) -> None:
    """Let a folder be the first in which programs are looked for."""
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
