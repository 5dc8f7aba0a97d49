"""The compose file of a bundle that sets itself up: no home on the host, named volumes only.

One template (``compose/balena/docker-compose.yml.jinja2``) serves two platforms: a
balena fleet, and Docker Compose from a checkout without Python
(``compose/docker-compose.yml``). What the containers do in it is the contract in
``acoupi/system/provisioning/README.md``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from acoupi.bundles.bundle_checks import SOUND_RULE, check_bundle
from acoupi.bundles.compose_file import (
    BROKER_GRACE,
    BROKER_MEMORY,
    BROKER_SCORE,
    BROKER_URL,
    HEALTH,
    HEALTH_COMMAND,
    PROCESSES,
    SOCKET,
    SOCKET_FOLDER,
    health_probe,
    mebibytes,
    memory_variable,
)
from acoupi.bundles.engine import COMPOSE_FILE
from acoupi.bundles.images import source_dir
from acoupi.bundles.rendering import render_tree
from acoupi.config.names import SENSOR
from acoupi.config.sensor import sensor_schema
from acoupi.config.variables import settings_table
from acoupi.errors import ConfigurationError
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.stack.broker_users import broker_rules, broker_user
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings
from acoupi.stack.stack import (
    BROKER,
    RECORDER_STOP_GRACE,
    SETUP,
    HealthCheck,
    Service,
    Stack,
    cache_variable,
    is_sound_worker,
    stack_of_program,
)
from acoupi.stack.variables import VARIABLES

__all__ = ["HOME", "Platform", "committed_bundle", "fleet_stack", "render_self_setup"]

HOME = Path("/acoupi")
"""The home, inside every container."""
SCRATCH = "/run/acoupi"
"""What can be written and is gone at the next start. Not /tmp: a supervisor mounts /tmp/balena."""
KEYS = "/run/keys"
KEY = "/run/key"
PASSWORD = f"{KEY}/password"
USER = 1000
"""Whose folders the image has where volumes go: a fresh one takes their owner."""
FOLDERS = ("config", "data", "log", "run")
"""Of the home; each is a volume."""
SERVICES_OF_IMAGE = ("beat", "default", "detection", "recording")
"""For whom the image has a folder of a key without being told."""
MICROPHONE_PATIENCE = 600
"""Seconds without a microphone after which the recorder ends itself where devices are given."""
SETUP_GRACE = 10.0


@dataclass(frozen=True)
class Platform:
    """What differs between the platforms of a bundle that sets itself up."""

    header: tuple[str, ...]
    """The comment at its top."""
    context: str
    """What the image is built from, relative to the compose file."""
    is_compose: bool
    """Docker Compose: it passes variables of the host on, and has keys that balena refuses."""
    sound_group: int
    name: str | None = None
    image: str | None = None
    dockerfile: str = "images/sensor/Dockerfile"
    """Relative to the context."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """Variables that setup is given whatever the device says."""


def fleet_stack(stack: Stack) -> Stack:
    """Return a stack as it is in a container that knows neither its site nor its settings yet.

    Its home is `HOME`; who sends messages has a network whatever the settings
    are now; a recording may be longer than it is now.
    """
    services = []
    for one in stack.services:
        assert one.health is not None, "each service of ours has a pulse"
        recorder_grace = RECORDER_STOP_GRACE if one.role == "recorder" else 0.0
        services.append(
            replace(
                one,
                network=one.network or DEFAULT_QUEUE in one.queues,
                health=replace(one.health, pulse=HOME / "run" / one.health.pulse.name),
                stop_grace=max(one.stop_grace, recorder_grace),
            )
        )
    return replace(stack, services=tuple(services))


def render_self_setup(stack: Stack, platform: Platform) -> str:
    """Return the compose file of a stack; see `fleet_stack`.

    Raises
    ------
    ConfigurationError
        If the stack has something that the platform cannot give, by name.
    """
    if stack.broker.kind == "external":
        raise ConfigurationError(
            "a bundle that sets itself up cannot use another broker.",
            "--broker embedded",
            why="it runs its own, which only its containers reach.",
        )
    stack = fleet_stack(stack)
    ours = (*stack.workers, stack.beat)
    names = [one.name for one in ours]
    services = [
        _broker(stack, platform),
        _setup(stack, platform),
        *(_service(one, stack, platform) for one in ours),
    ]
    context = {
        "header": platform.header,
        "name": platform.name,
        "image": platform.image,
        "build": _build(names, platform),
        "restart": "unless-stopped" if platform.is_compose else "always",
        "user": USER,
        "processes": PROCESSES,
        "scratch": SCRATCH,
        "logging": platform.is_compose,
        **HEALTH,
        "broker": BROKER,
        "sound": _sound(platform),
        "services": services,
        "volumes": [*FOLDERS, "broker", *(_key_volume(name) for name in names)],
    }
    folder = source_dir() / "compose" / "balena"
    (rendered,) = render_tree(folder, context, below=(COMPOSE_FILE,)).values()
    check_bundle(rendered.text)
    return rendered.text


def _build(names: list[str], platform: Platform) -> dict[str, Any]:
    arguments = {}
    if platform.is_compose:
        arguments["BASE"] = "${ACOUPI_BASE_IMAGE:-debian:bookworm-slim}"
    if not set(names) <= set(SERVICES_OF_IMAGE):
        arguments["SERVICES"] = " ".join(names)
    return {
        "context": platform.context,
        "dockerfile": platform.dockerfile,
        "network": "${ACOUPI_BUILD_NETWORK:-default}" if platform.is_compose else None,
        "args": arguments,
    }


def _sound(platform: Platform) -> dict[str, Any]:
    if platform.is_compose:
        return {
            "group": f"${{ACOUPI_AUDIO_GID:-{platform.sound_group}}}",
            "rule": SOUND_RULE,
            "folder": "${ACOUPI_SOUND:-/dev/snd}",
            "device": None,
        }
    return {"group": platform.sound_group, "device": "/dev/snd:/dev/snd:rw"}


def _key_volume(service: str) -> str:
    return f"key-{service}"


def _memory(name: str, limit: str, platform: Platform) -> str:
    return f"${{{memory_variable(name)}:-{limit}}}" if platform.is_compose else limit


def _broker(stack: Stack, platform: Platform) -> dict[str, Any]:
    """Return the names that the template uses of redis, which makes the passwords itself."""
    options = (
        *("--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700"),
        *("--dir", SOCKET_FOLDER, "--save", "", "--appendonly", "no"),
        *("--maxmemory", "32mb", "--maxmemory-policy", "noeviction"),
    )
    clients = (*stack.workers, stack.beat)
    return {
        "name": BROKER,
        "role": "broker",
        "command": (
            *("python", "-m", "acoupi.system.broker_start", "--", "redis-server"),
            *options,
        ),
        "stop_grace": BROKER_GRACE,
        "memory": _memory(BROKER, BROKER_MEMORY, platform),
        "out_of_memory_score": BROKER_SCORE,
        "network": False,
        "sound": False,
        "env_file": None,
        "environment": [
            ("ACOUPI_BROKER_RULES", json.dumps(broker_rules(stack), sort_keys=True)),
            *_scratch(),
        ],
        "interpolated": [],
        "volumes": [
            f"broker:{SOCKET_FOLDER}",
            *(f"{_key_volume(one.name)}:{KEYS}/{one.name}" for one in clients),
        ],
        "health": ("CMD", HEALTH_COMMAND, SOCKET),
    }


def _scratch() -> list[tuple[str, str]]:
    return [("HOME", SCRATCH), ("TMPDIR", SCRATCH)]


def _ours(name: str, stack: Stack) -> dict[str, str]:
    """Return the variables of every service of ours."""
    return {
        "ACOUPI_HOME": str(HOME),
        "ACOUPI_MANIFEST_FILE": str(HOME / "config" / "generated.json"),
        "ACOUPI_PROGRAM": stack.program,
        "ACOUPI_SERVICE": name,
        **cache_variable(HOME),
        **dict(_scratch()),
    }


def _setup(stack: Stack, platform: Platform) -> dict[str, Any]:
    """Return the names that the template uses of the service that provisions."""
    largest = max((one.limits.memory_bytes or 0 for one in stack.workers), default=0)
    pulse = HealthCheck(HOME / "run" / f"{SETUP}.json")
    environment = {
        **_ours(SETUP, stack),
        "ACOUPI_SERVICES": ",".join(one.name for one in stack.workers),
        **platform.answers,
    }
    interpolated: list[tuple[str, str | None]] = []
    if platform.is_compose:
        del environment["ACOUPI_PROGRAM"]
        interpolated = [
            ("ACOUPI_PROGRAM", f"${{ACOUPI_PROGRAM:-{stack.program}}}"),
            *((name, None) for name in _passed_on(stack)),
        ]
    return {
        "name": SETUP,
        "role": SETUP,
        "command": ("python", "-m", "acoupi.system.provisioning"),
        "stop_grace": SETUP_GRACE,
        "memory": _memory(SETUP, mebibytes(largest), platform),
        "out_of_memory_score": max(one.limits.out_of_memory_score for one in stack.workers),
        "network": True,
        "sound": False,
        "env_file": ".env" if platform.is_compose else None,
        "environment": sorted(environment.items()),
        "interpolated": [*interpolated, *_log_level(platform)],
        "volumes": [f"{name}:{HOME / name}" for name in ("config", "log", "run")],
        "health": health_probe(Service(SETUP, "worker", (), health=pulse)),
    }


def _passed_on(stack: Stack) -> list[str]:
    """Return the variables of the host that setup is given where they are set."""
    sources = [
        one.name
        for one in VARIABLES
        if one.scope in ("configuration", "deployment", "device") and not one.is_prefix
    ]
    schema = type(stack.config) if stack.config else schema_of(stack.program)
    rows = [*settings_table(schema), *settings_table(sensor_schema(), SENSOR)]
    settings = [row.variable for row in rows]
    return [name for name in (*sources, *settings) if name != "ACOUPI_PROGRAM"]


def schema_of(program: str) -> Any:
    """Return the configuration schema of a program."""
    return load_program_class(program).get_config_schema()


def _log_level(platform: Platform) -> list[tuple[str, str | None]]:
    return [("ACOUPI_LOG_LEVEL", "${ACOUPI_LOG_LEVEL:-INFO}")] if platform.is_compose else []


def _service(service: Service, stack: Stack, platform: Platform) -> dict[str, Any]:
    """Return the names that the template uses of a worker, or of beat."""
    has_sound = is_sound_worker(service)
    environment = {
        **_ours(service.name, stack),
        "ACOUPI_BROKER": BROKER_URL,
        "ACOUPI_BROKER_USER": broker_user(service.name),
        "ACOUPI_BROKER_PASSWORD_FILE": PASSWORD,
    }
    interpolated = _log_level(platform)
    if has_sound and platform.is_compose:
        interpolated.append(("ACOUPI_SIMULATED_AUDIO", "${ACOUPI_SIMULATED_AUDIO:-}"))
    elif has_sound:
        environment["ACOUPI_MICROPHONE_PATIENCE"] = str(MICROPHONE_PATIENCE)
    return {
        "name": service.name,
        "role": service.role,
        "command": ("python", *service.command),
        "stop_grace": service.stop_grace,
        "memory": _memory(service.name, mebibytes(service.limits.memory_bytes), platform),
        "out_of_memory_score": service.limits.out_of_memory_score,
        "network": service.network,
        "sound": has_sound,
        "env_file": None,
        "environment": sorted(environment.items()),
        "interpolated": interpolated,
        "volumes": [
            f"broker:{SOCKET_FOLDER}:ro",
            f"{_key_volume(service.name)}:{KEY}:ro",
            f"config:{HOME / 'config'}:ro",
            *(f"{name}:{HOME / name}" for name in ("data", "log", "run")),
        ],
        "health": health_probe(service),
    }


# --- the one that is committed ----------------------------------------------------------


COMMITTED_HEADER = (
    "The default program in containers, from a checkout, without Python on the host:",
    "",
    "    docker compose -f compose/docker-compose.yml up -d --build",
    "",
    "The image is built, and the sensor sets itself up, from variables of the environment or of",
    "compose/.env; which there are stands at the service setup. Without a microphone:",
    "ACOUPI_SIMULATED_AUDIO=synthetic. Generated from compose/balena/docker-compose.yml.jinja2;",
    "to renew it: pytest tests/golden --update-golden",
)


def committed_bundle() -> str:
    """Return what ``compose/docker-compose.yml`` holds: the default program."""
    from acoupi.services.broker import make_app  # noqa: PLC0415
    from acoupi.services.construction import construct  # noqa: PLC0415 - Celery is slow
    from acoupi.stack.settings import CelerySettings  # noqa: PLC0415

    settings, program = Settings(home=HOME), "default"
    program_class = load_program_class(program)
    config = program_class.get_config_schema()()
    built = construct(program_class, config, make_app(settings, CelerySettings()), program)
    stack = stack_of_program(built, settings, CelerySettings(), program)
    platform = Platform(
        header=COMMITTED_HEADER,
        name="acoupi",
        image="${ACOUPI_IMAGE:-acoupi/sensor}",
        context="..",
        is_compose=True,
        sound_group=29,
    )
    return render_self_setup(stack, platform)
