"""The compose file of a hub: the `ComposeFile` of a sensor, with another site."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acoupi.bundles.compose_file import (
    APPARMOR,
    HEALTH_COMMAND,
    MASQUERADE,
    SECCOMP,
    SOCKET,
    SOCKET_FOLDER,
    Block,
    ComposeFile,
    Site,
    bind,
    mebibytes,
)
from acoupi.bundles.rendering import RenderedFile, compose_text
from acoupi.config.documents import read_yaml
from acoupi.errors import ConfigurationError
from acoupi.hub.bundle.choices import HubChoices, HubHome
from acoupi.hub.bundle.secrets import USERS_FILE, env_file
from acoupi.hub.bundle.services import (
    BROKER,
    BROKER_TLS_PORT,
    DATABASE,
    DISPATCH,
    INGEST,
    INGEST_PORT,
    SUBSCRIBE,
    WEB,
    WEB_PORT,
    WORKER,
    hub_stack,
)
from acoupi.stack.stack import Service, Stack

__all__ = ["HubSite", "hub_problems", "render_compose"]

DATABASE_FOLDER, DATABASE_RUN = "/database", "/run/database"
AUDIO, TLS, AUTHORITY = "/audio", "/run/tls", "/run/ca"
SERVERS, OUTSIDE, WORK = "servers", "outside", "work"
"""Networks: to external servers; from other machines to the broker; workers with ingest."""
TEMPORARY = "/tmp:size=64m,mode=1777"  # noqa: S108 - its own
SOUND = "/tmp:size=1g,mode=1777"  # noqa: S108 - with the recording that a worker has in hand
POSTGRES_OPTIONS = {
    "listen_addresses": "*",
    "unix_socket_directories": DATABASE_RUN,
    # A container's /dev/shm has 64 MB, and large queries need more.
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "log_min_messages": "warning",
}
BROKER_OPTIONS = (
    *("--port", "6379", "--bind", "*", "--protected-mode", "no"),
    *("--unixsocket", SOCKET, "--unixsocketperm", "770"),
    *("--aclfile", f"{SOCKET_FOLDER}/{USERS_FILE.name}", "--dir", SOCKET_FOLDER),
    # Lost messages are sent again from the database.
    *("--save", "", "--appendonly", "no", "--maxmemory", "128mb"),
    *("--maxmemory-policy", "noeviction", "--maxmemory-clients", "64mb"),
)
BROKER_TLS = (
    *("--tls-port", str(BROKER_TLS_PORT), "--tls-auth-clients", "no"),
    *("--tls-cert-file", f"{TLS}/hub.pem", "--tls-key-file", f"{TLS}/hub.key"),
    *("--tls-ca-cert-file", "/etc/ssl/certs/ca-certificates.crt"),
)


def database_command() -> list[str]:
    """Return the command of PostgreSQL."""
    options = (f"{name}={text}" for name, text in POSTGRES_OPTIONS.items())
    return ["acoupi-database", *(word for one in options for word in ("-c", one))]


def broker_command(*, listens: bool) -> list[str]:
    """Return the command of redis; `listens`: also to other machines, over TLS."""
    return ["redis-server", *BROKER_OPTIONS, *(BROKER_TLS if listens else ())]


def health_of(service: Service, choices: HubChoices) -> tuple[str, ...]:
    """Return the probe of a service."""
    scheme = "https" if choices.has_tls else "http"
    watched = {
        DATABASE: f"{DATABASE_RUN}/.s.PGSQL.5432",
        BROKER: SOCKET,
        INGEST: f"{scheme}://127.0.0.1:{INGEST_PORT}/v1/health",
        WEB: f"{scheme}://127.0.0.1:{WEB_PORT}/alive",
    }.get(service.role, pulse_of(service))
    return ("CMD", HEALTH_COMMAND, watched)


def inner_variables(service: Service, choices: HubChoices) -> dict[str, str]:
    """Return the variables of a service that are not secrets."""
    pulse = {"ACOUPI_PULSE": pulse_of(service)}
    if service.role in {INGEST, WEB}:
        made = {"ACOUPI_HUB_CACHE": "/tmp/pages"} if service.role == WEB else {}  # noqa: S108
        audio = choices.audio if choices.keeps_audio_in_bucket else AUDIO
        return {"ACOUPI_HUB_AUDIO": audio, **made}
    if service.role == SUBSCRIBE:
        return {"ACOUPI_HUB_MQTT_CLIENT": choices.project, **pulse}
    if service.role != WORKER:
        return pulse if service.role == DISPATCH else {}
    host = choices.name if choices.certificate else INGEST
    scheme = "https" if choices.has_tls else "http"
    authority = {"REQUESTS_CA_BUNDLE": f"{AUTHORITY}/ca.pem"} if choices.makes_certificate else {}
    return {"ACOUPI_HUB_URL": f"{scheme}://{host}:{INGEST_PORT}", **authority, **pulse}


def pulse_of(service: Service) -> str:
    """Return the pulse file of a service without a port."""
    return f"/tmp/{service.name}.json"  # noqa: S108 - its own


@dataclass(frozen=True, kw_only=True)
class HubSite(Site):
    """A single machine: a hub's data are in the folders of its home."""

    profiles: tuple[str, ...] = (SECCOMP, APPARMOR)
    tmpfs: str | None = TEMPORARY
    home: HubHome
    choices: HubChoices
    database_image: str

    def setting(self, name: str, default: str) -> str:
        """Return the default: setup has made the choices."""
        return default

    def volumes(self, stack: Stack) -> Mapping[str, str]:
        """Return none: all are folders."""
        return {}

    def blocks(self, stack: Stack) -> list[Block]:
        """Return every service, in order."""
        return [self.service(one, stack) for one in stack.services]

    def broker(self, stack: Stack) -> Block:
        """Return redis."""
        return self.service(stack.service(BROKER), stack)

    def service(self, service: Service, stack: Stack) -> Block:
        """Return a service."""
        return Block(
            name=service.name,
            memory=mebibytes(service.limits.memory_bytes),
            score=service.limits.out_of_memory_score,
            shares=service.limits.cpu_shares,
            stop_grace=service.stop_grace,
            health=health_of(service, self.choices),
            port=self._port(service),
            networks=self._networks(service),
            volumes=self._volumes(service),
            environment=sorted(inner_variables(service, self.choices).items()),
            **self._own(service),
        )

    def _own(self, service: Service) -> dict[str, Any]:
        """Return the keys that only this kind of service has."""
        secrets = {"env_file": str(env_file(service.name))}
        if service.role == DATABASE:
            return {"command": database_command(), "image": self.database_image, **secrets}
        if service.role == BROKER:
            listens = self.choices.listen_broker is not None
            return {"command": broker_command(listens=listens)}
        scale = self.choices.workers if service.role == WORKER else {}
        count = scale.get(service.command[-1], 1)
        sound = {"tmpfs": SOUND} if service.role in {WORKER, WEB} else {}
        return {"command": service.command, "scale": count, **sound, **secrets}

    def _port(self, service: Service) -> str | None:
        inside = {INGEST: INGEST_PORT, WEB: WEB_PORT, BROKER: BROKER_TLS_PORT}.get(service.role)
        port = service.port
        return f"{port.address}:{port.number}:{inside}" if port and inside else None

    def _networks(self, service: Service) -> dict[str, tuple[str, ...]]:
        choices = self.choices
        names: dict[str, tuple[str, ...]] = {}
        if choices.has_own_database and service.role in _OF_DATABASE:
            names[DATABASE] = ()
        if choices.has_own_broker and service.role in {BROKER, DISPATCH, WORKER}:
            names[BROKER] = ()
        if service.role in {INGEST, WORKER}:
            # Workers here reach ingest by the name that is in its certificate.
            named = service.role == INGEST and choices.certificate is not None
            names[WORK] = (choices.name,) if named else ()
        if service.role in {INGEST, WEB, SUBSCRIBE}:
            names[service.role] = ()
        if service.role == BROKER and service.port:
            names[OUTSIDE] = ()
        elsewhere = not choices.has_own_broker or (
            service.role == DISPATCH and not choices.has_own_database
        )
        if elsewhere and service.role in {DISPATCH, WORKER}:
            names[SERVERS] = ()
        return names

    def networks(self, blocks: Iterable[Block]) -> Mapping[str, str]:
        """Return the networks; only those with a published port reach other machines."""
        choices = self.choices
        asks = choices.keeps_audio_in_bucket or not (
            choices.has_own_database and choices.has_own_broker
        )
        kinds = {
            INGEST: f'driver_opts: {{{MASQUERADE}: "{"true" if asks else "false"}"}}',
            WEB: f'driver_opts: {{{MASQUERADE}: "{"true" if asks else "false"}"}}',
            SUBSCRIBE: f'driver_opts: {{{MASQUERADE}: "true"}}',
            OUTSIDE: f'driver_opts: {{{MASQUERADE}: "false"}}',
            SERVERS: f'driver_opts: {{{MASQUERADE}: "true"}}',
        }
        used = dict.fromkeys(name for one in blocks for name in one.networks)
        return {name: kinds.get(name, "internal: true") for name in used}

    def _volumes(self, service: Service) -> list[str]:
        home, choices = self.home.path, self.choices
        own_audio = "" if choices.keeps_audio_in_bucket else choices.audio or str(home / "audio")
        tls = [self._mount(home / "tls", TLS)] if choices.has_tls else []
        if service.role == DATABASE:
            return [
                self._mount(home / "database", DATABASE_FOLDER, read_only=False),
                self._mount(self.home.run, DATABASE_RUN, read_only=False),
                self._mount(home / "database.passwd", "/etc/passwd"),
            ]
        if service.role == BROKER:
            own = self._mount(home / "broker", SOCKET_FOLDER, read_only=False)
            return [own, *(tls if service.port else [])]
        if service.role in {INGEST, WEB}:
            is_read = service.role == WEB
            audio = [self._mount(Path(own_audio), AUDIO, read_only=is_read)] if own_audio else []
            return [*tls, *audio]
        if (service.role == WORKER and choices.makes_certificate) or (
            service.role in {WORKER, DISPATCH} and choices.knows_broker
        ):
            return [self._mount(home / "ca", AUTHORITY)]
        return []

    def _mount(self, source: Path, target: str, *, read_only: bool = True) -> str:
        return bind(compose_text(source), target, read_only=read_only)


