"""The Docker engine: queries, and handing the terminal over to ``docker``.

Queries go through the ``docker`` command, which is what people run by hand
and which follows their contexts and variables. Only the state of containers
is read through the engine's API (`Engine.client`), which is quicker.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acoupi.devices.clock import is_clock_synchronised
from acoupi.devices.microphones import list_cards
from acoupi.errors import TargetError
from acoupi.space import existing
from acoupi.stack.settings import Settings

__all__ = [
    "APPARMOR_PROFILE",
    "Answer",
    "Engine",
    "Host",
    "Storage",
    "compose_command",
    "explain",
    "hand_over",
    "has_apparmor_profile",
    "unreachable",
]

COMPOSE_FILE = "docker-compose.yml"
OVERRIDE_FILE = "docker-compose.override.yml"
NOT_FOUND = 127
TOOK_TOO_LONG = 124
ANSWER_TIMEOUT = 30.0
"""Seconds; an engine on a board that has just started is slow."""
SHORT_TIMEOUT = 5.0
"""Seconds, where there is another way without an engine."""
APPARMOR_PROFILE = "acoupi-sensor"
"""In ``compose/apparmor-acoupi``."""
APPARMOR_LOADED = Path("/sys/kernel/security/apparmor/profiles")
"""What the kernel has loaded; only root may read it."""
MISLEADING = ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES")
"""Variables that would make Compose use another project than the home's."""


_DENIED = re.compile(
    r"(?i)permission denied while trying to connect|permission denied.*docker.*sock"
    r"|(dial unix|server api version).*permission denied"
)
_NOBODY = re.compile(
    r"(?i)cannot connect to the docker daemon|error during connect|fetching server api version"
)


@dataclass(frozen=True)
class Answer:
    """The result of a command."""

    code: int
    """Its exit code; 127: it is not installed; 124: it took too long."""
    out: str = ""
    err: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it succeeded."""
        return self.code == 0

    @property
    def is_missing(self) -> bool:
        """Whether there is no such command."""
        return self.code == NOT_FOUND

    def objects(self) -> list[dict[str, Any]]:
        """Return the JSON objects that it printed, one a line; other lines are skipped."""
        found = []
        for line in self.out.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                found.append(json.loads(line))
        return [one for one in found if isinstance(one, dict)]

    @property
    def said(self) -> str:
        """Its output, in one line."""
        return " ".join((self.err or self.out).split()) or f"it ended with exit code {self.code}"


@dataclass(frozen=True)
class Storage:
    """A file system, as it is mounted."""

    kind: str
    """``ext4``, ``vfat``, ``fuse.sshfs``, …"""
    mounted_on: Path
    options: tuple[str, ...] = ()


def environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without the variables that mislead docker."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name not in MISLEADING}


def compose_command(settings: Settings, *args: str, override: bool = True) -> list[str]:
    """Return the command line of Compose on a home, with the user's override or not."""
    files = [settings.home / COMPOSE_FILE]
    changes = settings.home / OVERRIDE_FILE
    if override and changes.is_file():
        files.append(changes)
    given = [word for file in files for word in ("-f", str(file))]
    return ["docker", "compose", "--project-directory", str(settings.home), *given, *args]


def has_apparmor_profile(loaded: Path = APPARMOR_LOADED) -> bool:
    """Return whether the kernel says that acoupi's profile of AppArmor is loaded and enforced."""
    try:
        return f"{APPARMOR_PROFILE} (enforce)" in loaded.read_text().splitlines()
    except OSError:
        return False


