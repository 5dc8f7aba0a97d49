"""The scripts of the process target as units of systemd: of the user, or of the system."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, get_args

from acoupi.bundles.home_folder import is_adopted, own_names
from acoupi.bundles.ownership import give, give_contents, host_owner, make_folder
from acoupi.bundles.rendering import TEMPLATES, render_template
from acoupi.config.secrets import WITHHELD, WITHHOLD
from acoupi.errors import TargetError
from acoupi.stack.mounting import cache_variable
from acoupi.stack.settings import Settings
from acoupi.stack.stack import WORKER_SHARES, Limits, Service, Stack
from acoupi.targets.process import ProcessTarget, extras_of, stop_timeout
from acoupi.writing import RenderedFile, write_files

__all__ = [
    "Scope",
    "SystemTarget",
    "SystemdTarget",
    "UnitState",
    "first_closed",
    "lingers",
    "systemctl",
    "unit_folder",
    "unit_state",
    "unit_states",
]

Scope = Literal["user", "system"]
"""systemd's manager: this user's, or the system's."""
SYSTEM_UNITS = Path("/etc/systemd/system")
UnitState = Literal[
    "uninstalled",
    "active",
    "inactive",
    "failed",
    "reloading",
    "activating",
    "deactivating",
    "unknown",
]
ANSWER_TIMEOUT = 30.0
BOOTED = Path("/run/systemd/system")
"""This folder exists where systemd is process 1."""
UNIT_MARGIN = 15
"""Seconds for a unit to stop, in addition to its slowest service."""
START_PATIENCE = 900.0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The data of one unit for its template."""

    what: str
    """In words."""
    order: tuple[str, ...] = ()
    """Lines of ``[Unit]``: what it is started with, and after."""
    is_group: bool = False
    """Whether it runs nothing, and starts and stops others."""
    command: tuple[str, ...] = ()
    stop_timeout: int = 15
    limits: Limits | None = None
    environment: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()
    """Device rules for sound; a unit without them has no device at all."""
    network: bool = False
    """Whether it has connections to other machines."""
    written: tuple[Path, ...] = ()
    """Folders that it may write; it may read the rest of the disk as its user may."""
    hidden: tuple[Path, ...] = ()

    @property
    def families(self) -> str:
        """The address families that it may use."""
        return "AF_UNIX AF_INET AF_INET6 AF_NETLINK" if self.network else "AF_UNIX"

    @property
    def cpu_weight(self) -> int:
        """Its share of the processor, 1 to 10000; 100 is the default."""
        return max(1, (self.limits or Limits()).cpu_shares * 100 // WORKER_SHARES)


class SystemdTarget(ProcessTarget):
    """User units around the scripts, so that the sensor starts with the board.

    Each service has a unit. That of the workers runs nothing: starting and
    stopping it starts and stops the units of all workers.
    """

    name: ClassVar[str] = "systemd"
    rights: ClassVar[str | None] = (
        "system calls, kinds of sockets and memory are limited; files, devices and the "
        "network are not (acoupi setup --target systemd --system limits them)"
    )
    for_system: ClassVar[str | None] = "systemd-system"
    scope: ClassVar[Scope] = "user"

    @property
    def owner(self) -> tuple[int, int] | None:
        """The numbers of the user and group that the units name; None: whose manager it is."""
        return None

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return what the process target has, and the units below ``systemd/``."""
        context = {
            "program": stack.program,
            "env_file": self.settings.env_file,
            "owner": self.owner,
        }
        units = {
            PurePath("systemd") / name: RenderedFile(
                render_template(TEMPLATES, "systemd/_unit.service", {**context, "unit": unit})
            )
            for name, unit in self._units(stack).items()
        }
        return {**super().files(stack), **units}

    def _units(self, stack: Stack) -> dict[str, Unit]:
        """Return every unit by its name: the workers', beat's, and one for each service."""
        workers, beat = unit_names(self.settings)
        script, outside = str(self.settings.start_script_path), stack.broker.kind == "external"
        part = (f"PartOf={workers}", f"After={workers}")
        wanted = " ".join(unit_of(one.name) for one in stack.workers)
        units = {
            workers: Unit(what="workers", order=(f"Wants={wanted}",), is_group=True),
            beat: self._unit(
                stack.beat,
                (str(self.settings.beat_script_path),),
                what="periodic tasks",
                order=(f"After={workers}",),
                outside=outside,
            ),
        }
        for one in (*stack.workers, *stack.extras):
            units[unit_of(one.name)] = self._unit(
                one,
                (script, "--foreground", one.name),
                what=one.name,
                order=part if one.is_worker else (),
                outside=outside and not one.is_extra,
            )
        return units

    def _unit(
        self,
        service: Service,
        command: tuple[str, ...],
        *,
        what: str,
        order: tuple[str, ...],
        outside: bool,
    ) -> Unit:
        """Return the unit of a service; `outside`: its broker is on the network."""
        mine, home = self.settings, self.settings.home
        shared = (mine.run_dir, mine.log_dir)
        mounts = [one.source for one in service.mounts if not one.read_only]
        written = [one for one in mounts if not any(map(one.is_relative_to, shared))]
        withheld = () if service.secrets or not service.is_worker else ((WITHHOLD, WITHHELD),)
        secrets = mine.program_config_file.parent / "secrets.env"
        return Unit(
            what=what,
            order=order,
            command=command,
            stop_timeout=round(service.stop_grace) + UNIT_MARGIN,
            limits=service.limits,
            environment=(*cache_variable(home).items(), *withheld) if self.owner else (),
            groups=service.groups,
            network=service.network or service.port is not None or outside,
            written=tuple(dict.fromkeys((*shared, *written))),
            hidden=() if service.secrets else (secrets, home / "secrets"),
        )

    def prepare(self, stack: Stack) -> None:
        """Replace the units that an earlier setup installed; running ones continue."""
        folder = unit_folder(scope=self.scope)
        if (folder / self.settings.acoupi_service_file).is_file() and os.access(folder, os.W_OK):
            install_units(self.settings, stack.services, scope=self.scope)

    def unit_states(self) -> tuple[UnitState, UnitState, str | None]:
        """Return the states of the units of the workers and of beat, and a note on them."""
        return unit_states(self.settings, services=self.services, scope=self.scope)

    def check(self) -> None:
        """Raise if there is no systemd for this user."""
        super().check()
        require_systemd(self.scope)

    def _ask(self, *words: str, timeout: float = ANSWER_TIMEOUT) -> None:
        systemctl(*words, timeout=timeout, scope=self.scope)

    def _install(self) -> None:
        """Install the units; first stop the single unit of all workers of an earlier version."""
        workers, _ = unit_names(self.settings)
        installed = unit_folder(scope=self.scope) / workers
        if installed.is_file() and worker_units(self.settings, self.services):
            words = ("show", "--property=MainPID", "--value", workers)
            process = systemctl(*words, check=False, scope=self.scope).stdout.strip()
            if process.isdigit() and int(process):
                self._ask("stop", workers, timeout=stop_timeout(self.services))
        install_units(self.settings, self.services, scope=self.scope)

    def up(self) -> None:
        """Install the units, enable them and start them."""
        self.check()
        self._install()
        names = every_unit(self.settings, self.services)
        self._ask("enable", *names)
        self._ask("start", *names, timeout=START_PATIENCE)

    def down(self) -> None:
        """Stop the units, beat first, and no longer start them with the board."""
        self.check()
        workers, beat, *extras = every_unit(self.settings, self.services)
        self._ask("disable", beat, workers, *extras)
        for name in (beat, workers, *extras):
            self._ask("stop", name, timeout=stop_timeout(self.services))

    def stop_recorder(self) -> None:
        """Stop the recorder's unit, and disable starting with the board."""
        self.check()
        if not worker_units(self.settings, self.services):  # one unit runs all workers
            raise self._stops_all()
        if self.recorder is not None:
            self._ask("stop", unit_of(self.recorder.name), timeout=stop_timeout(self.services))
            self._ask("disable", *every_unit(self.settings, self.services))

    def start_workers(self) -> None:
        """Start the units of the workers, without beat's."""
        self.check()
        self._install()
        self._ask("start", self.settings.acoupi_service_file, timeout=START_PATIENCE)

    def stop_workers(self) -> None:
        """Stop the units of the workers: systemd restarts processes that end otherwise."""
        self.check()
        name = self.settings.acoupi_service_file
        self._ask("stop", name, timeout=stop_timeout(self.services))

    def restart_workers(self) -> None:
        """Stop and start the units of the workers."""
        self.stop_workers()
        self.start_workers()


