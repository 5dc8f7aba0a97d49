"""Safety checks of every rendered compose file.

No public linter checks these; the reasons are in ``compose/README.md``.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import normpath
from typing import Any

from acoupi.bundles.engine import COMPOSE_FILE
from acoupi.config.documents import read_yaml
from acoupi.errors import ConfigurationError
from acoupi.stack.rights import TOO_WIDE
from acoupi.stack.spool import MEMORY_VOLUME

__all__ = [
    "SECCOMP_FILE",
    "SOUND_RULE",
    "TOO_WIDE",
    "bundle_problems",
    "check_bundle",
    "folders_of",
    "service_problems",
]

SOUND_RULE = "c 116:* rw"
"""The device cgroup rule: character devices of ALSA's major number, to read and write."""
SOUND_FOLDER = "/dev/snd"
HOST_NAMESPACES = ("pid", "ipc", "uts", "userns_mode", "network_mode", "cgroup")
SECCOMP_FILE = "seccomp.json"
_PROFILES = re.compile(
    r"no-new-privileges:true|seccomp=(?:seccomp\.json|\$\{ACOUPI_SECCOMP:-seccomp\.json\})"
    r"|apparmor=(?:acoupi-sensor|docker-default|\$\{ACOUPI_APPARMOR:-docker-default\})"
)
RESTARTS = ("no", "always", "unless-stopped")
ENGINE_SOCKETS = ("docker.sock", "containerd.sock", "balena.sock", "balena-engine.sock")
_GIVEN = r"\$\{[A-Z0-9_]+:\?[^{}]*\}"
"""A variable without a default: its value is checked once Compose has resolved it."""
_NUMBER = rf"(?:[1-9][0-9]*|{_GIVEN}|\$\{{[A-Z0-9_]+:-(?:[1-9][0-9]*|{_GIVEN})\}})"
"""Number of a user or group other than root."""
_USER = re.compile(rf"{_NUMBER}(?::{_NUMBER})?")
_GROUP = re.compile(_NUMBER)


def check_bundle(text: str) -> None:
    """Raise unless a compose file isolates its containers as a sensor needs.

    Raises
    ------
    ConfigurationError
        Naming the services and what is wrong with them.
    """
    problems = bundle_problems(text)
    if problems:
        raise ConfigurationError(
            "the compose file is not safe to start.",
            "acoupi setup --force   (which removes your additions)",
            why="; ".join(problems) + ".",
        )


def bundle_problems(text: str) -> list[str]:
    """Return the problems of a compose file, each starting with the service; [] if none."""
    try:
        content = read_yaml(text)
    except ValueError as error:
        return [f"it is not YAML ({' '.join(str(error).split())})"]
    services = content.get("services") if isinstance(content, dict) else None
    if not isinstance(services, dict) or not services:
        return ["it has no services"]
    return service_problems(services)


def service_problems(services: Mapping[str, Any]) -> list[str]:
    """Return the problems of a sensor's services; [] if none.

    Parameters
    ----------
    services
        By name, as a compose file or ``docker compose config`` has them.
    """
    problems = []
    sound = []
    for name, service in services.items():
        if not isinstance(service, dict):
            problems.append(f"{name} is not a service")
            continue
        problems += [f"{name} {problem}" for problem in _problems_of(service)]
        if _device_keys(service):
            sound.append(str(name))
    if len(sound) > 1:
        problems.append(f"{' and '.join(sound)} have the sound device, but only one may")
    redis = services.get("redis")
    if isinstance(redis, dict) and redis.get("network_mode") != "none":
        problems.append("redis has a network")
    return problems


def _problems_of(service: Mapping[str, Any]) -> Iterator[str]:
    yield from _privileges(service)
    yield from _devices(service)
    yield from _mounts(service)
    if service.get("restart") not in RESTARTS:
        yield f"has no restart policy of {', '.join(RESTARTS)}"


def _privileges(service: Mapping[str, Any]) -> Iterator[str]:
    """Yield the privileges that a service has beyond an ordinary process."""
    yield from _namespaces(service)
    if service.get("privileged"):
        yield "is privileged"
    if service.get("cap_drop") != ["ALL"]:
        yield "has no cap_drop: [ALL]"
    if service.get("cap_add"):
        yield "has cap_add"
    options = [str(option) for option in service.get("security_opt") or ()]
    if "no-new-privileges:true" not in options:
        yield "has no security_opt no-new-privileges:true"
    for option in options:
        if option.endswith("unconfined"):
            yield f"is unconfined ({option})"
        elif not _PROFILES.fullmatch(option):
            yield f"has security_opt {option}"
    if service.get("read_only") is not True:
        yield "has no read_only: true"
    yield from _user(service)


