"""Where the services of a sensor run.

A target adapts a `Stack`, renders it, and runs it. A new one is a module with a
`Target` in it, named by an entry point of the group ``acoupi.targets``, and a
folder of templates. Ours are found by their entry points, too.
"""

import difflib
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path, PurePath
from typing import ClassVar, Literal

from acoupi import data
from acoupi.bundles.rendering import Manifest
from acoupi.clock import shown_in_utc
from acoupi.data import Deployment
from acoupi.errors import TargetError
from acoupi.stack.pulse import ServiceFacts, ServiceLock, has_open, is_locked, read_pulse
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service, Stack
from acoupi.writing import RenderedFile

__all__ = [
    "DEFAULT_TARGET",
    "NOTE",
    "CheckPart",
    "ServiceStatus",
    "Target",
    "available_targets",
    "check_targets",
    "find_target",
    "load_target",
    "process_memory",
    "service_status",
    "targets_that",
]

CheckPart = Literal["microphone", "model", "rest"]
"""Part of a program that can be checked on its own."""
NOTE = "Note: "
"""Prefix of each warning of such a check on stderr."""
GROUP = "acoupi.targets"
DEFAULT_TARGET = "process"
HIDDEN = {
    "provisioned": "acoupi.provisioning.target:ProvisionedTarget",
    "systemd-system": "acoupi.targets.systemd:SystemTarget",
}
"""Targets that cannot be chosen by name."""
PULSE_TOO_OLD = 30.0
"""Seconds; a service that runs writes its pulse every 5 s."""


