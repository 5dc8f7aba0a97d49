"""Checks of the bundle of a home: its files, name, image and program."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import acoupi
from acoupi.bundles.bundle_checks import service_problems
from acoupi.bundles.engine import COMPOSE_FILE, OVERRIDE_FILE
from acoupi.bundles.overrides import file_problems, override_problems
from acoupi.bundles.preflight.engine import has_security
from acoupi.bundles.preflight.machine_state import (
    SIMULATED,
    SOUND_RULE,
    Bundle,
    MachineState,
    Probes,
    Result,
    fail,
    is_of_home,
    is_simulated,
    json_of,
    ok,
    warn,
)
from acoupi.bundles.program_image import bind_option
from acoupi.bundles.rendering import edited_files
from acoupi.stack.configured import is_configured

__all__ = [
    "check_bundle",
    "check_exclusive",
    "check_folders",
    "check_generated",
    "check_image",
    "check_ports",
    "check_program",
    "check_project",
]

PROBE_TIMEOUT = 60.0
"""Seconds for a container that loads the program; imports are slow on a slow board."""
VERSION_LABEL = "org.opencontainers.image.version"
PROJECT_LABEL = "com.docker.compose.project"
NOT_MOUNTED = ("bind source path does not exist", "Mounts denied", "is not shared from the host")
"""Messages of engines about a folder that they cannot see."""
PROGRAM_PROBE = (
    "import sys\n"
    "from acoupi.errors import AcoupiError\n"
    "from acoupi.stack.loading import load_program_class\n"
    "try:\n    load_program_class(sys.argv[1])\n"
    "except AcoupiError as error:\n"
    "    sys.exit(f'{error.message} {error.why or str()}')\n"
)


def check_generated(state: MachineState) -> Result | None:
    """Check that generated files are as setup wrote them."""
    if state.manifest is None:
        return None
    home = state.home
    if not state.probes.is_folder(home / COMPOSE_FILE):
        return fail(
            f"{COMPOSE_FILE} in {home} is missing.",
            "setup wrote it, but it was removed.",
            "acoupi compose render",
        )
    # .env holds what a person may change.
    edited = [path for path in edited_files(home, {}, state.manifest) if path != PurePath(".env")]
    if not edited:
        return _made_by_this(state.manifest.version, home)
    names = ", ".join(path.as_posix() for path in edited)
    return fail(
        f"{names} in {home} {'was' if len(edited) == 1 else 'were'} edited by hand.",
        "setup generates it, and the changes would be lost; "
        "docker-compose.override.yml is for changes.",
        "acoupi setup --diff to see the difference, acoupi setup --force to overwrite it",
    )


def _made_by_this(version: str, home: Path) -> Result:
    """Check that this version of acoupi made the bundle, which its image needs."""
    if version == acoupi.__version__:
        return ok("as setup wrote them")
    return fail(
        f"the bundle in {home} was made by acoupi {version}.",
        f"this is acoupi {acoupi.__version__}, and its image needs files of the same version.",
        "acoupi compose build && acoupi compose render",
    )


def check_bundle(state: MachineState) -> Result | None:
    """Let Compose read the files: acoupi's, ``.env`` and the override."""
    if not is_configured(state.settings) or not state.probes.is_folder(state.home / COMPOSE_FILE):
        return None
    answer = state.probes.compose(state.settings, "config", "--format", "json")
    why = answer.said
    if answer.is_ok:
        try:
            state.bundle = Bundle.parse(answer.out)
        except (ValueError, KeyError, TypeError) as error:
            why = f"docker compose config gave an unexpected answer ({error})"
    if state.bundle is None:
        return fail(
            f"Docker Compose refuses the files in {state.home}.",
            f"{why.rstrip('.')}.",
            "check docker-compose.override.yml and .env, or: acoupi compose render",
        )
    try:
        problems = [*file_problems(state.home), *_apart(state, state.bundle)]
    except ValueError as error:
        problems = [f"docker compose config gave an unexpected answer ({error})"]
    if problems:
        return fail(
            "the bundle would not isolate its containers.",
            f"{'; '.join(problems)}.",
            f"remove this from {OVERRIDE_FILE} or .env; compose/README.md lists what is allowed",
        )
    services = state.bundle.services
    return ok(f"{len(services)} services: {', '.join(services)}")


