"""Checks that this machine can run the bundle, before anything is started.

A check is a function of a `MachineState` that returns a `Result` and asks the
machine only through `Probes`, so that a test can describe any kind of machine.
`CHECKS` is the order; a check is left out if one that it needs failed: an
engine that does not answer has no version.
"""

from collections.abc import Iterator
from dataclasses import replace

from acoupi.bundles.preflight import bundle, engine, machine
from acoupi.bundles.preflight.machine_state import Check, MachineState, Probes, Result
from acoupi.bundles.rendering import Manifest
from acoupi.errors import HealthCheckError
from acoupi.stack.settings import Settings

__all__ = ["CHECKS", "Check", "Probes", "Result", "failure", "run_preflight"]


def run_preflight(
    settings: Settings,
    probes: Probes,
    manifest: Manifest | None,
    *,
    containers: bool = True,
    rights: str | None = None,
) -> Iterator[Result]:
    """Run one check after the other, and yield the results.

    Parameters
    ----------
    settings
        Of the home; a sensor need not be set up there yet.
    probes
        Queries of the machine.
    manifest
        The record of the last setup, if there was one.
    containers
        Whether the sensor runs in containers; if not, Docker is not checked.
    rights
        What keeps its services apart, in words; None: checks of the containers say it.
    """
    state = MachineState(settings, probes, manifest, rights)
    passed: set[str] = set()
    is_container = probes.is_container()
    if is_container:
        yield Result("container", "ok", "Docker and the home are checked on the machine itself")
    for check in CHECKS:
        of_docker = check.name in DOCKER_CHECKS
        if not passed.issuperset(check.needs) or (of_docker and not containers):
            continue
        if is_container and check.name not in IN_CONTAINER:
            continue
        result = check.look(state)
        if result is None:
            continue
        if result.outcome != "fail":
            passed.add(check.name)
        yield replace(result, name=check.name)


def failure(results: list[Result]) -> HealthCheckError | None:
    """Return the first failure as an error, with the number of others."""
    failed = [result for result in results if result.outcome == "fail"]
    if not failed:
        return None
    error = failed[0].error()
    if len(failed) > 1:
        error.help = f"{error.help}   (acoupi doctor shows {len(failed) - 1} more)"
    return error


CHECKS: tuple[Check, ...] = (
    Check("home", machine.check_home),
    Check("file system", machine.check_file_system),
    Check("generated files", bundle.check_generated),
    Check("space to record", machine.check_home_space),
    Check("clock", machine.check_clock),
    Check("rights of services", machine.check_rights),
    Check("engine", engine.check_engine),
    Check("engine version", engine.check_engine_version, ("engine",)),
    Check("engine from a snap", engine.check_snap, ("engine",)),
    Check("compose", engine.check_compose, ("engine",)),
    Check("buildx", engine.check_buildx, ("engine",)),
    Check("bundle", bundle.check_bundle, ("engine version", "compose")),
    Check("kernel profiles", engine.check_profiles, ("bundle",)),
    Check("sound device", machine.check_sound),
    Check("project name", bundle.check_project, ("bundle",)),
    Check("microphone", bundle.check_exclusive, ("bundle",)),
    Check("ports", bundle.check_ports, ("project name",)),
    Check("folders", bundle.check_folders, ("bundle",)),
    Check("memory", machine.check_memory, ("bundle",)),
    Check("image", bundle.check_image, ("bundle",)),
    Check("disk space", machine.check_disk, ("engine",)),
    Check("program", bundle.check_program, ("image",)),
)
IN_CONTAINER = frozenset({"space to record", "clock", "sound device"})
"""What can be judged inside a container without Docker."""
DOCKER_CHECKS = frozenset(
    {check.name for check in CHECKS if check.needs} | {"engine", "generated files"}
)
