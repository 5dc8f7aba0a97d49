"""A messenger that is installed as a package of its own: exactly the text of the README.

Its package is made of the README's two blocks. The command line runs in processes of its own,
because what is installed is looked up once in each.
"""

import json
import re
import socketserver
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import acoupi as package
from acoupi.components.stores import SqliteStore
from tests.sensors import Sensor
from tests.services import eventually

README = Path(package.__file__).parent / "components" / "README.md"
ACOUPI = Path(sys.executable).with_name("acoupi")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def block(language: str) -> str:
    """The first block of the README in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def install(folder: Path, name: str, points: dict[str, str], **modules: str) -> None:
    """Put a package where Python looks for them, as pip does."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {place}" for key, place in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[acoupi.messengers]", *lines, ""]))
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages are installed; none is yet."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def telegraph(packages: Path) -> Path:
    """The module of the messenger of the README, installed."""
    about = tomllib.loads(block("toml"))["project"]
    points = about["entry-points"]["acoupi.messengers"]
    install(packages, about["name"], points, acoupi_telegraph=block("python"))
    return packages / "acoupi_telegraph.py"


@pytest.fixture
def run(home: Path) -> Run:
    def run(*args: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [ACOUPI, *args], capture_output=True, text=True, timeout=120, check=False, **options
        )

    return run


