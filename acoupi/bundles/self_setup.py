"""Sites of bundles that set themselves up: no home on the host, named volumes only.

There are two: Docker Compose from a checkout without Python
(``compose/docker-compose.yml``), and a balena fleet (`acoupi.targets.balena`).
What their containers do is described in ``acoupi/provisioning/README.md``.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from acoupi.audio.live_ring import live_folder
from acoupi.bundles.compose_file import (
    SECCOMP,
    SOCKET_FOLDER,
    Block,
    ComposeFile,
    Entry,
    Site,
    Sound,
    block_of,
    broker_block,
    broker_variables,
    in_memory,
    memory_volume,
    redis_options,
    setting,
    variable,
    waiting_volumes,
)
from acoupi.bundles.images import REPOSITORY
from acoupi.config.names import SENSOR
from acoupi.config.secrets import WITHHELD, WITHHOLD
from acoupi.config.sensor import sensor_schema
from acoupi.config.variables import as_variables, settings_table
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.errors import ConfigurationError
from acoupi.home import using_home
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.stack.broker_users import broker_rules
from acoupi.stack.doors import door_roles
from acoupi.stack.loading import load_program_class
from acoupi.stack.mounting import cache_variable, writes_only_its_own
from acoupi.stack.settings import Settings
from acoupi.stack.stack import (
    BROKER,
    RECORDER_STOP_GRACE,
    SETUP,
    HealthCheck,
    Limits,
    Service,
    Stack,
    is_sound_worker,
)
from acoupi.stack.variables import VARIABLES

__all__ = [
    "HOME",
    "MICROPHONE_PATIENCE",
    "SCRATCH",
    "DeviceSite",
    "SelfSetupSite",
    "answers_of",
    "audio_group",
    "checkout_bundle",
    "compose_file_of",
    "fleet_stack",
    "image_arguments",
    "refuse_mounts",
    "render_self_setup",
    "schema_of",
]

HOME = Path("/acoupi")
"""The home, inside every container."""
SCRATCH = "/run/acoupi"
"""A writable folder, empty after a restart; not /tmp: balena's supervisor mounts /tmp/balena."""
KEYS = "/run/keys"
KEY = "/run/key"
PASSWORD = f"{KEY}/password"
USER = 1000
"""User id that owns the mount points in the image; new volumes inherit it."""
FOLDERS = ("config", "data", "log", "run", "secrets")
"""Folders of the home, each a volume. Only setup has all of ``log`` and ``run``."""
OWN_FOLDERS = {"log": 16, "run": 2}
"""Of which each service has a folder of its own, a volume; and its size in memory, mebibytes."""
SERVICES_OF_IMAGE = ("beat", "default", "detection", "recording")
"""Services that have folders for their volumes in every image; others are a build argument."""
SETUP_GRACE = 10.0


def fleet_stack(stack: Stack) -> Stack:
    """Return a stack for containers whose place and settings are not known yet.

    Its home is `HOME`; a worker that could send messages has a network
    whatever the settings are now; a recording may be longer than it is now.
    """
    services = []
    for one in stack.services:
        assert one.health is not None, "every service has a pulse"
        recorder_grace = RECORDER_STOP_GRACE if one.role == "recorder" else 0.0
        services.append(
            replace(
                one,
                network=one.network or DEFAULT_QUEUE in one.queues,
                health=replace(one.health, pulse=HOME / "run" / one.name / one.health.pulse.name),
                stop_grace=max(one.stop_grace, recorder_grace),
            )
        )
    return replace(stack, services=tuple(services))


