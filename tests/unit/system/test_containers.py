"""How a service is, from what the engine says of its container and its own pulse."""

import datetime
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from acoupi import data
from acoupi.bundles.engine import Engine
from acoupi.errors import TargetError
from acoupi.stack.pulse import PulseFile
from acoupi.targets import containers
from acoupi.targets.containers import container_statuses, describe_container

BEFORE = "2024-01-01T00:00:00.123456789Z"


def inspected(health: str | None = "healthy", restarts: int = 0, **state: Any) -> dict[str, Any]:
    """What the engine says of a container."""
    whole = {"Running": True, "StartedAt": BEFORE, "ExitCode": 0, **state}
    if health:
        whole["Health"] = {"Status": health}
    return {"State": whole, "RestartCount": restarts}


def write_pulse(folder: Path, state: Any = "ready", **values: Any) -> None:
    file = PulseFile(folder, "default")
    file.pulse = replace(file.pulse, **{"state": state, **values})
    file.write()


def test_a_container_that_works_is_ready(tmp_path: Path) -> None:
    write_pulse(tmp_path, done=3)

    status = describe_container("default", "worker", inspected(restarts=2), tmp_path)

    assert (status.state, status.health, status.done, status.restarts) == ("ready", "healthy", 3, 2)
    assert status.is_well


def test_a_pulse_of_the_container_before_counts_for_nothing(tmp_path: Path) -> None:
    write_pulse(tmp_path)
    after = data.utc_now().isoformat().replace("+00:00", "000Z")

    status = describe_container("default", "worker", inspected(StartedAt=after), tmp_path)

    assert status.state == "starting"


@pytest.mark.parametrize(
    ("attributes", "state", "message"),
    [
        (inspected(Restarting=True, ExitCode=70), "restarting", "it ended with exit code 70"),
        (inspected(Running=False, ExitCode=137, OOMKilled=True), "stopped", "more memory"),
        (inspected(Running=False, ExitCode=128, Error="no such file"), "stopped", "no such file"),
        (inspected(Paused=True), "not answering", "paused"),
    ],
)
def test_a_container_that_does_not_work_says_why(
    tmp_path: Path, attributes: dict[str, Any], state: str, message: str
) -> None:
    status = describe_container("default", "worker", attributes, tmp_path)

    assert status.state == state
    assert message in (status.message or "")
    assert not status.is_well


def test_one_that_was_asked_to_end_needs_no_reason(tmp_path: Path) -> None:
    status = describe_container("default", "worker", inspected(Running=False), tmp_path)

    assert (status.state, status.message) == ("stopped", None)


def test_an_old_pulse_is_no_answer(tmp_path: Path) -> None:
    pulse = replace(PulseFile(tmp_path, "default").pulse, state="ready")
    pulse.pulse_on -= datetime.timedelta(minutes=5)
    (tmp_path / "default.json").write_text(pulse.to_json())

    status = describe_container("default", "worker", inspected(), tmp_path)

    assert status.state == "not answering"


def test_redis_has_no_pulse_and_needs_none(tmp_path: Path) -> None:
    assert describe_container("redis", "broker", inspected(), tmp_path).state == "ready"


def test_without_an_engine_nothing_is_known_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    (status,) = container_statuses(Engine(), "project", {"default": "worker"}, tmp_path)

    assert status.state == "unknown"
    assert "it answered" in (status.message or "")
    assert containers.container_logs(Engine(), "project", ["default"], 5) == {}


class LostEngine:
    """A client whose engine has gone away meanwhile."""

    class containers:
        @staticmethod
        def list(**how: object) -> Any:
            raise ConnectionError("connection refused")


def test_an_engine_that_went_away_before_the_broker_was_asked_is_an_error_of_ours() -> None:
    with pytest.raises(TargetError, match="find the broker") as caught:
        containers.BrokerShell(LostEngine(), "project", "/run/redis.sock", Path("/none"))

    assert "connection refused" in (caught.value.why or "")


class ShellOfThisMachine:
    """A client whose container of redis runs what it is given here."""

    status = "running"
    labels: ClassVar[dict[str, str]] = {containers.SERVICE_LABEL: "redis"}

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, 0
        self.containers = SimpleNamespace(list=lambda **how: [self])

    def exec_run(self, command: list[str], environment: dict[str, str]) -> tuple[int, bytes]:
        self.started += 1
        path = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        done = subprocess.run(command, env=environment | path, capture_output=True, check=False)
        return done.returncode, done.stdout


def test_every_queue_is_asked_for_by_one_process_in_the_container(tmp_path: Path) -> None:
    cli = tmp_path / "redis-cli"
    cli.write_text('#!/bin/sh\n[ "$1 $3 $5 $6" = "-s --user --raw LLEN" ] && echo "${#7}"\n')
    cli.chmod(0o755)
    (tmp_path / "_host").write_text("secret\n")
    client = ShellOfThisMachine(tmp_path)
    shell = containers.BrokerShell(client, "project", "/run/redis.sock", tmp_path)

    assert shell.numbers("LLEN", ["celery", "a b", "detection"]) == [6, 3, 9]
    assert client.started == 1
    with pytest.raises(TargetError, match="cannot query the broker"):
        shell.numbers("GET", ["celery"])