def _apart(state: MachineState, bundle: Bundle) -> list[str]:
    """Return the problems of the bundle with ``.env`` and the override applied."""
    every = ("--profile", "*", "config", "--format", "json")
    rendered = merged = bundle
    if state.probes.is_folder(state.home / OVERRIDE_FILE):
        rendered = Bundle.parse(state.probes.compose(state.settings, *every, override=False).out)
        merged = Bundle.parse(state.probes.compose(state.settings, *every).out)
    without = () if has_security(state, "seccomp") else ("(seccomp=unconfined)",)
    found = service_problems(rendered.services)
    return [
        *(one for one in found if not one.endswith(without)),
        *override_problems(state.home, rendered.document, merged.document),
    ]


def check_project(state: MachineState) -> Result:
    """Check that no other home runs under the same name."""
    answer = state.probes.docker("compose", "ls", "--all", "--format", "json")
    try:
        state.projects = [one for one in json.loads(answer.out or "[]") if isinstance(one, dict)]
    except ValueError:
        state.projects = []
    for other in state.projects:
        if other.get("Name") == state.project and not is_of_home(other, state.home):
            file = str(other.get("ConfigFiles", "")).split(",")[0]
            return fail(
                f'the project name "{state.project}" is in use.',
                f"another bundle is running under it: {file} ({other.get('Status')}).",
                f"docker compose -f {shlex.quote(file)} down   "
                "(or set up here in another ACOUPI_HOME)",
            )
    return ok(f"{state.project} {'runs already' if state.is_running else 'is free'}")


def check_ports(state: MachineState) -> Result | None:
    """Check that the ports of the bundle and its override are free."""
    if state.bundle is None or not state.bundle.ports or state.is_running:
        return None
    for address, port, protocol in state.bundle.ports:
        if not state.probes.is_port_free(address, port, protocol):
            return fail(
                f"the port {port}/{protocol} is in use.",
                "a service of the bundle, or of docker-compose.override.yml, opens it, and another "
                "program listens there.",
                f"sudo ss -lnp 'sport = :{port}'   (to see which), or choose another port in .env",
            )
    shown = ", ".join(str(port) for _, port, _ in state.bundle.ports)
    return ok(f"free: {shown}")


def check_folders(state: MachineState) -> Result | None:
    """Check that all folders to mount exist."""
    if state.bundle is None:
        return None
    missing = [path for path in state.bundle.folders if not state.probes.is_folder(path)]
    if not missing:
        return ok(f"all {len(state.bundle.folders)} folders to mount exist")
    return fail(
        f'the folder "{missing[0]}" is missing.',
        "it is mounted into the containers; its disk may not be plugged in.",
        "acoupi compose render"
        if missing[0].is_relative_to(state.home)
        else f"mount its disk, or if it needs none: mkdir -p {shlex.quote(str(missing[0]))}",
    )


def check_image(state: MachineState) -> Result | None:
    """Check that the image exists, and is of this version."""
    absent, versions = [], set()
    for name in state.own_images():
        found = json_of(state.probes.docker("image", "inspect", "--format", "{{json .}}", name))
        if not found:
            absent.append(name)
            continue
        state.images[name] = found
        version = _label(found, VERSION_LABEL)
        versions.add(version)
        if version != acoupi.__version__:
            return _other_version(name, version)
    if absent:
        return warn(
            f"{', '.join(absent)} is not on this machine yet",
            "acoupi compose up pulls or builds it, which takes some minutes.",
            "acoupi compose build",
        )
    return ok(f"{', '.join(state.images)} ({acoupi.__version__})")