@dataclass(kw_only=True)
class ServiceStatus(ServiceFacts):
    """State of one service, as seen from outside."""

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
        "unsupervised",
        "unknown",
    ]
    memory_bytes: int | None = None
    health: Literal["healthy", "unhealthy", "starting"] | None = None
    """Verdict of the engine's own health check; None: there is none."""

    @property
    def is_running(self) -> bool:
        """Whether its process is running."""
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
    starts_here: ClassVar[bool] = True
    """Whether acoupi starts and stops the services of this home."""
    has_own_python: ClassVar[bool] = False
    """Whether the program runs elsewhere, and need not be installed here."""
    needs_engine: ClassVar[bool] = False
    """Whether it runs containers on the Docker engine of this machine."""
    bakes_packages: ClassVar[bool] = False
    """Whether packages of others are put into an image that it runs."""
    rights: ClassVar[str | None] = None
    """What keeps the services apart on this machine, in words; None: they are not here, or
    containers."""
    renders_folder: ClassVar[bool] = False
    """Whether it can write a folder that is deployed elsewhere; see `render_folder`."""
    for_system: ClassVar[str | None] = None
    """Name of the target that does the same for the whole system; see ``setup --system``."""
    reason_to_choose: ClassVar[str] = ""
    """Why it was chosen if it `is_chosen_where_possible`, as a sentence."""
    stop_command: ClassVar[str] = "acoupi workers stop"
    """Command that stops its services if there is no deployment to end."""

    def __init__(self, settings: Settings, manifest: Manifest | None = None) -> None:
        self.settings = settings
        self.manifest = manifest
        self.echo: Callable[[str], None] = lambda _: None
        """Called with each command line before it is run, to show it."""

    @classmethod
    def is_chosen_where_possible(cls) -> bool:
        """Return whether to choose it by default, after checking that it could run."""
        return False

    @property
    def next_step(self) -> str:
        """What to do after a setup, as a command."""
        return "acoupi check"

    @property
    def shared(self) -> str | None:
        """What a compromised service could do to others, in words; None: nothing."""
        return (
            "every service runs as one user and sees the whole home, including its secrets "
            "(docs/security.md). Containers keep them apart: acoupi setup --target compose"
        )

    def render_folder(
        self, folder: Path, stack: Stack, *, packages: Sequence[str] = (), force: bool = False
    ) -> str:
        """Write a folder that is deployed elsewhere; return what to do with it, as a command.

        Parameters
        ----------
        folder, stack
            The folder; what runs.
        packages
            Extra packages in the image: pip requirements or local paths.
        force
            Overwrite files that were edited by hand.

        Raises
        ------
        AcoupiError
            If it cannot be written, or this target has no folder.
        """
        raise NotImplementedError(f"{self.name}: {folder} {stack.program} {packages} {force}")

    def unit_states(self) -> tuple[str, str, str | None] | None:
        """Return the states of the units of the workers and of beat, and a note on them.

        None: there are no units; the services report their own states.
        """
        return None

    @property
    def services(self) -> tuple[Service, ...]:
        """The services that the last setup rendered, without the broker."""
        return self.manifest.services if self.manifest else ()

    @property
    def recorder(self) -> Service | None:
        """The service that records; None: nothing does."""
        return next((one for one in self.services if one.role == "recorder"), None)

    @abstractmethod
    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return the files that this target generates, by their path below the home.

        Raises
        ------
        ConfigurationError
            Naming the part of the stack that this platform cannot provide.
        """

    def kept_files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return the files that a later setup keeps: passwords, and what a person may change.

        They are written with the others and may be edited; existing contents are kept.
        """
        return {}

    def prepare(self, stack: Stack) -> None:  # noqa: B027 - optional
        """Do the steps of a setup other than writing files.

        Raises
        ------
        AcoupiError
            If it cannot be done.
        """

    @abstractmethod
    def up(self) -> None:
        """Start every service; running ones are not touched.

        Raises
        ------
        TargetError
            If one could not be started.
        """

    @abstractmethod
    def down(self) -> None:
        """Stop every service, beat first; each finishes its current task.

        Raises
        ------
        TargetError
            If one could not be stopped.
        """

    def stop_recorder(self) -> None:
        """Stop the recorder after its current recording; the other services keep running.

        Raises
        ------
        TargetError
            If it does not stop, or this target cannot.
        """
        raise self._stops_all()

    def _stops_all(self) -> TargetError:
        return TargetError(
            "cannot stop the recorder alone.",
            "acoupi stop",
            why=f'this home was set up for the target "{self.name}", which stops all together.',
        )

    def restart(self) -> None:
        """Stop and start every service."""
        self.down()
        self.up()

    @abstractmethod
    def status(self) -> list[ServiceStatus]:
        """Return the state of every service; does not raise because one is not well."""

    @abstractmethod
    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Return the last lines that each service (or only that one) logged."""

    def settings_of(self, service: str) -> Settings:
        """Return the settings with which a service runs: where its log and its pulse are."""
        return self.settings

    def start_workers(self) -> None:
        """Start the workers, without beat.

        Raises
        ------
        TargetError
            If one does not start, or this target cannot.
        """
        raise self._runs_them()

    def stop_workers(self) -> None:
        """Stop the workers, each after its current task; beat keeps running.

        Raises
        ------
        TargetError
            If one does not stop, or this target cannot.
        """
        raise self._runs_them()

    def restart_workers(self) -> None:
        """Stop and start the workers, with the current settings.

        Raises
        ------
        TargetError
            If one does not stop or start, or this target cannot.
        """
        self.stop_workers()
        self.start_workers()

    def _runs_them(self) -> TargetError:
        return TargetError(
            "cannot start or stop workers alone.",
            f"acoupi {self.name} --help",
            why=f'this home was set up for the target "{self.name}", which runs them.',
        )

    def program_checks(self) -> list[tuple[str, str, Callable[[], str | None]]]:
        """Return the checks of the program where it runs: name, claim, and the step."""
        return []

    def run_hook(self, what: Literal["start", "end", "settle"], deployment: Deployment) -> None:
        """Call ``on_start`` or ``on_end`` where the program is.

        Raises
        ------
        AcoupiError
            If it could not be called, or as the program raised it.
        """
        raise NotImplementedError(f"{self.name}: {what} {deployment.name}")

    @property
    def broker(self) -> str | None:
        """URL of the broker of this target; None: that of the Celery settings."""
        return None

    def count_waiting(self, queues: list[str]) -> dict[str, int]:
        """Return how many messages are waiting in each queue.

        Raises
        ------
        TargetError
            If the broker does not answer.
        """
        from acoupi.services.status import count_waiting  # noqa: PLC0415 - Celery is slow

        return count_waiting(self.settings, queues)

    def purge(self, queues: list[str]) -> dict[str, int]:
        """Remove the waiting messages; return how many there were.

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
    """Return the modules of targets by name, sorted; acoupi's and those of other packages.

    Raises
    ------
    TargetError
        If two packages have a target of the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP)):
        other = found.setdefault(point.name, point)
        if other.value != point.value or point.name in HIDDEN:
            raise TargetError(
                f'two targets are called "{point.name}".',
                f"python -m pip uninstall {_package(point, other)}",
                why=f"{other.value} and {HIDDEN.get(point.name, point.value)} have that name.",
            )
    return {name: point.value for name, point in found.items()}


def check_targets() -> None:
    """Raise if an installed target cannot be used.

    Raises
    ------
    TargetError
        Naming it, and why.
    """
    for name in available_targets():
        find_target(name)


def _package(*points: EntryPoint) -> str:
    """Return the name of the package other than acoupi that has one of them."""
    names = [point.dist.name for point in points if point.dist]
    return next((name for name in names if name != "acoupi"), "PACKAGE")


def find_target(name: str) -> type[Target]:
    """Return the class of the target of that name.

    Raises
    ------
    TargetError
        If there is none, or it cannot be loaded.
    """
    points = entry_points(group=GROUP, name=name)
    if name not in HIDDEN and not points:
        targets = available_targets()
        close = difflib.get_close_matches(name, targets, n=1)
        raise TargetError(
            f'there is no target "{name}".',
            f"--target {close[0] if close else DEFAULT_TARGET}",
            why=f"the targets are {', '.join(targets)}.",
        )
    found: object = None
    # Of two, setup refuses both; a sensor that runs keeps that of acoupi.
    places = sorted((one.value for one in points), key=lambda one: not one.startswith("acoupi."))
    place = HIDDEN.get(name) or places[0]
    reason = f"{place} is not a Target."
    module_name, _, class_name = place.partition(":")
    try:
        found = getattr(import_module(module_name), class_name, None)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever somebody else's module does
        words = " ".join(str(error).split()).rstrip(".")
        reason = f"importing {module_name} failed: {type(error).__name__}: {words}."
    if not isinstance(found, type) or not issubclass(found, Target):
        raise TargetError(
            f'the target "{name}" cannot be loaded.',
            f"python -m pip install --upgrade {_package(*points)}   or uninstall it",
            why=reason,
        )
    return found


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
    return find_target(name)(settings, manifest)


def targets_that(suits: Callable[[type[Target]], bool]) -> list[str]:
    """Return the names of the targets for which this holds, in order.

    Raises
    ------
    TargetError
        If one cannot be loaded.
    """
    return [name for name in available_targets() if suits(find_target(name))]


def service_status(settings: Settings, name: str, role: str) -> ServiceStatus:
    """Return the state of a service of this machine, from its lock and its pulse."""
    pulse = read_pulse(settings.run_dir, name)
    alive = is_locked(settings.run_dir, name)
    if pulse is None:
        return ServiceStatus(name=name, role=role, state="starting" if alive else "stopped")
    status = ServiceStatus(name=name, role=role, state=pulse.state, **pulse.facts)
    if not alive:
        # The last pulse may say why it ended.
        supervised = is_locked(settings.run_dir, f"{name}.supervisor")
        crashed = pulse.state != "stopped"
        return replace(
            status,
            state="restarting" if supervised else "stopped",
            message=pulse.message
            or (f"it stopped unexpectedly after {_moment(pulse.pulse_on)}" if crashed else None),
            pid=None,
            task=None,
            task_since=None,
        )
    age = (data.utc_now() - pulse.pulse_on).total_seconds()
    if age > PULSE_TOO_OLD and pulse.state != "starting":
        return replace(status, state="not answering", message=f"its last pulse is {age:.0f} s old")
    is_here = has_open(ServiceLock(settings.run_dir, name).path, pulse.pid)
    status = replace(status, memory_bytes=process_memory(pulse.pid) if is_here else None)
    if _lost_supervisor(settings.run_dir, name):
        repair = f"bash {shlex.quote(str(settings.start_script_path))} {name}"
        why = "it would not be restarted if it stopped: the script that does so was killed."
        return replace(status, state="unsupervised", message=f"{why} Try: {repair}")
    return status


def _lost_supervisor(run_dir: Path, name: str) -> bool:
    """Return whether the script that would start a service again was killed."""
    supervisor = f"{name}.supervisor"
    return (run_dir / f"{supervisor}.lock").exists() and not is_locked(run_dir, supervisor)


def _moment(when: datetime) -> str:
    return f"{shown_in_utc(when)} UTC"


def process_memory(pid: int) -> int | None:
    """Return the resident memory of a process and its children, bytes."""
    import psutil  # noqa: PLC0415 - only where something runs

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return int(sum(member.memory_info().rss for member in family))
    except (psutil.Error, ValueError):
        return None
