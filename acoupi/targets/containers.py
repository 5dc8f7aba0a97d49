"""The containers of a bundle, as the engine's API sees them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.bundles.engine import Engine
from acoupi.errors import TargetError
from acoupi.stack.broker_users import HOST_USER
from acoupi.stack.pulse import Pulse, read_pulse
from acoupi.stack.stack import BROKER
from acoupi.targets import PULSE_TOO_OLD, ServiceStatus, process_memory
from acoupi.writing import disk_error

__all__ = ["BrokerShell", "container_logs", "container_statuses"]

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"
ASK_EACH = (
    'user=$1 command=$2; shift 2; for key; do redis-cli -s "$0" --user "$user" --raw '
    '"$command" "$key" || exit 1; done'
)
"""For a shell in the container of redis: each process that the engine starts there takes 40 ms."""


@contextlib.contextmanager
def _answers(what: str) -> Iterator[None]:
    """Convert Docker client errors to TargetError."""
    from docker.errors import DockerException  # noqa: PLC0415 - it takes 0.2 s

    try:
        yield
    except (DockerException, OSError) as error:
        raise TargetError(
            f"cannot {what}.",
            "acoupi doctor",
            why=f"the Docker engine answered: {' '.join(str(error).split())}.",
        ) from error


def _containers(client: Any, project: str) -> dict[str, Any]:
    """Return the containers of a project by the name of their service, stopped ones too."""
    labels = [f"{PROJECT_LABEL}={project}", f"{ONE_OFF_LABEL}=False"]
    found = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    return {one.labels[SERVICE_LABEL]: one for one in found if SERVICE_LABEL in one.labels}


def container_statuses(
    engine: Engine, project: str, roles: Mapping[str, str], run_dir: Path
) -> list[ServiceStatus]:
    """Return the states of the services of a project, in the given order; never raises."""
    try:
        with contextlib.closing(engine.client()) as client, _answers("list the containers"):
            containers = _containers(client, project)
    except TargetError as error:
        return [
            ServiceStatus(name=name, role=role, state="unknown", message=error.why)
            for name, role in roles.items()
        ]
    return [_status(name, role, containers.get(name), run_dir) for name, role in roles.items()]


def _status(name: str, role: str, container: Any, run_dir: Path) -> ServiceStatus:
    if container is None:
        return ServiceStatus(name=name, role=role, state="stopped")
    attributes: dict[str, Any] = container.attrs
    state = attributes.get("State", {})
    status = describe_container(name, role, attributes, run_dir)
    if state.get("Running") and not state.get("Restarting"):
        return replace(status, memory_bytes=_memory(container))
    return status


def describe_container(
    name: str, role: str, attributes: Mapping[str, Any], run_dir: Path
) -> ServiceStatus:
    """Return the state of a service, from its container's details and its pulse.

    Parameters
    ----------
    name, role
        Of the service.
    attributes
        What ``docker inspect`` shows.
    run_dir
        Where its own folder is, with its pulse.
    """
    state = attributes.get("State", {})
    health = (state.get("Health") or {}).get("Status")
    began = _moment(state.get("StartedAt"))
    status = ServiceStatus(
        name=name,
        role=role,
        state="unknown",
        health=health if health in ("healthy", "unhealthy", "starting") else None,
        restarts=int(attributes.get("RestartCount") or 0),
        started_on=began,
    )
    # Beside the others: written by a container of an earlier version.
    pulse = read_pulse(run_dir / name, name) or read_pulse(run_dir, name)
    if pulse is not None and began is not None and pulse.started_on < began:
        pulse = None  # written by the previous container
    if pulse is not None:
        counted_by_engine = {"restarts": status.restarts, "pid": None}
        status = replace(status, **{**pulse.facts, **counted_by_engine})
    return replace(status, **_state_of(state, role, status, pulse))


def _state_of(
    state: Mapping[str, Any], role: str, status: ServiceStatus, pulse: Pulse | None
) -> dict[str, Any]:
    """Return the state of a service and a message about it."""
    if state.get("Restarting"):
        return {"state": "restarting", "message": status.message or _ended(state)}
    if not state.get("Running"):
        ended = _ended(state) if state.get("ExitCode") else None
        message = status.message or ended
        return {"state": "stopped", "message": message, "task": None, "task_since": None}
    if state.get("Paused"):
        return {"state": "not answering", "message": "it is paused"}
    if pulse is None:
        return {"state": "ready" if role == "broker" else "starting"}
    age = (data.utc_now() - pulse.pulse_on).total_seconds()
    if age > PULSE_TOO_OLD and pulse.state != "starting":
        return {"state": "not answering", "message": f"its last pulse is {age:.0f} s old"}
    return {"state": pulse.state}


def _ended(state: Mapping[str, Any]) -> str:
    """Return in words how a container ended."""
    if state.get("OOMKilled"):
        return "it was killed because it used more memory than its limit in .env"
    if error := state.get("Error"):
        return f"the engine could not start it: {error}"
    return f"it ended with exit code {state.get('ExitCode')}"


def _moment(text: object) -> datetime | None:
    """Return a time as the engine writes it, to the microsecond; None for none."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    seconds, _, rest = text.removesuffix("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{seconds}.{rest[:6].ljust(6, '0')}+00:00")
    except ValueError:
        return None