class SystemTarget(SystemdTarget):
    """Units of the system, which only root starts: they hide what a user's units cannot."""

    name: ClassVar[str] = "systemd-system"
    rights: ClassVar[str | None] = "each service sees the files, devices and networks that it needs"
    scope: ClassVar[Scope] = "system"

    @property
    def owner(self) -> tuple[int, int]:
        """The numbers of the user and group that the units name: never root."""
        return host_owner(self.settings.home)

    @property
    def shared(self) -> str | None:
        """Return what all units have in common."""
        return "all units run as one user: only their mounts and permissions isolate them"

    def check(self) -> None:
        """Raise if this is not root, or the user of the units cannot reach the home or Python."""
        super().check()
        elsewhere = {
            self.settings.home: "sudo ACOUPI_HOME=/var/lib/acoupi acoupi setup --target systemd "
            "--system   (later commands need the same variable)",
            Path(sys.executable): "install acoupi where every user may read it, as in /opt/acoupi, "
            "and set up again from there",
        }
        for path, advice in elsewhere.items():
            if closed := first_closed(path, *self.owner):
                raise TargetError(
                    "the services could not start.",
                    advice,
                    why=f"they run as user {self.owner[0]}, who may not enter {closed}, "
                    f"but need {path}.",
                )

    def prepare(self, stack: Stack) -> None:
        """Give the home to the user of the units, and replace those that are installed."""
        for folder in ("data", "log", "run"):
            make_folder(self.settings.home / folder)
        home, (uid, gid) = self.settings.home, self.owner
        give([] if is_adopted(self.settings) else [home], uid, gid)
        give_contents(home, own_names(self.settings), uid, gid)
        super().prepare(stack)

    def _install(self) -> None:
        """Install the units, and give what root wrote since (a deployment) to their user."""
        super()._install()
        give_contents(self.settings.home, own_names(self.settings), *self.owner)


