"""The compose file of a stack: one renderer and one template for every site.

A `Stack` describes what runs and a `Site` where: which paths are bind mounts and
which are named volumes, which values can be set in ``.env`` and which are
literal. The template is ``compose/balena/docker-compose.yml.jinja2``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from acoupi.bundles.bundle_checks import SECCOMP_FILE, SOUND_RULE, check_bundle
from acoupi.bundles.engine import COMPOSE_FILE
from acoupi.bundles.images import source_dir
from acoupi.bundles.rendering import RenderedFile, Yaml, compose_text, render_tree
from acoupi.stack.broker_users import broker_user
from acoupi.stack.spool import MEMORY_VOLUME, memory_of
from acoupi.stack.stack import BEAT_SHARES, BROKER, MEBIBYTE, Service, Stack, is_sound_worker

__all__ = [
    "APPARMOR",
    "BROKER_GRACE",
    "BROKER_MEMORY",
    "BROKER_URL",
    "SECCOMP",
    "SOCKET",
    "SOCKET_FOLDER",
    "Block",
    "ComposeFile",
    "Entry",
    "Site",
    "Sound",
    "bind",
    "block_of",
    "broker_block",
    "broker_variables",
    "health_probe",
    "in_memory",
    "mebibytes",
    "memory_variable",
    "memory_volume",
    "port_variable",
    "redis_options",
    "setting",
    "variable",
    "waiting_volume",
    "waiting_volumes",
]

SOCKET_FOLDER = "/run/broker"
SOCKET = f"{SOCKET_FOLDER}/redis.sock"
BROKER_URL = f"redis+socket://{SOCKET}"
BROKER_GRACE = 10.0
BROKER_MEMORY = "64m"
BROKER_SHARES = BEAT_SHARES
BROKER_SCORE = 100
"""Added to every score: an engine without CAP_SYS_RESOURCE (rootless, or in a virtual
machine) starts no container with a score below its own. The order stays."""
PROCESSES = 64
"""Most processes and threads in a container."""
SECCOMP = f"seccomp=${{ACOUPI_SECCOMP:-{SECCOMP_FILE}}}"
"""Compose reads the file, below its project's folder, and sends the engine what is in it."""
APPARMOR = "apparmor=${ACOUPI_APPARMOR:-docker-default}"
"""The engine's own profile unless another is chosen; without AppArmor the engine ignores it."""
HEALTH_COMMAND = "acoupi-health"
HEALTH = {
    "health_interval": 2.0,
    "health_timeout": 360.0,
    "health_start": 60.0,
    "health_retries": 2,
}
"""Seconds between looks, each of which lasts five minutes unless something is wrong.

A single failed probe is tolerated: setting the clock can cause one.
"""
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
"""Without it a network only reaches this machine; published ports still work."""
Entry = tuple[str, str | None]
"""A variable and its value; None passes on the variable of the host."""


@dataclass(frozen=True)
class Sound:
    """How the recorder gets the sound device."""

    group: str
    """Number of the group of the sound devices, or a variable of ``.env`` that holds it."""
    device: str | None = None
    """As ``devices:`` takes it; None: by a bind mount and a device rule."""
    folder: str = "${ACOUPI_SOUND:-/dev/snd}"
    """Mounted at /dev/snd where there is no `device`."""
    rule: str = SOUND_RULE