def compose_file_of(stack: Stack, site: "SelfSetupSite") -> ComposeFile:
    """Return the containers of a stack; see `fleet_stack`.

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
    return ComposeFile(fleet_stack(stack), site)


def render_self_setup(stack: Stack, site: "SelfSetupSite") -> str:
    """Return the compose file of a stack; raises as `compose_file_of`."""
    return compose_file_of(stack, site).render().text


def image_arguments(stack: Stack) -> dict[str, str]:
    """Return the build arguments that name the services which the image does not know."""
    names = _with_folders(stack)
    return {} if set(names) <= set(SERVICES_OF_IMAGE) else {"SERVICES": " ".join(names)}


@dataclass(frozen=True, kw_only=True)
class SelfSetupSite(Site):
    """Containers with only volumes; a platform adds its own abilities."""

    user: str = f"{USER}:{USER}"
    tmpfs: str | None = f"{SCRATCH}:size=16m,mode=1777"
    answers: Mapping[str, str] = field(default_factory=dict)
    """Variables that setup always gets, whatever the device's are."""

    def setting(self, name: str, default: str) -> str:
        """Return the default: the file has no variables."""
        return default

    def literal(self, service: Service, stack: Stack) -> dict[str, str]:
        """Return the variables of a service whose values are in the file."""
        return {
            "ACOUPI_HOME": str(HOME),
            "ACOUPI_MANIFEST_FILE": str(HOME / "config" / "generated.json"),
            "ACOUPI_PROGRAM": stack.program,
            "ACOUPI_SERVICE": service.name,
            **{
                f"ACOUPI_{kind.upper()}_DIR": str(HOME / kind / service.name)
                for kind in OWN_FOLDERS
            },
            **({} if service.secrets else {WITHHOLD: WITHHELD}),
            **cache_variable(HOME),
            **_scratch(),
        }

    def settable(self, service: Service, stack: Stack) -> list[Entry]:
        """Return the variables of a service whose values come from the host."""
        return []

    def volumes(self, stack: Stack) -> Mapping[str, str]:
        """Return the folders of the home, the broker's, and those of each service."""
        services = (*stack.workers, stack.beat, *stack.extras)
        own = {name: kind for one in services for name, kind in _kinds_of_own(one).items()}
        callers = (*stack.workers, *stack.extras)
        doors = {volume.partition(":")[0] for one in callers for volume in _door_volumes(one)}
        names = [*FOLDERS, "broker", *map(_key_volume, _clients(stack)), *own, *sorted(doors)]
        kinds = waiting_volumes(door_roles(stack)) | memory_volume(stack)
        return dict.fromkeys(names, "") | own | {name: kinds[name] for name in doors & kinds.keys()}

    def broker(self, stack: Stack) -> Block:
        """Return redis, started by a script that makes the passwords."""
        rules = json.dumps(broker_rules(stack), sort_keys=True)
        return broker_block(
            self,
            name=BROKER,
            command=(
                *("python", "-m", "acoupi.system.broker_start", "--", "redis-server"),
                *redis_options(append_only="no"),
            ),
            environment=[("ACOUPI_BROKER_RULES", rules), *_scratch().items()],
            volumes=[
                f"broker:{SOCKET_FOLDER}",
                *(f"{_key_volume(one)}:{KEYS}/{one}" for one in _clients(stack)),
            ],
        )

    def others(self, stack: Stack) -> list[Block]:
        """Return the service that sets the home up."""
        limits = [one.limits for one in stack.workers]
        setup = Service(
            name=SETUP,
            role=SETUP,
            command=("-m", "acoupi.system.provisioning"),
            network=True,
            secrets=True,
            health=HealthCheck(HOME / "run" / SETUP / f"{SETUP}.json"),
            stop_grace=SETUP_GRACE,
            limits=Limits(
                memory_bytes=max(one.memory_bytes or 0 for one in limits),
                out_of_memory_score=max(one.out_of_memory_score for one in limits),
            ),
        )
        environment = {
            **self.literal(setup, stack),
            "ACOUPI_SERVICES": ",".join(one.name for one in stack.workers),
            **self.answers,
        }
        block = block_of(
            setup,
            self,
            environment=self._environment(environment, setup, stack),
            volumes=[
                *(f"{name}:{HOME / name}" for name in ("config", "secrets", *OWN_FOLDERS)),
                *(f"{volume}:ro" for name in _with_folders(stack) for volume in _own_volumes(name)),
            ],
        )
        return [replace(block, depends_on=None)]

    def service(self, service: Service, stack: Stack) -> Block:
        """Return a worker, beat, or a service that is neither and knows no broker."""
        environment, volumes = self.literal(service, stack), []
        if not service.is_extra:
            environment |= broker_variables(service.name, PASSWORD)
            volumes = [f"broker:{SOCKET_FOLDER}:ro", f"{_key_volume(service.name)}:{KEY}:ro"]
        return block_of(
            service,
            self,
            environment=self._environment(environment, service, stack),
            volumes=[
                *volumes,
                *_config_volume(service),
                *([f"secrets:{HOME / 'secrets'}:ro"] if service.secrets else []),
                *_data_volume(service),
                *_own_volumes(service.name),
                *_volumes_of_others(service),
                *_door_volumes(service),
            ],
        )

    def _environment(
        self, literal: Mapping[str, str], service: Service, stack: Stack
    ) -> list[Entry]:
        settable = self.settable(service, stack)
        named = {name for name, _ in settable}
        return [*sorted(one for one in literal.items() if one[0] not in named), *settable]


