"""Every worker its own container: Docker Compose v2 on a Docker engine.

What is rendered is ``docker-compose.yml`` and ``.env`` in the home, so that
``docker compose up -d`` there does the same as this target. Compose starts
and stops; how the containers are is asked through the engine's API.
"""

import hashlib
import math
import os
import re
import shlex
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal

from acoupi import data
from acoupi.audio.simulated import SimulatedAudio
from acoupi.data import Deployment
from acoupi.errors import AcoupiError, ConfigurationError, TargetError
from acoupi.system.broker_users import (
    BROKER_FOLDER,
    USERS_FILE,
    broker_rules,
    broker_secrets,
    broker_user,
)
from acoupi.system.hooks import hook_service
from acoupi.system.rendering import TEMPLATES, Manifest, check_not_edited, render_tree
from acoupi.system.stack import BEAT, BROKER, MEBIBYTE, Mount, Service, Stack, is_sound_worker
from acoupi.system.targets import ServiceStatus, Target
from acoupi.system.targets.bundle_checks import SOUND_RULE, TOO_WIDE, check_bundle
from acoupi.system.targets.containers import (
    BrokerShell,
    container_logs,
    container_statuses,
    engine,
)
from acoupi.system.targets.engine import COMPOSE_FILE, Host, ask, compose_command
from acoupi.system.targets.images import image_name, source_dir
from acoupi.system.targets.ownership import give_to, host_owner, make_folder, sound_group
from acoupi.system.targets.process import place_files, script_error, service_environment, tail
from acoupi.system.writing import RenderedFile, disk_error

__all__ = ["ComposeTarget", "health_probe", "mebibytes", "memory_variable", "project_name"]

ENV_FILE = PurePath(".env")
SOCKET_FOLDER = "/run/broker"
SOCKET = f"{SOCKET_FOLDER}/redis.sock"
PASSWORD = "/run/secrets/broker"  # noqa: S105 - where it is
USERS = "/run/secrets/users.acl"
BROKER_URL = f"redis+socket://{SOCKET}"
BROKER_MEMORY = "64m"
BROKER_SCORE = 100
"""Added to every score: an engine without CAP_SYS_RESOURCE (rootless, or in a virtual
machine) starts no container with a score below its own. The order stays."""
BROKER_GRACE = 10.0
PROCESSES = 64
"""Processes and threads that a container may have."""
HEALTH_INTERVAL = 60.0
HEALTH_START = 60.0
"""Seconds; each look costs the engine some 70 ms."""
START_PATIENCE = 120.0
"""Seconds until every service says that it works."""
UP_PATIENCE = 300.0
DOWN_MARGIN = 60.0
HOOK_PATIENCE = 600.0
HOOK_MODULE = "acoupi.system.hooks"
_ENV_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)\Z")


def project_name(home: Path) -> str:
    """Return the name of the compose project of a home: no two homes of a machine have one.

    Examples
    --------
    >>> project_name(Path("/home/pi/.acoupi"))
    'acoupi-b868df'
    """
    word = re.sub(r"[^a-z0-9]+", "-", home.name.lower()).strip("-")[:40] or "acoupi"
    return f"{word}-{hashlib.sha256(str(home).encode()).hexdigest()[:6]}"


