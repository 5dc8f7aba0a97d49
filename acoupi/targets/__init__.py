"""Where the services of a sensor run.

A target adapts a `Stack`, renders it, and runs it. A new one is one module
with a `Target` in it and an entry point of the group ``acoupi.targets``.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import ClassVar, Literal

from acoupi import data
from acoupi.bundles.rendering import Manifest
from acoupi.data import Deployment
from acoupi.errors import TargetError
from acoupi.stack.pulse import ServiceFacts, ServiceLock, has_open, is_locked, read_pulse
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service, Stack
from acoupi.writing import RenderedFile

__all__ = [
    "DEFAULT_TARGET",
    "CheckPart",
    "ServiceStatus",
    "Target",
    "available_targets",
    "load_target",
    "process_memory",
    "service_status",
]

CheckPart = Literal["microphone", "model", "rest"]
"""What of a program is tried out by itself, because not every container can do it."""
GROUP = "acoupi.targets"
DEFAULT_TARGET = "process"
BUILT_IN = {
    "balena": "acoupi.targets.balena:BalenaTarget",
    "compose": "acoupi.targets.compose:ComposeTarget",
    "process": "acoupi.targets.process:ProcessTarget",
    "systemd": "acoupi.targets.systemd:SystemdTarget",
}
HIDDEN = {"provisioned": "acoupi.provisioning.target:ProvisionedTarget"}
"""Not to be chosen."""
PULSE_TOO_OLD = 30.0
"""Seconds; a service that lives writes its pulse every 5 s."""


@dataclass(kw_only=True)
class ServiceStatus(ServiceFacts):
    """The state of a service, as far as it is known from outside."""

    role: str
    state: Literal[
        "ready",
        "starting",
        "waiting for the broker",
        "degraded",
        "stopping",
        "stopped",
        "restarting",
        "not answering",
        "unknown",
    ]
    memory_bytes: int | None = None
    health: Literal["healthy", "unhealthy", "starting"] | None = None
    """As the engine's own probe found it; None: there is none."""

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.state not in ("stopped", "restarting", "unknown")

    @property
    def is_well(self) -> bool:
        """Whether it works."""
        return self.state == "ready" and self.health != "unhealthy"