def _memory(container: Any) -> int | None:
    """Return the resident memory of what runs in a container, bytes; None if unknown."""
    pid = int(container.attrs["State"].get("Pid") or 0)
    try:
        # The engine may be on another machine, where that number means something else.
        if container.id not in Path(f"/proc/{pid}/cgroup").read_text():
            return None
    except OSError:
        return None
    return process_memory(pid)


def container_logs(
    engine: Engine, project: str, names: Sequence[str], lines: int
) -> dict[str, list[str]]:
    """Return the last lines that each container wrote; nothing if there is no container."""
    try:
        with contextlib.closing(engine.client()) as client, _answers("ask for the logs"):
            containers = _containers(client, project)
            return {
                name: containers[name].logs(tail=lines).decode(errors="replace").splitlines()
                for name in names
                if name in containers
            }
    except TargetError:
        return {}


class BrokerShell:
    """Sends commands to the redis of a bundle from inside its container, its only access.

    Parameters
    ----------
    client
        Of the engine.
    project
        The compose project.
    socket
        Of redis, in its container.
    passwords
        The folder of the passwords, on this machine.

    Raises
    ------
    TargetError
        If the engine does not list the containers.
    """

    def __init__(self, client: Any, project: str, socket: str, passwords: Path) -> None:
        with _answers("find the broker"):
            self._container = _containers(client, project).get(BROKER)
        self._socket = socket
        self._password_file = passwords / HOST_USER

    def numbers(self, command: str, keys: Sequence[str]) -> list[int]:
        """Return the number that redis answers to a command on each key.

        Raises
        ------
        TargetError
            If the broker is not running, or gives an unexpected answer.
        """
        if self._container is None or self._container.status != "running":
            raise TargetError(
                "cannot query the broker.", "acoupi compose up", why="its container is not running."
            )
        try:
            password = self._password_file.read_text().strip()
        except OSError as error:
            raise disk_error("read", self._password_file, error) from error
        with _answers("query the broker"):
            code, out = self._container.exec_run(
                ["sh", "-c", ASK_EACH, self._socket, HOST_USER, command, *keys],
                environment={"REDISCLI_AUTH": password},
            )
        text = out.decode(errors="replace").strip()
        answers = text.split()
        if code != 0 or not all(one.isdigit() for one in answers) or len(answers) != len(keys):
            raise TargetError(
                "cannot query the broker.",
                "acoupi compose logs redis",
                why=f"redis answered: {text or f'nothing, with exit code {code}'}",
            )
        return [int(one) for one in answers]
