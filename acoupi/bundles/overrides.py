"""What a ``docker-compose.override.yml`` may change, and what it may add.

Both are lists of what is allowed: any other key is refused, so that unforeseen ways into a
container are refused too. The
documents are those of ``docker compose config``, which has resolved variables,
short forms, ``extends`` and anchors. It has also read what ``env_file`` names
and then forgotten the file, so the override itself is read for those.
"""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoupi.bundles.bundle_checks import RESTARTS
from acoupi.bundles.engine import OVERRIDE_FILE
from acoupi.config.documents import read_yaml
from acoupi.config.env_files import read_env

__all__ = ["file_problems", "files_of_others", "override_problems"]

LEAST_MEMORY = 32 * 1024 * 1024
"""Least memory, bytes: with less, Python does not start."""
LOCAL_LOGS = ("local", "json-file", "journald")
VARIABLES = re.compile(
    r"TZ|LANG|LC_[A-Z]+|[A-Z]+_NUM_THREADS|TF_CPP_MIN_LOG_LEVEL|ACOUPI_LOG_LEVEL"
    r"|ACOUPI_SIMULATED_AUDIO|(?i:https?_proxy|no_proxy)"
)
"""Variables that an override may set: none names code to run or a file to read."""
OWN_LABELS = ("acoupi.", "com.docker.")

FREE_KEYS = re.compile(
    r"attach|command|container_name|cpu_count|cpu_percent|cpu_period|cpu_quota|cpu_shares"
    r"|cpus|cpuset|depends_on|dns|dns_opt|dns_search|domainname|entrypoint|environment"
    r"|expose|extra_hosts|healthcheck|hostname|image|init|labels|logging|mac_address"
    r"|mem_limit|mem_reservation|mem_swappiness|memswap_limit|pids_limit|platform|profiles"
    r"|pull_policy|read_only|restart|scale|shm_size|stdin_open|stop_grace_period"
    r"|stop_signal|tmpfs|tty|ulimits|user|working_dir|cap_drop|configs|secrets"
)
"""Keys of a service of the user's own that open nothing; those of `_OTHERS` are looked at."""
SMALL_CAPABILITIES = re.compile(
    r"CHOWN|DAC_OVERRIDE|FOWNER|FSETID|KILL|NET_BIND_SERVICE|SETGID|SETPCAP|SETUID"
)
"""Of those that every engine gives a container anyway."""
DEVICES = re.compile(
    r"/dev/(tty(USB|ACM|AMA|S)\d+|serial\d|serial/.+|i2c-\d+|spidev[\d.]+|gpiochip\d+|gpiomem\d*"
    r"|video\d+|rtc\d*|cdc-wdm\d+|null)"
)
"""Modems, satellite receivers, sensors, cameras; neither sound devices, memory nor disks."""
READABLE_FILES = ("/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo")
OURS_IN_HOME = re.compile(
    r"\..*|app\.py|bin|config|data|log|run|secrets|systemd|waiting|(docker-)?compose.*"
    r"|simulated-audio\.yml|seccomp\.json|apparmor.*"
)
"""Names in a home that are acoupi's."""
FILE_KEYS = ("env_file", "label_file")
OTHER_FILES = (
    *("compose.yaml", "compose.yml", "docker-compose.yaml"),
    *("compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml"),
)
"""Files that ``docker compose`` would read in a home beside, or instead of, those of acoupi."""

Service = Mapping[str, Any]
Document = Mapping[str, Any]


def file_problems(home: Path) -> Iterator[str]:
    """Yield files of a home that Compose would read when run by hand, but acoupi would not."""
    for name in OTHER_FILES:
        if (home / name).exists():
            yield f"{name} is read by docker compose and not by acoupi: name it {OVERRIDE_FILE}"
    for name in ("COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR", "COMPOSE_ENV_FILES"):
        if name in read_env(home / ".env"):
            yield f".env sets {name}, which names files that acoupi does not read"


def files_of_others(home: Path) -> set[str]:
    """Return in words what Compose reads in a home in addition to setup's files."""
    has_override = (home / OVERRIDE_FILE).exists()
    return {*file_problems(home), *([f"there is a {OVERRIDE_FILE}"] if has_override else ())}


