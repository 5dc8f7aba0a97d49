"""The units of systemd, under the function names that published programs use."""

from pathlib import Path
from typing import Any

from acoupi.deferred import DeferredModel
from acoupi.stack.settings import Settings
from acoupi.system.sensor import Sensor
from acoupi.targets import find_target
from acoupi.targets.process import stop_timeout
from acoupi.targets.systemd import (
    Scope,
    SystemdTarget,
    UnitState,
    install_units,
    remove_units,
    systemctl,
    unit_folder,
    unit_names,
    unit_states,
)

__all__ = [
    "UnitsStatus",
    "disable_services",
    "enable_services",
    "install_services",
    "services_are_installed",
    "start_services",
    "status_services",
    "stop_services",
    "uninstall_services",
]


class UnitsStatus(DeferredModel):
    """The state of the units."""

    acoupi: UnitState
    beat: UnitState
    message: str | None = None
    """Why it is unknown, or a note about it."""


def _scope(settings: Settings) -> Scope:
    """Return whether the home was set up for its user or for the system."""
    manifest = Sensor.at(settings).manifest
    kind = find_target(manifest.target) if manifest else None
    return kind.scope if kind and issubclass(kind, SystemdTarget) else "user"


def services_are_installed(settings: Settings, path: Path | None = None) -> bool:
    """Return whether both units are where systemd looks for them (or in `path`)."""
    folder = unit_folder(path, scope=_scope(settings))
    return all((folder / name).is_file() for name in unit_names(settings))


def install_services(settings: Settings, path: Path | None = None) -> list[Path]:
    """Copy the units of the home to where systemd looks for them; return where.

    Raises
    ------
    TargetError
        If the home was not set up for systemd.
    """
    return install_units(settings, Sensor.at(settings).services, path, scope=_scope(settings))


def uninstall_services(settings: Settings, path: Path | None = None) -> None:
    """Remove the units from where systemd looks for them."""
    remove_units(settings, Sensor.at(settings).services, path, scope=_scope(settings))


def _installed(settings: Settings, path: Path | None) -> tuple[str, str]:
    if not services_are_installed(settings, path):
        install_services(settings, path)
    return unit_names(settings)


def enable_services(settings: Settings, path: Path | None = None, **kwargs: Any) -> None:
    """Start the units whenever the board starts; keywords are those of `subprocess.run`.

    Whether they keep running after the user logs out is a separate setting,
    which only the user changes: ``loginctl enable-linger``.

    Raises
    ------
    TargetError
        If systemd is missing or refuses.
    """
    systemctl("enable", *_installed(settings, path), scope=_scope(settings), **kwargs)


def disable_services(settings: Settings, path: Path | None = None, **kwargs: Any) -> None:
    """No longer start the units when the board starts.

    Raises
    ------
    TargetError
        If systemd is missing or refuses.
    """
    systemctl("disable", *_installed(settings, path), scope=_scope(settings), **kwargs)


def start_services(settings: Settings, path: Path | None = None, **kwargs: Any) -> None:
    """Start the workers, then beat.

    Raises
    ------
    TargetError
        If systemd is missing or refuses.
    """
    systemctl("start", *_installed(settings, path), scope=_scope(settings), **kwargs)


def stop_services(settings: Settings, path: Path | None = None, **kwargs: Any) -> None:
    """Stop beat, then the workers; each finishes its current task.

    Raises
    ------
    TargetError
        If systemd is missing or refuses.
    """
    workers, beat = _installed(settings, path)
    kwargs.setdefault("timeout", stop_timeout(Sensor.at(settings).services))
    systemctl("stop", beat, scope=_scope(settings), **kwargs)
    systemctl("stop", workers, scope=_scope(settings), **kwargs)


def status_services(settings: Settings, path: Path | None = None, **kwargs: Any) -> UnitsStatus:
    """Return the state of the units; never raises, even without systemd."""
    workers, beat, note = unit_states(
        settings, path, services=Sensor.at(settings).services, scope=_scope(settings)
    )
    return UnitsStatus(acoupi=workers, beat=beat, message=note)