MICROPHONE_PATIENCE = 600
"""Seconds without a microphone after which the recorder exits: a restart gives it devices that
were plugged in since."""


class DeviceSite(SelfSetupSite):
    """A machine that gives containers their devices at their start."""

    def literal(self, service: Service, stack: Stack) -> dict[str, str]:
        """Return also how long the recorder waits for the devices that it was given."""
        patience = {"ACOUPI_MICROPHONE_PATIENCE": str(MICROPHONE_PATIENCE)}
        return super().literal(service, stack) | (patience if is_sound_worker(service) else {})


def _clients(stack: Stack) -> list[str]:
    """Return the names of the services that talk to the broker."""
    return [one.name for one in (*stack.workers, stack.beat)]


def _with_folders(stack: Stack) -> list[str]:
    """Return the names of the services that have a log and a part of ``run/`` of their own."""
    return [*_clients(stack), *(one.name for one in stack.extras)]


def _kinds_of_own(service: Service) -> dict[str, str]:
    """Return the volumes of a service itself, and what they are.

    A service that writes no other folder has them in memory, of limited size, so it cannot fill the
    disk.
    """
    settings = Settings(home=_home_of(service))
    writes_only_own = writes_only_its_own(settings, service.name, service.mounts)
    in_bounds = writes_only_own and not service.is_extra
    return {
        f"{kind}-{service.name}": in_memory(size, 1024, f"uid={USER},gid={USER},mode=0755")
        if in_bounds
        else ""
        for kind, size in OWN_FOLDERS.items()
    }


def _own_volumes(service: str) -> list[str]:
    return [f"{kind}-{service}:{HOME / kind / service}" for kind in OWN_FOLDERS]


def _config_volume(service: Service) -> list[str]:
    """Return the volume of the settings, which only setup and who answers the page writes."""
    config = _home_of(service) / "config"
    writes = any(one.source == config and not one.read_only for one in service.mounts)
    return [f"config:{HOME / 'config'}{'' if writes else ':ro'}"]


def _volumes_of_others(service: Service) -> list[str]:
    """Return the logs and parts of ``run/`` of other services that a service reads."""
    home = _home_of(service)
    places = [one.source for one in service.mounts if one.source.name != service.name]
    return [
        f"{one.parent.name}-{one.name}:{HOME / one.relative_to(home)}:ro"
        for one in places
        if one.parent in [home / kind for kind in OWN_FOLDERS]
    ]


def _door_volumes(service: Service) -> list[str]:
    """Return the volumes of a service's doors, of what is live, and of what waits in memory."""
    home = _home_of(service)
    places = {
        door_folder(home / "run", "x").parent: "door",
        waiting_folder(home, "x").parent: "waiting",
        live_folder(home, "x").parent: "live",
        home / "data" / "spool": "spool",
    }
    return [
        f"{places[one.source.parent]}-{one.source.name}:{HOME / one.source.relative_to(home)}"
        f"{':ro' if one.read_only else ''}"
        for one in service.mounts
        if one.source.parent in places
    ]


def _home_of(service: Service) -> Path:
    """Return the home for which a service was described."""
    return Path(dict(service.environment)["ACOUPI_HOME"])


def _data_volume(service: Service) -> list[str]:
    """Return the volume of ``data/``, as a whole: not every engine can mount a part of one."""
    data = _home_of(service) / "data"
    mounts = [one for one in service.mounts if one.source.is_relative_to(data)]
    read_only = "" if any(not one.read_only for one in mounts) else ":ro"
    return [f"data:{HOME / 'data'}{read_only}"] if mounts else []


def _key_volume(service: str) -> str:
    return f"key-{service}"


def _scratch() -> dict[str, str]:
    return {"HOME": SCRATCH, "TMPDIR": SCRATCH}


def schema_of(program: str) -> Any:
    """Return the configuration schema of a program."""
    return load_program_class(program).get_config_schema()