def override_problems(home: Path, rendered: Document, merged: Document) -> list[str]:
    """Return forbidden changes and additions of an override; [] if none.

    Parameters
    ----------
    home
        The home; the override is read there.
    rendered, merged
        What ``docker compose config --format json`` makes of the rendered file
        alone, and of both, every profile included.
    """
    places = Places.of(home, rendered)
    services = merged.get("services") or {}
    problems = list(_top_level(rendered, merged, places))
    for name, before in rendered["services"].items():
        problems += [f"{name} {one}" for one in _changes(before, services.get(name) or {})]
    for name, service in services.items():
        if name not in rendered["services"]:
            problems += [f"{name} {one}" for one in _additions(service, rendered, places)]
    return problems + list(_raw_problems(home / OVERRIDE_FILE, places))


# --- services of the sensor ---------------------------------------------------------------


def _changes(before: Service, after: Service) -> Iterator[str]:
    """Yield the changes of a rendered service that are not on the list."""
    if not after:
        yield "was removed"
        return
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old == new or (not old and not new) or key.startswith("x-"):
            continue
        allows = _CHANGES.get(key)
        if allows is None or not allows(before, old, new):
            yield f"has {key}{_shown(key, old, new)}"


def _shown(key: str, old: Any, new: Any) -> str:
    """Describe the change of a key; for variables only their names."""
    if isinstance(old or {}, dict) and isinstance(new or {}, dict):
        names = [one for one in {**(old or {}), **(new or {})} if not _same(one, old, new)]
        return f" with another {', '.join(map(str, names))} than was rendered"
    was = _short(old) if old else "nothing"
    return f" {_short(new)}, and {was} was rendered" if new else f" no more; rendered was {was}"


