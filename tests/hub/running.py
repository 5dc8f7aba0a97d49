"""The processes of a hub and its workers, with a real database and broker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import requests

from tests.hub import gated
from tests.services import DEADLINE, Authority, RabbitMQ, Redis, eventually, free_port

__all__ = ["LONG", "RunningHub", "kill"]

ROOT = Path(__file__).parents[2]
ACOUPI = f"{sys.prefix}/bin/acoupi"
LONG = 120.0
"""Longest wait for something of a hub, seconds."""


class RunningHub:
    """The processes of a hub, each ended by its own id.

    Parameters
    ----------
    folder
        Of their logs, and of the sound in ``sound``.
    database
        Its address.
    host
        An address of this machine to listen on.
    tls
        Speak TLS, with the certificates of this authority.
    """

    def __init__(
        self,
        folder: Path,
        database: str,
        broker: Redis | RabbitMQ,
        *,
        host: str = "127.0.0.1",
        tls: Authority | None = None,
    ) -> None:
        self.folder, self.database, self.broker, self.tls = folder, database, broker, tls
        self.host, self.port = host, free_port()
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"
        self.gate = folder / "gate"
        self.gate.mkdir()
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, name: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command of acoupi hub that does not end by itself."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [ACOUPI, "hub", name, *arguments],
                env=self._environ(variables), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def acoupi(self, *words: str, **variables: str) -> str:
        """Run a command of acoupi, and return what it printed."""
        done = subprocess.run(
            [ACOUPI, *words], env=self._environ(variables), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LONG, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"acoupi {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def _environ(self, variables: dict[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            gated.GATE: str(self.gate),
            "ACOUPI_HUB_DATABASE": self.database,
            **variables,
        }

    def serve(self, sound: str | None = None, **variables: str) -> subprocess.Popen[bytes]:
        """Start what takes reports in, with a place for sound, and wait until it does."""
        words = ["--host", self.host, "--port", str(self.port)]
        words += ["--audio", sound or str(self.folder / "sound")]
        if self.tls:
            words += ["--tls-certificate", str(self.tls.server)]
            words += ["--tls-key", str(self.tls.server_key)]
        server = self.run("serve", *words, **variables)
        eventually(self._is_well, "the hub", LONG, self.logs)
        return server

    def _is_well(self) -> bool:
        trusted = str(self.tls.ca) if self.tls else True
        try:
            return requests.get(f"{self.url}/v1/health", timeout=5, verify=trusted).ok
        except requests.ConnectionError:
            return False

    def dispatch(self) -> subprocess.Popen[bytes]:
        """Start what gives jobs to the broker."""
        words = ["--broker", self.broker.url]
        if isinstance(self.broker, RabbitMQ):
            words += ["--management", self.broker.management]
        return self.run("dispatch", *words)

    def work(self, token: str, *options: str) -> subprocess.Popen[bytes]:
        arguments = ("--hub", self.url, "--lease", "5", *options)
        return self.run("work", *arguments, ACOUPI_HUB_WORKER_TOKEN=token)

    def begun(self) -> dict[str, list[int]]:
        """Return the processes that began each recording."""
        found: dict[str, list[int]] = {}
        for one in self.gate.glob("*-*-*-*-*-*"):
            id_, _, pid = one.name.rpartition("-")
            found.setdefault(id_, []).append(int(pid))
        return found

    def logs(self) -> str:
        return "\n".join(one.read_text()[-3000:] for one in self.folder.glob("*.log"))

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)