class Target(ABC):
    """A place where services run.

    Parameters
    ----------
    settings
        Of the home.
    manifest
        What the last setup rendered there; None: nothing yet.
    """

    name: ClassVar[str]
    has_own_python: ClassVar[bool] = False
    """Whether the program runs elsewhere, and may be missing here."""

    def __init__(self, settings: Settings, manifest: Manifest | None = None) -> None:
        self.settings = settings
        self.manifest = manifest
        self.echo: Callable[[str], None] = lambda _: None
        """Called with each command line before it is run, for who wants to show it."""

    @property
    def services(self) -> tuple[Service, ...]:
        """The services that the last setup rendered, without the broker."""
        return self.manifest.services if self.manifest else ()

    @abstractmethod
    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return the files that this target generates, by their path below the home.

        Raises
        ------
        ConfigurationError
            Naming what of the stack this platform cannot do.
        """

    def kept_files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return the files that outlive a setup: what a person may change, passwords.

        They are written with the others, and nobody holds them against who
        edits them. What is in them now is kept.
        """
        del stack
        return {}

    def prepare(self, stack: Stack) -> None:  # noqa: B027 - optional
        """Do after a setup what is more than writing files.

        Raises
        ------
        AcoupiError
            If it cannot be done.
        """

    @abstractmethod
    def up(self) -> None:
        """Start every service; those that run already stay as they are.

        Raises
        ------
        TargetError
            If one could not be started.
        """

    @abstractmethod
    def down(self) -> None:
        """Stop every service, beat first; each finishes what it is doing.

        Raises
        ------
        TargetError
            If one could not be stopped.
        """

    def restart(self) -> None:
        """Stop and start every service."""
        self.down()
        self.up()

    @abstractmethod
    def status(self) -> list[ServiceStatus]:
        """Return how every service is; never raises because one is not well."""

    @abstractmethod
    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Return the last lines that each service (or only that one) logged."""

    def start_workers(self) -> None:
        """Start the workers, without beat.

        Raises
        ------
        TargetError
            If one does not start, or this target cannot.
        """
        raise self._runs_them()

    def stop_workers(self) -> None:
        """Stop the workers, each after what it is doing; beat goes on.

        Raises
        ------
        TargetError
            If one does not stop, or this target cannot.
        """
        raise self._runs_them()

    def restart_workers(self) -> None:
        """Stop and start the workers, with the settings as they are now.

        Raises
        ------
        TargetError
            If one does not stop or start, or this target cannot.
        """
        self.stop_workers()
        self.start_workers()

    def _runs_them(self) -> TargetError:
        return TargetError(
            "cannot start or stop workers by themselves.",
            f"acoupi {self.name} --help",
            why=f'this home was set up for the target "{self.name}", which runs them.',
        )

    def program_checks(self) -> list[tuple[str, str, Callable[[], None]]]:
        """Return how to try out the program where it runs: name, what then holds, the step."""
        return []

    def run_hook(self, what: Literal["start", "end"], deployment: Deployment) -> None:
        """Call ``on_start`` or ``on_end`` where the program is.

        Raises
        ------
        AcoupiError
            If it could not be called, or as the program raised it.
        """
        raise NotImplementedError(f"{self.name}: {what} {deployment.name}")

    @property
    def broker(self) -> str | None:
        """Where the broker of this target is; None: as the settings of Celery say."""
        return None

    def count_waiting(self, queues: list[str]) -> dict[str, int]:
        """Return how many messages wait in each queue.

        Raises
        ------
        TargetError
            If the broker does not answer.
        """
        from acoupi.services.status import count_waiting  # noqa: PLC0415 - Celery is slow

        return count_waiting(self.settings, queues)

    def purge(self, queues: list[str]) -> dict[str, int]:
        """Remove what waits in the queues; return how many messages that were.

        Raises
        ------
        TargetError
            If the broker does not answer.
        """
        from acoupi.services.status import purge_messages  # noqa: PLC0415 - Celery is slow

        return purge_messages(self.settings, queues)

    def check(self) -> None:  # noqa: B027 - optional
        """Raise if this platform cannot run the sensor.

        Raises
        ------
        TargetError
            With what is missing.
        """


def available_targets() -> dict[str, str]:
    """Return the targets: where each is, by its name, sorted; ours and the installed ones."""
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    return dict(sorted({**installed, **BUILT_IN}.items()))


def load_target(name: str, settings: Settings, manifest: Manifest | None = None) -> Target:
    """Return the target of that name, for a home.

    Parameters
    ----------
    name
        As setup was given it.
    settings, manifest
        Of the home, and what the last setup rendered there.

    Raises
    ------
    TargetError
        If there is none, or it cannot be loaded.
    """
    targets = available_targets()
    if name not in targets and name not in HIDDEN:
        close = difflib.get_close_matches(name, targets, n=1)
        raise TargetError(
            f'there is no target "{name}".',
            f"acoupi setup --target {close[0] if close else DEFAULT_TARGET}",
            why=f"the targets are {', '.join(targets)}.",
        )
    found: object = None
    place = {**targets, **HIDDEN}[name]
    reason = f"{place} is not a Target."
    module_name, _, class_name = place.partition(":")
    try:
        found = getattr(import_module(module_name), class_name, None)
    except ImportError as error:
        reason = f"{error}."
    if not isinstance(found, type) or not issubclass(found, Target):
        raise TargetError(
            f'the target "{name}" cannot be loaded.', "acoupi setup --target process", why=reason
        )
    return found(settings, manifest)


def service_status(settings: Settings, name: str, role: str) -> ServiceStatus:
    """Return how a service of this machine is, from its lock and its pulse."""
    pulse = read_pulse(settings.run_dir, name)
    alive = is_locked(settings.run_dir, name)
    if pulse is None:
        return ServiceStatus(name=name, role=role, state="starting" if alive else "stopped")
    status = ServiceStatus(name=name, role=role, state=pulse.state, **pulse.facts)
    if not alive:
        # The last pulse may say more than that it is over: why.
        supervised = is_locked(settings.run_dir, f"{name}.supervisor")
        crashed = pulse.state != "stopped"
        return replace(
            status,
            state="restarting" if supervised else "stopped",
            message=pulse.message
            or (f"it ended by itself after {_moment(pulse.pulse_on)}" if crashed else None),
            pid=None,
            task=None,
            task_since=None,
        )
    age = (data.utc_now() - pulse.pulse_on).total_seconds()
    if age > PULSE_TOO_OLD and pulse.state != "starting":
        return replace(status, state="not answering", message=f"its last pulse is {age:.0f} s old")
    is_here = has_open(ServiceLock(settings.run_dir, name).path, pulse.pid)
    return replace(status, memory_bytes=process_memory(pulse.pid) if is_here else None)


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


def process_memory(pid: int) -> int | None:
    """Return the resident memory of a process and its children, bytes."""
    import psutil  # noqa: PLC0415 - only where something runs

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return int(sum(member.memory_info().rss for member in family))
    except (psutil.Error, ValueError):
        return None