def refuse_mounts(stack: Stack, home: Path, place: str) -> None:
    """Raise if a service needs a folder that is not in a volume of the home.

    Parameters
    ----------
    stack, home
        What runs; the home that it was described for.
    place
        What cannot give it, in words.

    Raises
    ------
    ConfigurationError
        Naming the folders.
    """
    inside = [
        *(home / name for name in FOLDERS if name != "secrets"),
        home / "waiting",
        Settings(home=home).program_file,
    ]
    mounts = dict.fromkeys(mount for one in stack.services for mount in one.mounts)
    outside = [one for one in mounts if not any(one.source.is_relative_to(up) for up in inside)]
    if outside:
        names = ", ".join(f'"{mount.source}"' for mount in outside)
        raise ConfigurationError(
            f"{place} cannot have {names}.",
            f'leave it at its default, or put it below "{home / "data"}"',
            why="its containers only have named volumes, not folders of the device.",
        )


def answers_of(stack: Stack, home: Path) -> dict[str, str]:
    """Return the settings as variables, with the paths that they have in containers."""
    if stack.config is None:
        return {}
    with using_home(home):
        given = as_variables(stack.config)
        given |= as_variables(stack.sensor, SENSOR) if stack.sensor is not None else {}
    return {name: _moved(text, home) for name, text in given.items()}


def _moved(text: str, home: Path) -> str:
    path = Path(text)
    return str(HOME / path.relative_to(home)) if path.is_relative_to(home) else text


AUDIO_GROUP = 29
"""Of the sound devices on Debian and on balenaOS."""


def audio_group(chosen: Mapping[str, str] = os.environ) -> int:
    """Return the group that the sound devices have where the sensor will run.

    Raises
    ------
    ConfigurationError
        If it is not a number.
    """
    text = chosen.get("ACOUPI_AUDIO_GID") or str(AUDIO_GROUP)
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigurationError(
        f"ACOUPI_AUDIO_GID cannot be {text!r}.",
        f"ACOUPI_AUDIO_GID={AUDIO_GROUP}",
        why="it is the number of the group that the sound devices have on the boards.",
    )


# --- a checkout -------------------------------------------------------------------------


CHECKOUT_HEADER = (
    "The default program in containers, from a checkout, without Python on the host:",
    "",
    "    docker compose -f compose/docker-compose.yml up -d --build",
    "",
    "The image is built, and the sensor sets itself up, from variables of the environment or of",
    "compose/.env; which there are stands at the service setup. Without a microphone:",
    "ACOUPI_SIMULATED_AUDIO=synthetic. Generated from compose/balena/docker-compose.yml.jinja2;",
    "to renew it: pytest tests/golden --update-golden",
)


class CheckoutSite(SelfSetupSite):
    """Docker Compose in a checkout: variables of the host and of ``.env`` are passed on."""

    def setting(self, name: str, default: str) -> str:
        """Return a variable."""
        return variable(name, default)

    def settable(self, service: Service, stack: Stack) -> list[Entry]:
        """Return the level of the logs, and for setup every setting."""
        level = setting("ACOUPI_LOG_LEVEL", "INFO")
        if service.role == SETUP:
            passed_on = [(name, None) for name in _passed_on(stack)]
            return [setting("ACOUPI_PROGRAM", stack.program), *passed_on, level]
        if is_sound_worker(service):
            return [level, setting("ACOUPI_SIMULATED_AUDIO", "")]
        return [level]

    def others(self, stack: Stack) -> list[Block]:
        """Return the service that sets the home up; it reads ``.env`` as a whole, too."""
        return [
            replace(one, env_file="{path: .env, required: false}") for one in super().others(stack)
        ]


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


def checkout_bundle(stack: Stack) -> str:
    """Return the compose file of a checkout: ``compose/docker-compose.yml``."""
    build = {
        "context": "..",
        "dockerfile": "images/sensor/Dockerfile",
        "network": variable("ACOUPI_BUILD_NETWORK", "default"),
        "args": {
            "BASE": variable("ACOUPI_BASE_IMAGE", "debian:bookworm-slim"),
            **image_arguments(stack),
        },
    }
    sound = Sound(group=variable("ACOUPI_AUDIO_GID", str(AUDIO_GROUP)))
    site = CheckoutSite(
        header=CHECKOUT_HEADER,
        name="acoupi",
        image=variable("ACOUPI_IMAGE", REPOSITORY),
        build=build,
        sound=sound,
        profiles=(SECCOMP,),
    )
    return render_self_setup(stack, site)