class ComposeTarget(Target):
    """Containers on the Docker engine of this machine."""

    name: ClassVar[str] = "compose"
    has_own_python: ClassVar[bool] = True

    # --- what is rendered ---------------------------------------------------------------

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return ``app.py`` and ``docker-compose.yml``."""
        self._refuse_outside_broker(stack)
        rendered = self._render(stack)
        app = place_files(render_tree(TEMPLATES, {}, below=("app.py",)), self.settings)
        file = rendered[PurePath(COMPOSE_FILE)]
        check_bundle(file.text)
        return {**app, PurePath(COMPOSE_FILE): file}

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
        chosen = self._chosen()
        sound = _sound_mounts(chosen.get("ACOUPI_SIMULATED_AUDIO"))
        services = [self._service(one, sound) for one in (*stack.workers, stack.beat)]
        digest = hashlib.sha256(repr(sorted(broker_rules(stack).items())).encode()).hexdigest()
        variables = self._variables(stack, chosen)
        context = {
            "project": project_name(home),
            "program": " ".join(stack.program.split()),
            "image": image_name(),
            "processes": PROCESSES,
            "health_interval": HEALTH_INTERVAL,
            "health_start": HEALTH_START,
            "sound_rule": SOUND_RULE,
            "services": services,
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
                "rules_digest": digest[:12],
            },
        }
        return render_tree(source_dir() / "compose" / "compose", context)

    def _service(self, service: Service, sound: tuple[Mount, ...]) -> dict[str, Any]:
        """Return the names that the template uses of a service."""
        has_sound = is_sound_worker(service)
        mounts = {one.source: one for one in (*service.mounts, *(sound if has_sound else ()))}
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
        memory = mebibytes(service.limits.memory_bytes)
        return {
            "name": service.name,
            "command": ("python", *service.command),
            "stop_grace": service.stop_grace,
            "memory": f"${{{memory_variable(service.name)}:-{memory}}}",
            "out_of_memory_score": service.limits.out_of_memory_score,
            "network": service.network,
            "sound": has_sound,
            "environment": sorted({**own, **dict(service.environment), **broker}.items()),
            "password_file": self.settings.home / BROKER_FOLDER / service.name,
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

    def _chosen(self) -> dict[str, str]:
        """Return what stands in ``.env``, as it is quoted; the environment is stronger."""
        path = self.settings.home / ENV_FILE
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise disk_error("read", path, error) from error
        chosen = {match[1]: match[2] for match in map(_ENV_LINE.match, lines) if match}
        for name in (*_DEFAULTS, "ACOUPI_UID", "ACOUPI_GID", "ACOUPI_AUDIO_GID"):
            if value := os.environ.get(name):
                chosen[name] = _quoted(value)
        return chosen

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
        defaults = {**facts, **_DEFAULTS, "ACOUPI_IMAGE": image_name(), **memory}
        return {
            name: {"text": chosen.get(name, text), "chosen": name in chosen or name in facts}
            for name, text in defaults.items()
        }

    def prepare(self, stack: Stack) -> None:
        """Make the folders that are mounted, and give the home to whom the containers run as."""
        uid, gid = self._owner()
        for mount in {one for service in stack.services for one in service.mounts}:
            if not mount.read_only:
                make_folder(mount.source)
        outside = [
            mount.source
            for service in stack.services
            for mount in service.mounts
            if not mount.read_only and not mount.source.is_relative_to(self.settings.home)
        ]
        for folder in (self.settings.home / BROKER_FOLDER, self.settings.home / "secrets"):
            folder.chmod(0o700)
        give_to([self.settings.home], uid, gid)
        give_to(sorted(set(outside)), uid, gid, deep=False)

    def _own_home(self) -> None:
        """Take back what root wrote in the home since the setup: a check, a deployment."""
        give_to([self.settings.home], *self._owner())

    def _owner(self) -> tuple[int, int]:
        chosen = self._chosen()
        uid, gid = host_owner(self.settings.home)
        texts = (chosen.get("ACOUPI_UID", str(uid)), chosen.get("ACOUPI_GID", str(gid)))
        for name, text in zip(("ACOUPI_UID", "ACOUPI_GID"), texts, strict=True):
            if not text.strip().strip("\"'").isdigit():
                raise ConfigurationError(
                    f"{name} cannot be {text!r}.",
                    f"{self.settings.home / ENV_FILE}: {name}=1000",
                    why="it is the number of a user or group.",
                )
        first, second = (int(text.strip().strip("\"'")) for text in texts)
        return first, second

    # --- running ----------------------------------------------------------------------------

    @property
    def project(self) -> str:
        """The name of the compose project, also where ``.env`` gives another."""
        chosen = self._chosen().get("COMPOSE_PROJECT_NAME", "").strip().strip("\"'")
        return chosen or project_name(self.settings.home)

    def check(self) -> None:
        """Raise if the bundle cannot start here; see `acoupi.system.preflight`."""
        from acoupi.system.preflight import failure, run_preflight  # noqa: PLC0415 - only here

        self.check_files()
        error = failure(list(run_preflight(self.settings, Host())))
        if error is not None:
            raise TargetError(error.message, error.help, why=error.why)

    def check_files(self) -> None:
        """Raise if what setup wrote was changed, or is not safe to start.

        Raises
        ------
        ConfigurationError
            Naming the file, or the service.
        """
        path = self.settings.home / COMPOSE_FILE
        check_not_edited(self.settings.home, {}, Manifest.read(self.settings.manifest_file))
        try:
            check_bundle(path.read_text())
        except FileNotFoundError as error:
            raise TargetError(
                f'cannot find "{path}".',
                "acoupi setup --target compose",
                why="setup writes it, and it is not there.",
            ) from error
        except OSError as error:
            raise disk_error("read", path, error) from error

    def up(self) -> None:
        """Start every service, and wait until each says that it works."""
        self.check()
        self.start()
        self.wait_ready()

    def start(self) -> None:
        """Start every service, and do not wait."""
        self._own_home()
        self._compose("up", "-d", "--remove-orphans", timeout=UP_PATIENCE)

    def wait_ready(
        self,
        patience: float = START_PATIENCE,
        tell: Callable[[list[ServiceStatus]], None] | None = None,
    ) -> None:
        """Wait until every service works.

        Parameters
        ----------
        patience
            Seconds.
        tell
            Called with how they are, some times a second.

        Raises
        ------
        TargetError
            If one does not, with its last words.
        """
        deadline = data.monotonic() + patience
        while True:
            services = self.status()
            if tell:
                tell(services)
            waiting = [one for one in services if not one.is_well]
            if not waiting:
                return
            ended = [one for one in waiting if one.state == "restarting"]
            if ended or data.monotonic() > deadline:
                one = (ended or waiting)[0]
                raise self._not_started(one, patience)
            threading.Event().wait(0.2)

    def _not_started(self, service: ServiceStatus, patience: float) -> AcoupiError:
        lines = self.logs(service.name, 30).get(service.name, [])
        found = script_error(Path(service.name), "\n".join(lines), 1)
        last = found.why or "it wrote nothing."
        if not found.message.startswith(f"{service.name} failed"):
            last = f"{found.message} {last}"
        reason = service.message or f"it is {service.state} after {patience:.0f} s"
        return TargetError(
            f'"{service.name}" does not start.',
            f"acoupi compose logs {service.name}",
            why=f"{reason}: {last}",
        )

    def down(self) -> None:
        """Stop beat, then the workers, each after what it is doing, and remove the containers."""
        self._compose("stop", BEAT, timeout=self._patience())
        self._compose("down", "--remove-orphans", timeout=self._patience())

    def restart(self) -> None:
        """Stop and start every service; what is in the configuration by now is what runs."""
        self.down()
        self.up()

    def _patience(self) -> float:
        manifest = Manifest.read(self.settings.manifest_file)
        graces = [one.stop_grace for one in manifest.services] if manifest else []
        return max(graces, default=0.0) + BROKER_GRACE + DOWN_MARGIN

    def _compose(self, *args: str, timeout: float) -> str:
        """Run Compose on the home; return what it wrote.

        Raises
        ------
        TargetError
            With its own words.
        """
        command = compose_command(self.settings, *args)
        self.echo(shlex.join(command))
        answer = ask(command, timeout)
        if answer.is_ok:
            return answer.out
        raise TargetError(
            f"docker compose {args[0]} failed.",
            "acoupi doctor",
            why=f"it answered: {_last_words(answer.said)}",
        )

    def run_hook(self, what: Literal["start", "end"], deployment: Deployment) -> None:
        """Let the program begin or end a deployment, in a container of its own.

        It is one like that of the worker which sends messages, never the
        recorder's if there is another.
        """
        self.check_files()
        self._own_home()
        command = compose_command(
            self.settings,
            *("run", "--rm", "--no-deps", "-T", self._hook_service()),
            *("python", "-m", HOOK_MODULE, what, deployment.model_dump_json()),
        )
        self.echo(shlex.join([*command[:-1], "..."]))
        answer = ask(command, HOOK_PATIENCE)
        if not answer.is_ok:
            raise script_error(Path(f"on_{what}"), answer.err or answer.out, answer.code)

    def _hook_service(self) -> str:
        manifest = Manifest.read(self.settings.manifest_file)
        return hook_service(manifest.services if manifest else ()) or "default"

    def status(self) -> list[ServiceStatus]:
        """Return how each service is: its container as the engine sees it, and its pulse."""
        manifest = Manifest.read(self.settings.manifest_file)
        roles = {one.name: one.role for one in manifest.services} if manifest else {}
        return container_statuses(self.project, {BROKER: "broker", **roles}, self.settings.run_dir)

    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Return the last lines of each container; of one that is gone, those of its file."""
        manifest = Manifest.read(self.settings.manifest_file)
        names = [BROKER, *(one.name for one in manifest.services)] if manifest else []
        if service is not None and service not in names:
            raise TargetError(
                f'there is no service "{service}".',
                f"acoupi compose ps   (one of {', '.join(names)})",
                why=f"the services are {', '.join(names)}.",
            )
        wanted = [service] if service else names
        found = container_logs(self.project, wanted, lines)
        return {
            name: found[name]
            if found.get(name)
            else tail(self.settings.log_dir / f"{name}.log", lines)
            for name in wanted
        }

    # --- the broker ---------------------------------------------------------------------------

    @property
    def broker(self) -> str | None:
        """What the broker is called."""
        return BROKER_URL

    def count_waiting(self, queues: list[str]) -> dict[str, int]:
        """Return how many messages wait in each queue, asked inside the broker's container."""
        with closing(engine()) as client:
            shell = self._broker_shell(client)
            return {queue: shell.number("LLEN", queue) for queue in queues}

    def purge(self, queues: list[str]) -> dict[str, int]:
        """Remove what waits in the queues; return how many messages that were."""
        with closing(engine()) as client:
            shell = self._broker_shell(client)
            counts = {queue: shell.number("LLEN", queue) for queue in queues}
            for queue in queues:
                shell.number("DEL", queue)
        return counts

    def _broker_shell(self, client: Any) -> BrokerShell:
        return BrokerShell(client, self.project, SOCKET, self.settings.home / BROKER_FOLDER)