class Engine:
    """The Docker engine that the ``docker`` command would ask."""

    def ask(self, *words: str, timeout: float = ANSWER_TIMEOUT) -> Answer:
        """Return what ``docker WORDS`` answers; never raises."""
        try:
            result = subprocess.run(
                ["docker", *words],
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Answer(TOOK_TOO_LONG, err=f"no answer within {timeout:.0f} s")
        except OSError as error:
            return _not_started(error)
        return Answer(result.returncode, result.stdout, result.stderr)

    def compose(self, settings: Settings, *words: str, timeout: float = ANSWER_TIMEOUT) -> Answer:
        """Return what ``docker compose WORDS`` answers on the files of a home."""
        return self.ask(*compose_command(settings, *words)[1:], timeout=timeout)

    def stream(
        self,
        *words: str,
        on_line: Callable[[str], None],
        variables: Mapping[str, str] | None = None,
    ) -> Answer:
        """Run ``docker WORDS``, pass on each line of output, and return the last 200.

        `variables` are given to it besides those of this process.
        """
        said: deque[str] = deque(maxlen=200)
        try:
            process = subprocess.Popen(
                ["docker", *words],
                env=environment() | dict(variables or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            return _not_started(error)
        with process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    said.append(line.rstrip())
                    on_line(line.rstrip())
            except BaseException:
                process.terminate()
                raise
        return Answer(process.returncode, "\n".join(said))

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        """Return the details of images or containers; those that do not exist are left out.

        Parameters
        ----------
        kind
            "image" or "container".
        names
            Which.

        Raises
        ------
        TargetError
            If the engine does not answer.
        """
        if not names:
            return []
        answer = self.ask(kind, "inspect", "--format", "{{json .}}", *names)
        if not answer.is_ok and explain(answer):
            raise unreachable(answer)
        return answer.objects()

    def has_image(self, image: str) -> bool:
        """Return whether the engine has an image; False if it does not answer."""
        return self.ask("image", "inspect", "--format", "{{.Id}}", image).is_ok

    def is_usable(self, patience: float = SHORT_TIMEOUT) -> bool:
        """Return whether it answers and Compose v2 is there, within so many seconds each."""
        asked = (("version", "--format", "{{.Server.Version}}"), ("compose", "version", "--short"))
        return all(self.ask(*words, timeout=patience).is_ok for words in asked)

    def client(self) -> Any:
        """Return a client of its API: that of ``DOCKER_HOST``, else of the current context.

        Raises
        ------
        TargetError
            If it does not answer, and why.
        """
        import docker  # noqa: PLC0415 - it takes 0.2 s
        from docker.errors import DockerException  # noqa: PLC0415

        client: Any = None
        try:
            client = docker.from_env(timeout=ANSWER_TIMEOUT, use_context=True, use_ssh_client=True)
            client.ping()
        except (DockerException, OSError) as error:
            if client is not None:
                client.close()
            raise unreachable(Answer(1, err=str(error))) from error
        return client


def _not_started(error: OSError) -> Answer:
    if isinstance(error, FileNotFoundError):
        return Answer(NOT_FOUND, err="docker is not installed")
    return Answer(NOT_FOUND, err=f"docker: {(error.strerror or str(error)).lower()}")


def explain(answer: Answer) -> tuple[str, str] | None:
    """Return why the engine did not answer, and what to try; None if it answered.

    Examples
    --------
    >>> explain(Answer(1, err="Error: No such image: x"))
    """
    if answer.is_missing:
        return (
            "the program docker is not installed.",
            "curl -fsSL https://get.docker.com | sh   (or: acoupi setup --target process)",
        )
    if answer.code == TOOK_TOO_LONG:
        return f"it does not answer: {answer.said}.", "sudo systemctl restart docker"
    for line in (answer.err or answer.out).splitlines():
        if _DENIED.search(line):
            return (
                "this user may not use its socket: permission denied.",
                'sudo usermod -aG docker "$USER", then log out and in again',
            )
        if _NOBODY.search(line):
            said = " ".join(line.split()).rstrip(".")
            return f"it answered: {said}.", "sudo systemctl start docker"
    return None


def unreachable(answer: Answer) -> TargetError:
    """Return the error of an engine that does not answer."""
    usual = f"it answered: {answer.said.rstrip('.')}.", "sudo systemctl restart docker"
    why, help_text = explain(answer) or usual
    return TargetError("cannot reach the Docker engine.", help_text, why=why)


def hand_over(command: Sequence[str]) -> int:
    """Run a command on this terminal and return its exit code.

    Ctrl-C reaches the command, which ends as it does when it is run by hand;
    this process continues.

    Raises
    ------
    TargetError
        If docker is not installed.
    """
    # A handler, other than SIG_IGN, is not inherited by the command.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.Popen(list(command), env=environment()).wait()
    except FileNotFoundError as error:
        raise unreachable(_not_started(error)) from error
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


@dataclass(frozen=True)
class Host:
    """The real probes of `acoupi.bundles.preflight`: they ask this machine."""

    engine: Engine = field(default_factory=Engine)

    def docker(self, *args: str, timeout: float = ANSWER_TIMEOUT) -> Answer:
        """Return what ``docker ARGS`` answers."""
        return self.engine.ask(*args, timeout=timeout)

    def compose(self, settings: Settings, *args: str, override: bool = True) -> Answer:
        """Return what ``docker compose ARGS`` answers on the files of a home."""
        return self.engine.ask(*compose_command(settings, *args, override=override)[1:])

    def is_container(self) -> bool:
        """Return whether this is the container of a service, in which Docker cannot be used."""
        return "ACOUPI_SERVICE" in os.environ and shutil.which("docker") is None

    def free_bytes(self, path: Path) -> int | None:
        """Return the free space where a path is or would be; None if that is not known."""
        try:
            return shutil.disk_usage(existing(path)).free
        except OSError:
            return None

    def memory_bytes(self) -> int:
        """Return the memory of this machine."""
        import psutil  # noqa: PLC0415 - start time

        return int(psutil.virtual_memory().total)

    def can_write(self, path: Path) -> bool:
        """Return whether this user may write in a folder, or where it would be made."""
        return os.access(existing(path), os.W_OK | os.X_OK)

    def is_folder(self, path: Path) -> bool:
        """Return whether there is such a folder (or file) here, as far as this user may see."""
        try:
            return path.exists()
        except OSError:
            return False

    def storage(self, path: Path) -> Storage | None:
        """Return the file system where a path is or would be; None if that is not known."""
        import psutil  # noqa: PLC0415 - start time

        place = existing(path).resolve()
        above = [
            one for one in psutil.disk_partitions(all=True) if place.is_relative_to(one.mountpoint)
        ]
        # Of two mounts on one place the later one is what is seen.
        last = max(reversed(above), key=lambda one: len(one.mountpoint), default=None)
        return last and Storage(last.fstype, Path(last.mountpoint), tuple(last.opts.split(",")))

    def cards(self) -> list[str]:
        """Return the sound cards that can record."""
        return [card.id for card in list_cards() if card.can_record]

    def is_clock_synchronised(self) -> bool | None:
        """Return whether the clock is synchronised; None if the kernel does not say."""
        return is_clock_synchronised()

    def is_port_free(self, address: str, port: int, protocol: str) -> bool:
        """Return whether no program listens there."""
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except PermissionError:
                return True  # ports below 1024 are opened by the engine, which may
            except OSError:
                return False
        return True
