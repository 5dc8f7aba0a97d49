"""Starting, stopping and watching a hub with Compose."""

import re
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from acoupi import data
from acoupi.bundles.bundle_checks import check_bundle
from acoupi.bundles.cluster import chosen_cluster
from acoupi.bundles.engine import (
    COMPOSE_FILE,
    Answer,
    Engine,
    Host,
    compose_command,
    explain,
    unreachable,
)
from acoupi.bundles.rendering import Manifest, check_not_edited
from acoupi.commit import settle
from acoupi.config.env_files import quoted, read_env
from acoupi.errors import TargetError
from acoupi.hub.bundle.choices import WRITE_OVER, HubHome
from acoupi.hub.bundle.secrets import INNER_BROKER, env_file, inner_broker, known_url
from acoupi.hub.bundle.services import BROKER, INGEST, WORKER, hub_stack
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service
from acoupi.writing import PRIVATE, write_atomic

__all__ = ["RunningHub", "ServiceState"]

UP = 300.0
"""Seconds for Compose to start all containers."""
START_PATIENCE = 180.0
"""Seconds until every service is well: the first start makes the database."""
DOWN_PATIENCE = 120.0
CONFIGURATION = 2
"""Exit code of a service that was told what cannot be."""
LAST_LINES = 15
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Control sequences that Compose writes between lines of a log."""


@dataclass(frozen=True)
class ServiceState:
    """The state of a service of a hub; with several containers, the worst."""

    name: str
    state: str
    """running, restarting, exited, …; or "stopped" if there is no container."""
    health: str | None
    """healthy, unhealthy or starting; None if it is not running."""
    wanted: int
    """Number of containers there should be, and how many of them are well."""
    well: int

    exit_code: int = 0
    """With which it ended the last time."""

    @property
    def is_refused(self) -> bool:
        """Whether it ends for what it was told, and will do so again."""
        return self.state == "restarting" and self.exit_code == CONFIGURATION

    @property
    def is_well(self) -> bool:
        """Whether all of its containers are well."""
        return self.well >= self.wanted


class RunningHub:
    """The containers of a hub.

    Parameters
    ----------
    home
        Of the hub; it must be set up.
    echo
        Called with each command line before it is run.
    """

    def __init__(
        self,
        home: HubHome,
        engine: Engine | None = None,
        echo: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home
        settle(home.path)
        self.choices = home.read()
        if self.choices.is_in_cluster:
            namespace = chosen_cluster(self.choices.cluster).namespace
            raise TargetError(
                "this hub runs in a Kubernetes cluster, which acoupi cannot control.",
                f"kubectl --namespace {namespace} get pods",
                why=f"it was set up for Kubernetes: see {home.path / 'kubernetes'}.",
            )
        self.engine = engine or Engine()
        self.stack = hub_stack(self.choices)
        self._settings = Settings(home=home.path)
        self._echo = echo

    def check(self) -> None:
        """Raise if it cannot start here: files, engine, another hub, ports.

        Raises
        ------
        AcoupiError
            With what is wrong, and what to do.
        """
        manifest = Manifest.read(self.home.manifest_file)
        check_not_edited(self.home.path, {}, manifest, WRITE_OVER)
        try:
            check_bundle((self.home.path / COMPOSE_FILE).read_text())
        except FileNotFoundError as error:
            raise TargetError(
                f'"{self.home.path / COMPOSE_FILE}" does not exist.',
                "acoupi hub setup",
                why="setup wrote it, and it was removed since.",
            ) from error
        self._check_audio()
        self._check_engine()
        self._check_ports()

    def _check_audio(self) -> None:
        place = self.choices.audio
        if place and not self.choices.keeps_audio_in_bucket and not Path(place).is_dir():
            raise TargetError(
                f'the folder for sound does not exist: "{place}".',
                "mount its disk, or acoupi hub setup --audio with another folder",
                why="acoupi hub setup --audio named it, but it was never made.",
            )

    def _check_engine(self) -> None:
        for words in (("version", "--format", "{{.Server.Version}}"), ("compose", "version")):
            answer = self.engine.ask(*words)
            if not answer.is_ok:
                raise unreachable(answer)
        label = "com.docker.compose.project"
        show = f'{{{{.Label "{label}.working_dir"}}}}'
        answer = self.engine.ask(
            "ps", "--filter", f"label={label}={self.choices.project}", "--format", show
        )
        others = {*answer.out.split("\n")} - {"", str(self.home.path)}
        if answer.is_ok and others:
            other = min(others)
            raise TargetError(
                f'the hub in "{self.home.path}" is already running from another folder.',
                f"ACOUPI_HUB_HOME={shlex.quote(other)} acoupi hub down, then again",
                why=f'its containers run from "{other}": the folder was copied or moved.',
            )

    def _check_ports(self) -> None:
        running = {one.name for one in self.states() if one.state != "stopped"}
        for service in self.stack.services:
            port = service.port
            if port is None or service.name in running:
                continue
            address = port.address.strip("[]")
            if not Host(self.engine).is_port_free(address, port.number, "tcp"):
                option = "--listen" if service.name == INGEST else f"--listen-{service.name}"
                raise TargetError(
                    f"port {port.number} of {port.address} is in use.",
                    f"acoupi hub setup {option} {port.address}:{port.number + 1}, then again",
                    why=f"another program listens on the port of {service.name}.",
                )

    def up(self) -> None:
        """Start every service; workers first get a token, which ingest makes.

        Raises
        ------
        TargetError
            With the engine's output.
        """
        names = [one.name for one in self.stack.services]
        new = [one for one in names if not self._has_token(one)]
        if new:
            self.compose("up", "--detach", *(one for one in names if one not in new), timeout=UP)
            self.wait(INGEST)
            for service in self.stack.services:
                if service.name in new:
                    self._let_in(service)
        self.compose("up", "--detach", "--remove-orphans", timeout=UP)

    def _has_token(self, name: str) -> bool:
        file = self.home.path / env_file(name)
        return not name.startswith(WORKER) or (file.exists() and bool(read_env(file)))

    def _let_in(self, service: Service) -> None:
        """Make a token for a worker in a container: only the image may have the program."""
        parts = urlsplit(inner_broker(known_url(self.home, BROKER, None) or INNER_BROKER))
        broker = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        words = ("acoupi", "hub", "add-worker", service.name, "--program", service.command[-1])
        answer = self.compose("exec", "-T", INGEST, *words, "--broker", broker, timeout=UP)
        text = f"ACOUPI_HUB_WORKER_TOKEN={quoted(answer.out.split()[-1])}\n"
        write_atomic(self.home.path / env_file(service.name), text, PRIVATE)

    def down(self) -> None:
        """Stop every service; the hub's data are kept."""
        self.compose("down", "--remove-orphans", timeout=DOWN_PATIENCE)

    def wait(self, *services: str, patience: float = START_PATIENCE) -> None:
        """Wait until services are well; all of them if none is named.

        Raises
        ------
        TargetError
            If one is not, with its last log lines.
        """
        deadline = data.monotonic() + patience
        while True:
            waiting = [one for one in self.states() if not one.is_well]
            waiting = [one for one in waiting if not services or one.name in services]
            if not waiting:
                return
            one = next((one for one in waiting if one.is_refused), waiting[0])
            if one.is_refused or data.monotonic() > deadline:
                after = "" if one.is_refused else f" after {patience:.0f} s"
                raise TargetError(
                    f'"{one.name}" does not start.',
                    f"docker compose --project-directory {self.home.path} logs {one.name}",
                    why=f"it is {one.health or one.state}{after}: {self._last_words(one.name)}",
                )
            threading.Event().wait(0.5)

    def _last_words(self, service: str) -> str:
        logs = ("logs", "--no-color", "--no-log-prefix", "--tail", str(LAST_LINES), service)
        answer = self.engine.compose(self._settings, *logs)
        lines = [line for line in _ESCAPES.sub("", answer.out).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("Error:", "  Why:"))]
        return " ".join(" ".join(errors[-2:] or lines[-1:]).split()) or "it logged nothing."

    def states(self) -> list[ServiceState]:
        """Return the state of every service.

        Raises
        ------
        TargetError
            If the engine does not answer.
        """
        return list(self._states())

    def _states(self) -> Iterator[ServiceState]:
        answer = self.engine.compose(self._settings, "ps", "--all", "--format", "json")
        if not answer.is_ok:
            raise self._failed("ps", answer)
        found = answer.objects()
        for service in self.stack.services:
            own = [one for one in found if one.get("Service") == service.name]
            well = [one for one in own if one.get("Health") == "healthy"]
            ill = next((one for one in own if one not in well), own[0] if own else {})
            yield ServiceState(
                name=service.name,
                state=str(ill.get("State") or "stopped"),
                health=str(ill.get("Health") or "") or None,
                wanted=self._wanted(service.command),
                well=len(well),
                exit_code=int(ill.get("ExitCode") or 0),
            )

    def _wanted(self, command: tuple[str, ...]) -> int:
        return self.choices.workers.get(command[-1], 1) if command else 1

    def compose(self, *words: str, timeout: float) -> Answer:
        """Run Compose on the hub.

        Raises
        ------
        TargetError
            With the output of Compose.
        """
        self._echo(shlex.join(compose_command(self._settings, *words)))
        answer = self.engine.compose(self._settings, *words, timeout=timeout)
        if not answer.is_ok:
            raise self._failed(words[0], answer)
        return answer

    def _failed(self, what: str, answer: Answer) -> TargetError:
        if explain(answer):
            return unreachable(answer)
        if said := TargetError.printed_in(answer.err):
            return said
        return TargetError(
            f"docker compose {what} failed.",
            f"docker compose --project-directory {shlex.quote(str(self.home.path))} logs",
            why=f"its output: {answer.said[-400:]}",
        )