def first_closed(path: Path, uid: int, gid: int) -> Path | None:
    """Return the first folder on the way to a path, or the path, that a user may not enter.

    The kernel is asked, as that user, which takes root.
    """

    def may_enter(one: Path) -> bool:
        words = ["test", "-x", str(one)]
        return not subprocess.run(
            words, user=uid, group=gid, extra_groups=(), check=False
        ).returncode

    if may_enter(path):
        return None
    return next(one for one in (*reversed(path.parents), path) if not may_enter(one))


def unit_names(settings: Settings) -> tuple[str, str]:
    """Return the names of the units: the workers', and beat's."""
    return settings.acoupi_service_file, settings.acoupi_beat_service_file


def unit_of(service: str) -> str:
    """Return the name of the unit of a service.

    Examples
    --------
    >>> unit_of("web")
    'acoupi-web.service'
    """
    return f"acoupi-{service}.service"


def every_unit(settings: Settings, services: Iterable[Service]) -> tuple[str, ...]:
    """Return the names of the units of a home: the workers', beat's, and those of the rest."""
    return (*unit_names(settings), *map(unit_of, extras_of(services)))


def unit_folder(path: Path | None = None, *, scope: Scope = "user") -> Path:
    """Return where the units of this user, or of the system, are; `path` if it is given."""
    if path is not None:
        return path
    if scope == "system":
        return SYSTEM_UNITS
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "systemd" / "user"


def worker_units(settings: Settings, services: Iterable[Service]) -> tuple[str, ...]:
    """Return the names of the units of the workers, each its own.

    None in a home that an earlier version set up: there one unit runs them all.
    """
    try:
        group = (settings.home / "systemd" / settings.acoupi_service_file).read_text()
    except OSError:
        group = ""
    named = (unit_of(one.name) for one in services if one.is_worker)
    return () if "--foreground" in group else tuple(named)


def _installed_units(settings: Settings, services: Iterable[Service]) -> tuple[str, ...]:
    """Return the names of all units: those that are started by name, and the workers'."""
    services = list(services)
    return (*every_unit(settings, services), *worker_units(settings, services))


def install_units(
    settings: Settings,
    services: Iterable[Service],
    path: Path | None = None,
    *,
    scope: Scope = "user",
) -> list[Path]:
    """Copy the units of the home to where systemd looks for them; return where.

    Parameters
    ----------
    settings, services
        Of the home, and what the last setup rendered there.
    path
        Where to copy them; None: where systemd looks for those of this user, or of the system.
    scope
        Which.

    Raises
    ------
    TargetError
        If the home was set up for another target.
    """
    folder = unit_folder(path, scope=scope)
    files = {}
    for name in _installed_units(settings, services):
        source = settings.home / "systemd" / name
        try:
            files[folder / name] = RenderedFile(source.read_text())
        except FileNotFoundError as error:
            raise TargetError(
                f'cannot install the service "{name}".',
                "acoupi setup --target systemd",
                why=f"{source} is missing: this home was set up for another target.",
            ) from error
    write_files(files)
    if path is None and shutil.which("systemctl"):
        systemctl("daemon-reload", scope=scope)
    return list(files)


