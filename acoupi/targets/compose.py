"""Every worker its own container: Docker Compose v2 on a Docker engine.

What is rendered is ``docker-compose.yml`` and ``.env`` in the home, so that
``docker compose up -d`` there does the same as this target. Compose starts
and stops; how the containers are is asked through the engine's API.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar

from acoupi.audio.simulated import SimulatedAudio
from acoupi.bundles.bundle_checks import SOUND_RULE, TOO_WIDE, check_bundle, folders_of
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
from acoupi.bundles.images import image_name, source_dir
from acoupi.bundles.ownership import give_to, host_owner, make_folder, sound_group
from acoupi.bundles.parted_secrets import SECRETS_FOLDER, part_secrets
from acoupi.bundles.rendering import TEMPLATES, render_tree
from acoupi.bundles.variables import ENV_FILE, chosen_texts
from acoupi.config import dump_config
from acoupi.config.secrets import WITHHELD, WITHHOLD
from acoupi.errors import ConfigurationError
from acoupi.stack.broker_users import (
    BROKER_FOLDER,
    USERS_FILE,
    broker_rules,
    broker_secrets,
    broker_user,
)
from acoupi.stack.stack import BROKER, Mount, Service, Stack, is_sound_worker
from acoupi.targets.process import place_files, service_environment
from acoupi.targets.running import CHOSEN, DEFAULTS, DOWN, RunningBundle, project_name
from acoupi.writing import RenderedFile

__all__ = ["DOWN", "ComposeTarget", "project_name"]

PASSWORD = "/run/secrets/broker"  # noqa: S105 - where it is
USERS = "/run/secrets/users.acl"
SIMULATED_FILE = "simulated-audio.yml"


class ComposeTarget(RunningBundle):
    """Containers on the Docker engine of this machine."""

    name: ClassVar[str] = "compose"

    # --- what is rendered ---------------------------------------------------------------

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return ``app.py``, ``docker-compose.yml``, and what plays sound to its recorder."""
        self._refuse_outside_broker(stack)
        rendered = self._render(stack)
        app = place_files(render_tree(TEMPLATES, {}, below=("app.py",)), self.settings)
        names = [COMPOSE_FILE, *([SIMULATED_FILE] if stack.recorder else [])]
        bundle = {PurePath(name): rendered[PurePath(name)] for name in names}
        check_bundle(bundle[PurePath(COMPOSE_FILE)].text)
        return {**app, **bundle}

    def kept_files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return ``.env``, with what was chosen there, and the secrets of the broker."""
        secrets = broker_secrets(stack, self.settings.home)
        return {ENV_FILE: self._render(stack)[ENV_FILE], **secrets}

    def _refuse_outside_broker(self, stack: Stack) -> None:
        if stack.broker.kind == "external":
            raise ConfigurationError(
                "the target compose cannot use another broker.",
                "acoupi setup --target compose --broker embedded",
                why="it runs its own, which only its containers reach.",
            )

    def _render(self, stack: Stack) -> dict[PurePath, RenderedFile]:
        home = self.settings.home
        chosen = chosen_texts(home, CHOSEN)
        sound = _sound_mounts(self._chosen().get("ACOUPI_SIMULATED_AUDIO"))
        services = [self._service(one, sound) for one in (*stack.workers, stack.beat)]
        variables = self._variables(stack, chosen)
        context = {
            "project": project_name(home),
            "program": " ".join(stack.program.split()),
            "image": image_name(),
            "processes": PROCESSES,
            "health_command": HEALTH_COMMAND,
            **HEALTH,
            "sound_rule": SOUND_RULE,
            "services": services,
            "configuration": _digest(_settings(stack)),
            "variables": variables,
            "memory": [name for name in variables if name.startswith("ACOUPI_MEMORY_")],
            "others": [f"{key}={text}" for key, text in chosen.items() if key not in variables],
            "broker": {
                "name": BROKER,
                "folder": SOCKET_FOLDER,
                "socket": SOCKET,
                "users": USERS,
                "users_file": home / USERS_FILE,
                "password": PASSWORD,
                "memory": f"${{{memory_variable(BROKER)}:-{BROKER_MEMORY}}}",
                "out_of_memory_score": BROKER_SCORE,
                "stop_grace": BROKER_GRACE,
                "rules_digest": _digest(sorted(broker_rules(stack).items())),
            },
        }
        return render_tree(source_dir() / "compose" / "compose", context)

    def _service(self, service: Service, sound: tuple[Mount, ...]) -> dict[str, Any]:
        """Return the names that the template uses of a service."""
        has_sound = is_sound_worker(service)
        mounts = {one.source: one for one in service.mounts}
        for one in sound if has_sound else ():
            mounts.setdefault(one.source, one)  # what is written there already can be read, too
        for place in mounts:
            self._refuse_wide_mount(place)
        own = service_environment(self.settings)
        for name in ("ACOUPI_SIMULATED_AUDIO", "ACOUPI_LOG_LEVEL"):
            own.pop(name, None)  # those are in .env
        broker = {
            "ACOUPI_BROKER": BROKER_URL,
            "ACOUPI_BROKER_USER": broker_user(service.name),
            "ACOUPI_BROKER_PASSWORD_FILE": PASSWORD,
        }
        withheld = {} if service.secrets else {WITHHOLD: WITHHELD}
        memory = mebibytes(service.limits.memory_bytes)
        return {
            "name": service.name,
            "command": ("python", *service.command),
            "stop_grace": service.stop_grace,
            "memory": f"${{{memory_variable(service.name)}:-{memory}}}",
            "out_of_memory_score": service.limits.out_of_memory_score,
            "network": service.network,
            "sound": has_sound,
            "environment": sorted((own | dict(service.environment) | broker | withheld).items()),
            "password_file": self.settings.home / BROKER_FOLDER / service.name,
            "secrets_folder": self.settings.home / SECRETS_FOLDER if service.secrets else None,
            "mounts": list(mounts.values()),
            "health": health_probe(service),
        }

    def _refuse_wide_mount(self, place: Path) -> None:
        secrets = self.settings.home / "secrets"
        if str(place) in TOO_WIDE or secrets.is_relative_to(place) or place.is_relative_to(secrets):
            raise ConfigurationError(
                f'the containers cannot be given "{place}".',
                f'put it into a folder of its own, such as "{self.settings.home / "data"}"',
                why="the configuration names it or a file in it, and it holds more than "
                "a container may see.",
            )

    # --- .env -----------------------------------------------------------------------------

    def _variables(self, stack: Stack, chosen: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return what may be set in ``.env``: its text, and whether somebody chose it."""
        uid, gid = host_owner(self.settings.home)
        facts = {
            "ACOUPI_UID": str(uid),
            "ACOUPI_GID": str(gid),
            "ACOUPI_AUDIO_GID": str(sound_group()),
        }
        memory = {
            memory_variable(one.name): mebibytes(one.limits.memory_bytes)
            for one in (*stack.workers, stack.beat)
        }
        memory[memory_variable(BROKER)] = BROKER_MEMORY
        defaults = {**facts, **DEFAULTS, "ACOUPI_IMAGE": image_name(), **memory}
        return {
            name: {"text": chosen.get(name, text), "chosen": name in chosen or name in facts}
            for name, text in defaults.items()
        }

    def prepare(self, stack: Stack | None = None) -> None:
        """Make the folders that are mounted, and give the home to whom the containers run as.

        What they are is in the rendered file: the program need not be here.
        """
        del stack
        home = self.settings.home
        uid, gid = self.owner
        written = [folder for folder, read_only in folders_of(home).items() if not read_only]
        for folder in written:
            make_folder(folder)
        part_secrets(home)
        for folder in (home / BROKER_FOLDER, home / "secrets"):
            folder.chmod(0o700)
        give_to([home], uid, gid)
        give_to(
            sorted(one for one in written if not one.is_relative_to(home)), uid, gid, deep=False
        )


def _sound_mounts(simulated: str | None) -> tuple[Mount, ...]:
    """Return what simulated audio plays from, for the recorder to read."""
    if not simulated:
        return ()
    path = SimulatedAudio.parse(simulated).path
    return (Mount(path.absolute(), read_only=True),) if path else ()


def _settings(stack: Stack) -> str:
    """Return all settings as text: services are started again when it is another."""
    sensor = dump_config(stack.sensor) if stack.sensor is not None else ""
    return dump_config(stack.config) + sensor


def _digest(value: object) -> str:
    """Return a short text that is the same for the same value."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]
