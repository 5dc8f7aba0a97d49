"""The machine as checks see it: its state, their queries, and their results."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from acoupi.bundles.engine import COMPOSE_FILE, Answer, Storage
from acoupi.bundles.rendering import Manifest
from acoupi.errors import HealthCheckError
from acoupi.stack.settings import Settings

__all__ = [
    "GB",
    "SIMULATED",
    "SOUND_RULE",
    "Bundle",
    "Check",
    "MachineState",
    "Outcome",
    "Probes",
    "Result",
    "fail",
    "is_of_home",
    "is_simulated",
    "json_of",
    "ok",
    "size",
    "warn",
]

Outcome = Literal["ok", "warn", "fail"]

GB = 1_000_000_000
SOUND_RULE = "c 116:"
SIMULATED = "ACOUPI_SIMULATED_AUDIO"


@dataclass(frozen=True)
class Result:
    """The result of a check."""

    name: str
    """Name of the check; "" until it is known."""
    outcome: Outcome
    message: str
    """What was found; for a failure, what is not possible."""
    why: str | None = None
    help: str | None = None

    def error(self) -> HealthCheckError:
        """Return a failure as an error of three lines."""
        return HealthCheckError(self.message, self.help, why=self.why)


def ok(message: str) -> Result:
    """Return that all is well."""
    return Result("", "ok", message)


def warn(message: str, why: str | None, help: str | None) -> Result:
    """Return that something may go wrong, why, and what to try."""
    return Result("", "warn", message, why, help)


def fail(message: str, why: str | None, help: str | None) -> Result:
    """Return what is not possible, why, and what to try."""
    return Result("", "fail", message, why, help)


class Probes(Protocol):
    """Queries of the machine; the real ones are in `acoupi.bundles.engine.Host`."""

    def docker(self, *args: str, timeout: float = ...) -> Answer:
        """Return what ``docker ARGS`` answers."""

    def compose(self, settings: Settings, *args: str, override: bool = ...) -> Answer:
        """Return what ``docker compose ARGS`` answers on the files of a home."""

    def is_container(self) -> bool:
        """Return whether this is the container of a service, in which Docker cannot be used."""

    def free_bytes(self, path: Path) -> int | None:
        """Return the free space where a path is or would be; None if that is not known."""

    def memory_bytes(self) -> int:
        """Return the memory of this machine."""

    def can_write(self, path: Path) -> bool:
        """Return whether this user may write in a folder, or where it would be made."""

    def is_folder(self, path: Path) -> bool:
        """Return whether a path is there."""

    def storage(self, path: Path) -> Storage | None:
        """Return the file system where a path is or would be; None if that is not known."""

    def cards(self) -> list[str]:
        """Return the sound cards that can record."""

    def is_clock_synchronised(self) -> bool | None:
        """Return whether the clock is synchronised; None if that is not known."""

    def is_port_free(self, address: str, port: int, protocol: str) -> bool:
        """Return whether no program listens there."""


@dataclass(frozen=True)
class Bundle:
    """The output of ``docker compose config``: acoupi's file, ``.env`` and the override."""

    project: str
    services: Mapping[str, Mapping[str, Any]]
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The whole output of Compose, including volumes and networks."""

    @classmethod
    def parse(cls, text: str) -> "Bundle":
        """Read the JSON of ``docker compose config``.

        Raises
        ------
        ValueError
            If it is something else.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("services"), dict):
            raise ValueError("it has no services")  # noqa: TRY004 - one kind of error to catch
        return cls(str(content.get("name", "")), content["services"], content)

    @property
    def memory_limit(self) -> int:
        """The sum of the limits, bytes; a service without one counts as 0."""
        return sum(int(one.get("mem_limit") or 0) for one in self.services.values())

    @property
    def recorder(self) -> Mapping[str, Any] | None:
        """The service that is granted the sound device; or None."""
        return next((one for one in self.services.values() if has_sound(one)), None)

    @property
    def simulated(self) -> str | None:
        """What replaces the microphone; None if nothing does."""
        for one in self.services.values():
            variables = one.get("environment") or {}
            if variables.get(SIMULATED):
                return str(variables[SIMULATED])
        return None

    @property
    def ports(self) -> list[tuple[str, int, str]]:
        """The ports that it opens on this machine: address, number, protocol."""
        return [
            (str(port.get("host_ip") or ""), int(port["published"]), str(port.get("protocol")))
            for one in self.services.values()
            for port in one.get("ports") or ()
            if str(port.get("published") or "").isdigit()
        ]

    @property
    def folders(self) -> list[Path]:
        """The folders that must exist before it starts, sorted."""
        return sorted(
            {
                Path(mount["source"])
                for one in self.services.values()
                for mount in one.get("volumes") or ()
                if mount.get("type") == "bind" and not str(mount["source"]).startswith("/dev/")
            }
        )


