"""Setting a home up from its sources: everything at once, or nothing."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from acoupi import data
from acoupi.bundles.parted_secrets import SECRETS_FOLDER, part_secrets
from acoupi.commit import OLD_STAGING, changing, commit_files, is_there, read_whole
from acoupi.config.names import BY_VARIABLES
from acoupi.config.plain_credentials import plain_credential_warnings, warnings_of
from acoupi.config.secrets import SECRETS_FILE
from acoupi.data import Deployment
from acoupi.devices import make_device_id, read_device_file
from acoupi.devices.timezones import doubt_about_timezone
from acoupi.errors import AcoupiError, ConfigurationError, ProgramError
from acoupi.provisioned import (
    CACHE,
    MARKER,
    Fault,
    Fetched,
    Followed,
    Provisioned,
    read_provisioned,
)
from acoupi.provisioning.fetching import fetch
from acoupi.provisioning.sources import URL, Sources, read_sources
from acoupi.services.provisioned_home import config_dir
from acoupi.stack.configured import is_configured
from acoupi.stack.settings import Settings
from acoupi.stack.variables import place_in
from acoupi.system.config_history import history_files
from acoupi.system.deployments import new_deployment, read_deployment
from acoupi.system.planning import Plan, SetupRequest, plan_setup
from acoupi.writing import PRIVATE, READABLE, RenderedFile

__all__ = ["TARGET", "provision"]

logger = logging.getLogger(__name__)

TARGET = "provisioned"
PREVIOUS = "previous"
DEVICE = "device.json"
LOCK_PATIENCE = 300.0
"""Seconds that another process may take."""
WITH_SECRETS = (SECRETS_FILE, CACHE, f"{PREVIOUS}/{SECRETS_FILE}")
"""Files of ``config/`` that other services may not see."""
MOST_DEPLOYMENTS = 20
NOTHING_SET = RenderedFile("{}\n")

Fetch = Callable[[str], Fetched]


def provision(
    settings: Settings, environ: Mapping[str, str], fetch: Fetch = fetch
) -> tuple[Provisioned, bool]:
    """Apply the configuration of the sources, unless it is already in force.

    Parameters
    ----------
    settings
        Of the home.
    environ
        The variables.
    fetch
        Fetches a URL.

    Returns
    -------
    tuple
        What is in force, with any fault; and whether it is new.

    Raises
    ------
    DeviceError
        If the folder cannot be written, or another process holds it for too long.
    """
    config = config_dir(settings)
    with changing(config, "the service that sets the home up", LOCK_PATIENCE):
        # From an earlier version; its decisions are in force by now.
        shutil.rmtree(config / OLD_STAGING, ignore_errors=True)
        if os.access(settings.home / SECRETS_FOLDER.parts[0], os.W_OK):  # a bundle has it
            part_secrets(settings.home, WITH_SECRETS)
        before = _in_force(settings)
        after = _renewed(settings, environ, before, fetch)
        if after.fault and before.fault and after.fault.text() == before.fault.text():
            after.fault.since = before.fault.since
        if after.generation == before.generation and after != before:
            commit_files(config, {config / MARKER: _marker(after)})
        return after, after.generation != before.generation


def _renewed(
    settings: Settings, environ: Mapping[str, str], before: Provisioned, fetch: Fetch
) -> Provisioned:
    """Return what is in force now."""
    sources: Sources | None = None
    fault: AcoupiError | None
    try:
        sources = read_sources(environ, config_dir(settings), fetch, before.followed)
        same = sources.digest == before.digest and is_configured(settings)
        same = same and _device_on_file(settings.device_file) is not None
        after = before if same else _put_in_force(settings, sources, before)
        _keep_fetched(sources, config_dir(settings))
        fault, followed = sources.fault, sources.followed
    except AcoupiError as error:
        after, fault, followed = before, error, _refused(before, sources, error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a program may raise anything
        after, fault = (
            before,
            ProgramError(
                "the program cannot be set up.",
                "correct the program, or choose another: ACOUPI_PROGRAM=default",
                why=f"it raised {type(error).__name__}: {error}.",
            ),
        )
        followed = _refused(before, sources, fault)
    found = fault and _fault(fault)
    return after.model_copy(update={"fault": found, "followed": followed})


def _fault(error: AcoupiError) -> Fault:
    return Fault(message=error.message, why=error.why, help=error.help, since=data.utc_now())


def _refused(before: Provisioned, sources: Sources | None, error: AcoupiError) -> Followed | None:
    """Return the state of following a hub whose settings could not be applied."""
    if sources is None or sources.following is None:
        return before.followed
    return sources.following.refused(before.followed, _fault(error).text())


def _keep_fetched(sources: Sources, config: Path) -> None:
    """Store the fetched document, unless it is stored: the file may have been damaged since."""
    files = sources.to_keep(config)
    if not _is_as_before(files):
        commit_files(config, files)


def _in_force(settings: Settings) -> Provisioned:
    """Return what is in force; for a damaged file, from other files.

    These have the previous configuration and the last deployment. The home is then set up again.
    """
    config = config_dir(settings)
    try:
        return read_provisioned(config) or Provisioned()
    except ConfigurationError as error:
        logger.warning("%s %s It is written again.", error.message, error.why)
    before, last = Provisioned(), None
    with suppress(ConfigurationError):
        before = read_provisioned(config / PREVIOUS) or before
    with suppress(AcoupiError):
        last = read_deployment(settings)
    known = before.deployments
    if last is not None:
        known = [
            one if one.ended_on else one.model_copy(update={"ended_on": last.started_on})
            for one in known
            if one.id != last.id
        ]
        known.append(last)
    return before.model_copy(update={"digest": "", "deployments": known})


def _put_in_force(settings: Settings, sources: Sources, before: Provisioned) -> Provisioned:
    """Check everything, then write everything.

    Raises
    ------
    AcoupiError
        If anything is wrong; then nothing was changed.
    """
    config = config_dir(settings)
    request = SetupRequest(
        sources.program,
        target=TARGET,
        file=sources.document,
        environ=sources.variables,
        wording=BY_VARIABLES,
        keeps_answers=False,
    )
    plan = plan_setup(settings, request)
    _check_bundle(plan, sources, settings)
    _say_timezone(plan, sources)
    device = make_device_id(_known_device(settings.device_file), sources.device_id)
    known = before.deployments or list(filter(None, [read_deployment(settings)]))
    deployments = _deployments(known, sources, device["id"])
    after = Provisioned(
        generation=before.generation + 1,
        digest=sources.digest,
        provisioned_on=data.utc_now(),
        program=sources.program,
        sources=list(sources.taken),
        deployments=deployments,
        followed=sources.followed,
    )
    own = settings.sensor_config_file
    files = {
        # Even if they are empty: nothing of an earlier configuration must stay.
        settings.secrets_file: RenderedFile("", PRIVATE),
        **({own: NOTHING_SET} if is_there(own) else {}),
        **plan.settings_files,
        **{settings.home / path: one for path, one in plan.generated.items()},
        settings.device_file: RenderedFile(json.dumps(device, indent=2) + "\n"),
        settings.deployment_file: RenderedFile(deployments[-1].model_dump_json(indent=2) + "\n"),
    }
    if os.access(settings.manifest_file.parent, os.W_OK):
        files[settings.manifest_file] = replace(plan.manifest, files={}).to_file()
    if before.generation and _is_as_before(files):
        # The sources differ but mean the same: no service needs to restart.
        kept = {"generation": before.generation, "provisioned_on": before.provisioned_on}
        return after.model_copy(update=kept)
    marker = config / MARKER
    history = history_files(settings, files, f"variables: {', '.join(sources.taken)}")
    commit_files(
        config,
        {**_previous(config, [*files, marker]), **files, **history, **sources.to_keep(config)}
        | {marker: _marker(after)},
        folders=[settings.run_dir, settings.log_dir],
    )
    warnings = plain_credential_warnings(settings.program_config_file, settings.celery_config_file)
    url = {URL: sources.url} if sources.url else {}
    for warning in warnings + warnings_of(url):
        logger.warning(warning)
    return after


def _say_timezone(plan: Plan, sources: Sources) -> None:
    """Log the time zone of the schedule: a container's own zone does not tell where it is."""
    zone = getattr(plan.config, "timezone", None)
    if zone is None:
        return
    place = place_in(sources.variables)
    logger.info(
        "Its local times are those of %s%s.",
        zone,
        "" if place else " (to use that of coordinates: ACOUPI_DEPLOYMENT__LATITUDE and …)",
    )
    if doubt := doubt_about_timezone(str(zone), place):
        logger.warning("%s To change it: ACOUPI_CONFIG__TIMEZONE=NAME", doubt)


