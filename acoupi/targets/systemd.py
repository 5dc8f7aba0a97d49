"""The scripts of the process target as systemd user units."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal

from acoupi.bundles.rendering import TEMPLATES, render_template, render_tree
from acoupi.errors import TargetError
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service, Stack
from acoupi.targets.process import ProcessTarget, extras_of, script_context, stop_timeout
from acoupi.writing import RenderedFile, write_files

__all__ = [
    "SystemdTarget",
    "UnitState",
    "lingers",
    "systemctl",
    "unit_folder",
    "unit_state",
    "unit_states",
]

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
"""Seconds that a unit has to stop beyond its slowest service."""
START_PATIENCE = 900.0


class SystemdTarget(ProcessTarget):
    """User units around the scripts, so that the sensor starts with the board."""

    name: ClassVar[str] = "systemd"

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return what the process target has, and the units below ``systemd/``."""
        context = {
            **script_context(stack, self.settings),
            "env_file": self.settings.env_file,
            "start_script_path": self.settings.start_script_path,
            "beat_script_path": self.settings.beat_script_path,
            "stop_timeout": round(max(one.stop_grace for one in stack.workers)) + UNIT_MARGIN,
            "workers_unit": self.settings.acoupi_service_file,
        }
        rendered = render_tree(TEMPLATES, context, below=("systemd/",))
        names = {
            "acoupi.service": self.settings.acoupi_service_file,
            "acoupi-beat.service": self.settings.acoupi_beat_service_file,
        }
        units = {path.with_name(names[path.name]): file for path, file in rendered.items()}
        for one in stack.extras:
            more = {"extra": one, "extra_timeout": round(one.stop_grace) + UNIT_MARGIN}
            text = render_template(TEMPLATES, "systemd/_extra.service", {**context, **more})
            units[PurePath("systemd") / unit_of(one.name)] = RenderedFile(text)
        return {**super().files(stack), **units}

    def unit_states(self) -> tuple[UnitState, UnitState, str | None]:
        """Return the states of the units of the workers and of beat, and a note on them."""
        return unit_states(self.settings)

    def check(self) -> None:
        """Raise if there is no systemd for this user."""
        super().check()
        require_systemd()

    def up(self) -> None:
        """Install the units, enable them and start them."""
        self.check()
        install_units(self.settings, self.services)
        names = every_unit(self.settings, self.services)
        systemctl("enable", *names)
        systemctl("start", *names, timeout=START_PATIENCE)

    def down(self) -> None:
        """Stop the units, beat first, and no longer start them with the board."""
        self.check()
        workers, beat, *extras = every_unit(self.settings, self.services)
        systemctl("disable", beat, workers, *extras)
        for name in (beat, workers, *extras):
            systemctl("stop", name, timeout=stop_timeout(self.services))

    def start_workers(self) -> None:
        """Start the unit of the workers, without beat's."""
        self.check()
        install_units(self.settings, self.services)
        systemctl("start", self.settings.acoupi_service_file, timeout=START_PATIENCE)

    def stop_workers(self) -> None:
        """Stop the unit of the workers: systemd restarts processes that end otherwise."""
        self.check()
        name = self.settings.acoupi_service_file
        systemctl("stop", name, timeout=stop_timeout(self.services))

    def restart_workers(self) -> None:
        """Stop and start the unit of the workers."""
        self.stop_workers()
        self.start_workers()


def unit_names(settings: Settings) -> tuple[str, str]:
    """Return the names of the units: the workers', and beat's."""
    return settings.acoupi_service_file, settings.acoupi_beat_service_file


def unit_of(service: str) -> str:
    """Return the name of the unit of a service that is no worker.

    Examples
    --------
    >>> unit_of("web")
    'acoupi-web.service'
    """
    return f"acoupi-{service}.service"


def every_unit(settings: Settings, services: Iterable[Service]) -> tuple[str, ...]:
    """Return the names of the units of a home: the workers', beat's, and those of the rest."""
    return (*unit_names(settings), *map(unit_of, extras_of(services)))


