"""The services as plain processes, supervised by the scripts in ``bin/``."""

import io
import os
import shlex
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, ClassVar

from acoupi.bundles.rendering import TEMPLATES, render_tree
from acoupi.config.env_files import read_env
from acoupi.errors import AcoupiError, ConfigurationError, TargetError
from acoupi.opening import open_binary
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BEAT, BEAT_MODULE, WORKER_MODULE, Service, Stack
from acoupi.targets import ServiceStatus, Target, service_status
from acoupi.writing import RenderedFile

__all__ = [
    "PASSED_ON",
    "ProcessTarget",
    "extras_of",
    "run_acoupi",
    "run_python",
    "run_script",
    "service_environment",
    "stop_timeout",
]

PASSED_ON = ("ACOUPI_SIMULATED_AUDIO",)
"""Variables that setup records for the services, if they are set."""
START_TIMEOUT = 600.0
"""Seconds that starting the services may take."""
STOP_MARGIN = 300.0
"""Seconds to stop them, in addition to each one's stop grace."""


class ProcessTarget(Target):
    """Plain processes under the scripts of the home; no Docker, no systemd."""

    name: ClassVar[str] = "process"
    rights: ClassVar[str | None] = (
        "every service can do everything that this user may "
        "(acoupi setup --target systemd --system keeps them apart)"
    )

    def files(self, stack: Stack) -> Mapping[PurePath, RenderedFile]:
        """Return ``app.py``, the scripts and ``config/env``."""
        context = {**script_context(stack, self.settings)}
        rendered = render_tree(TEMPLATES, context, below=("app.py", "bin/", "config/"))
        return place_files(rendered, self.settings)

    def up(self) -> None:
        """Start the workers, then beat, then the other services."""
        self.check()
        self._run(self.settings.start_script_path)
        self._run(self.settings.start_script_path, BEAT, *extras_of(self.services))

    def down(self) -> None:
        """Stop beat, then the workers; continue with the others if one cannot be stopped."""
        errors = []
        extras = extras_of(self.services)
        for names in ([BEAT], [], *([extras] if extras else [])):  # no name means every worker
            try:
                self._run(self.settings.stop_script_path, *names)
            except TargetError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def stop_recorder(self) -> None:
        """Stop the recorder after its current recording."""
        if self.recorder is not None:
            self._run(self.settings.stop_script_path, self.recorder.name)

    def start_workers(self) -> None:
        """Start the workers, without beat."""
        self._run(self.settings.start_script_path)

    def stop_workers(self) -> None:
        """Stop the workers, each after its current task."""
        self._run(self.settings.stop_script_path)

    def restart_workers(self) -> None:
        """Stop and start the workers."""
        self._run(self.settings.restart_script_path)

    def _run(self, script: Path, *args: str) -> None:
        run_script(self.settings, script, *args, stopping=stop_timeout(self.services))

    def status(self) -> list[ServiceStatus]:
        """Return the state of each service, from its lock and its pulse."""
        return [
            service_status(self.settings_of(one.name), one.name, one.role) for one in self.services
        ]

    def logs(self, service: str | None = None, lines: int = 50) -> dict[str, list[str]]:
        """Return the last lines of the files in ``log/``."""
        names = [one.name for one in self.services]
        if service is not None and service not in names:
            raise TargetError(
                f'there is no service "{service}".',
                f"acoupi workers status   (one of {', '.join(names)})",
                why=f"the services are {', '.join(names)}.",
            )
        wanted = [service] if service else names
        return {
            name: tail(self.settings_of(name).log_dir / f"{name}.log", lines) for name in wanted
        }

    def check(self) -> None:
        """Raise if the scripts are missing or lack a tool.

        Raises
        ------
        TargetError
            With what is missing.
        """
        for tool, package in (("bash", "bash"), ("flock", "util-linux"), ("setsid", "util-linux")):
            if shutil.which(tool) is None:
                raise TargetError(
                    "cannot start the services.",
                    f"apt-get install {package}",
                    why=f"the program {tool} is missing.",
                )


def extras_of(services: Iterable[Service]) -> list[str]:
    """Return the names of the services that are neither workers nor beat."""
    return [one.name for one in services if one.is_extra]


# --- what is rendered -----------------------------------------------------------------


def script_context(stack: Stack, settings: Settings) -> dict[str, Any]:
    """Return the names that the templates of scripts and units use."""
    services = (*stack.workers, stack.beat, *stack.extras)
    return {
        "program": stack.program,
        "workers": [service.name for service in stack.workers],
        "services": [one.name for one in services],
        "graces": [{"name": one.name, "grace": round(one.stop_grace)} for one in services],
        "extras": stack.extras,
        "beat": BEAT,
        "beat_module": BEAT_MODULE,
        "worker_module": WORKER_MODULE,
        "python": sys.executable,
        "start_script": settings.start_script_path.name,
        "stop_script": settings.stop_script_path.name,
        "environment": sorted(service_environment(settings).items()),
    }


