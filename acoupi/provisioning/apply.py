"""Making a home what its sources say: once, all of it, or not at all.

Everything new is first written to ``config/next``, its marker last. From then
on it is decided: the files are moved to their places, and whoever finds a
``config/next`` with a marker (after a crash) goes on with that. Without the
marker it is thrown away. What was in force before is in ``config/previous``.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from acoupi import data
from acoupi.config.secrets import SECRETS_FILE
from acoupi.data import Deployment
from acoupi.devices import make_device_id, read_device_file
from acoupi.errors import AcoupiError, ConfigurationError, DeviceError, ProgramError
from acoupi.locks import lock_within
from acoupi.provisioned import MARKER, Fault, Provisioned, read_provisioned
from acoupi.provisioning.sources import Sources, read_sources
from acoupi.provisioning.wording import in_variables
from acoupi.services.places import NEXT, config_dir, is_pending
from acoupi.stack.configured import is_configured
from acoupi.stack.settings import Settings
from acoupi.system.deployments import new_deployment, read_deployment
from acoupi.system.planning import Plan, plan_setup
from acoupi.writing import (
    PRIVATE,
    READABLE,
    RenderedFile,
    disk_error,
    write_atomic,
    write_files,
)

__all__ = ["TARGET", "provision"]

TARGET = "provisioned"
PREVIOUS = "previous"
LOCK = ".setup.lock"
LOCK_PATIENCE = 300.0
"""Seconds that another one may take."""
MOST_DEPLOYMENTS = 20
PLACES = (
    "program_name_file",
    "program_config_file",
    "celery_config_file",
    "deployment_file",
    "device_file",
    "schedule_file",
    "secrets_file",
    "manifest_file",
)
"""The settings that say where a file of the configuration is."""


def provision(settings: Settings, environ: Mapping[str, str]) -> tuple[Provisioned, bool]:
    """Put in force what the sources say; nothing is done if that is so already.

    Parameters
    ----------
    settings
        Of the home.
    environ
        The variables.

    Returns
    -------
    tuple
        What is in force, with what is wrong; and whether that is new.

    Raises
    ------
    DeviceError
        If the folder cannot be written, or another process holds it for too long.
    """
    config = config_dir(settings)
    with _locked(config):
        _finish(settings)
        before = read_provisioned(config) or Provisioned()
        after = _renewed(settings, environ, before)
        if after.fault and before.fault and after.fault.text() == before.fault.text():
            after.fault.since = before.fault.since
        if after.generation == before.generation and after != before:
            _write_marker(config / MARKER, after)
        return after, after.generation != before.generation


@contextlib.contextmanager
def _locked(config: Path) -> Iterator[None]:
    path = config / LOCK
    try:
        config.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise disk_error("write", path, error) from error
    try:
        if not lock_within(handle, LOCK_PATIENCE):
            raise DeviceError(
                "cannot set the home up.",
                f"see who holds it: fuser {path}",
                why=f"another process has been at it for {LOCK_PATIENCE:.0f} s.",
            )
        yield
    finally:
        os.close(handle)


def _renewed(settings: Settings, environ: Mapping[str, str], before: Provisioned) -> Provisioned:
    """Return what is in force now."""
    try:
        sources = read_sources(environ, config_dir(settings))
        same = sources.digest == before.digest and is_configured(settings)
        after = before if same else _put_in_force(settings, sources, before)
        fault = sources.fault
    except AcoupiError as error:
        after, fault = before, in_variables(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a program may raise anything
        after, fault = (
            before,
            ProgramError(
                "the program cannot be set up.",
                "mend the program, or name another: ACOUPI_PROGRAM=default",
                why=f"it raised {type(error).__name__}: {error}.",
            ),
        )
    found = fault and Fault(
        message=fault.message, why=fault.why, help=fault.help, since=data.utc_now()
    )
    return after.model_copy(update={"fault": found})


def _put_in_force(settings: Settings, sources: Sources, before: Provisioned) -> Provisioned:
    """Check everything, then write everything.

    Raises
    ------
    AcoupiError
        If anything is wrong; nothing was changed then.
    """
    config = config_dir(settings)
    staging = config / NEXT
    staged = _staged(settings, staging)
    with sources.file() as file:
        plan = plan_setup(
            staged,
            sources.program,
            target=TARGET,
            file=file,
            environ=sources.variables,
        )
    _check_bundle(plan, sources, settings)
    device = make_device_id(read_device_file(settings.device_file), sources.device_id)
    known = before.deployments or list(filter(None, [read_deployment(settings)]))
    deployments = _deployments(known, sources, device["id"])
    after = Provisioned(
        generation=before.generation + 1,
        digest=sources.digest,
        provisioned_on=data.utc_now(),
        program=sources.program,
        sources=list(sources.taken),
        deployments=deployments,
    )
    current = deployments[-1].model_dump_json(indent=2) + "\n"
    files = {
        # Empty too: what an earlier configuration left there is not to stay.
        staged.secrets_file: RenderedFile("", PRIVATE),
        **plan.settings_files,
        **{settings.home / path: one for path, one in plan.generated.items()},
        staged.manifest_file: replace(plan.manifest, files={}).to_file(),
        staged.device_file: RenderedFile(json.dumps(device, indent=2) + "\n"),
        staged.deployment_file: RenderedFile(current),
    }
    if before.generation and _is_as_before(files, settings):
        # Another way to say the same: no service need begin anew.
        sources.keep(config)
        kept = {"generation": before.generation, "provisioned_on": before.provisioned_on}
        return after.model_copy(update=kept)
    _keep_previous(settings)
    write_files(files, folders=[settings.run_dir, settings.log_dir])
    sources.keep(config)  # before it is decided: what fails after that is no failure
    _write_marker(staging / MARKER, after)
    _finish(settings)
    return after


def _staged(settings: Settings, staging: Path) -> Settings:
    """Return settings whose configuration is in an empty folder: nothing of before is in it."""
    shutil.rmtree(staging, ignore_errors=True)
    return settings.model_copy(
        update={name: staging / getattr(settings, name).name for name in PLACES}
    )


def _check_bundle(plan: Plan, sources: Sources, settings: Settings) -> None:
    """Raise if the services that there are cannot run this."""
    if not sources.services:
        return
    names = tuple(service.name for service in plan.stack.workers)
    if set(names) != set(sources.services):
        raise ConfigurationError(
            f'the program "{sources.program}" does not fit these services.',
            f"render the services anew: acoupi compose render --program {sources.program}",
            why=f"it runs as {', '.join(names)}, and what is there is "
            f"{', '.join(sources.services)}.",
        )
    outside = [
        mount.source
        for mount in {one for service in plan.stack.workers for one in service.mounts}
        if not mount.read_only and not mount.source.is_relative_to(settings.home)
    ]
    if outside:
        raise ConfigurationError(
            f'the configuration names "{min(outside)}".',
            f"name a folder below {settings.home / 'data'}",
            why="the services see nothing outside the home.",
        )


def _deployments(known: list[Deployment], sources: Sources, device_id: str) -> list[Deployment]:
    """Return the deployments with the one that the sources say, begun now if it is another."""
    name = sources.name or device_id
    wanted = (name, sources.latitude, sources.longitude)
    current = known[-1] if known else None
    before = list(known)
    if current is not None and current.ended_on is None:
        if (current.name, current.latitude, current.longitude) == wanted:
            return known
        before[-1] = current.model_copy(update={"ended_on": data.utc_now()})
    return [*before, new_deployment(*wanted)][-MOST_DEPLOYMENTS:]


# --- writing -------------------------------------------------------------------------


def _write_marker(path: Path, marker: Provisioned) -> None:
    write_atomic(path, marker.model_dump_json(indent=2) + "\n")


def _place(name: str, settings: Settings) -> Path:
    """Return where a file of ``config/next`` belongs."""
    places = (getattr(settings, setting) for setting in PLACES)
    return next((one for one in places if one.name == name), config_dir(settings) / name)


def _is_as_before(files: Mapping[Path, RenderedFile], settings: Settings) -> bool:
    """Return whether all of it is in force already."""
    try:
        return all(
            _place(path.name, settings).read_text() == one.text for path, one in files.items()
        )
    except OSError:
        return False


def _keep_previous(settings: Settings) -> None:
    """Copy what is in force to ``config/previous``; what else lies there is nobody's business."""
    config = config_dir(settings)
    ours = [config / MARKER, *(getattr(settings, name) for name in PLACES)]
    files = {
        config / PREVIOUS / path.name: RenderedFile(
            path.read_text(), PRIVATE if path.name == SECRETS_FILE else READABLE
        )
        for path in ours
        if path.is_file()
    }
    if files:
        write_files(files)


def _finish(settings: Settings) -> None:
    """Put what was decided in its places, the marker last; throw away what was not."""
    config = config_dir(settings)
    staging = config / NEXT
    try:
        if is_pending(config):
            for path in sorted(staging.iterdir(), key=lambda path: path.name == MARKER):
                _move(path, _place(path.name, settings))
            _sync(config)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise disk_error("write", staging, error) from error


def _move(path: Path, place: Path) -> None:
    if place.parent == path.parent.parent:
        path.replace(place)
        return
    # Another volume, perhaps; of a home that is read-only, the list of services is not missed.
    with contextlib.suppress(DeviceError):
        write_atomic(place, path.read_text(), path.stat().st_mode & 0o777)
    path.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
