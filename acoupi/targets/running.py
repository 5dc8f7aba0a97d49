"""A running bundle of containers: started and stopped by Compose, watched through the engine.

This needs neither the program nor a `Stack`: setup's files are enough.
"""

import logging
import re
import shlex
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from acoupi import data
from acoupi.bundles.bundle_checks import SECCOMP_FILE, check_bundle, folders_of
from acoupi.bundles.compose_file import BROKER_GRACE, BROKER_URL, SOCKET
from acoupi.bundles.engine import (
    COMPOSE_FILE,
    OVERRIDE_FILE,
    Answer,
    Engine,
    Host,
    compose_command,
)
from acoupi.bundles.images import SOURCE_LABEL, image_name, without_password
from acoupi.bundles.overrides import files_of_others
from acoupi.bundles.own_folders import make_own_files
from acoupi.bundles.ownership import (
    can_write,
    give,
    host_owner,
    make_folder,
    sound_group,
)
from acoupi.bundles.parted_secrets import part_secrets
from acoupi.bundles.program_image import image_command
from acoupi.bundles.rendering import Manifest, check_not_edited
from acoupi.bundles.variables import ENV_FILE, choose, chosen_variables
from acoupi.commit import changing
from acoupi.data import Deployment
from acoupi.errors import AcoupiError, ConfigurationError, TargetError
from acoupi.home import home_mark
from acoupi.programs.core.workers import DETECTION_QUEUE
from acoupi.provenance import IMAGE_VARIABLE
from acoupi.services.program_hooks import hook_service
from acoupi.stack.broker_users import BROKER_FOLDER
from acoupi.stack.mounting import own_files
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BEAT, BROKER, WORKER_ROLES
from acoupi.targets import CheckPart, ServiceStatus, Target
from acoupi.targets.containers import (
    BrokerShell,
    container_logs,
    container_statuses,
)
from acoupi.targets.one_off import DOWN_MARGIN, ask_once, outcome
from acoupi.targets.process import script_error, tail
from acoupi.writing import disk_error

__all__ = [
    "DEFAULTS",
    "DOWN",
    "RunningBundle",
    "project_name",
]

logger = logging.getLogger(__name__)

PREFLIGHT_HOLDS = 60.0
"""Seconds for which preflight results are reused within a command."""
START_PATIENCE = 900.0
"""Seconds until every service is ready, on a slow board; one that ends is reported at once."""
UP_PATIENCE = 300.0
DOWN = (("stop", BEAT), ("down", "--remove-orphans"))
"""Commands of Compose that stop a bundle: beat first, so that nothing new starts meanwhile."""
HOOK_MODULE = "acoupi.system.hooks"
CHECK_MODULE = "acoupi.system.checks"
SAID_OF: Mapping[CheckPart, str] = {
    "microphone": "The microphone works",
    "model": "The model works",
    "rest": "Settings, folders and servers work",
}


DEFAULTS = {
    "ACOUPI_SOUND": "/dev/snd",
    "ACOUPI_SIMULATED_AUDIO": "synthetic",
    "ACOUPI_IMAGE": "",
    "ACOUPI_PACKAGES": "",
    IMAGE_VARIABLE: "",
    "ACOUPI_LOG_LEVEL": "INFO",
    "ACOUPI_BROKER_APPENDONLY": "no",
    "ACOUPI_SECCOMP": SECCOMP_FILE,
    "ACOUPI_APPARMOR": "docker-default",
}
"""Variables of ``.env`` besides the numbers of users and the memory limits."""
CHOSEN = (*DEFAULTS, "ACOUPI_UID", "ACOUPI_GID", "ACOUPI_AUDIO_GID")
"""Variables of ``.env`` that the environment can override."""


def project_name(home: Path) -> str:
    """Return the name of the compose project of a home, unique on this machine.

    Examples
    --------
    >>> project_name(Path("/home/pi/.acoupi"))
    'acoupi-b868df'
    """
    word = re.sub(r"[^a-z0-9]+", "-", home.name.lower()).strip("-")[:40] or "acoupi"
    return f"{word}-{home_mark(home)}"


