"""A machine that answers what preflight asks."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import acoupi
from acoupi.bundles.engine import Answer, Storage
from acoupi.bundles.preflight import Result, run_preflight
from acoupi.system import Sensor, Settings

__all__ = ["IMAGE", "FakeHost", "found", "only_failure", "services"]


IMAGE = "acoupi/sensor:dev"


def services(**recording: Any) -> dict[str, Any]:
    plain = {
        "image": IMAGE,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "user": "1000:1000",
        "restart": "unless-stopped",
    }
    recorder = {"device_cgroup_rules": ["c 116:* rw"], "mem_limit": "500000000"}
    return {
        "recording": plain | recorder | recording,
        "default": plain | {"mem_limit": "300000000"},
        "redis": plain | {"network_mode": "none"},
    }


@dataclass
class FakeHost:
    """A machine on which all is well, unless a test says otherwise."""

    info: dict[str, Any] = field(
        default_factory=lambda: {
            "ServerVersion": "24.0.7",
            "DockerRootDir": "/var/lib/docker",
            "MemoryLimit": True,
            "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
            "Name": "pi",
        }
    )
    answers: dict[str, Answer] = field(default_factory=dict)
    """By the first words of a docker command."""
    services: dict[str, Any] = field(default_factory=services)
    labels: dict[str, str] = field(
        default_factory=lambda: {"org.opencontainers.image.version": acoupi.__version__}
    )
    free: int = 50_000_000_000
    memory: int = 4_000_000_000
    writable: bool = True
    in_container: bool = False
    missing: tuple[str, ...] = ()
    file_system: Storage | None = field(
        default_factory=lambda: Storage("ext4", Path("/"), ("rw", "relatime"))
    )
    microphones: list[str] = field(default_factory=lambda: ["UltraMic"])
    synchronised: bool | None = True
    busy_ports: tuple[int, ...] = ()
    asked: list[str] = field(default_factory=list)

    def docker(self, *args: str, timeout: float = 0) -> Answer:
        del timeout
        line = " ".join(args)
        self.asked.append(line)
        for start, answer in self.answers.items():
            if line.startswith(start):
                return answer
        usual = {
            "info": json.dumps(self.info),
            "compose version": "2.26.1-4\n",
            "compose ls": "[]",
            "buildx version": "github.com/docker/buildx 0.13.1 abc",
            "image inspect": json.dumps({"Config": {"Labels": self.labels}}),
        }
        return Answer(0, next((out for start, out in usual.items() if line.startswith(start)), ""))

    def compose(self, settings: Settings, *args: str, override: bool = True) -> Answer:
        del settings, override
        self.asked.append(" ".join(("compose", *args)))
        wrong = self.answers.get("config")
        return wrong or Answer(0, json.dumps({"name": "acoupi", "services": self.services}))

    def is_container(self) -> bool:
        return self.in_container

    def free_bytes(self, path: Path) -> int | None:
        return self.free

    def memory_bytes(self) -> int:
        return self.memory

    def can_write(self, path: Path) -> bool:
        return self.writable

    def is_folder(self, path: Path) -> bool:
        return str(path) not in self.missing

    def storage(self, path: Path) -> Storage | None:
        return self.file_system

    def cards(self) -> list[str]:
        return self.microphones

    def is_clock_synchronised(self) -> bool | None:
        return self.synchronised

    def is_port_free(self, address: str, port: int, protocol: str) -> bool:
        return port not in self.busy_ports


def found(settings: Settings, host: FakeHost) -> dict[str, Result]:
    return {
        result.name: result
        for result in run_preflight(settings, host, Sensor.at(settings).manifest)
    }


def only_failure(settings: Settings, host: FakeHost) -> list[str]:
    """The three lines of the one thing that is wrong."""
    failed = [
        one
        for one in run_preflight(settings, host, Sensor.at(settings).manifest)
        if one.outcome == "fail"
    ]
    assert len(failed) == 1, failed
    lines = failed[0].error().lines()
    assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"]
    assert all("\n" not in line for line in lines)
    return lines
