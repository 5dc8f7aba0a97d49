"""Sensors that set themselves up on a real engine: empty named volumes, and variables."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from acoupi.bundles.self_setup import HOME
from acoupi.system import Settings
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.targets.balena import write_balena_folder
from tests.docker.bundles import Done, docker, run_in, servers
from tests.services import eventually, json_lines

DEADLINE = 90.0
"""Longest wait for something of a fleet's device, seconds."""
ROOT = Path(__file__).parents[2]
COUNT = """
from acoupi.components import SqliteStore
from pathlib import Path
print(sum(SqliteStore(Path("/acoupi/data/metadata.db")).count_recordings().values()))
"""
QUICK: Mapping[str, str] = {
    "ACOUPI_SIMULATED_AUDIO": "synthetic",
    "ACOUPI_CONFIG__RECORDING__DURATION": "1",
    "ACOUPI_CONFIG__RECORDING__INTERVAL": "2.5",
    "ACOUPI_CONFIG__RECORDING__SCHEDULE_START": "0:00",
    "ACOUPI_CONFIG__RECORDING__SCHEDULE_END": "0:00",
    "ACOUPI_CONFIG__MESSAGING__MESSAGE_SEND_INTERVAL": "1",
    "ACOUPI_CONFIG__MESSAGING__HTTP__BASE_URL": "http://http:8080/in",
}


class Device:
    """One device: a folder with compose files, and a project.

    Parameters
    ----------
    folder
        Where the compose files are.
    files
        Which of them are used, in order.
    services
        Of ours, redis and setup among them.
    """

    def __init__(self, folder: Path, files: list[str], services: tuple[str, ...]) -> None:
        self.folder = folder
        self.files = files
        self.services = services
        self.project = f"acoupi-test-{abs(hash(str(folder))) % 10**9}"
        self.variables: dict[str, str] = {}
        """Of the machine that runs Compose."""
        self.out = folder.parent / f"{folder.name}-out"
        self.out.mkdir()
        self.out.chmod(0o777)

    def compose(self, *args: str, check: bool = True, timeout: float = 280) -> Done:
        """Run ``docker compose`` on its files."""
        named = [word for name in self.files for word in ("-f", str(self.folder / name))]
        given = ("compose", "-p", self.project, *named, *args)
        return docker(*given, check=check, timeout=timeout, variables=self.variables)

    def end(self) -> None:
        """Remove all of it at once."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "0", check=False)

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)).stdout)[0]
        return found

    def container(self, service: str) -> str:
        (found,) = self.compose("ps", "--all", "--quiet", service).stdout.split()
        return found

    def run_in(self, service: str, *command: str) -> Done:
        """Run something in a container, as the service's user.

        Services start anew when another configuration is in force.
        """
        return run_in(lambda: self.container(service), *command)

    def python_in(self, service: str, code: str, *args: str) -> str:
        done = self.run_in(service, "python", "-c", code, *args)
        return (done.stdout + done.stderr).strip()

    def read(self, path: str) -> Any:
        """What a JSON file of the home holds; None if it is not there."""
        done = self.run_in("setup", "cat", str(HOME / path))
        try:
            return json.loads(done.stdout.rstrip("\0 \n"))
        except ValueError:
            return None

    def is_ready(self, service: str) -> bool:
        """Whether the pulse of a service says so."""
        return bool((self.read(f"run/{service}/{service}.json") or {}).get("state") == "ready")

    def recordings(self) -> int:
        """How many are in the store; waits until it can be asked."""
        counts: list[int] = []

        def is_told() -> bool:
            text = self.python_in("default", COUNT)
            counts.extend([int(text)] if text.isdigit() else [])
            return bool(counts)

        self.eventually(is_told, "the number of recordings")
        return counts[0]

    def received(self, server: str) -> list[dict[str, Any]]:
        return json_lines(self.out / f"{server}.jsonl")

    def log(self, service: str) -> str:
        return self.compose("logs", "--no-color", "--tail", "40", service, check=False).stdout

    def eventually(
        self, claim: Callable[[], object], what: str, deadline: float = DEADLINE
    ) -> None:
        """Wait until the claim holds; if it never does, show what the services logged."""

        def told() -> str:
            logs = "\n".join(f"--- {one}\n{self.log(one)[-2500:]}" for one in self.services)
            return self.compose("ps", "--all", check=False).stdout + logs

        eventually(claim, what, deadline, told)

    def goes_on(self, what: str) -> None:
        """Wait for a recording that is made from now on."""
        before = self.recordings()
        self.eventually(lambda: self.recordings() > before, what)


@contextlib.contextmanager
def balena_device(
    folder: Path, image: str, servers_image: str, variables: Mapping[str, Mapping[str, str]]
) -> Iterator[Device]:
    """Give a device of a fleet of the demo program, not started yet.

    What balena does otherwise is in an overlay: the image is that of this
    machine instead of one from its builders; variables go to the services as
    the supervisor gives them (""  is the fleet's, for all); /tmp/balena is
    mounted, and root's.
    """
    settings = Settings(home=folder.parent / "nowhere")
    plan = plan_setup(settings, SetupRequest("demo", target="balena", environ={}))
    write_balena_folder(folder, plan.stack, settings)
    names = tuple(yaml.safe_load((folder / "docker-compose.yml").read_text())["services"])
    device = Device(folder, ["docker-compose.yml", "supervisor.yml"], names)
    write_overlay(device, image, servers_image, variables)
    try:
        yield device
    finally:
        device.end()


class _Reset(str):
    """Written as ``!reset null``."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Reset, lambda dumper, _: dumper.represent_scalar("!reset", "null"))


def write_overlay(
    device: Device, image: str, servers_image: str, variables: Mapping[str, Mapping[str, str]]
) -> None:
    """Write what balena adds on a device, with other variables than before, if any."""
    content = servers(servers_image, device.out)
    for name in device.services:
        content["services"][name] = {
            "image": image,
            "build": _Reset(),
            "environment": {**variables.get("", {}), **variables.get(name, {})},
            "volumes": [f"lock-{name}:/tmp/balena"],
        }
    content["volumes"] = {f"lock-{name}": {} for name in device.services}
    (device.folder / "supervisor.yml").write_text(yaml.dump(content, Dumper=_Dumper))


@contextlib.contextmanager
def committed_device(
    folder: Path, image: str, servers_image: str, variables: Mapping[str, str]
) -> Iterator[Device]:
    """Give ``compose/docker-compose.yml`` as it is in the checkout, with variables in ``.env``."""
    folder.mkdir()
    for name in ("docker-compose.yml", "simulated-audio.yml", "seccomp.json"):
        (folder / name).write_bytes((ROOT / "compose" / name).read_bytes())
    lines = {"ACOUPI_IMAGE": image, **variables}
    (folder / ".env").write_text("".join(f"{key}={text}\n" for key, text in lines.items()))
    services = ("redis", "setup", "recording", "default", "beat")
    files = ["docker-compose.yml", "simulated-audio.yml", "servers.yml"]
    device = Device(folder, files, services)
    (folder / "servers.yml").write_text(yaml.dump(servers(servers_image, device.out)))
    try:
        yield device
    finally:
        device.end()