class RunningBundle(Target):
    """The part of the compose target that runs what was rendered."""

    has_own_python: ClassVar[bool] = True

    def __init__(
        self, settings: Settings, manifest: Manifest | None = None, engine: Engine | None = None
    ) -> None:
        super().__init__(settings, manifest)
        self.engine = engine or Engine()
        self._passed: tuple[str, float] | None = None
        """The image with which the preflight passed, and when."""

    def _chosen(self) -> dict[str, str]:
        """Return the variables in ``.env``; the environment has precedence."""
        return chosen_variables(self.settings.home, CHOSEN)

    def restore_links(self) -> None:
        """Restore the link to the secrets, and removed files, before a start.

        Owners are only set at setup. Files that root writes later get the owner of their folder.

        Raises
        ------
        DeviceError
            After a disk error.
        """
        part_secrets(self.settings.home)
        make_own_files(self.own_files([one.name for one in self.services]))

    def own_files(self, services: Iterable[str]) -> list[Path]:
        """Return the files that these services are given one by one, of those that can have it."""
        mounted = folders_of(self.settings.home)
        return [
            file for name in services for file in own_files(self.settings, name) if file in mounted
        ]

    @property
    def owner(self) -> tuple[int, int]:
        """The numbers of the user and group that the containers run as."""
        chosen = self._chosen()
        uid, gid = host_owner(self.settings.home)
        texts = (chosen.get("ACOUPI_UID", str(uid)), chosen.get("ACOUPI_GID", str(gid)))
        for name, text in zip(("ACOUPI_UID", "ACOUPI_GID"), texts, strict=True):
            if not text.isdigit():
                raise ConfigurationError(
                    f"{name} cannot be {text!r}.",
                    f"{self.settings.home / ENV_FILE}: {name}=1000",
                    why="it is the number of a user or group.",
                )
        first, second = (int(text) for text in texts)
        return first, second

    @property
    def shared(self) -> str | None:
        """Return what all services have in common, unless some have a user of their own."""
        if any(name.startswith("ACOUPI_UID_") for name in self._chosen()):
            return None
        return (
            "all services run as one user: only their mounts isolate them "
            "(docs/security.md). If root runs acoupi setup, models get their own user"
        )

    def settings_of(self, service: str) -> Settings:
        """Return the settings of a container, which has folders of its own."""
        return self.settings.of_service(service)

    # --- running ----------------------------------------------------------------------------

    @property
    def project(self) -> str:
        """The name of the compose project; ``.env`` may give another."""
        chosen = self._chosen().get("COMPOSE_PROJECT_NAME", "")
        return chosen or project_name(self.settings.home)

    @property
    def image(self) -> str:
        """The image that the services run from."""
        return self._chosen().get("ACOUPI_IMAGE", "") or image_name()

    @property
    def packages(self) -> list[str]:
        """Extra packages in the image: pip requirements or local paths."""
        return shlex.split(self._chosen().get("ACOUPI_PACKAGES", ""))

    def choose_image(self, image: str, packages: Sequence[str]) -> None:
        """Run the services from an image from now on, and record the packages in it."""
        choose(self.settings.home, image_variables(image, packages))

    def command_inside(
        self,
        words: Sequence[str],
        image: str | None = None,
        *,
        packages: Sequence[str] | None = None,
        terminal: bool = False,
    ) -> list[str]:
        """Return the command that runs ``acoupi WORDS`` in the image of the bundle, or another."""
        home = self.settings.home
        if not home.exists():
            give(make_folder(home), *self.owner)
        chosen = {} if image is None else image_variables(image, packages or ())
        group = self._chosen().get("ACOUPI_AUDIO_GID", "") or str(sound_group())
        return image_command(
            self.settings,
            image or self.image,
            words,
            owner=self.owner,
            sound_group=group,
            variables={"ACOUPI_AUDIO_GID": group, **chosen},
            terminal=terminal,
        )

    def check(self) -> None:
        """Raise if the bundle cannot start here; see `acoupi.bundles.preflight`."""
        from acoupi.bundles.preflight import failure, run_preflight  # noqa: PLC0415 - only here

        self.check_files()
        self._check_folders()
        image, now = self.image, data.monotonic()
        if self._passed and self._passed[0] == image and now - self._passed[1] < PREFLIGHT_HOLDS:
            return
        results = list(run_preflight(self.settings, Host(self.engine), self.manifest))
        if (error := failure(results)) is not None:
            raise TargetError(error.message, error.help, why=error.why)
        if any(one.name == "program" for one in results):  # the image exists and has the program
            self._passed = image, now

    def _check_folders(self) -> None:
        """Raise if the services could not write to their data folders.

        Raises
        ------
        TargetError
            Naming the folder.
        """
        uid, gid = self.owner
        for folder, read_only in folders_of(self.settings.home).items():
            if not read_only and not can_write(folder, uid, gid):
                raise TargetError(
                    f'the services cannot write in "{folder}".',
                    f"sudo chown {uid}:{gid} {shlex.quote(str(folder))}",
                    why=f"they run as user {uid}, and acoupi does not change the owner of folders "
                    "that it did not make.",
                )

    def check_written(self, before: Collection[str]) -> None:
        """Raise if a setup in the image left files that are not safe to start.

        Code of the program runs there: it could leave an override file.

        Parameters
        ----------
        before
            What `files_of_others` returned before it.

        Raises
        ------
        TargetError, ConfigurationError
            Naming it.
        """
        home = self.settings.home
        if added := sorted(files_of_others(home) - {*before}):
            raise TargetError(
                "the setup in the image wrote files that it must not write.",
                f"ls -la {shlex.quote(str(home))}   (and remove what you did not make)",
                why="; ".join(added) + ".",
            )
        if (home / COMPOSE_FILE).exists():
            check_bundle((home / COMPOSE_FILE).read_text())

    def check_files(self) -> None:
        """Raise if the generated files were edited, or are not safe to start.

        Raises
        ------
        ConfigurationError
            Naming the file, or the service.
        """
        path = self.settings.home / COMPOSE_FILE
        try:
            check_not_edited(self.settings.home, {}, self.manifest)
        except ConfigurationError:
            # Files that another shell is just writing look edited, too.
            with changing(self.settings.program_config_file.parent, "a look at the files"):
                self.manifest = Manifest.read(self.settings.manifest_file)
                check_not_edited(self.settings.home, {}, self.manifest)
        try:
            check_bundle(path.read_text())
        except FileNotFoundError as error:
            raise TargetError(
                f'cannot find "{path}".',
                "acoupi setup --target compose",
                why="setup writes it, but it is missing.",
            ) from error
        except OSError as error:
            raise disk_error("read", path, error) from error

    def up(self) -> None:
        """Start every service, and wait until each is ready."""
        self.check()
        self.start()
        self.wait_ready()

    def start(self) -> None:
        """Start every service, and do not wait."""
        self.restore_links()
        self._up("--remove-orphans")

    def wait_ready(self, patience: float = START_PATIENCE) -> None:
        """Wait until every service works.

        Parameters
        ----------
        patience
            Seconds.

        Raises
        ------
        TargetError
            If one does not, with its last log lines.
        """
        deadline = data.monotonic() + patience
        while True:
            waiting = [one for one in self.status() if not one.is_well]
            if not waiting:
                return
            ended = [one for one in waiting if one.state == "restarting"]
            if ended or data.monotonic() > deadline:
                one = (ended or waiting)[0]
                raise self._not_started(one, patience)
            threading.Event().wait(0.2)

    def _not_started(self, service: ServiceStatus, patience: float) -> AcoupiError:
        text = "\n".join(self.logs(service.name, 30).get(service.name, [])).strip()
        last = "it logged nothing."
        if text:
            found = script_error(Path(service.name), text, 1)
            last = found.why or last
            if not found.message.startswith(f"{service.name} failed"):
                last = f"{found.message} {last}"
        reason = service.message or f"it is {service.state} after {patience:.0f} s"
        return TargetError(
            f'"{service.name}" does not start.',
            f"acoupi compose logs {service.name}",
            why=f"{reason}: {last}",
        )

    def down(self) -> None:
        """Stop beat, then the workers, each after its current task, and remove the containers."""
        for step in DOWN:
            self._compose(*step, timeout=self._patience())

    def stop_recorder(self) -> None:
        """Stop the recorder's container after its current recording."""
        if self.recorder is not None:
            self._compose("stop", self.recorder.name, timeout=self._patience())

    def restart(self) -> None:
        """Stop and start every service, with the current configuration.

        Nothing is stopped if it could not start again.
        """
        self.check()
        self.down()
        self.start()
        self.wait_ready()

    def _patience(self) -> float:
        graces = [one.stop_grace for one in self.services]
        return max(graces, default=0.0) + BROKER_GRACE + DOWN_MARGIN

    def _compose(self, *args: str, timeout: float) -> str:
        """Run Compose on the home; return what it wrote.

        Raises
        ------
        TargetError
            With the output of Compose.
        """
        self.echo(shlex.join(compose_command(self.settings, *args)))
        answer = self.engine.compose(self.settings, *args, timeout=timeout)
        if answer.is_ok:
            return answer.out
        raise TargetError(
            f"docker compose {args[0]} failed.",
            "acoupi doctor",
            why=f"it answered: {_last_words(answer.said)}",
        )

    def run_hook(self, what: Literal["start", "end", "settle"], deployment: Deployment) -> None:
        """Call a hook of the program in a container of its own.

        The container is like that of the worker that sends messages, never
        like the recorder's if there is another.
        """
        self.check_files()
        self.restore_links()
        service, described = self._hook_service(), deployment.model_dump_json()
        answer = self._ask_once(service, HOOK_MODULE, what, described)
        outcome(answer, service, HOOK_MODULE, f"on_{what}")

    def _ask_once(self, service: str, *words: str) -> Answer:
        return ask_once(self.engine, self.settings, service, *words, echo=self.echo)

    def program_checks(self) -> list[tuple[str, str, Callable[[], str | None]]]:
        """Return the parts to check, each in a container like that of its service.

        They start in parallel when the first is requested.
        """
        services = self.services
        recorder = next((one.name for one in services if one.role == "recorder"), None)
        model = next((one.name for one in services if DETECTION_QUEUE in one.queues), None)
        places: list[tuple[CheckPart, str | None]] = [
            ("microphone", recorder),
            ("model", model),
            ("rest", self._hook_service()),
        ]
        found = {part: service for part, service in places if service is not None}
        asked = cache(partial(self._ask_parts, found))
        return [
            (part, f"{SAID_OF[part]} (container {one})", partial(self._result, part, one, asked))
            for part, one in found.items()
        ]

    def _ask_parts(self, services: Mapping[CheckPart, str]) -> dict[CheckPart, Future[Answer]]:
        """Start checking each part in a container like that of its service."""
        if not self.engine.has_image(self.image):
            raise TargetError(
                f'there is no image "{self.image}" here.',
                "acoupi compose build",
                why="the program is checked in it.",
            )
        asked = {**services}
        if "microphone" in asked and self._recorder_runs(asked["microphone"]):
            del asked["microphone"]  # the recorder has it open, so no one else can
        self.restore_links()
        answers: dict[CheckPart, Future[Answer]] = {}
        with_each = ThreadPoolExecutor(len(asked))
        for part, service in asked.items():
            answers[part] = with_each.submit(self._ask_once, service, CHECK_MODULE, part)
            if len(answers) == 1 and self._has_networks():
                wait(answers.values())
        with_each.shutdown(wait=False)
        return answers

    def _has_networks(self) -> bool:
        """Return whether Compose makes networks: two parallel commands would make each twice."""
        home = self.settings.home
        return (home / OVERRIDE_FILE).exists() or "\nnetworks:" in (home / COMPOSE_FILE).read_text()

    def _result(
        self,
        part: CheckPart,
        service: str,
        asked: Callable[[], Mapping[CheckPart, Future[Answer]]],
    ) -> str | None:
        """Return the speed of the model, in words, if this is its check; raise if it failed."""
        if (answer := asked().get(part)) is None:
            return None
        lines = outcome(answer.result(), service, CHECK_MODULE, "check").strip().splitlines()
        return lines[-1] if lines and part == "model" else None

    def _recorder_runs(self, service: str) -> bool:
        """Return whether the recorder is running; raise if it is running without success."""
        running = next((one for one in self.status() if one.name == service), None)
        if running is None or not running.is_running:
            return False
        if not running.is_well or running.last_error:
            raise TargetError(
                "the recorder does not work.",
                f"acoupi compose logs {service}",
                why=running.message or running.last_error or f"it is {running.state}.",
            )
        return True

    def start_workers(self) -> None:
        """Start the workers, and redis, which they need; beat stays as it is."""
        self.check()
        self._up_workers()

    def restart_workers(self) -> None:
        """Stop and start the workers; nothing is stopped if it could not start again."""
        self.check()
        self.stop_workers()
        self._up_workers()

    def _up_workers(self) -> None:
        self.restore_links()
        self._up(*self._workers())

    def _up(self, *args: str) -> None:
        """Start containers; those that must be replaced end first, within their stop grace."""
        self.note_image()
        self._compose("up", "-d", *args, timeout=UP_PATIENCE + self._patience())

    def note_image(self) -> None:
        """Record in ``.env`` which image the services run from, for the provenance of outputs.

        Without it, the provenance has the digest of the code in the image.
        """
        with suppress(AcoupiError):
            for found in self.engine.inspect("image", self.image):
                labels = (found.get("Config") or {}).get("Labels") or {}
                noted = f"{found.get('Id', '')}@{labels.get(SOURCE_LABEL, '')}"
                if noted != self._chosen().get(IMAGE_VARIABLE):
                    choose(self.settings.home, {IMAGE_VARIABLE: noted})

    def stop_workers(self) -> None:
        """Stop the workers, each after its current task; beat keeps running."""
        self._compose("stop", *self._workers(), timeout=self._patience())

    def _workers(self) -> list[str]:
        return [one.name for one in self.services if one.role in WORKER_ROLES]

    def _hook_service(self) -> str:
        return hook_service(self.services) or "default"

    def status(self) -> list[ServiceStatus]:
        """Return the state of each service, from the engine and from its pulse."""
        roles = {one.name: one.role for one in self.services}
        return container_statuses(
            self.engine, self.project, {BROKER: "broker", **roles}, self.settings.run_dir
        )

    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Return the last lines of each container; if it is gone, those of its log file."""
        names = [BROKER, *(one.name for one in self.services)] if self.services else []
        if service is not None and service not in names:
            raise TargetError(
                f'there is no service "{service}".',
                f"acoupi compose ps   (one of {', '.join(names)})",
                why=f"the services are {', '.join(names)}.",
            )
        wanted = [service] if service else names
        found = container_logs(self.engine, self.project, wanted, lines)
        return {
            name: found[name]
            if found.get(name)
            else tail(self.settings_of(name).log_dir / f"{name}.log", lines)
            for name in wanted
        }

    # --- the broker ---------------------------------------------------------------------------

    @property
    def broker(self) -> str | None:
        """The URL of the broker, inside the containers."""
        return BROKER_URL

    def count_waiting(self, queues: list[str]) -> dict[str, int]:
        """Return how many messages wait in each queue, from inside the broker's container."""
        with closing(self.engine.client()) as client:
            counts = self._broker_shell(client).numbers("LLEN", queues)
            return dict(zip(queues, counts, strict=True))

    def purge(self, queues: list[str]) -> dict[str, int]:
        """Remove the waiting messages; return how many there were."""
        with closing(self.engine.client()) as client:
            shell = self._broker_shell(client)
            counts = shell.numbers("LLEN", queues)
            shell.numbers("DEL", queues)
        return dict(zip(queues, counts, strict=True))

    def _broker_shell(self, client: Any) -> BrokerShell:
        return BrokerShell(client, self.project, SOCKET, self.settings.home / BROKER_FOLDER)


def image_variables(image: str, packages: Sequence[str]) -> dict[str, str]:
    """Return the lines of ``.env`` that name an image; without passwords in requirements."""
    named = shlex.join(without_password(one) for one in packages)
    return {"ACOUPI_IMAGE": image, "ACOUPI_PACKAGES": named}


def _last_words(text: str) -> str:
    """Return the end of Compose's output; the rest is progress."""
    return text[-400:]
