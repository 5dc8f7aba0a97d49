"""The sensors that are attacked: a bundle, the one of the checkout, a folder of balena."""

import contextlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acoupi.bundles.self_setup import HOME
from acoupi.bundles.variables import choose
from acoupi.stack.settings import Settings
from tests.browsers import choose_password
from tests.docker.attacks import attempts, doors, inside
from tests.docker.bundles import (
    EVERY,
    QUICK,
    SECRETS,
    TOKEN,
    WITH_SERVERS,
    Bundle,
    bundle_at,
    docker,
    run_in,
)
from tests.docker.fleets import QUICK as QUICK_FLEET
from tests.docker.fleets import Device, balena_device, committed_device

MODULES = (attempts, inside, doors)
CODE = f"""
import sys, types
modules = []
for name, text in {[(one.__name__, inspect.getsource(one)) for one in MODULES]!r}:
    modules.append(types.ModuleType(name))
    sys.modules[name] = modules[-1]
    exec(compile(text, name, "exec"), vars(modules[-1]))
modules[0].main(*modules[1:])
"""
"""Attacks, as one text for a container that has none of the tests."""
PAGE_PORT = 20000 + os.getpid() % 10000
WITH_PAGE = ("--sensor.web.enabled", "true")
TOKEN_OF_SETUP = {"ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN": TOKEN}


@dataclass(frozen=True)
class Sensor:
    """One that runs, and where its home is for its services."""

    kind: str
    """compose, committed or balena."""
    running: Bundle | Device
    home: Path

    @property
    def services(self) -> tuple[str, ...]:
        return self.running.services if isinstance(self.running, Device) else (*EVERY, "web")

    def attack(
        self, service: str, names: Sequence[str], user: str | None = None
    ) -> Mapping[str, list[str]]:
        """Make attacks of `inside` and `doors` within a container; return how each ended."""
        asked = {"home": str(self.home), "service": service, "names": [*names],
                 "secrets": self._secrets(service)}  # fmt: skip
        done = run_in(
            lambda: self.running.container(service), "python", "-c", CODE, json.dumps(asked),
            user=user,
        )  # fmt: skip
        said = done.stdout.strip().splitlines()
        if done.returncode or not said:
            return {name: [f"not tried: {done.stderr[-300:]}"] for name in names}
        found: dict[str, list[str]] = json.loads(said[-1])
        return found

    def _secrets(self, service: str) -> list[str]:
        """What no service but its owner may find, in a form that names none of them itself."""
        if self.kind != "compose":
            return [TOKEN]
        passwords = (self.home / "secrets" / "broker").iterdir()
        others = [one for one in passwords if one.name not in (service, "users.acl")]
        return [TOKEN, *(one.read_text().strip() for one in others)]


@contextlib.contextmanager
def compose_sensor(folder: Path, servers_image: str) -> Iterator[Sensor]:
    """Give a bundle of the demo program that runs, with servers beside it."""
    with bundle_at(folder / "home") as bundle:
        bundle.set_up(*QUICK, *WITH_SERVERS, *WITH_PAGE, environ=SECRETS)
        choose(bundle.home, {"ACOUPI_PORT_WEB": str(PAGE_PORT)})
        choose_password(Settings(home=bundle.home))
        bundle.add_servers(servers_image)
        bundle.compose("up", "-d")
        bundle.eventually(bundle.are_ready, "every service ready")
        bundle.eventually(lambda: bundle.is_ready("web"), "the page ready")
        bundle.goes_on("a recording and its analysis")
        yield Sensor("compose", bundle, bundle.home)


@contextlib.contextmanager
def committed_sensor(folder: Path, image: str, servers_image: str) -> Iterator[Sensor]:
    """Give the bundle of the checkout."""
    variables = {**QUICK_FLEET, "ACOUPI_PROGRAM": "connected", **TOKEN_OF_SETUP}
    with committed_device(folder / "committed", image, servers_image, variables) as device:
        yield _started("committed", device)


@contextlib.contextmanager
def balena_sensor(folder: Path, image: str, servers_image: str) -> Iterator[Sensor]:
    """Give a folder of balena, as far as an engine here runs it: with simulated audio, no card."""
    variables = {"": QUICK_FLEET, "setup": TOKEN_OF_SETUP}
    with balena_device(folder / "balena", image, servers_image, variables) as device:
        _without_card(device)
        yield _started("balena", device)


def _without_card(device: Device) -> None:
    """Leave the card out, which this machine may not have."""
    path = device.folder / "no-card.yml"
    path.write_text("services: {recording: {devices: !reset []}}\n")
    device.files.append(path.name)


def _started(kind: str, device: Device) -> Sensor:
    device.compose("up", "-d")
    for service in device.services:
        if service != "redis":
            device.eventually(lambda one=service: _works(device, one), f"{service} works")  # type: ignore[misc]
    return Sensor(kind, device, HOME)


def _works(device: Device, service: str) -> bool:
    """Whether a service says that it is ready, and its container is up for good."""
    shown = docker("inspect", "--format", "{{.State.Running}}", device.container(service))
    return shown.stdout.strip() == "true" and device.is_ready(service)
