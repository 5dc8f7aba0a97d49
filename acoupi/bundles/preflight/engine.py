"""Checks of the engine and of Compose."""

import shlex
from collections.abc import Collection

from acoupi.bundles.bundle_checks import SECCOMP_FILE
from acoupi.bundles.engine import Answer, unreachable
from acoupi.bundles.images import source_dir
from acoupi.bundles.preflight.machine_state import MachineState, Result, fail, json_of, ok, warn

__all__ = [
    "check_buildx",
    "check_compose",
    "check_engine",
    "check_engine_version",
    "check_profiles",
    "check_snap",
    "has_security",
    "version_of",
]

ENGINE_NEEDED = (20, 10)
COMPOSE_NEEDED = (2, 20)


def check_engine(state: MachineState) -> Result:
    """Check that the engine answers this user."""
    answer = state.probes.docker("info", "--format", "{{json .}}")
    info = json_of(answer)
    problems = info.get("ServerErrors") or ()
    if answer.is_ok and info.get("ServerVersion") and not problems:
        state.engine = info
        return ok(f"answers on {info.get('Name') or 'this machine'}")
    # The answer itself is JSON; what went wrong is in it, or beside it.
    said = " ".join(str(problem) for problem in problems) or answer.err
    error = unreachable(Answer(answer.code or 1, err=said))
    return fail(error.message, error.why, error.help)


def check_engine_version(state: MachineState) -> Result:
    """Check that the engine is new enough."""
    version = str(state.engine["ServerVersion"])
    if version_of(version) >= ENGINE_NEEDED:
        return ok(version)
    return fail(
        f"the Docker engine {version} is too old.",
        f"the bundle needs {_dotted(ENGINE_NEEDED)} or newer.",
        "https://docs.docker.com/engine/install/   (or: acoupi setup --target process)",
    )


def check_snap(state: MachineState) -> Result | None:
    """Refuse the engine from a snap, which cannot see hidden folders."""
    root = str(state.engine.get("DockerRootDir", ""))
    if not root.startswith("/var/snap/") or not any(
        part.startswith(".") for part in state.home.parts
    ):
        return None
    return fail(
        f'the Docker engine cannot mount "{state.home}".',
        "it was installed as a snap, which may not read hidden folders.",
        "export ACOUPI_HOME=~/acoupi, or: sudo snap remove docker && install Docker's own packages",
    )


def check_compose(state: MachineState) -> Result:
    """Check that Compose v2 is installed and new enough."""
    answer = state.probes.docker("compose", "version", "--short")
    version = answer.out.strip().removeprefix("v")
    if answer.is_ok and version_of(version) >= COMPOSE_NEEDED:
        return ok(version)
    if answer.is_ok and version_of(version):
        why = f"it is {version}, and the bundle needs {_dotted(COMPOSE_NEEDED)} or newer."
        message = "Docker Compose is too old."
    else:
        why = "the command docker has no Compose v2; docker-compose (v1) is not enough."
        message = "cannot run Docker Compose."
    help_text = "sudo apt-get install docker-compose-plugin   (from Docker's own packages)"
    return fail(message, why, help_text)


def has_security(state: MachineState, name: str) -> bool:
    """Return whether the engine can use profiles of that kind, "seccomp" or "apparmor"."""
    options = [str(one) for one in state.engine.get("SecurityOptions") or ()]
    return any(one.split(",")[0] == f"name={name}" for one in options)


def check_profiles(state: MachineState) -> Result | None:
    """Report which seccomp and AppArmor profiles the kernel enforces on the containers."""
    services = state.bundle.services.values() if state.bundle else ()
    chosen = {str(option) for one in services for option in one.get("security_opt") or ()}
    profile = f"seccomp={SECCOMP_FILE}"
    if profile in chosen and not has_security(state, "seccomp"):
        return fail(
            "the Docker engine cannot limit the system calls of containers.",
            f"they name the profile {SECCOMP_FILE}, and this engine or kernel has no seccomp.",
            f"ACOUPI_SECCOMP=unconfined   (in {state.home / '.env'})",
        )
    if not has_security(state, "seccomp"):
        return warn(
            "the system calls of containers are not limited",
            "this engine or kernel has no seccomp.",
            "a kernel with CONFIG_SECCOMP_FILTER",
        )
    return ok(
        f"seccomp: {SECCOMP_FILE if profile in chosen else 'of the engine'}; "
        f"AppArmor: {_apparmor(state, chosen)}"
    )


def _apparmor(state: MachineState, chosen: Collection[str]) -> str:
    """Return which profile of AppArmor applies, in words."""
    if not has_security(state, "apparmor"):
        return "not in this kernel or engine"
    names = sorted(one.partition("=")[2] for one in chosen if one.startswith("apparmor="))
    file = source_dir() / "compose" / "apparmor-acoupi"
    if names and names != ["docker-default"]:
        return " ".join(names)
    load = f"sudo apparmor_parser --replace {shlex.quote(str(file))}"
    return f"docker-default   (for acoupi's own: {load} && acoupi setup)"


def check_buildx(state: MachineState) -> Result:
    """Check that images can be built here."""
    answer = state.probes.docker("buildx", "version")
    if answer.is_ok:
        words = answer.out.split()
        return ok(words[1] if len(words) > 1 else answer.out.strip())
    return warn(
        "buildx is not installed",
        "images can be pulled, but not built here.",
        "sudo apt-get install docker-buildx-plugin",
    )


def version_of(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version; empty if it has none.

    Examples
    --------
    >>> version_of("20.10.24+dfsg1"), version_of("v2.26.1-4"), version_of("dev")
    ((20, 10), (2, 26), ())
    """
    numbers = []
    for part in text.strip().removeprefix("v").split(".")[:2]:
        digits = part.partition("-")[0].partition("+")[0]
        if not digits.isdigit():
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