def _namespaces(service: Mapping[str, Any]) -> Iterator[str]:
    for key in HOST_NAMESPACES:
        value = str(service.get(key, ""))
        if value == "host" or value.startswith(("container:", "service:")):
            yield f"has {key}: {value}"


def _user(service: Mapping[str, Any]) -> Iterator[str]:
    user = str(service.get("user") or "")
    if not user:
        yield "has no user"
    elif not _USER.fullmatch(user):
        yield f"runs as {user}, which must be numbers other than 0"


def _device_keys(service: Mapping[str, Any]) -> list[str]:
    """Return the keys that give a service a device."""
    keys = [key for key in ("devices", "device_cgroup_rules", "gpus") if service.get(key)]
    if any(target.startswith("/dev") for _, target in _binds(service)):
        keys.append("volumes")
    return keys


def _devices(service: Mapping[str, Any]) -> Iterator[str]:
    for rule in service.get("device_cgroup_rules") or ():
        if rule != SOUND_RULE:
            yield f'has the device rule "{rule}"; only "{SOUND_RULE}" is allowed'
    for source in _device_sources(service):
        if not source.startswith(SOUND_FOLDER):
            yield f'has the device "{source}"'
    for source, target in _binds(service):
        if target.startswith("/dev") and not target.startswith(SOUND_FOLDER):
            yield f'has "{source}" at {target}'
    for group in service.get("group_add") or ():
        if not isinstance(group, str) or not _GROUP.fullmatch(group):
            yield f"has the group {group!r}, which must be a number in quotes, other than 0"


def _device_sources(service: Mapping[str, Any]) -> Iterator[str]:
    """Yield the path of each device of a service on the host."""
    for device in service.get("devices") or ():
        source = device.get("source", "") if isinstance(device, dict) else device
        yield _shortest(str(source).partition(":")[0])


def _mounts(service: Mapping[str, Any]) -> Iterator[str]:
    for source, _ in _binds(service):
        if source.rsplit("/", 1)[-1] in ENGINE_SOCKETS:
            yield f"has the engine's socket {source}"
        elif source in TOO_WIDE:
            yield f"has all of {source}"


def _binds(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield source and target of each bind mount of a service."""
    for volume in service.get("volumes") or ():
        if isinstance(volume, dict):
            source, target = str(volume.get("source", "")), str(volume.get("target", ""))
            is_bind = volume.get("type") == "bind"
        else:
            source, _, rest = str(volume).partition(":")
            target = rest.split(":")[0]
            is_bind = source.startswith(("/", ".", "~", "$"))
        if is_bind:
            yield _shortest(source), _shortest(target)


def _shortest(path: str) -> str:
    """Return a path in its shortest form, for comparing: Compose does not normalise paths.

    Examples
    --------
    >>> _shortest("//dev/./snd/"), _shortest("/var/run/../run/docker.sock")
    ('/dev/snd', '/var/run/docker.sock')
    """
    return re.sub("^//+", "/", normpath(path))


def folders_of(home: Path) -> dict[Path, bool]:
    """Return the paths of this machine that the bundle of a home mounts, and whether read-only.

    They are read from the rendered file, so the program is not needed; empty
    if there is no file. Paths given by a variable (devices) are left out.
    """
    found: dict[Path, bool] = {}
    for mount in _mounts_of(home):
        source = str(mount.get("source", "")).replace("$$", "\0")
        if mount.get("type") != "bind" or "$" in source:
            continue
        place = Path(source.replace("\0", "$"))
        found[place] = found.get(place, True) and bool(mount.get("read_only"))
    return found


def memory_folders(home: Path) -> list[Path]:
    """Return where the bundle of a home mounts the volume of recordings that wait in memory."""
    targets = (one["target"] for one in _mounts_of(home) if one.get("source") == MEMORY_VOLUME)
    return [Path(str(one).replace("$$", "$")) for one in dict.fromkeys(targets)]


def _mounts_of(home: Path) -> list[Mapping[str, Any]]:
    try:
        content = read_yaml((home / COMPOSE_FILE).read_text())
        services = content["services"].values()
        return [one for service in services for one in service.get("volumes", ())]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return []
