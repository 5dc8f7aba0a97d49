"""A sensor on a real Docker engine, for tests; nothing of it is left behind."""

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from acoupi.components import SqliteStore
from acoupi.data import Recording
from acoupi.exports.effort_report import Tally, find_deployment, measure, read_effort
from acoupi.stack.pulse import Pulse, read_pulse
from acoupi.system import Settings, setup_program, target_for
from acoupi.targets import Target
from tests.sensors import is_ready
from tests.services import eventually, json_lines

SERVICES = ("recording", "detection", "default", "beat")
"""Of the demo program, in the order of the compose file; redis is beside them."""
EVERY = ("redis", *SERVICES)
TOKEN = "not-for-everyone-4711"
DEADLINE = 120.0
"""Longest wait for something of a bundle, seconds."""
RECOVERY = 240.0
"""Longest wait for what a kill left: the recovery pass comes every minute, to what has rested."""
Done = subprocess.CompletedProcess[str]


def servers(image: str, out: Path) -> dict[str, Any]:
    """The compose file of an HTTP server and an MQTT broker; their network leads nowhere else."""
    common = {"image": image, "volumes": [f"{out}:/out"], "stop_grace_period": "0s"}
    return {
        "services": {name: {**common, "command": [name]} for name in ("http", "mqtt")},
        "networks": {"default": {"internal": True}},
    }


class Bundle:
    """A home with the demo program for the compose target.

    Parameters
    ----------
    home
        Where it is.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.out = home / "servers"
        self.settings = Settings(home=home)

    def set_up(self, *options: str, **more: Any) -> None:
        """Set it up, or set it up again."""
        program = more.pop("program", "acoupi.programs.demo")
        setup_program(self.settings, program, [*options], target="compose", **more)

    def override(self, services: Mapping[str, Any]) -> None:
        """Write docker-compose.override.yml as a user would; JSON is YAML too."""
        networks = {"default": {"internal": True}}  # no way out for any
        text = json.dumps({"services": services, "networks": networks}, indent=1)
        (self.home / "docker-compose.override.yml").write_text(text)

    def add_servers(self, image: str, more: Mapping[str, Any] | None = None) -> None:
        """Put an HTTP server and an MQTT broker beside the services; override more of them."""
        self.out.mkdir()
        self.out.chmod(0o777)
        self.override({**servers(image, self.out)["services"], **(more or {})})

    def received(self, server: str) -> list[dict[str, Any]]:
        """What a server was sent so far."""
        return json_lines(self.out / f"{server}.jsonl")

    @property
    def target(self) -> Target:
        return target_for(self.settings)

    # --- docker ---

    def compose(self, *args: str, check: bool = True, timeout: float = 180) -> Done:
        """Run ``docker compose`` as a person would: in the home, and nothing else said."""
        return docker("compose", *args, check=check, timeout=timeout, cwd=self.home)

    def end(self) -> None:
        """End whatever is left of it at once, by its own project's name."""
        if (self.home / "docker-compose.yml").exists():
            self.compose("down", "--volumes", "--remove-orphans", "--timeout", "0", check=False)

    def container(self, service: str) -> str:
        found = self.compose("ps", "--all", "--quiet", service).stdout.split()
        assert found, f"there is no container of {service}"
        return found[0]

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)).stdout)[0]
        return found

    def state(self, service: str) -> dict[str, Any]:
        state: dict[str, Any] = self.inspect(service)["State"]
        return state

    def run_in(self, service: str, *command: str, user: str | None = None) -> Done:
        """Run something in a running container, as the service's user."""
        return run_in(lambda: self.container(service), *command, user=user)

    def python_in(self, service: str, code: str, user: str | None = None) -> str:
        """Run Python in a running container and return what it printed, errors included."""
        done = self.run_in(service, "python", "-c", code, user=user)
        return (done.stdout + done.stderr).strip()

    def log(self, service: str) -> str:
        return self.compose("logs", "--no-color", "--tail", "40", service, check=False).stdout

    def acoupi(self, *args: str, timeout: float = 180) -> Done:
        """Run a command of acoupi on it, as a person would."""
        return subprocess.run(
            [Path(sys.executable).with_name("acoupi"), *args], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
            env={**environment(), "ACOUPI_HOME": str(self.home), "NO_COLOR": "1"},
        )  # fmt: skip

    # --- what it does ---

    @property
    def store(self) -> SqliteStore:
        return SqliteStore(self.home / "data" / "metadata.db")

    def recordings(self) -> list[Recording]:
        """All that it has made, each once.

        Those that wait are asked for first: what is analysed between the two
        questions is in both answers, and not in neither.
        """
        waiting = self.store.get_captured_recordings()
        analysed = [one.recording for one in self.store.get_model_outputs()]
        return list({one.id: one for one in (*waiting, *analysed)}.values())

    def effort(self, since: datetime, until: datetime | None = None) -> Tally:
        """What every second since then was used for, by its own account."""
        deployment = find_deployment(self.store, None)
        return measure(*read_effort(self.store, deployment, since, until)).total

    def analysed(self) -> int:
        """How many recordings have been analysed."""
        if not (self.home / "data" / "metadata.db").exists():
            return 0
        return len(self.store.get_model_outputs())

    def pulse(self, service: str) -> Pulse | None:
        return read_pulse(self.settings.of_service(service).run_dir, service)

    def is_ready(self, service: str) -> bool:
        return is_ready(self.settings.of_service(service).run_dir, service)

    def are_ready(self) -> bool:
        return all(self.is_ready(service) for service in SERVICES)

    def eventually(
        self, claim: Callable[[], object], what: str, deadline: float = DEADLINE
    ) -> None:
        """Wait until the claim holds; if it never does, show what the services logged."""

        def told() -> str:
            logs = "\n".join(f"--- {name}\n{self.log(name)[-2500:]}" for name in EVERY)
            return self.compose("ps", "--all", check=False).stdout + logs

        eventually(claim, what, deadline, told)

    def goes_on(self, what: str, recordings: int = 1) -> None:
        """Wait for recordings that are made and analysed from now on."""
        before = self.analysed()
        self.eventually(lambda: self.analysed() >= before + recordings, what)

    def kill(self, service: str) -> int:
        """End a service's own process as a crash would; return its pid.

        The engine takes ``docker kill`` for somebody's wish and starts nothing
        again, so the signal comes from outside.
        """
        init = int(self.state(service)["Pid"])
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        victim = int(children[0]) if children else init
        os.kill(victim, signal.SIGKILL)
        return init