def render_compose(
    home: HubHome, choices: HubChoices, *, owner: tuple[int, int], image: str, database_image: str
) -> RenderedFile:
    """Return the compose file of a hub.

    Raises
    ------
    ConfigurationError
        If it would not keep the containers apart, by name.
    """
    commands = "     ".join(f"acoupi hub {one}" for one in ("up", "status", "down"))
    site = HubSite(
        header=(
            "A hub. Generated by `acoupi hub setup`: your changes are lost at the next setup.",
            "",
            f"  {commands}",
        ),
        name=choices.project,
        image=image,
        user=f"{owner[0]}:{owner[1]}",
        home=home,
        choices=choices,
        database_image=database_image,
    )
    rendered = ComposeFile(hub_stack(choices), site).render()
    if problems := hub_problems(read_yaml(rendered.text)):
        raise ConfigurationError(
            "the compose file of the hub is not safe to start.",
            "acoupi hub setup --listen 127.0.0.1   (and report this)",
            why=f"{'; '.join(problems)}.",
        )
    return rendered


def hub_problems(document: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the networks, ports and secrets of a hub; [] if nothing."""
    services = document["services"]
    networks = {name: set(one.get("networks") or ()) for name, one in services.items()}
    kinds = document.get("networks") or {}
    problems = [
        f"{name} publishes a port"
        for name, one in services.items()
        if one.get("ports") and name not in {INGEST, WEB, BROKER}
    ]
    problems += [
        f"{name} reaches the database"
        for name in services
        if networks[name] & networks.get(DATABASE, set()) and name not in _OF_DATABASE
    ]
    problems += [
        f"{name} has a network that leads out"
        for name in services
        if name == DATABASE or name.startswith(WORKER)
        for network in networks[name]
        if network != SERVERS and not kinds[network].get("internal")
    ]
    problems += [
        f"{name} mounts folders of the hub"
        for name, one in services.items()
        if name.startswith(WORKER)
        for mount in one.get("volumes") or ()
        if mount["target"] != AUTHORITY
    ]
    return problems


_OF_DATABASE = (DATABASE, INGEST, DISPATCH, SUBSCRIBE, WEB)
