"""The flow of the how-to in a real Node-RED, fed by the messenger of a sensor."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

import acoupi
from acoupi import data
from acoupi.components import FullModelOutputMessageBuilder
from acoupi.tasks import generate_heartbeat_task
from tests.integration.mqtt.conftest import Make
from tests.services import DEADLINE, Mosquitto, eventually, free_port, require
from tests.stores import detection, output, recording

SCRIPT = Path(__file__).parents[3] / "scripts" / "node-red"
PAGE = Path(acoupi.__path__[0]) / "docs" / "howto" / "node-red.md"
WANTED = "Barbastella barbastellus"
PATIENCE = 120.0
CACHE = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
"""Of the user who runs the tests; each test has a home of its own."""

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class NodeRed:
    """Node-RED without its editor, that is given flows by its admin API."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._log = folder / "node-red.log"
        settings = {
            "uiHost": "127.0.0.1", "uiPort": self._port, "userDir": str(folder),
            "disableEditor": True, "telemetry": {"enabled": False},
        }  # fmt: skip
        (folder / "settings.js").write_text(f"module.exports = {json.dumps(settings)};")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [SCRIPT, "--settings", folder / "settings.js"],
                stdout=log, stderr=log, cwd=folder, env={**os.environ, **CACHE},
            )  # fmt: skip

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def add(self, nodes: list[dict[str, Any]]) -> None:
        """Import nodes into a tab of their own, as the editor would."""
        eventually(lambda: "Started flows" in self.log(), "Node-RED", PATIENCE, self.log)
        configs = [one for one in nodes if "wires" not in one]
        tab = {"label": "t", "nodes": [one for one in nodes if "wires" in one], "configs": configs}
        request = Request(
            f"http://127.0.0.1:{self._port}/flow",
            json.dumps(tab).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=PATIENCE) as answer:
            assert answer.status == 200

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()


@pytest.fixture
def node_red(tmp_path: Path) -> Iterator[NodeRed]:
    require("no node with npm: apt-get install nodejs npm", bool(shutil.which("npm")))
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, **CACHE},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    require(f"npm cannot install Node-RED: {done.stderr[-500:]}", not done.returncode)
    folder = tmp_path / "node-red"
    folder.mkdir()
    running = NodeRed(folder)
    yield running
    running.end()


def heard(species: str, sure: float) -> data.Message:
    """A message about a detection, made as a sensor makes it."""
    site = data.Deployment(name="Old oak")
    found = detection(0.9, ("species", "Pipistrellus", 0.9), ("species", species, sure))
    made = output(recording("1.wav", deployment=site), found)
    return FullModelOutputMessageBuilder().build_message(made)


def test_the_flow_passes_on_what_the_page_says(
    broker: Mosquitto, make: Make, node_red: NodeRed
) -> None:
    nodes = json.loads(
        re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]
    )
    by_id = {node["id"]: node for node in nodes}
    by_id["acoupi-broker"].update(broker=broker.host, port=str(broker.port))
    by_id["acoupi-show"].update(complete="true", console="true")
    messenger = make(broker, topic="acoupi", use_message_type=True)
    sure = heard(WANTED, 0.85)

    node_red.add(nodes)
    eventually(lambda: "acoupi/detection" in broker.log(), "the flow", PATIENCE, node_red.log)
    generate_heartbeat_task([messenger])()
    for message in (heard(WANTED, 0.75), heard("Myotis nattereri", 0.95), sure):
        messenger.send_message(message)
    eventually(lambda: f"{sure.id}" in node_red.log(), "the message", PATIENCE, node_red.log)

    shown = node_red.log().split("[debug:show]")
    assert len(shown) == 2, node_red.log()
    assert f"payload: '{WANTED} at Old oak, 2024-06-01T20:00:00Z'" in shown[1]
    assert re.search(rf"userProperties: .*message_id: '{sure.id}'", shown[1], re.DOTALL), shown[1]