def remove_units(
    settings: Settings,
    services: Iterable[Service],
    path: Path | None = None,
    *,
    scope: Scope = "user",
) -> None:
    """Remove the installed units; parameters as for `install_units`."""
    for name in _installed_units(settings, services):
        (unit_folder(path, scope=scope) / name).unlink(missing_ok=True)
    if path is None and shutil.which("systemctl"):
        systemctl("daemon-reload", scope=scope)


def require_systemd(scope: Scope = "user") -> None:
    """Raise if this user has no systemd, or must be root for that of the system.

    Raises
    ------
    TargetError
        With what to use instead.
    """
    why = None
    if shutil.which("systemctl") is None:
        why = "the program systemctl is missing: this machine does not run systemd."
    elif not BOOTED.is_dir():
        why = "systemd does not run here (it is not process 1), as in most containers."
    elif scope == "system":
        if os.geteuid() != 0:
            raise TargetError(
                "cannot use the systemd of the system.",
                "sudo --preserve-env=ACOUPI_HOME acoupi ...   (or: acoupi setup --target systemd)",
                why="only root installs and starts its units.",
            )
    elif not os.environ.get("XDG_RUNTIME_DIR"):
        why = "you have no login session: XDG_RUNTIME_DIR is not set (su and sudo do not set it)."
    if why:
        raise TargetError(
            "cannot use systemd.", "acoupi setup --target process   (plain processes)", why=why
        )


def systemctl(
    *args: str,
    timeout: float = ANSWER_TIMEOUT,
    check: bool = True,
    scope: Scope = "user",
    **kwargs: Any,
) -> "subprocess.CompletedProcess[str]":
    """Run ``systemctl --user ARGS``, or ``--system``.

    Raises
    ------
    TargetError
        If there is no systemd, or it refused and `check` is set.
    """
    require_systemd(scope)
    command = ["systemctl", f"--{scope}", "--no-pager", *args]
    try:
        result = subprocess.run(  # noqa: PLW1510
            command, **{"capture_output": True, "text": True, "timeout": timeout, **kwargs}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(
            f"systemctl --{scope} {' '.join(args)} failed.",
            "acoupi setup --target process   (plain processes)",
            why=f"{error}.",
        ) from error
    if check and result.returncode != 0:
        answer = (
            " ".join((result.stderr or "").split())
            or f"it ended with exit code {result.returncode}"
        )
        raise TargetError(
            f"systemctl --{scope} {' '.join(args)} failed.",
            " ".join((f"journalctl --{scope} -n 50", *(f"-u {one}" for one in args if "." in one))),
            why=f"it answered: {answer}",
        )
    return result


def unit_state(
    name: str, path: Path | None = None, *, scope: Scope = "user"
) -> tuple[UnitState, str]:
    """Return the state of a unit, and why it is unknown; never raises."""
    if not (unit_folder(path, scope=scope) / name).is_file():
        return "uninstalled", ""
    try:
        answer = systemctl("is-active", name, check=False, scope=scope).stdout.strip()
    except TargetError as error:
        return "unknown", error.why or error.message
    known: tuple[UnitState, ...] = get_args(UnitState)
    return next(((one, "") for one in known if one == answer != "unknown"), ("unknown", answer))


def unit_states(
    settings: Settings,
    path: Path | None = None,
    *,
    services: Iterable[Service] = (),
    scope: Scope = "user",
) -> tuple[UnitState, UnitState, str | None]:
    """Return the states of the units of the workers and of beat, and a note; never raises.

    That of the workers is the first of their own that is not active.
    """
    workers, beat = unit_names(settings)
    names = [workers, *worker_units(settings, services)]
    found = [unit_state(name, path, scope=scope) for name in names]
    state, why = next((one for one in found if one[0] != "active"), found[0])
    if not why and state == "active" and scope == "user" and lingers() is False:
        why = "they stop when you log out; to keep them: loginctl enable-linger"
    return state, unit_state(beat, path, scope=scope)[0], why or None


def lingers() -> bool | None:
    """Return whether this user's services keep running after logout; None: unknown."""
    if shutil.which("loginctl") is None:
        return None
    try:
        answer = subprocess.run(
            ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"],
            capture_output=True,
            text=True,
            timeout=ANSWER_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(answer.stdout.strip())
