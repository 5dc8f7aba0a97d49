"""What the files of homes in the field name is still there: modules, commands, paths, variables.

The names are read from the archives in tests/homes, so that none can be forgotten. That homes
work on is tested in tests/integration/test_homes.py and tests/docker/test_homes.py.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.homes.archive import find_homes

ROOT = Path(__file__).parents[2]
RENDERED = (".py", ".sh", ".yml", ".service", ".env")
CODE = ("acoupi", "compose", "images")
BUILT = ("ACOUPI_CONFIG", "ACOUPI_MEMORY_")
"""What names begin with that are put together, of a setting or of a service."""
VARIABLE = re.compile(r"\bACOUPI_[A-Z_]*[A-Z]\b")


@cache
def rendered() -> dict[str, str]:
    """Every file that acoupi rendered into a home, by its name."""
    found = {}
    with TemporaryDirectory() as folder:
        for home in find_homes():
            place = home.raw(Path(folder) / str(home))
            for path in sorted(place.rglob("*")):
                if path.is_file() and (path.suffix in RENDERED or path.name in RENDERED):
                    found[f"{home}/{path.relative_to(place)}"] = path.read_text()
    return found


def modules() -> list[str]:
    """The modules that are run: ``python -m NAME``, in a shell or as a list of words."""
    pattern = re.compile(r"""-m["',\s-]+(acoupi[\w.]*)""")
    return sorted({name for text in rendered().values() for name in pattern.findall(text)})


def imports() -> list[tuple[str, str]]:
    """What Python files import of acoupi."""
    return sorted(
        {
            (node.module or "", alias.name)
            for name, text in rendered().items()
            if name.endswith(".py")
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("acoupi")
            for alias in node.names
        }
    )


def services() -> list[dict[str, Any]]:
    """Every service of every compose file."""
    bundles = [text for name, text in rendered().items() if name.endswith("docker-compose.yml")]
    return [one for text in bundles for one in yaml.safe_load(text)["services"].values()]


def variables() -> list[str]:
    """All that have a name of ours."""
    found = {name for text in rendered().values() for name in VARIABLE.findall(text)}
    return sorted(name for name in found if not name.startswith(BUILT))


def passed() -> list[str]:
    """Those that containers are given."""
    given = {name for one in services() for name in one.get("environment", {})}
    return sorted(name for name in given if VARIABLE.fullmatch(name))


@cache
def words(*names: str) -> set[str]:
    """Every variable that is named in files of the project that are called so."""
    files = (path for name in CODE for path in sorted((ROOT / name).rglob("*")))
    texts = (path.read_text() for path in files if path.name.endswith(names))
    return {word for text in texts for word in VARIABLE.findall(text)}


def places(service: dict[str, Any]) -> Iterator[str]:
    """Where a container has its volumes."""
    for one in service.get("volumes", []):
        if isinstance(one, str):
            yield one.split(":")[1]
        elif one["type"] == "volume":
            yield one["target"]


def folders_of_the_image() -> set[str]:
    """What the Dockerfile makes: a fresh volume takes the owner of the folder it is put on."""
    text = (ROOT / "images" / "sensor" / "Dockerfile").read_text().replace("\\\n", "")
    names = re.search(r'^ARG SERVICES="(.*)"$', text, re.MULTILINE)
    assert names is not None
    each = [text.replace("${name}", name) for name in names[1].split()]
    lines = [line for text in each for line in text.splitlines() if "install -d" in line]
    return {path for line in lines for path in re.findall(r"(?<=[\s\"])/[\w/]+", line)}


def test_something_is_named_at_all() -> None:
    assert len(modules()) >= 4
    assert len(imports()) >= 2
    assert len(variables()) >= 20
    assert len(passed()) >= 8
    assert {"docker-compose.yml", "app.py", "acoupi-workers-start.sh", "acoupi.service"} <= {
        Path(name).name for name in rendered()
    }


@pytest.mark.parametrize("name", modules())
def test_a_module_that_is_run_can_be_run(name: str) -> None:
    ask = [sys.executable, "-m", name, "--help"]

    done = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert f"python -m {name}" in done.stdout


@pytest.mark.parametrize(("module", "name"), imports())
def test_what_is_imported_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", variables())
def test_a_variable_is_still_known(name: str) -> None:
    assert name in words(".py", ".jinja2", ".yml", ".hcl", "Dockerfile", "health")


@pytest.mark.parametrize("name", passed())
def test_a_variable_that_containers_are_given_is_still_read(name: str) -> None:
    assert name in words(".py", "health")


def test_what_containers_run_is_in_the_image() -> None:
    dockerfile = (ROOT / "images" / "sensor" / "Dockerfile").read_text()
    commands = {one["command"][0] for one in services()}
    commands |= {one["healthcheck"]["test"][1] for one in services()}

    assert commands == {"python", "redis-server", "acoupi-health"}
    assert "images/sensor/health /usr/local/bin/acoupi-health" in dockerfile
    assert "redis-server" in dockerfile


def test_where_containers_have_volumes_the_image_has_folders() -> None:
    wanted = {place for one in services() for place in places(one)}

    assert {"/run/broker", "/run/keys/recording", "/acoupi/config"} <= wanted
    assert wanted <= folders_of_the_image()