def _same(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    return name in (old or {}) and name in (new or {}) and (old or {})[name] == (new or {})[name]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _is_text(_: Service, __: Any, new: Any) -> bool:
    return isinstance(new, str) and bool(new)


def _is_positive(_: Service, __: Any, new: Any) -> bool:
    return float(new or 0) > 0


def _is_memory(_: Service, __: Any, new: Any) -> bool:
    return int(new or 0) >= LEAST_MEMORY


def _is_local_log(_: Service, __: Any, new: Any) -> bool:
    return (new or {}).get("driver") in LOCAL_LOGS


def _is_restart(_: Service, __: Any, new: Any) -> bool:
    return new in RESTARTS


def _adds_labels(_: Service, old: Any, new: Any) -> bool:
    changed = [name for name in {**(old or {}), **(new or {})} if not _same(name, old, new)]
    return not any(name.startswith(OWN_LABELS) for name in changed)


def _sets_variables(_: Service, old: Any, new: Any) -> bool:
    changed = [name for name in {**(old or {}), **(new or {})} if not _same(name, old, new)]
    return all(VARIABLES.fullmatch(name) for name in changed)


def _adds_some(_: Service, old: Any, new: Any) -> bool:
    return all(_same(name, old, new) for name in old or {})


def _is_of_sender(before: Service, old: Any, new: Any) -> bool:
    """Let the service that sends change how it reaches its servers."""
    kept = old if isinstance(old, dict) and isinstance(new, dict) else {}
    return "default" in (before.get("networks") or {}) and all(one in new for one in kept)


def _publishes(before: Service, _: Any, new: Any) -> bool:
    return "default" in (before.get("networks") or {}) and not list(_ports(new))


_CHANGES: Mapping[str, Callable[[Service, Any, Any], bool]] = {
    "cpu_shares": _is_positive,
    "cpus": _is_positive,
    "cpuset": _is_text,
    "depends_on": _adds_some,
    "dns": _is_of_sender,
    "environment": _sets_variables,
    "extra_hosts": _is_of_sender,
    "image": _is_text,
    "labels": _adds_labels,
    "logging": _is_local_log,
    "mem_limit": _is_memory,
    "networks": _is_of_sender,
    "ports": _publishes,
    "restart": _is_restart,
}
"""What an override may change of a rendered service, and to what."""


# --- services of the user's own -------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Which paths of this machine a service of the user's own may see."""

    home: Path
    readable: frozenset[Path]
    """What the bundle itself mounts and anybody may read: recordings, logs."""

    @classmethod
    def of(cls, home: Path, rendered: Document) -> "Places":
        """Read from the rendered file what the bundle mounts."""
        home = Path(os.path.realpath(home))
        mounted = {
            Path(os.path.realpath(mount["source"])): bool(mount.get("read_only"))
            for service in rendered["services"].values()
            for mount in service.get("volumes") or ()
            if mount.get("type") == "bind"
        }
        written = [place for place, read_only in mounted.items() if not read_only]
        # Below a folder that a container writes, it can put a link to anywhere.
        safe = (one for one in mounted if not any(other in one.parents for other in written))
        outside = {one for one in safe if home not in one.parents and Path("/dev") != one.parent}
        return cls(home, frozenset({home / "data", home / "log", *outside}))

    def problem(self, path: str, *, read_only: bool) -> str | None:
        """Return what is wrong with showing a path to a service; None if nothing."""
        if read_only and os.path.normpath(path) in READABLE_FILES:
            return None
        real = Path(os.path.realpath(path))
        inside = real.relative_to(self.home).parts if self.home in real.parents else ()
        if inside and not OURS_IN_HOME.fullmatch(inside[0]):
            return None
        if real in self.readable:
            return None if read_only else f'may only read "{path}" (read_only: true)'
        return f'has "{path}", which is not a separate folder in {self.home}'


def _additions(service: Service, rendered: Document, places: Places) -> Iterator[str]:
    """Yield what a service that an override adds may not have."""
    for key, value in service.items():
        if not value or FREE_KEYS.fullmatch(key) or key.startswith("x-"):
            continue
        look = _OTHERS.get(key)
        if look is None:
            yield f"has {key} {_short(value)}"
        else:
            yield from look(value, rendered, places)


def _look_at_volumes(value: Any, rendered: Document, places: Places) -> Iterator[str]:
    for mount in value:
        kind, source = mount.get("type"), str(mount.get("source") or "")
        if kind == "bind":
            problem = places.problem(source, read_only=bool(mount.get("read_only")))
            yield from [problem] if problem else []
        elif kind == "volume" and source in (rendered.get("volumes") or {}):
            yield f'has the volume "{source}" of the sensor'
        elif kind not in ("volume", "tmpfs"):
            yield f"has a mount of the kind {kind}"


def _look_at_networks(value: Any, rendered: Document, _: Places) -> Iterator[str]:
    for name in value:
        if name != "default" and name in (rendered.get("networks") or {}):
            yield f'has the network "{name}", which is for one service of the sensor'


def _look_at_mode(value: Any, rendered: Document, _: Places) -> Iterator[str]:
    other = str(value).removeprefix("service:")
    if value not in ("none", "bridge") and (other == value or other in rendered["services"]):
        yield f"has network_mode: {value}"


def _look_at_ports(value: Any, _: Document, __: Places) -> Iterator[str]:
    yield from _ports(value)


def _ports(value: Any) -> Iterator[str]:
    """Yield the published ports that name no address of this machine."""
    for port in value or ():
        try:
            is_named = not ipaddress.ip_address(str(port.get("host_ip"))).is_unspecified
        except ValueError:
            is_named = False
        if not is_named:
            number = port.get("published") or port.get("target")
            yield f"has the port {number} on every address of this machine (127.0.0.1:{number}:...)"


def _look_at_devices(value: Any, _: Document, __: Places) -> Iterator[str]:
    for device in value:
        source = str(device.get("source", "") if isinstance(device, dict) else device)
        source = source.partition(":")[0]
        if not DEVICES.fullmatch(source) or not DEVICES.fullmatch(os.path.realpath(source)):
            yield f'has the device "{source}"'


def _look_at_capabilities(value: Any, _: Document, __: Places) -> Iterator[str]:
    for name in value:
        if not SMALL_CAPABILITIES.fullmatch(str(name).upper().removeprefix("CAP_")):
            yield f"has cap_add {name}"


def _look_at_security(value: Any, _: Document, __: Places) -> Iterator[str]:
    for option in value:
        if not re.fullmatch(r"no-new-privileges([:=]true)?", str(option)):
            yield f"has security_opt {option}"


def _look_at_groups(value: Any, _: Document, __: Places) -> Iterator[str]:
    for group in value:
        if not re.fullmatch(r"[1-9]\d*|dialout|i2c|spi|gpio|video", str(group)):
            yield f"has the group {group}"


def _look_at_build(value: Any, _: Document, places: Places) -> Iterator[str]:
    for key in ("privileged", "entitlements", "ssh", "network"):
        if value.get(key):
            yield f"has build.{key}"
    contexts = [value.get("context"), *(value.get("additional_contexts") or {}).values()]
    for context in contexts:
        if context and Path(context).is_absolute():
            problem = places.problem(context, read_only=True)
            yield from [problem] if problem else []


_OTHERS: Mapping[str, Callable[[Any, Document, Places], Iterable[str]]] = {
    "build": _look_at_build,
    "cap_add": _look_at_capabilities,
    "devices": _look_at_devices,
    "group_add": _look_at_groups,
    "network_mode": _look_at_mode,
    "networks": _look_at_networks,
    "ports": _look_at_ports,
    "security_opt": _look_at_security,
    "volumes": _look_at_volumes,
}
"""Keys of a service of the user's own that may hold some values and not others."""


# --- beside the services ----------------------------------------------------------------------


def _top_level(rendered: Document, merged: Document, places: Places) -> Iterator[str]:
    """Yield what is wrong with the name and the volumes, networks, configs and secrets."""
    if rendered.get("name") != merged.get("name"):
        yield f"the name {merged.get('name')} differs from {rendered.get('name')}"
    for kind, look in _KINDS.items():
        before, after = rendered.get(kind) or {}, merged.get(kind) or {}
        taken = {one.get("name") for one in before.values()}
        for name, one in after.items():
            if name in before:
                changed = {**one, "internal": None} if name == "default" else one
                was = {**before[name], "internal": None} if name == "default" else before[name]
                problems = [] if changed == was else ["differs from the rendered one"]
            elif one.get("name") in taken:
                problems = [f"is {one['name']} of the sensor"]
            else:
                problems = list(look(one, places))
            yield from (f"{kind}: {name} {problem}" for problem in problems)


def _volume(volume: Mapping[str, Any], _: Places) -> Iterator[str]:
    options = volume.get("driver_opts") or {}
    if volume.get("external"):
        yield "is external, so what it leads to cannot be seen"
    if volume.get("driver") not in (None, "", "local"):
        yield f"has the driver {volume['driver']}"
    # With o=bind the kernel binds the device, whatever the type is.
    in_memory = options.get("type") == options.get("device") == "tmpfs"
    if options and (not in_memory or "bind" in str(options.get("o", ""))):
        yield f"leads to {options.get('device') or 'another place'} of this machine"


def _network(network: Mapping[str, Any], _: Places) -> Iterator[str]:
    if network.get("driver") not in (None, "", "bridge") or network.get("name") == "host":
        yield "is not a network of its own"


def _file(source: Mapping[str, Any], places: Places) -> Iterator[str]:
    problem = places.problem(source["file"], read_only=True) if source.get("file") else None
    yield from [problem] if problem else []


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Places], Iterable[str]]] = {
    "volumes": _volume,
    "networks": _network,
    "configs": _file,
    "secrets": _file,
}


def _raw_problems(path: Path, places: Places) -> Iterator[str]:
    """Yield the files that an override reads and ``compose config`` does not show."""
    try:
        content = read_yaml(path.read_text())
        services = [(str(name), one) for name, one in (content.get("services") or {}).items()]
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError) as error:
        yield f"{path.name} cannot be read ({' '.join(str(error).split())})"
        return
    if content.get("include"):
        yield "include reads other files"
    for name, service in services:
        for key, file in _files_of(service if isinstance(service, dict) else {}):
            if key == "extends":
                yield f"{name} has extends of the file {file}"
            elif "$" in file or places.problem(str(places.home / file), read_only=True):
                yield f'{name} has {key} "{file}", which is not a separate file in {places.home}'


def _files_of(service: Service) -> Iterator[tuple[str, str]]:
    """Yield the key and the path of each file that a service reads in."""
    extends = service.get("extends")
    if isinstance(extends, dict) and extends.get("file"):
        yield "extends", str(extends["file"])
    for key in FILE_KEYS:
        found = service.get(key) or ()
        for one in [found] if isinstance(found, str | dict) else found:
            yield key, str(one.get("path") if isinstance(one, dict) else one)