_DEFAULTS = {
    "ACOUPI_SOUND": "/dev/snd",
    "ACOUPI_SIMULATED_AUDIO": "synthetic",
    "ACOUPI_IMAGE": "",
    "ACOUPI_LOG_LEVEL": "INFO",
    "ACOUPI_BROKER_APPENDONLY": "no",
}


def _quoted(value: str) -> str:
    """Quote for ``.env``."""
    if re.fullmatch(r"[A-Za-z0-9_./:@%+=,-]*", value):
        return value
    return "'" + value.replace("'", "\\'") + "'"


def _sound_mounts(simulated: str | None) -> tuple[Mount, ...]:
    """Return what simulated audio plays from, for the recorder to read."""
    text = (simulated or "").strip().strip("\"'")
    if not text:
        return ()
    path = SimulatedAudio.parse(text).path
    return (Mount(path.absolute(), read_only=True),) if path else ()


def memory_variable(service: str) -> str:
    """Return the name in ``.env`` of the memory that a service may use."""
    return f"ACOUPI_MEMORY_{service.upper().replace('-', '_')}"


def mebibytes(number: int | None) -> str:
    """Write a limit of memory, rounded up, as a compose file has it; "0" is none."""
    return f"{math.ceil((number or 0) / MEBIBYTE)}m" if number else "0"


def health_probe(service: Service) -> tuple[str, ...]:
    """Return the probe: a young pulse that says "ready", without starting Python.

    The recorder is well only if samples arrive: its last recording did not fail.
    """
    assert service.health is not None
    says = '"state":"ready"'
    if service.role == "recorder":
        says += '.*"last_error":null'
    path = shlex.quote(str(service.health.pulse))
    young = f"-newermt '{service.health.max_age:.0f} seconds ago'"
    command = f'test -n "$(find {path} {young} -exec grep -l {shlex.quote(says)} {{}} +)"'
    return ("CMD-SHELL", command)


def _last_words(text: str) -> str:
    """Return the last sentence of what Compose said: before it is its progress."""
    return text[-400:]