def well(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def lines_of(result: "subprocess.CompletedProcess[str]") -> list[str]:
    """The three lines of an error of the configuration."""
    lines = result.stderr.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"], lines
    assert result.returncode == 2
    return lines


SETUP = ("setup", "--program", "demo", "--no-prompt")
TELEGRAPH = ("--messaging.telegraph.host", "127.0.0.1")


# --- the configuration ----------------------------------------------------------------------


@pytest.mark.usefixtures("telegraph")
def test_its_section_is_one_like_any_other(run: Run, home: Path) -> None:
    given = (*TELEGRAPH, "--messaging.telegraph.password", "hush hush")

    well(run(*SETUP, *given))

    written = json.loads((home / "config" / "program.json").read_text())["messaging"]["telegraph"]
    secret = "ACOUPI_CONFIG__MESSAGING__TELEGRAPH__PASSWORD"
    assert written == {"host": "127.0.0.1", "port": 7007, "password": {"$secret": secret}}
    assert "hush hush" in (home / "config" / "secrets.env").read_text()
    assert well(run("config", "get", "messaging.telegraph.port")).strip() == "7007"
    assert "hush" not in well(run("config", "get"))
    schema = json.loads(well(run("config", "schema", "--json")))
    assert "A server that takes messages line by line." in json.dumps(schema)


@pytest.mark.usefixtures("telegraph")
def test_what_it_cannot_be_set_to_is_said_in_three_lines(run: Run, home: Path) -> None:
    result = run(*SETUP, *TELEGRAPH, "--messaging.telegraph.port", "70000")

    assert lines_of(result)[0] == 'Error: --messaging.telegraph.port cannot be "70000".'
    assert not home.exists()


@pytest.mark.usefixtures("telegraph")
def test_setup_asks_for_its_settings(run: Run, home: Path) -> None:
    given = ("--messaging.http", "null", "--messaging.mqtt", "null", "--messaging.file", "null")
    # The time zone; three sections to pass over; five settings of messages; then its own.
    answers = ["", "n", "n", "n", *[""] * 5, "192.0.2.1", "7008"]

    password = ("--messaging.telegraph.password", "hush hush")

    well(
        run(
            *("setup", "--program", "connected", "--prompt", *given, *password),
            input="\n".join([*answers, *[""] * 6]),
        )
    )

    section = json.loads((home / "config" / "program.json").read_text())["messaging"]["telegraph"]
    assert (section["host"], section["port"]) == ("192.0.2.1", 7008)


def test_what_is_not_configured_is_not_written(run: Run, home: Path, telegraph: Path) -> None:
    well(run(*SETUP))

    assert "telegraph" not in (home / "config" / "program.json").read_text()
    telegraph.unlink()
    for about in telegraph.parent.glob("*.dist-info/*"):
        about.unlink()
    assert well(run("config", "get", "messaging.file.path")), "it is gone, and nobody needs it"


# --- rights ---------------------------------------------------------------------------------


def networks(home: Path) -> dict[str, bool]:
    """Which services have a network, as the compose file says."""
    services = yaml.safe_load((home / "docker-compose.yml").read_text())["services"]
    return {name: one.get("network_mode") != "none" for name, one in services.items()}


@pytest.mark.parametrize("needs_network", [True, False])
def test_the_worker_that_sends_has_a_network_only_if_the_messenger_needs_one(
    run: Run, home: Path, telegraph: Path, needs_network: bool
) -> None:
    text = telegraph.read_text()
    own = f'key = "telegraph"\n    needs_network = {needs_network}'
    telegraph.write_text(text.replace('key = "telegraph"', own))

    well(run(*SETUP, "--target", "compose", *TELEGRAPH))

    with_network = {name for name, has_one in networks(home).items() if has_one}
    assert with_network == ({"default"} if needs_network else set())


# --- what cannot be used ----------------------------------------------------------------------

MESSENGER = """
from pydantic import BaseModel
from acoupi.components.types import Messenger
class One(Messenger):
    key = "telegraph"
    class Config(BaseModel):
        host: str = "here"
    def send_message(self, message): ...
"""


LISTS = MESSENGER.replace('host: str = "here"', "host: list[list[str]] = []")


@pytest.mark.parametrize(
    ("points", "text", "why"),
    [
        ({"telegraph": "other:One"}, "import nothing_like_it", "No module named 'nothing_like_it'"),
        ({"telegraph": "other:Two"}, MESSENGER, "has no attribute 'Two'"),
        ({"telegraph": "other:One"}, "raise SystemExit(3)", "SystemExit: 3"),
        ({"pigeon": "other:One"}, MESSENGER, 'called "pigeon" and its key is "telegraph"'),
        ({"http": "other:One"}, MESSENGER, "acoupi and other-one each have one"),
        ({"telegraph": "other:One.Config"}, MESSENGER, "does not extend"),
        ({"keep_days": "other:One"}, MESSENGER.replace("telegraph", "keep_days"), "another set"),
        ({"copy": "other:One"}, MESSENGER.replace("telegraph", "copy"), "cannot be a section"),
        ({"telegraph": "other:One"}, MESSENGER.replace("(BaseModel)", ""), "a pydantic model"),
        (
            {"telegraph": "other:One"},
            LISTS,
            "its setting messaging.telegraph.host is list[list[str]]: ",
        ),
    ],
)
def test_setup_names_what_cannot_be_used(
    run: Run, home: Path, packages: Path, points: dict[str, str], text: str, why: str
) -> None:
    install(packages, "other-one", points, other=text)

    lines = lines_of(run(*SETUP))

    assert lines[0].startswith(f'Error: the messenger "{next(iter(points))}" of other-one')
    assert why in lines[1]
    assert "other-one" in lines[2]
    assert not home.exists()
    well(run("setup", "--program", "default", "--no-prompt"))  # which sends nothing


@pytest.mark.usefixtures("telegraph")
def test_setup_names_two_of_one_key(run: Run, packages: Path) -> None:
    install(packages, "other-one", {"telegraph": "other:One"}, other=MESSENGER)

    lines = lines_of(run(*SETUP))

    assert lines[0] == (
        'Error: the messenger "telegraph" of acoupi-telegraph and other-one cannot be used.'
    )


# --- in real workers --------------------------------------------------------------------------


class Office(socketserver.ThreadingTCPServer):
    """Takes lines, and answers OK."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Clerk)


class _Clerk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if line:
            self.server.lines.append(json.loads(line))  # type: ignore[attr-defined]
            self.wfile.write(b"OK")


@pytest.fixture
def office() -> Iterator[Office]:
    with Office() as office:
        thread = threading.Thread(target=office.serve_forever, daemon=True)
        thread.start()
        yield office
        office.shutdown()
        thread.join()


@pytest.fixture
def sensor(home: Path) -> Iterator[Sensor]:
    sensor = Sensor(home, home.parent / "unused")
    yield sensor
    sensor.end()


def stored(home: Path) -> int:
    return sum(SqliteStore(home / "data" / "metadata.db").count_recordings().values())


@pytest.mark.integration
@pytest.mark.usefixtures("sensor")
def test_it_delivers_and_when_it_breaks_recording_goes_on(
    run: Run, office: Office, home: Path, telegraph: Path
) -> None:
    port = ("--messaging.telegraph.port", str(office.server_address[1]))
    secret = ("--messaging.telegraph.password", "hush hush")
    well(run(*SETUP, "--target", "process", *TELEGRAPH, *port, *secret))
    well(run("deployment", "start", "--name", "h", "--latitude", "51.5", "--longitude", "-0.1"))

    eventually(lambda: office.lines, "a message at the office")

    assert office.lines[0]["password"] == "hush hush"
    assert json.loads(office.lines[0]["content"])

    telegraph.write_text("raise ImportError('its library is gone')")
    well(run("workers", "restart"))
    before, arrived = stored(home), len(office.lines)
    eventually(lambda: stored(home) > before + 1, "recordings without the messenger")
    waiting = json.loads(well(run("messages", "list", "--json")))
    well(run("deployment", "stop"))

    assert len(office.lines) == arrived
    assert waiting
    logged = (home / "log" / "default.log").read_text()
    assert 'the messenger "telegraph" of acoupi-telegraph cannot be used.' in logged
    assert "hush" not in logged