def has_sound(service: Mapping[str, Any]) -> bool:
    rules = [str(rule) for rule in service.get("device_cgroup_rules") or ()]
    devices = [str(one) for one in service.get("devices") or ()]
    return any(rule.startswith(SOUND_RULE) for rule in rules) or any(
        "/dev/snd" in device for device in devices
    )


@dataclass
class MachineState:
    """The state of the machine, as known so far."""

    settings: Settings
    probes: Probes
    manifest: Manifest | None = None
    rights: str | None = None
    """What keeps the services apart where they are no containers."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """Output of ``docker info``."""
    bundle: Bundle | None = None
    projects: list[Mapping[str, Any]] = field(default_factory=list)
    """Output of ``docker compose ls``."""
    images: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Output of ``docker image inspect`` for existing images of the services, by name."""

    @property
    def home(self) -> Path:
        """The home."""
        return self.settings.home

    @property
    def project(self) -> str:
        """The name of the project."""
        return self.bundle.project if self.bundle else ""

    @property
    def simulated(self) -> str | None:
        """What replaces the microphone, by a variable or in the configuration; None: nothing."""
        if self.bundle is not None and self.bundle.simulated:
            return self.bundle.simulated
        return "as configured" if is_simulated(self.home) else None

    @property
    def is_running(self) -> bool:
        """Whether there are containers of this home."""
        return any(
            one.get("Name") == self.project and is_of_home(one, self.home) for one in self.projects
        )

    def own_images(self) -> list[str]:
        """Return the images of the services, without those that an override adds."""
        names = {one.name for one in self.manifest.services} if self.manifest else set()
        services = self.bundle.services if self.bundle else {}
        chosen = [one for name, one in services.items() if name in names] or services.values()
        return sorted({str(one["image"]) for one in chosen if one.get("image")})


def is_of_home(project: Mapping[str, Any], home: Path) -> bool:
    """Return whether a project in ``docker compose ls`` is that of a home."""
    files = str(project.get("ConfigFiles", "")).split(",")
    return str(home / COMPOSE_FILE) in files or not any(files)


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    look: Callable[[MachineState], Result | None]
    """The check; it returns None if it does not apply to this machine."""
    needs: tuple[str, ...] = ()
    """Checks that must not have failed, nor been left out."""


def is_simulated(home: Path) -> bool:
    """Return whether the configuration of a home replaces the microphone."""
    try:
        content = json.loads((home / "config" / "program.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return _names_simulation(content)


def _names_simulation(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return bool(value.get("simulated")) or any(map(_names_simulation, value.values()))


def json_of(answer: Answer) -> dict[str, Any]:
    """Return the JSON object that a command printed; empty if it printed something else."""
    try:
        content = json.loads(answer.out)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def size(number: float) -> str:
    """Return a number of bytes as people read it.

    Examples
    --------
    >>> size(1_830_000_000), size(45_000_000)
    ('1.8 GB', '45 MB')
    """
    return f"{number / GB:.1f} GB" if number >= GB else f"{number / 1e6:.0f} MB"
