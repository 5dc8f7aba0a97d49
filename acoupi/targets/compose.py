"""Every worker its own container: Docker Compose v2 on a Docker engine.

It renders ``docker-compose.yml`` and ``.env`` in the home, so that
``docker compose up -d`` there does the same as this target. Compose starts and
stops the containers; their state is read through the engine's API.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar

from acoupi.audio.live_ring import live_folder
from acoupi.audio.simulated import SimulatedAudio
from acoupi.bundles.bundle_checks import SECCOMP_FILE, TOO_WIDE, folders_of, memory_folders
from acoupi.bundles.compose_file import (
    APPARMOR,
    BROKER_MEMORY,
    SECCOMP,
    SOCKET_FOLDER,
    Block,
    ComposeFile,
    Entry,
    Site,
    Sound,
    bind,
    block_of,
    broker_block,
    broker_variables,
    mebibytes,
    memory_variable,
    memory_volume,
    port_variable,
    redis_options,
    setting,
    variable,
    waiting_volume,
    waiting_volumes,
)
from acoupi.bundles.engine import (
    APPARMOR_PROFILE,
    COMPOSE_FILE,
    Engine,
    has_apparmor_profile,
)
from acoupi.bundles.home_folder import is_adopted, own_names
from acoupi.bundles.images import image_name, source_dir
from acoupi.bundles.own_folders import make_own_files, part_own_folders
from acoupi.bundles.ownership import (
    give,
    give_contents,
    host_owner,
    is_empty,
    make_folder,
    make_private,
    service_user,
    share_folder,
    sound_group,
)
from acoupi.bundles.parted_secrets import SECRETS_FOLDER, part_secrets
from acoupi.bundles.rendering import TEMPLATES, Yaml, compose_text, render_tree
from acoupi.bundles.variables import ENV_FILE, chosen_texts
from acoupi.config import dump_config
from acoupi.config.secrets import WITHHELD, WITHHOLD
from acoupi.errors import ConfigurationError
from acoupi.provenance import IMAGE_VARIABLE
from acoupi.stack.broker_users import (
    BROKER_FOLDER,
    USERS_FILE,
    broker_rules,
    broker_secrets,
)
from acoupi.stack.doors import door_keeper, door_roles
from acoupi.stack.mounting import own_files, user_variable, writes_only_its_own
from acoupi.stack.settings import Settings
from acoupi.stack.spool import MEMORY_VOLUME, memory_mounts
from acoupi.stack.stack import BEAT, BROKER, MEBIBYTE, Mount, Service, Stack, is_sound_worker
from acoupi.targets.process import place_files, service_environment
from acoupi.targets.running import CHOSEN, DEFAULTS, DOWN, RunningBundle, project_name
from acoupi.writing import RenderedFile

__all__ = ["DOWN", "ComposeTarget", "project_name"]

PASSWORD = "/run/secrets/broker"  # noqa: S105 - where it is
USERS = "/run/secrets/users.acl"
TEMPORARY = "/tmp:size=16m,mode=1777"  # noqa: S108 - its own
VOLUME = "broker"
SIMULATED_FILE = PurePath("simulated-audio.yml")
LARGEST_FILE = 64 * MEBIBYTE
"""Largest file of a service that only writes its own: the size of /dev/shm, bytes."""


@dataclass(frozen=True, kw_only=True)
class HomeSite(Site):
    """The home on this machine: its folders are bind mounts, at the path they have here."""

    user: str = f"{variable('ACOUPI_UID')}:{variable('ACOUPI_GID')}"
    profiles: tuple[str, ...] = (SECCOMP, APPARMOR)
    settings: Settings
    simulated: tuple[Mount, ...] = ()
    """Simulated audio of the recorder."""

    def setting(self, name: str, default: str) -> str:
        """Return a variable of ``.env``."""
        return variable(name, default)

    def volumes(self, stack: Stack) -> Mapping[str, str]:
        """Return the one of the socket of redis, and those where calls wait for the door."""
        waiting = self.settings.home / "waiting"
        seen = dict.fromkeys(one.source for service in stack.services for one in service.mounts)
        return {
            Yaml(VOLUME): "",
            **waiting_volumes(one.name for one in seen if one.parent == waiting),
            **memory_volume(stack),
        }

    def broker(self, stack: Stack) -> Block:
        """Return redis, with the users that setup wrote."""
        users = compose_text(self.settings.home / USERS_FILE)
        digest = _digest(sorted(broker_rules(stack).items()))
        append = "${ACOUPI_BROKER_APPENDONLY:-no}"
        options = redis_options(append_only=append, more=("--aclfile", USERS))
        return broker_block(
            self,
            name=Yaml(BROKER),
            command=[_word(one) for one in ("redis-server", *options)],
            network_first=True,
            labels=[("acoupi.users", digest, "its users changed: it is to be started anew")],
            tmpfs=TEMPORARY,
            volumes=[
                Yaml(f"{{type: volume, source: {VOLUME}, target: {SOCKET_FOLDER}}}"),
                bind(users, USERS),
            ],
        )

    def service(self, service: Service, stack: Stack) -> Block:
        """Return a worker, beat, or a service that is neither and knows no broker."""
        digest = _digest(_settings(stack))
        change = "its settings changed: it is to be started anew"
        return block_of(
            service,
            self,
            labels=[("acoupi.configuration", digest, change)],
            environment=[*self._environment(service), *self._callers(service, stack)],
            user=self._user(service),
            largest_file=LARGEST_FILE if self._is_given_files(service) else None,
            tmpfs=TEMPORARY,
            volumes=list(self._mounts(service, set(memory_mounts(stack)))),
        )

    def _user(self, service: Service) -> str | None:
        """Return the own user of a service that shares no file with others, if it has one."""
        if not self._writes_only_its_own(service):
            return None
        own = f"${{{user_variable(service.name)}:-{variable('ACOUPI_UID')}}}"
        return f"{own}:{variable('ACOUPI_GID')}"

    def _callers(self, service: Service, stack: Stack) -> list[Entry]:
        """Return the users that call at the doors, for the service that answers there."""
        callers = door_roles(stack) if service is door_keeper(stack) else ()
        return [setting(user_variable(one), "") for one in callers]

    def _writes_only_its_own(self, service: Service) -> bool:
        return writes_only_its_own(self.settings, service.name, service.mounts)

    def _is_given_files(self, service: Service) -> bool:
        """Return whether a service has the files that it writes, and no folder for others."""
        return self._writes_only_its_own(service) and not service.is_extra

    def _environment(self, service: Service) -> list[Entry]:
        own = service_environment(self.settings)
        for name in ("ACOUPI_SIMULATED_AUDIO", "ACOUPI_LOG_LEVEL"):
            own.pop(name, None)  # those are in .env
        broker = {} if service.is_extra else broker_variables(service.name, PASSWORD)
        withheld = {} if service.secrets else {WITHHOLD: WITHHELD}
        settable = [setting(IMAGE_VARIABLE, ""), setting("ACOUPI_LOG_LEVEL", "INFO")]
        if is_sound_worker(service):
            settable.append(setting("ACOUPI_SIMULATED_AUDIO", ""))
        return [*sorted((own | dict(service.environment) | broker | withheld).items()), *settable]

    def _mounts(self, service: Service, memory: set[Path]) -> Iterator[Yaml]:
        home = self.settings.home
        if not service.is_extra:
            socket = f"source: {VOLUME}, target: {SOCKET_FOLDER}, read_only: true"
            yield Yaml(f"{{type: volume, {socket}}}")
            yield bind(compose_text(home / BROKER_FOLDER / service.name), PASSWORD)
        if service.secrets:
            secrets = compose_text(home / SECRETS_FOLDER)
            yield bind(secrets, secrets)
        mounts = {one.source: one for one in self._seen(service)}
        for one in self.simulated if is_sound_worker(service) else ():
            mounts.setdefault(one.source, one)  # a writable mount can be read, too
        for one in mounts.values():
            self._refuse_wide_mount(one.source)
            source = compose_text(one.source)
            if one.source.parent == home / "waiting":
                volume = f"source: {waiting_volume(one.source.name)}, target: {source}"
                yield Yaml(f"{{type: volume, {volume}}}")
                continue
            if one.source in memory:
                fixed = ", read_only: true" if one.read_only else ""
                yield Yaml(f"{{type: volume, source: {MEMORY_VOLUME}, target: {source}{fixed}}}")
                continue
            yield bind(source, source, read_only=one.read_only)

    def _seen(self, service: Service) -> Iterator[Mount]:
        """Yield the mounts of a service; one that only writes its own gets files, not folders."""
        own = self.settings.of_service(service.name)
        folders = (own.log_dir, own.run_dir) if self._is_given_files(service) else ()
        yield from (one for one in service.mounts if one.source not in folders)
        yield from map(Mount, own_files(self.settings, service.name) if folders else ())

    def _refuse_wide_mount(self, place: Path) -> None:
        secrets = self.settings.home / "secrets"
        if str(place) in TOO_WIDE or secrets.is_relative_to(place) or place.is_relative_to(secrets):
            raise ConfigurationError(
                f'the containers cannot have "{place}".',
                f'put it into a folder of its own, such as "{self.settings.home / "data"}"',
                why="the configuration names it or a file in it, and it holds more than "
                "a container may see.",
            )


def _header(project: str, program: str) -> tuple[str, ...]:
    """Return the comment at the top of the file."""
    commands = ("up -d", "ps", "logs -f", "down")
    return (
        f"The sensor {project}: {program}. Generated by `acoupi setup`: what you write here is",
        "lost at the next setup. Change .env, or write docker-compose.override.yml.",
        "",
        "  " + "     ".join(f"docker compose {one}" for one in commands),
    )


def _word(text: str) -> Yaml:
    """Return a word of a command, quoted if it has no letter or has a variable."""
    is_plain = re.fullmatch(r"[\w./-]*[a-z][\w./-]*", text)
    return Yaml(text if is_plain else f'"{text}"')


class ComposeTarget(RunningBundle):
    """Containers on the Docker engine of this machine."""

    name: ClassVar[str] = "compose"
    needs_engine: ClassVar[bool] = True
    bakes_packages: ClassVar[bool] = True
    reason_to_choose: ClassVar[str] = "It runs in containers, as a Docker engine answers here."
    stop_command: ClassVar[str] = "acoupi compose down"

    @classmethod
    def is_chosen_where_possible(cls) -> bool:
        """Return whether an engine answers here, and Compose is there."""
        return Engine().is_usable()

    @property
    def next_step(self) -> str:
        """Return the command that starts it."""
        return "acoupi compose up"

    # --- what is rendered ---------------------------------------------------------------

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return ``app.py``, the scripts, ``docker-compose.yml``, and what plays sound to it."""
        self._refuse_outside_broker(stack)
        compose = self._compose_file(stack)
        profile = (source_dir() / "compose" / SECCOMP_FILE).read_text()
        files = {
            PurePath(COMPOSE_FILE): compose.render(),
            PurePath(SECCOMP_FILE): RenderedFile(profile),
        }
        others = self._render(stack, compose.blocks)
        if stack.recorder:
            files[SIMULATED_FILE] = others[SIMULATED_FILE]
        scripts = {path: file for path, file in others.items() if path.parent.name == "bin"}
        app = render_tree(TEMPLATES, {}, below=("app.py",))
        return {**place_files({**app, **scripts}, self.settings), **files}

    def kept_files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return ``.env``, with the choices made there, and the secrets of the broker."""
        secrets = broker_secrets(stack, self.settings.home)
        return {ENV_FILE: self._render(stack)[ENV_FILE], **secrets}

    def _refuse_outside_broker(self, stack: Stack) -> None:
        if stack.broker.kind == "external":
            raise ConfigurationError(
                "the target compose cannot use another broker.",
                "acoupi setup --target compose --broker embedded",
                why="it runs its own, which only its containers reach.",
            )

    def _compose_file(self, stack: Stack) -> ComposeFile:
        chosen = self._chosen()
        name = project_name(self.settings.home)
        site = HomeSite(
            header=_header(name, " ".join(stack.program.split())),
            name=name,
            sound=Sound(group=variable("ACOUPI_AUDIO_GID")),
            settings=self.settings,
            image=variable("ACOUPI_IMAGE", image_name()),
            simulated=_sound_mounts(chosen.get("ACOUPI_SIMULATED_AUDIO")),
        )
        return ComposeFile(stack, site)

    def _render(self, stack: Stack, services: Sequence[Block] = ()) -> dict[PurePath, RenderedFile]:
        """Return the other files of the bundle."""
        chosen = chosen_texts(self.settings.home, CHOSEN)
        variables = self._variables(stack, chosen)
        context = {
            "services": services,
            "workers": [one.name for one in stack.workers],
            "names": stack.names,
            "beat": BEAT,
            "broker": BROKER,
            "start_script": self.settings.start_script_path.name,
            "stop_script": self.settings.stop_script_path.name,
            "variables": variables,
            "users": [name for name in variables if name.startswith("ACOUPI_UID_")],
            "memory": [name for name in variables if name.startswith("ACOUPI_MEMORY_")],
            "ports": [name for name in variables if name.startswith("ACOUPI_PORT_")],
            "others": [f"{key}={text}" for key, text in chosen.items() if key not in variables],
        }
        return render_tree(source_dir() / "compose" / "compose", context)

    # --- .env -----------------------------------------------------------------------------

    def _variables(self, stack: Stack, chosen: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the variables of ``.env``: the value, and whether it was chosen."""
        uid, gid = host_owner(self.settings.home)
        facts = {
            "ACOUPI_UID": str(uid),
            "ACOUPI_GID": str(gid),
            "ACOUPI_AUDIO_GID": str(sound_group()),
            **({"ACOUPI_APPARMOR": APPARMOR_PROFILE} if has_apparmor_profile() else {}),
        }
        is_chosen = "ACOUPI_UID" in os.environ or chosen.get("ACOUPI_UID", str(uid)) != str(uid)
        if os.getuid() == 0 and not is_chosen:
            facts |= {
                user_variable(one.name): str(service_user(self.settings.home, one.name))
                for one in stack.services
                if writes_only_its_own(self.settings, one.name, one.mounts)
            }
        memory = {
            memory_variable(one.name): mebibytes(one.limits.memory_bytes) for one in stack.services
        }
        memory[memory_variable(BROKER)] = BROKER_MEMORY
        ports = {
            port_variable(one.name): str(one.port.number) for one in stack.services if one.port
        }
        defaults = {**DEFAULTS, **facts, "ACOUPI_IMAGE": image_name(), **memory, **ports}
        return {
            name: {"text": chosen.get(name, text), "chosen": name in chosen or name in facts}
            for name, text in defaults.items()
        }

    def prepare(self, stack: Stack | None = None) -> None:
        """Make the folders that are mounted, and give the home to the user of the containers.

        The folders are read from the rendered file: the program is not needed.
        """
        home = self.settings.home
        uid, gid = self.owner
        mounted = folders_of(home)
        services = [one.name for one in (stack or self).services]
        part_own_folders(self.settings, services)
        files = self.own_files(services)
        make_own_files(files)
        written = [one for one, read_only in mounted.items() if not read_only and one not in files]
        own = [folder for folder in written if not folder.is_relative_to(home) and is_empty(folder)]
        below = [one for one in mounted if one.is_relative_to(home / "data")]
        for folder in (*written, *below, *memory_folders(home)):
            own += make_folder(folder)
        part_secrets(home)
        for folder in (home / BROKER_FOLDER, home / "secrets"):
            make_private(folder, home)
        if not is_adopted(self.settings):
            own.append(home)
        give(own, uid, gid)
        give_contents(home, own_names(self.settings), uid, gid)
        self._give_to_services(services, gid)

    def _give_to_services(self, names: Sequence[str], gid: int) -> None:
        """Give a service's own files to its user, if it has one."""
        home, chosen = self.settings.home, self._chosen()
        for name in names:
            text = chosen.get(user_variable(name), "")
            if not text.isdigit():
                continue
            own = self.settings.of_service(name)
            for folder in (own.log_dir, own.run_dir, live_folder(home, name)):
                if folder.is_dir():
                    share_folder(folder, int(text), gid)
            password = home / BROKER_FOLDER / name
            if password.is_file():
                password.chmod(0o640)  # the service is in the group, and nobody else sees it


def _sound_mounts(simulated: str | None) -> tuple[Mount, ...]:
    """Return the read-only mounts of the files that simulated audio plays."""
    if not simulated:
        return ()
    path = SimulatedAudio.parse(simulated).path
    return (Mount(path.absolute(), read_only=True),) if path else ()


def _settings(stack: Stack) -> str:
    """Return all settings as text: services are restarted when it changes."""
    sensor = dump_config(stack.sensor) if stack.sensor is not None else ""
    return dump_config(stack.config) + sensor


def _digest(value: object) -> str:
    """Return a short text that is the same for the same value."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]
