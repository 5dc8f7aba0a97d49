"""What balena rejects, or drops without a word: its rules, in plain Python.

From `@balena/compose-parser` 0.2.6 (rejected) and the source of balena's
supervisor 19.0.5 (dropped); `scripts/balena-rules` asks the parser itself.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

REJECTED_IN_SERVICE = {
    "blkio_config", "configs", "cpu_count", "cpu_percent", "cpu_period", "credential_spec",
    "deploy", "develop", "external_links", "gpus", "isolation", "links", "logging",
    "mem_swappiness", "memswap_limit", "oom_kill_disable", "platform", "pull_policy",
    "runtime", "scale", "secrets", "stdin_open", "storage_opt",
}  # fmt: skip
DROPPED_IN_SERVICE = {
    "annotations", "container_name", "device_cgroup_rules", "env_file", "expose", "post_start",
    "pre_stop", "profiles",
}  # fmt: skip
"""Not refused, and yet it is not what runs; env_file is read on the machine that pushes."""
REJECTED_IN_BUILD = {
    "additional_contexts", "cache_to", "dockerfile_inline", "entitlements", "isolation", "network",
    "no_cache", "platforms", "privileged", "pull", "secrets", "ssh", "tags", "ulimits",
}  # fmt: skip
REJECTED_AT_TOP = {"configs", "secrets"}
SECURITY = re.compile(r"no-new-privileges([:=].*)?$|(apparmor|seccomp)[:=]unconfined$")
RISKY_LABELS = "io.balena.features."
"""Most of them let a container take over the device: we set none."""
SHORT_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*:/[^:]*(:ro|:rw)?$")


def balena_problems(text: str) -> list[str]:
    """What balena would not do of a compose file, each beginning with the service."""
    content = yaml.safe_load(text)
    problems = [f"top: {key}" for key in sorted(REJECTED_AT_TOP & set(content))]
    for kind in ("networks", "volumes"):
        for name, options in (content.get(kind) or {}).items():
            if (options or {}).get("external"):
                problems.append(f"{kind}: {name} is external")
            if (options or {}).get("driver") not in (None, "local", "bridge", "default"):
                problems.append(f"{kind}: {name} has a driver")
    known = set(content.get("volumes") or {})
    for name, service in content["services"].items():
        problems += [f"{name}: {problem}" for problem in _service(service, known)]
    return problems


def _service(service: dict[str, Any], volumes: set[str]) -> Iterator[str]:
    yield from sorted((REJECTED_IN_SERVICE | DROPPED_IN_SERVICE) & set(service))
    yield from _build(service)
    yield from _values(service)
    yield from _mounts(service, volumes)
    yield from _labels(service.get("labels") or {})
    if "${" in str(service):
        yield "a variable of the machine that pushes"


def _build(service: dict[str, Any]) -> Iterator[str]:
    if isinstance(service.get("build"), dict):
        yield from (f"build.{key}" for key in sorted(REJECTED_IN_BUILD & set(service["build"])))
    elif "image" not in service:
        yield "neither build nor image"


def _values(service: dict[str, Any]) -> Iterator[str]:
    """Give keys that balena has, with values that it has not."""
    if isinstance(service.get("depends_on"), dict):
        yield "depends_on with conditions"
    for option in service.get("security_opt") or ():
        if not SECURITY.match(option):
            yield f"security_opt {option}"
    for key in ("network_mode", "pid", "ipc"):
        refused = ("container:", "service:") if key == "ipc" else ("container:",)
        if str(service.get(key, "")).startswith(refused):
            yield f"{key} {service[key]}"
    for name in ("tmpfs", "group_add", "cap_drop"):
        if not all(isinstance(one, str) for one in service.get(name) or ()):
            yield f"{name} is not a list of texts"
    if "start_interval" in (service.get("healthcheck") or {}):
        yield "healthcheck.start_interval"


def _mounts(service: dict[str, Any], volumes: set[str]) -> Iterator[str]:
    for volume in service.get("volumes") or ():
        if not isinstance(volume, str):
            yield f"a volume in the long form: {volume}"
        elif not SHORT_VOLUME.match(volume):
            yield f"a volume that is no named one: {volume}"
        elif volume.partition(":")[0] not in volumes:
            yield f"a volume that is not declared: {volume}"
    for device in service.get("devices") or ():
        if not isinstance(device, str) or not device.startswith("/"):
            yield f"a device in another form: {device}"
    for place in service.get("tmpfs") or ():
        if str(place).partition(":")[0].rstrip("/") in ("/tmp", "/tmp/balena"):
            yield f"a tmpfs over the supervisor's lock: {place}"


def _labels(labels: Any) -> Iterator[str]:
    names = labels if isinstance(labels, list) else list(labels)
    for name in names:
        allowed = name.startswith(f"{RISKY_LABELS}requires.")
        if name.startswith("io.balena.private") or (name.startswith(RISKY_LABELS) and not allowed):
            yield f"label {name}"