def _label(image: Mapping[str, Any], name: str) -> str | None:
    labels = (image.get("Config") or {}).get("Labels") or {}
    return labels.get(name)


def _other_version(name: str, version: str | None) -> Result:
    is_ours = version is not None
    return fail(
        f'the image "{name}" is from another version.'
        if is_ours
        else f'the image "{name}" is not an acoupi image.',
        f"it holds acoupi {version}, and this is acoupi {acoupi.__version__}."
        if is_ours
        else f"it has no label {VERSION_LABEL}.",
        "acoupi compose build   (or ACOUPI_IMAGE in .env: another image)",
    )


def check_program(state: MachineState) -> Result | None:
    """Load the program in a container of the image, with only one file of the home."""
    if state.manifest is None or not state.images:
        return None
    image, name = next(iter(state.images)), state.manifest.program
    mount = bind_option(state.settings.program_name_file, read_only=True)
    arguments = ("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--mount", mount)
    probe = ("--entrypoint=python3", image, "-c", PROGRAM_PROBE, name)
    answer = state.probes.docker(*arguments, *probe, timeout=PROBE_TIMEOUT)
    if answer.is_ok:
        return ok(f"{name} is in the image")
    last = (answer.err or answer.out).strip().splitlines()[-1:] or [answer.said]
    if any(words in answer.err for words in NOT_MOUNTED):
        return fail(
            f'the Docker engine cannot mount "{state.home}".',
            "it answered that it has no such folder: it runs on another machine, or in one that "
            "cannot see this folder.",
            "docker context ls   (shows the engine), or put ACOUPI_HOME where it can see it",
        )
    return fail(
        f'the program "{name}" cannot be run by the image "{image}".',
        f"{last[0].strip().rstrip('.')}.",
        f"acoupi compose build --package {name.partition('.')[0]}   (the package that holds it)",
    )


def check_exclusive(state: MachineState) -> Result | None:
    """Find another bundle of this machine that owns the microphone."""
    bundle = state.bundle
    if bundle is None or bundle.recorder is None or state.simulated:
        return None
    running = state.probes.docker("ps", "--quiet").out.split()
    for container in _inspected(state.probes, running):
        labels = (container.get("Config") or {}).get("Labels") or {}
        project = labels.get(PROJECT_LABEL)
        if project != state.project and _owns_sound(container):
            owner = str(container.get("Name", "")).removeprefix("/")
            return fail(
                f'the microphone belongs to another sensor, "{project or owner}".',
                f"its container {owner}{_home_of(container)} is granted the sound device, "
                "and only one container may have it.",
                f"docker compose -p {project} down" if project else f"docker stop {owner}",
            )
    return ok("no other container is granted the sound device")


def _inspected(probes: Probes, names: list[str]) -> list[Mapping[str, Any]]:
    if not names:
        return []
    try:
        content = json.loads(probes.docker("inspect", *names).out)
    except ValueError:
        return []
    return [one for one in content if isinstance(one, dict)]


def _variables_of(container: Mapping[str, Any]) -> dict[str, str]:
    variables = (container.get("Config") or {}).get("Env") or ()
    return dict(str(one).partition("=")[::2] for one in variables)


def _home_of(container: Mapping[str, Any]) -> str:
    home = _variables_of(container).get("ACOUPI_HOME")
    return f" (home: {home})" if home else ""


def _owns_sound(container: Mapping[str, Any]) -> bool:
    host = container.get("HostConfig") or {}
    known = _variables_of(container)
    if known.get(SIMULATED) or is_simulated(Path(known.get("ACOUPI_HOME", "/"))):
        return False
    rules = [str(rule) for rule in host.get("DeviceCgroupRules") or ()]
    devices = [str(one.get("PathOnHost", "")) for one in host.get("Devices") or ()]
    return any(rule.startswith(SOUND_RULE) for rule in rules) or any(
        device.startswith("/dev/snd") for device in devices
    )
