"""The scripts of the process target as systemd user units."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal

from acoupi.bundles.rendering import TEMPLATES, render_tree
from acoupi.errors import TargetError
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack
from acoupi.targets.process import ProcessTarget, script_context, stop_timeout
from acoupi.writing import RenderedFile, write_files

__all__ = ["SystemdTarget", "UnitState", "lingers", "systemctl", "unit_folder", "unit_state"]

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
RUNS = Path("/run/systemd/system")
"""Where systemd is process 1 this folder exists."""
ANSWER_TIMEOUT = 30.0
UNIT_MARGIN = 15
"""Seconds a unit is given to stop beyond its slowest service."""
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
        return {**super().files(stack), **units}

    def check(self) -> None:
        """Raise if there is no systemd for this user."""
        super().check()
        require_systemd()

    def up(self) -> None:
        """Install the units, enable them and start them."""
        self.check()
        install_units(self.settings)
        names = unit_names(self.settings)
        systemctl("enable", *names)
        systemctl("start", *names, timeout=START_PATIENCE)

    def down(self) -> None:
        """Stop the units, beat first, and no longer start them with the board."""
        self.check()
        workers, beat = unit_names(self.settings)
        systemctl("disable", beat, workers)
        for name in (beat, workers):
            systemctl("stop", name, timeout=stop_timeout(self.services))

    def start_workers(self) -> None:
        """Start the unit of the workers, without beat's."""
        self.check()
        install_units(self.settings)
        systemctl("start", self.settings.acoupi_service_file, timeout=START_PATIENCE)

    def stop_workers(self) -> None:
        """Stop the unit of the workers: what only its processes stop, systemd starts again."""
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


def unit_folder(path: Path | None = None) -> Path:
    """Return where the units of this user are; `path` if it is given."""
    if path is not None:
        return path
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "systemd" / "user"


def install_units(settings: Settings, path: Path | None = None) -> list[Path]:
    """Copy the units of the home to where systemd looks for them; return where.

    Raises
    ------
    TargetError
        If the home was set up for another target.
    """
    folder = unit_folder(path)
    files = {}
    for name in unit_names(settings):
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


def remove_units(settings: Settings, path: Path | None = None) -> None:
    """Remove the installed units."""
    for name in unit_names(settings):
        (unit_folder(path) / name).unlink(missing_ok=True)
    if path is None and shutil.which("systemctl"):
        systemctl("daemon-reload")


def require_systemd() -> None:
    """Raise if systemd does not serve this user.

    Raises
    ------
    TargetError
        With what to use instead.
    """
    why = None
    if shutil.which("systemctl") is None:
        why = "the program systemctl is missing: this machine does not run systemd."
    elif not RUNS.is_dir():
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


def lingers() -> bool | None:
    """Return whether this user's services go on after logging out; None if that is not known."""
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
