"""Runs the blocks of a page that are marked so, and compares the shape of what is printed.

A block is marked in the line that opens it: ``console runs`` is run; ``console waits`` is run
again and again until it prints what the page shows, or time is up; ``python runs`` is Python that
must not fail. Commands begin with ``$``. Figures, times, ids, and the width and rules of tables may
differ; a line ``...`` stands for any lines, and ``…`` at the end of one for the rest of it.
What ``export`` says holds for the commands after it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.services import eventually

BLOCK = re.compile(r"^```(console|python) (runs|waits)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 180.0
PIP = Path(__file__).with_name("pip_without_network.py")
IN_CONTAINERS = ("hub.md",)
"""Pages whose blocks need a Docker engine; `tests/docker/test_docs_hub.py` runs them."""
NOBODY = "/home/pi"
"""The home of the user on the pages."""


class Step(NamedTuple):
    """A command and what the page says it prints, or Python."""

    language: str
    is_awaited: bool
    text: str
    printed: str


def steps_of(page: str) -> list[Step]:
    """Return what is to be run, in order."""
    return [step for found in BLOCK.findall(page) for step in _steps(*found)]


def _steps(language: str, how: str, text: str) -> Iterator[Step]:
    if language == "python":
        yield Step(language, False, text, "")
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        last = next(n for n, line in enumerate(lines) if not line.endswith("\\"))
        command, printed = "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])
        yield Step(language, how == "waits", command, printed)


def shape_of(text: str) -> list[str]:
    """Return the lines of a text without what may differ from one run to the next."""
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{16}\b", "ID", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"[▁-█✗·]+(?=\s|$)", "▁", text)
    text = re.sub(r"\d[\d:.,TZ-]*(?<![,.])", "#", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return [line for line in lines if line.strip("─ ")]


def fits(printed: str, shown: str) -> bool:
    """Return whether what was printed has the shape of what the page shows.

    Examples
    --------
    >>> fits("done in 3.2 s\\nmore\\nend", "done in 10 s\\n...\\nend")
    True
    >>> fits("failed in 3.2 s", "done in 10 s")
    False
    """
    pattern = "".join(map(_pattern, shape_of(shown)))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in shape_of(printed))) is not None


def _pattern(line: str) -> str:
    if line == "...":
        return r"(?:.*\n)*?"
    if line.endswith("…"):
        return re.escape(line.removesuffix("…").rstrip()) + r".*\n"
    return re.escape(line) + r"\n"


class Console:
    """A user in a folder, with a home of their own.

    Parameters
    ----------
    folder
        Where commands are run; it is the home of the user, too.
    variables
        Set beside the usual ones.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        tools = folder / ".tools"
        tools.mkdir()
        (tools / "pip").write_text(f'#!/bin/sh\nexec {sys.executable} {PIP} "$@"\n')
        (tools / "pip").chmod(0o755)
        path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        usual = {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
        self.environment = {
            **usual,
            "PATH": path,
            "HOME": str(folder),
            "PYTHONPATH": str(tools),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "TZ": "Europe/London",
            **variables,
        }

    def run(self, step: Step) -> str:
        """Run one step, and return what it printed in the words of the page."""
        if step.text.startswith("export "):
            return self._export(step.text)
        words = ["bash", "-c", step.text] if step.language == "console" else [sys.executable, "-"]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, check=False, timeout=PATIENCE,
            input=step.text if step.language == "python" else "", text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert step.language == "console" or not done.returncode, done.stdout
        return done.stdout.replace(str(self.folder), NOBODY)

    def _export(self, command: str) -> str:
        name = command.removeprefix("export ").partition("=")[0]
        words = ["bash", "-c", f'{command}; printf %s "${name}"']
        done = subprocess.run(words, env=self.environment, check=True, capture_output=True)
        self.environment[name] = done.stdout.decode()
        return ""

    def follow(self, page: str) -> int:
        """Run every step of a page; fail where something else is printed. Return how many."""
        steps = steps_of(page)
        for step in steps:
            self._follow(step)
        return len(steps)

    def _follow(self, step: Step) -> None:
        printed = ""

        def holds() -> bool:
            nonlocal printed
            printed = self.run(step)
            return step.language == "python" or fits(printed, step.printed)

        def both() -> str:
            return f"$ {step.text}\n{printed}\n--- the page shows\n{step.printed}"

        if step.is_awaited:
            eventually(holds, step.text, PATIENCE, both)
        else:
            assert holds(), both()