def _known_device(path: Path) -> dict[str, str]:
    """Return the ids of this device; from the copy in ``config/previous`` if the file is damaged.

    Empty if there is none: then a new id is made, which no other board has.
    """
    return _device_on_file(path) or _device_on_file(path.parent / PREVIOUS / path.name) or {}


def _device_on_file(path: Path) -> dict[str, str] | None:
    """Return the ids in a file; None if it is damaged."""
    try:
        return read_device_file(path)
    except ConfigurationError as error:
        logger.warning("%s %s", error.message, error.why)
        return None


def _check_bundle(plan: Plan, sources: Sources, settings: Settings) -> None:
    """Raise if the existing services cannot run this."""
    if not sources.services:
        return
    names = tuple(service.name for service in plan.stack.workers)
    if set(names) != set(sources.services):
        raise ConfigurationError(
            f'the program "{sources.program}" does not fit these services.',
            f"render the services again: acoupi compose render --program {sources.program}",
            why=f"it runs as {', '.join(names)}, and the existing services are "
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
            why="the services have no access outside the home.",
        )


def _deployments(known: list[Deployment], sources: Sources, device_id: str) -> list[Deployment]:
    """Return the deployments; a new one starts now if the sources name another."""
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


def _marker(content: Provisioned) -> RenderedFile:
    return RenderedFile(content.model_dump_json(indent=2) + "\n")


def _is_as_before(files: Mapping[Path, RenderedFile]) -> bool:
    """Return whether all of it is in force already."""
    try:
        return all(read_whole(path) == one.text for path, one in files.items())
    except (OSError, UnicodeDecodeError):
        return False


def _previous(config: Path, files: list[Path]) -> dict[Path, RenderedFile]:
    """Return what is in force now, to keep in ``config/previous``.

    In place of a damaged device id or state, the copy of the last good one is kept.
    """
    return {
        config / PREVIOUS / path.name: RenderedFile(
            path.read_text(errors="replace"), PRIVATE if path.name == SECRETS_FILE else READABLE
        )
        for path in files
        if path.is_file() and _is_sound(path)
    }


def _is_sound(path: Path) -> bool:
    try:
        if path.name == DEVICE:
            read_device_file(path)
        elif path.name == MARKER:
            read_provisioned(path.parent)
    except ConfigurationError:
        return False
    return True