def unit_folder(path: Path | None = None) -> Path:
    """Return where the units of this user are; `path` if it is given."""
    if path is not None:
        return path
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "systemd" / "user"


def install_units(
    settings: Settings, services: Iterable[Service], path: Path | None = None
) -> list[Path]:
    """Copy the units of the home to where systemd looks for them; return where.

    Parameters
    ----------
    settings, services
        Of the home, and what the last setup rendered there.
    path
        Where to copy them; None: where systemd looks for those of this user.

    Raises
    ------
    TargetError
        If the home was set up for another target.
    """
    folder = unit_folder(path)
    files = {}
    for name in every_unit(settings, services):
        source = settings.home / "systemd" / name
        try:
            files[folder / name] = RenderedFile(source.read_text())
        except FileNotFoundError as error:
            raise TargetError(
                f'cannot install the service "{name}".',
                "acoupi setup --target systemd",
                why=f"{source} is not there: this home was set up for another target.",
            ) from error
    write_files(files)
    if path is None and shutil.which("systemctl"):
        systemctl("daemon-reload")
    return list(files)


def remove_units(settings: Settings, services: Iterable[Service], path: Path | None = None) -> None:
    """Remove the installed units; parameters as for `install_units`."""
    for name in every_unit(settings, services):
        (unit_folder(path) / name).unlink(missing_ok=True)
    if path is None and shutil.which("systemctl"):
        systemctl("daemon-reload")


def require_systemd() -> None:
    """Raise if this user has no systemd.

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
    elif not os.environ.get("XDG_RUNTIME_DIR"):
        why = "you have no login session: XDG_RUNTIME_DIR is not set (su and sudo do not set it)."
    if why:
        raise TargetError(
            "cannot use systemd.", "acoupi setup --target process   (plain processes)", why=why
        )


def systemctl(
    *args: str, timeout: float = ANSWER_TIMEOUT, check: bool = True, **kwargs: Any
) -> "subprocess.CompletedProcess[str]":
    """Run ``systemctl --user ARGS``.

    Raises
    ------
    TargetError
        If there is no systemd, or it refused and `check` is set.
    """
    require_systemd()
    command = ["systemctl", "--user", "--no-pager", *args]
    try:
        result = subprocess.run(  # noqa: PLW1510
            command, **{"capture_output": True, "text": True, "timeout": timeout, **kwargs}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(
            f"systemctl --user {' '.join(args)} failed.",
            "acoupi setup --target process   (plain processes)",
            why=f"{error}.",
        ) from error
    if check and result.returncode != 0:
        answer = " ".join((result.stderr or "").split()) or f"it ended with {result.returncode}"
        raise TargetError(
            f"systemctl --user {' '.join(args)} failed.",
            f"journalctl --user -n 50 {' '.join(arg for arg in args if arg.endswith('.service'))}",
            why=f"it answered: {answer}",
        )
    return result


def unit_state(settings: Settings, name: str, path: Path | None = None) -> tuple[UnitState, str]:
    """Return the state of a unit, and why it is unknown; never raises."""
    if not (unit_folder(path) / name).is_file():
        return "uninstalled", ""
    try:
        answer = systemctl("is-active", name, check=False).stdout.strip()
    except TargetError as error:
        return "unknown", error.why or error.message
    known: tuple[UnitState, ...] = (
        "active",
        "inactive",
        "failed",
        "reloading",
        "activating",
        "deactivating",
    )
    for state in known:
        if answer == state:
            return state, ""
    return "unknown", answer


def unit_states(
    settings: Settings, path: Path | None = None
) -> tuple[UnitState, UnitState, str | None]:
    """Return the states of the units of the workers and of beat, and a note; never raises."""
    workers, beat = unit_names(settings)
    state, why = unit_state(settings, workers, path)
    if not why and state == "active" and lingers() is False:
        why = "they stop when you log out; to keep them: loginctl enable-linger"
    return state, unit_state(settings, beat, path)[0], why or None


def lingers() -> bool | None:
    """Return whether this user's services keep running after logout; None: not known."""
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