def place_files(
    rendered: Mapping[PurePath, RenderedFile], settings: Settings
) -> dict[PurePath, RenderedFile]:
    """Return the files under the names that the settings give them.

    Raises
    ------
    ConfigurationError
        If a script would be where it cannot find the home: it must be in a
        folder of the home.
    """
    names = {
        PurePath("app.py"): settings.program_file,
        PurePath("config/env"): settings.env_file,
        PurePath("bin/acoupi-workers-start.sh"): settings.start_script_path,
        PurePath("bin/acoupi-workers-stop.sh"): settings.stop_script_path,
        PurePath("bin/acoupi-workers-restart.sh"): settings.restart_script_path,
        PurePath("bin/acoupi-beat.sh"): settings.beat_script_path,
    }
    placed = {}
    for path, file in rendered.items():
        wanted = names.get(path, settings.home / path)
        depth = len(path.parts)
        if not wanted.is_relative_to(settings.home) or (
            len(wanted.relative_to(settings.home).parts) != depth
        ):
            raise ConfigurationError(
                f'cannot put "{path.as_posix()}" at "{wanted}".',
                "unset the ACOUPI_ variable that names this path, or move ACOUPI_HOME instead",
                why="it finds the home from its own path, so that must be "
                f"{'a folder of the home' if depth > 1 else 'the home itself'}.",
            )
        placed[PurePath(wanted.relative_to(settings.home))] = file
    return placed


def service_environment(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables that services need in addition to ACOUPI_HOME: changed settings.

    Raises
    ------
    ConfigurationError
        If a value has a line break, which the file for systemd cannot hold.
    """
    environ = os.environ if environ is None else environ
    variables = {
        f"ACOUPI_{name.upper()}": str(value)
        for name, value in vars(settings).items()
        if name != "home" and value != settings.usual(name)
    }
    variables |= {name: environ[name] for name in PASSED_ON if environ.get(name)}
    for name, value in variables.items():
        if "\n" in value or "\r" in value:
            raise ConfigurationError(
                f"{name} cannot be passed to the services.",
                f"unset {name}",
                why="its value has more than one line.",
            )
    return variables


# --- running --------------------------------------------------------------------------


def run_script(settings: Settings, script: Path, *args: str, stopping: float = STOP_MARGIN) -> str:
    """Run one of the scripts of the home; return what it wrote to standard error.

    Parameters
    ----------
    settings, script, args
        Of the home; which one; its arguments.
    stopping
        How long stopping the services may take, seconds.

    Raises
    ------
    TargetError
        With the error that the script printed, or else the end of its output.
    """
    if not script.is_file():
        raise TargetError(
            f'cannot run "{script}".', "acoupi setup", why="setup writes it, but it is missing."
        )
    command = ["bash", str(script), *args]
    timeout = 0.0
    if script != settings.stop_script_path:
        timeout += START_TIMEOUT
    if script != settings.start_script_path:
        timeout += stopping
    try:
        result = subprocess.run(
            command,
            env={**os.environ, "ACOUPI_HOME": str(settings.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(
            f"{script.name} did not finish.",
            f"less {settings.log_dir}/*.log",
            why=f"it was killed after {error.timeout:.0f} s.",
        ) from error
    if result.returncode != 0:
        raise script_error(script, result.stderr, result.returncode)
    return result.stderr


def stop_timeout(services: Iterable[Service]) -> float:
    """Return how long stopping services may take, one after the other, seconds."""
    return sum(one.stop_grace for one in services) + STOP_MARGIN


def script_error(script: Path, text: str, code: int) -> AcoupiError:
    """Return the error that a script printed; else one with the end of its output."""
    kind = ConfigurationError if code == ConfigurationError.exit_code else TargetError
    if found := kind.printed_in(text):
        return found
    last = " ".join(text.split("\n")[-4:]).strip() or f"it ended with exit code {code}"
    return TargetError(f"{script.name} failed.", f"bash {shlex.quote(str(script))}", why=last)


def run_python(
    settings: Settings, args: list[str], **kwargs: Any
) -> "subprocess.CompletedProcess[Any]":
    """Run this Python with the environment of the services; keywords are those of subprocess."""
    environment = {
        **read_env(settings.env_file),
        **os.environ,
        "ACOUPI_HOME": str(settings.home),
    }
    kwargs.setdefault("check", False)
    kwargs.setdefault("cwd", settings.home)
    command = [sys.executable, *args]
    return subprocess.run(command, env=kwargs.pop("env", environment), **kwargs)  # noqa: PLW1510


def run_acoupi(
    settings: Settings, arguments: Sequence[str], **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command of acoupi on a home, protected from Ctrl-C; its output is in `stdout`."""
    return run_python(
        settings,
        ["-c", "from acoupi.cli import main; main()", *arguments],
        env={**os.environ, "ACOUPI_HOME": str(settings.home), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a file; none if it cannot be read."""
    try:
        with io.TextIOWrapper(open_binary(path), errors="replace") as stream:
            return [line.rstrip("\n") for line in deque(stream, maxlen=lines)]
    except OSError:
        return []
