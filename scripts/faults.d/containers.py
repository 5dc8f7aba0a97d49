"""A sensor with the rig's program as containers, and an HTTP server beside them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from arrivals import Arrival
from clocks import Clock
from plan import SERVICES
from processes import PROGRAM, ProcessSensor

from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.writing import write_atomic

__all__ = ["ComposeSensor", "build", "why_no_engine"]

BROKER, SERVER = "redis", "receiver"
TIMEOUT = 300.0


class ComposeSensor(ProcessSensor):
    """A sensor on the compose target."""

    weights: ClassVar[dict[str, float]] = {
        "kill": 30, "freeze": 5, "kill all": 2, "wipe broker": 4, "broker down": 3, "servers": 5,
    }  # fmt: skip
    services = (*SERVICES, BROKER)
    transports = ("http",)
    target = "compose"
    clock_place = "config/clock"

    @property
    def out(self) -> Path:
        """Where the server writes what it got: the bundle allows no place outside the home."""
        return self.home / "out"

    def set_up(self, *options: str) -> None:
        """Make the home, with a server beside the services."""
        super().set_up(*options)
        out = self.out
        out.mkdir()
        out.chmod(0o777)
        server = {
            "image": self.variables["ACOUPI_IMAGE"],
            "entrypoint": ["python", "-m", "receiver"],
            "volumes": [f"{out}:/out"],
            "stop_grace_period": "0s",
        }
        override = {"services": {SERVER: server}, "networks": {"default": {"internal": True}}}
        # No power cut takes it.
        write_atomic(self.home / "docker-compose.override.yml", json.dumps(override))

    def start(self) -> None:
        """Start the server, then the deployment."""
        self.compose("up", "-d", SERVER)
        super().start()

    def up(self) -> None:
        """Start it, as at boot."""
        self.compose("up", "-d")

    def end(self) -> None:
        """Leave nothing behind."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "0", check=False)

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run docker compose as a person would."""
        return docker("compose", *arguments, cwd=self.home, check=check)

    def arrivals(self) -> list[Arrival]:
        """Return what its server got."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.out / "http.jsonl").read_text().splitlines()
            return [Arrival(self.name, "http", **json.loads(line)) for line in lines]
        return []

    def life(self, service: str) -> object:
        """Return what tells one process of a service from the next; None while there is none."""
        return self._state(BROKER)["Pid"] or None if service == BROKER else super().life(service)

    def works(self, service: str) -> bool:
        """Return whether a service waits for work, or is at it."""
        return bool(self._state(BROKER)["Running"]) if service == BROKER else super().works(service)

    def run_dir(self, service: str) -> Path:
        """Return where a service has its pulse."""
        return self.home / "run" / service

    def signal(self, service: str, number: signal.Signals) -> bool:
        """Send the process in a container a signal; return whether there is one."""
        init = int(self._state(service)["Pid"])
        with contextlib.suppress(OSError):
            if init:
                children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
                os.kill(int(children[0]) if children else init, number)
                return True
        return False

    def kill_all(self) -> None:
        """Kill every container; the engine takes that for a wish, and starts none again.

        The home may be on a disk that is gone, so Compose is not asked.
        """
        label = f"label=com.docker.compose.project.working_dir={self.home}"
        for service in (*self.services, SERVER):  # its place is on that disk, too
            own = f"label=com.docker.compose.service={service}"
            ids = docker("ps", "--quiet", "--filter", label, "--filter", own).split()
            if ids:
                docker("kill", *ids, check=False)

    def wipe_broker(self) -> None:
        """Take the broker away with all it holds, and have another."""
        self.compose("rm", "--force", "--stop", "--volumes", BROKER)
        self.compose("up", "-d", "--no-deps", BROKER)

    def broker_down(self) -> Callable[[], object]:
        """Freeze the broker; return what undoes it."""
        self.compose("pause", BROKER)
        return lambda: self.compose("unpause", BROKER, check=False)

    def servers_down(self, kind: str) -> Callable[[], object]:
        """Take the server away, or freeze it; return what undoes it."""
        if kind in ("refused", "dropped"):
            self.compose("kill", SERVER, check=False)
            return lambda: self.compose("start", SERVER, check=False)
        self.compose("pause", SERVER, check=False)
        return lambda: self.compose("unpause", SERVER, check=False)

    def _state(self, service: str) -> dict[str, Any]:
        ids = self.compose("ps", "--all", "--quiet", service, check=False).split()
        found = docker("inspect", "--format", "{{json .State}}", *ids[:1], check=False)
        return json.loads(found) if ids and found else {"Pid": 0, "Running": False}


def why_no_engine() -> str:
    """Return why there can be no containers here; "" if there can."""
    with contextlib.suppress(OSError, SystemExit, subprocess.TimeoutExpired):
        docker("compose", "version")
        docker("info")
        return ""
    return "no Docker engine with Compose v2 answers: scripts/docker-host"


def build(folder: Path, clock: Clock | None) -> str:
    """Return the image of this code with the rig's program, and what sets its clock.

    ACOUPI_IMAGE names that of the code; else it is the one that all commands build.
    """
    context = shutil.copytree(PROGRAM, folder / "image")
    if clock is not None:
        shutil.copy(clock.library, context)
    sensor = os.environ.get("ACOUPI_IMAGE") or image_name()
    if why_build(sensor):
        build_image(image=sensor)
    name = sensor.replace("/sensor:", "/test-faults:")
    docker(
        "build", "--quiet", "--network=host", "--tag", name, "--build-arg", f"SENSOR={sensor}",
        *(("--build-arg", f"CLOCK=/usr/local/lib/{clock.library.name}") if clock else ()),
        str(context),
    )  # fmt: skip
    return name


def docker(*arguments: str, cwd: Path | None = None, check: bool = True) -> str:
    """Run docker and return what it printed."""
    environment = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("ACOUPI_", "COMPOSE_"))
    }  # fmt: skip
    done = subprocess.run(
        ["docker", *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    if check and done.returncode:
        raise SystemExit(f"Error: docker {' '.join(arguments)}: {done.stderr.strip()[-400:]}")
    return done.stdout
