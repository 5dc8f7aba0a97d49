"""Whether there is an engine that can run the bundle, and Compose."""

from acoupi.bundles.engine import Answer, unreachable
from acoupi.bundles.preflight.machine_state import MachineState, Result, fail, json_of, ok, warn

__all__ = [
    "check_buildx",
    "check_compose",
    "check_engine",
    "check_engine_version",
    "check_snap",
    "version_of",
]

ENGINE_NEEDED = (20, 10)
COMPOSE_NEEDED = (2, 20)


def check_engine(state: MachineState) -> Result:
    """Look whether the engine answers this user."""
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
    """Look whether the engine is new enough."""
    version = str(state.engine["ServerVersion"])
    if version_of(version) >= ENGINE_NEEDED:
        return ok(version)
    return fail(
        f"the Docker engine {version} is too old.",
        f"the bundle needs {_dotted(ENGINE_NEEDED)} or newer.",
        "https://docs.docker.com/engine/install/   (or: acoupi setup --target process)",
    )


def check_snap(state: MachineState) -> Result | None:
    """Find the engine that cannot see hidden folders: the one from a snap."""
    root = str(state.engine.get("DockerRootDir", ""))
    if not root.startswith("/var/snap/") or not any(
        part.startswith(".") for part in state.home.parts
    ):
        return None
    return fail(
        f'the Docker engine cannot mount "{state.home}".',
        "it was installed as a snap, which may not look into hidden folders.",
        "export ACOUPI_HOME=~/acoupi, or: sudo snap remove docker && install Docker's own packages",
    )


def check_compose(state: MachineState) -> Result:
    """Look whether Compose v2 is there and new enough."""
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
    help_text = "sudo apt-get install docker-compose-plugin   (Docker's own packages have it)"
    return fail(message, why, help_text)


def check_buildx(state: MachineState) -> Result:
    """Look whether images can be built here."""
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