def environment() -> dict[str, str]:
    """The variables of this process without any that would decide something here."""
    decide = ("ACOUPI_", "COMPOSE_")
    return {name: text for name, text in os.environ.items() if not name.startswith(decide)}


def docker(
    *args: str,
    check: bool = True,
    timeout: float = 60,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Run docker, with no variables of ours but these; what it said is in the failure."""
    done = subprocess.run(
        ["docker", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout, check=False, cwd=cwd, env=environment() | dict(variables or {}),
    )  # fmt: skip
    if check and done.returncode:
        pytest.fail(f"docker {' '.join(args)} ended with {done.returncode}: {done.stderr}")
    return done


def run_in(container: Callable[[], str], *command: str, user: str | None = None) -> Done:
    """Run something in a container that runs from before to after it; else wait, and do it again.

    Parameters
    ----------
    container
        Names it; asked each time, because Compose may have made another.
    command
        Must be good to be run twice.
    user
        None: that of the service.
    """
    end = time.monotonic() + DEADLINE
    given = ("--user", user) if user else ()
    while True:
        name = container()
        before = _run_of(name)
        if before:
            done = docker("exec", *given, name, *command, check=False)
            if _run_of(name) == before:
                return done
        if time.monotonic() > end:
            pytest.fail(f"no container of {name} ran long enough for {command}")
        time.sleep(0.2)


def _run_of(container: str) -> str:
    """What tells one run of a container from the next; "" while it does not run."""
    shown = "{{with .State}}{{if and .Running (not .Restarting)}}{{.StartedAt}}{{end}}{{end}}"
    return docker("inspect", "--format", shown, container, check=False).stdout.strip()


def has_engine() -> bool:
    """Return whether a Docker engine with Compose v2 answers."""
    if shutil.which("docker") is None:
        return False
    try:
        for asked in (["docker", "info"], ["docker", "compose", "version"]):
            done = subprocess.run(asked, capture_output=True, timeout=20, check=False)
            if done.returncode:
                return False
    except subprocess.TimeoutExpired:
        return False
    return True


@contextlib.contextmanager
def bundle_at(home: Path) -> Iterator[Bundle]:
    """Give a bundle that is not set up yet; end its project afterwards."""
    bundle = Bundle(home)
    try:
        yield bundle
    finally:
        bundle.end()


@contextlib.contextmanager
def ended_in(home: Path) -> Iterator[Callable[[], list[dict[str, str]]]]:
    """Note each container of a home that ends; the engine itself forgets that soon."""
    notes = home.parent / f"{home.name}-ended.jsonl"
    command = ["docker", "events", "--since", f"{time.time():.3f}", "--filter", "event=die",
               "--filter", f"label=com.docker.compose.project.working_dir={home}",
               "--format", "{{json .Actor.Attributes}}"]  # fmt: skip
    with notes.open("w") as file, subprocess.Popen(command, stdout=file) as process:
        try:
            yield lambda: json_lines(notes)
        finally:
            process.kill()


QUICK: Sequence[str] = (
    "--recording.duration", "1", "--recording.interval", "2.5", "--management_interval", "2",
    "--messaging.message_send_interval", "1", "--microphone.simulated.seed", "7",
    "--detections.threshold", "0.1",
)  # fmt: skip
WITH_SERVERS: Sequence[str] = (
    "--messaging.http.base_url", "http://http:8080/in",
    "--messaging.mqtt.host", "mqtt", "--messaging.mqtt.port", "1883",
)  # fmt: skip
SECRETS: Mapping[str, str] = {"ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN": TOKEN}


# --- a sound card that is not there ---

SOUND = Path("/dev/snd")
MAJOR = 116
NODES = {"controlC0": 0, "pcmC0D0c": 24}


@contextlib.contextmanager
def device_nodes(group: int) -> Iterator[None]:
    """Make the nodes of a card without its driver: what opens them reaches nobody (ENXIO)."""
    made = not SOUND.exists()
    SOUND.mkdir(exist_ok=True)
    try:
        for name, minor in NODES.items():
            os.mknod(SOUND / name, stat.S_IFCHR | 0o660, os.makedev(MAJOR, minor))
            os.chown(SOUND / name, 0, group)
            (SOUND / name).chmod(0o660)
        yield
    finally:
        for name in NODES:
            (SOUND / name).unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                SOUND.rmdir()
