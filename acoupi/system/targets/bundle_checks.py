"""What no rendered bundle may hold, whatever rendered it: our own assertions on the file.

No public linter looks for these; the reasons are in ``compose/README.md``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from acoupi.errors import ConfigurationError

__all__ = ["SOUND_RULE", "bundle_problems", "check_bundle"]

SOUND_RULE = "c 116:* rw"
"""The device cgroup rule: character devices of ALSA's major number, to read and write."""
SOUND_FOLDER = "/dev/snd"
HOST_NAMESPACES = ("pid", "ipc", "uts", "userns_mode", "network_mode", "cgroup")
RESTARTS = ("no", "always", "unless-stopped")
ENGINE_SOCKETS = ("docker.sock", "containerd.sock", "balena.sock", "balena-engine.sock")
TOO_WIDE = ("/", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var", "/var/run")
_ROOT = re.compile(r"(?:0+|root)(?::.*)?\Z")
_GROUP = re.compile(r"[0-9]+\Z|\$\{[A-Z_]+[:?-].*\}\Z")


def check_bundle(text: str) -> None:
    """Raise unless a compose file keeps its containers as apart as a sensor needs.

    Raises
    ------
    ConfigurationError
        Naming the services and what is wrong with them.
    """
    problems = bundle_problems(text)
    if problems:
        raise ConfigurationError(
            "the compose file is not safe to start.",
            "acoupi setup --force   (and leave out of it what you added)",
            why="; ".join(problems) + ".",
        )


def bundle_problems(text: str) -> list[str]:
    """Return what is wrong with a compose file, each beginning with the service; none: []."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [f"it is not YAML ({' '.join(str(error).split())})"]
    services = content.get("services") if isinstance(content, dict) else None
    if not isinstance(services, dict) or not services:
        return ["it has no services"]
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
        problems.append(f"{' and '.join(sound)} have the sound device, and one may")
    if "redis" in services and services["redis"].get("network_mode") != "none":
        problems.append("redis has a network")
    return problems


def _problems_of(service: Mapping[str, Any]) -> Iterator[str]:
    yield from _privileges(service)
    yield from _devices(service)
    yield from _mounts(service)
    if service.get("restart") not in RESTARTS:
        yield f"has no restart policy of {', '.join(RESTARTS)}"


def _privileges(service: Mapping[str, Any]) -> Iterator[str]:
    """Give what a service has beyond a plain process of a plain user."""
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
    if any("unconfined" in option for option in options):
        yield "is unconfined"
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
    elif _ROOT.match(user):
        yield "runs as root"


def _device_keys(service: Mapping[str, Any]) -> list[str]:
    """Return the keys that give a service a device."""
    keys = [key for key in ("devices", "device_cgroup_rules", "gpus") if service.get(key)]
    if any(target.startswith("/dev") for _, target in _binds(service)):
        keys.append("volumes")
    return keys


def _devices(service: Mapping[str, Any]) -> Iterator[str]:
    for rule in service.get("device_cgroup_rules") or ():
        if rule != SOUND_RULE:
            yield f'has the device rule "{rule}", and only "{SOUND_RULE}" may be'
    for device in service.get("devices") or ():
        source = str(device.get("source") if isinstance(device, dict) else device)
        if not source.startswith(SOUND_FOLDER):
            yield f'has the device "{source}"'
    for source, target in _binds(service):
        if target.startswith("/dev") and not target.startswith(SOUND_FOLDER):
            yield f'has "{source}" at {target}'
    for group in service.get("group_add") or ():
        if not isinstance(group, str) or not _GROUP.match(group):
            yield f"has the group {group!r}, which must be a number in quotes"


def _mounts(service: Mapping[str, Any]) -> Iterator[str]:
    for source, _ in _binds(service):
        if source.rsplit("/", 1)[-1] in ENGINE_SOCKETS:
            yield f"has the engine's socket {source}"
        elif source in TOO_WIDE:
            yield f"has all of {source}"


def _binds(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give where each bind mount of a service comes from and goes to."""
    for volume in service.get("volumes") or ():
        if isinstance(volume, dict):
            if volume.get("type") == "bind":
                yield str(volume.get("source", "")), str(volume.get("target", ""))
        else:
            source, _, rest = str(volume).partition(":")
            if source.startswith(("/", ".", "~", "$")):
                yield source, rest.split(":")[0]