@dataclass(frozen=True)
class Block:
    """One service of a compose file; empty values and None are left out."""

    name: str
    command: Sequence[str]
    memory: str
    score: int
    shares: int
    stop_grace: float
    health: Sequence[str]
    has_long_command: bool = False
    """Whether the command has a line for each word."""
    depends_on: str | None = None
    network: bool = False
    network_first: bool = False
    """Whether ``network_mode`` stands right after the command; YAML does not care."""
    sound: Sound | None = None
    labels: Sequence[tuple[str, str, str]] = ()
    """Name, value, comment."""
    env_file: str | None = None
    """As a word of ``env_file`` takes it."""
    environment: Sequence[Entry] = ()
    tmpfs: str | None = None
    volumes: Sequence[str] = ()
    user: str | None = None
    """User and group; None: those of the site."""
    largest_file: int | None = None
    """Largest file that the service may write, bytes; None: no limit."""
    port: str | None = None
    """As ``ports:`` takes it."""
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of networks, and other names that the service has there."""
    image: str | None = None
    """None: that of the site."""
    scale: int = 1
    """How many containers."""

    @property
    def joined(self) -> str:
        """Its networks, as ``networks:`` takes them."""
        if not any(self.networks.values()):
            return _listed(self.networks)
        words = [
            f"{compose_text(name)}: {{aliases: {_listed(others)}}}" if others else f"{name}: {{}}"
            for name, others in self.networks.items()
        ]
        return f"{{{', '.join(words)}}}"


def _listed(words: Iterable[str]) -> str:
    return f"[{', '.join(map(compose_text, words))}]"


@dataclass(frozen=True, kw_only=True)
class Site(ABC):
    """Where the containers run."""

    header: tuple[str, ...]
    """The comment at the top of the file."""
    user: str
    sound: Sound | None = None
    """None: nothing records there."""
    name: str | None = None
    """Of the compose project."""
    image: str | None = None
    build: Mapping[str, Any] | None = None
    restart: str = "unless-stopped"
    tmpfs: str | None = None
    """Of every service."""
    profiles: tuple[str, ...] = ()
    """Of seccomp and AppArmor, as ``security_opt`` takes them; none: those of the engine."""
    has_logging: bool = True
    """Whether the platform accepts ``logging``."""

    @abstractmethod
    def setting(self, name: str, default: str) -> str:
        """Return a value that ``.env`` may change where the site has one, else its default."""

    @abstractmethod
    def broker(self, stack: Stack) -> Block:
        """Return the block of redis."""

    def others(self, stack: Stack) -> list[Block]:
        """Return the services of this site that the stack does not have."""
        return []

    @abstractmethod
    def service(self, service: Service, stack: Stack) -> Block:
        """Return the block of a service of the stack."""

    def blocks(self, stack: Stack) -> list[Block]:
        """Return every service of the file, in order."""
        every = (*stack.workers, stack.beat, *stack.extras)
        ours = [self.service(one, stack) for one in every]
        return [self.broker(stack), *self.others(stack), *ours]

    def networks(self, blocks: Iterable[Block]) -> Mapping[str, str]:
        """Return the networks: their names, and what they are."""
        return {
            name: f'driver_opts: {{{MASQUERADE}: "{"true" if one.network else "false"}"}}'
            for one in blocks
            for name in one.networks
        }

    @abstractmethod
    def volumes(self, stack: Stack) -> Mapping[str, str]:
        """Return the volumes: their names, and what they are if not folders of the engine."""


@dataclass(frozen=True)
class ComposeFile:
    """The compose file of a stack at a site."""

    stack: Stack
    site: Site
    blocks: Sequence[Block] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.site.blocks(self.stack)))

    def render(self) -> RenderedFile:
        """Return the file.

        Raises
        ------
        ConfigurationError
            If it would not isolate the containers; names the problems.
        """
        site = self.site
        context = {
            "site": site,
            "services": self.blocks,
            "volumes": site.volumes(self.stack),
            "networks": site.networks(self.blocks),
            "processes": PROCESSES,
            **HEALTH,
        }
        folder = source_dir() / "compose" / "balena"
        (rendered,) = render_tree(folder, context, below=(COMPOSE_FILE,)).values()
        check_bundle(rendered.text)
        return rendered


def block_of(service: Service, site: Site, **more: Any) -> Block:
    """Return the block of a service; `more` is what the site says of it."""
    return Block(
        name=service.name,
        command=("python", *service.command),
        memory=site.setting(memory_variable(service.name), mebibytes(service.limits.memory_bytes)),
        score=service.limits.out_of_memory_score,
        shares=service.limits.cpu_shares,
        stop_grace=service.stop_grace,
        health=health_probe(service),
        depends_on=None if service.is_extra else BROKER,
        port=published(service, site) if service.port else None,
        networks={service.name: ()} if service.port else {},
        network=service.network,
        sound=site.sound if is_sound_worker(service) else None,
        **more,
    )


def published(service: Service, site: Site) -> str:
    """Return how the port of a service is published: where the machine listens, and the port."""
    assert service.port is not None
    number = str(service.port.number)
    outside = site.setting(port_variable(service.name), number)
    return f"{service.port.address}:{outside}:{number}"


def port_variable(service: str) -> str:
    """Return the name in ``.env`` of the port of this machine on which a service is reached."""
    return f"ACOUPI_PORT_{service.upper().replace('-', '_')}"


def broker_block(site: Site, **more: Any) -> Block:
    """Return the block of redis; `more` is what the site says of it."""
    return Block(
        memory=site.setting(memory_variable(BROKER), BROKER_MEMORY),
        score=BROKER_SCORE,
        shares=BROKER_SHARES,
        stop_grace=BROKER_GRACE,
        health=("CMD", HEALTH_COMMAND, SOCKET),
        has_long_command=True,
        **more,
    )


def broker_variables(service: str, password: str) -> dict[str, str]:
    """Return the variables of a client of the broker; `password` is the path of its file."""
    return {
        "ACOUPI_BROKER": BROKER_URL,
        "ACOUPI_BROKER_USER": broker_user(service),
        "ACOUPI_BROKER_PASSWORD_FILE": password,
    }


def bind(source: str, target: str, *, read_only: bool = True, creates: bool = False) -> Yaml:
    """Return a bind mount; without `creates` a missing source is an error.

    Examples
    --------
    >>> str(bind("/a", "/b"))
    '{type: bind, source: /a, target: /b, read_only: true, bind: {create_host_path: false}}'
    """
    fixed = ", read_only: true" if read_only else ""
    create = "true" if creates else "false"
    return Yaml(
        f"{{type: bind, source: {source}, target: {target}{fixed}, "
        f"bind: {{create_host_path: {create}}}}}"
    )


def in_memory(mebibytes: int, files: int, rights: str) -> str:
    """Return a volume that is in memory, and holds no more than that.

    Examples
    --------
    >>> in_memory(1, 8, "mode=0755")[47:81]
    'size=1m,nr_inodes=8,mode=0755,noex'
    """
    options = f"size={mebibytes}m,nr_inodes={files},{rights},noexec,nosuid,nodev"
    return f'{{driver_opts: {{type: tmpfs, device: tmpfs, o: "{options}"}}}}'


def waiting_volume(service: str) -> str:
    """Return the name of the volume where calls of a service wait for the door."""
    return f"waiting-{service}"


def waiting_volumes(services: Iterable[str]) -> dict[str, str]:
    """Return the volumes where calls of these services wait.

    They are in memory, so that a service cannot fill the disk there. Calls lost in a power cut are
    made up for: a recording without an output in the store is analysed again. They have room for
    more files than `acoupi.door.waiting` writes; two users write there.
    """
    kind = in_memory(64, 16_384, "mode=0777")
    return dict.fromkeys(map(waiting_volume, services), kind)


def memory_volume(stack: Stack) -> dict[str, str]:
    """Return the volume of recordings that wait in memory, if they do; two users write there."""
    size = memory_of(stack)
    return {MEMORY_VOLUME: in_memory(size, 65_536, "mode=0777")} if size else {}


def variable(name: str, default: str | None = None) -> str:
    """Return a variable of ``.env`` or of the environment; None: it must be set there.

    Examples
    --------
    >>> variable("ACOUPI_SOUND", "/dev/snd"), variable("ACOUPI_UID")
    ('${ACOUPI_SOUND:-/dev/snd}', '${ACOUPI_UID:?see .env}')
    """
    return f"${{{name}:?see .env}}" if default is None else f"${{{name}:-{default}}}"


def setting(name: str, default: str) -> Entry:
    """Return an entry of ``environment`` that is a variable of ``.env``."""
    return name, Yaml(f'"{variable(name, default)}"')


def redis_options(*, append_only: str, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the options of redis; `more` is what the site adds."""
    return (
        *("--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "770", *more),
        *("--dir", SOCKET_FOLDER, "--save", "", "--appendonly", append_only),
        # Redis looks around this often a second, ten times as often by itself.
        *("--hz", "1"),
        # Of 64 MB: 32 for messages, 16 for what clients send and read; no message over 1 MB.
        *("--maxmemory", "32mb", "--maxmemory-policy", "noeviction"),
        *("--maxmemory-clients", "16mb", "--proto-max-bulk-len", "1mb"),
        *("--client-query-buffer-limit", "4mb"),
    )


def memory_variable(service: str) -> str:
    """Return the name in ``.env`` of the memory that a service may use."""
    return f"ACOUPI_MEMORY_{service.upper().replace('-', '_')}"


def mebibytes(number: int | None) -> str:
    """Write a limit of memory, rounded up, as a compose file has it; "0" is none."""
    return f"{math.ceil((number or 0) / MEBIBYTE)}m" if number else "0"


def health_probe(service: Service) -> tuple[str, ...]:
    """Return the probe: ``images/sensor/health``, which looks at the pulse."""
    assert service.health is not None
    words = (service.health.words,) if service.health.words else ()
    return ("CMD", HEALTH_COMMAND, str(service.health.pulse), *words)
