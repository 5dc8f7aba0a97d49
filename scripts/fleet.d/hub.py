"""A hub that many sensors report to, which is killed now and then; and whether it has everything.

PostgreSQL is a real server on a folder of its own, ``acoupi hub serve`` a process of its own. What
the hub has in the end is held against the stores of the sensors, by id.
"""

import contextlib
import os
import pwd
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from sensors import Sensor, SensorError
from servers import free_port

from acoupi.data import RecordingState
from acoupi.exports.effort_report import find_deployment, measure, read_effort
from acoupi.heard import Filters, RecordingRow
from acoupi.hub.database import HubDatabase
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.services.folder import broker_folder
from acoupi.stack.settings import Settings
from acoupi.system.reading import reader_of

__all__ = ["HubServers", "compare"]

DEADLINE = 60.0
DOWN_S = 3.0
"""Seconds between the end of the hub and its next start."""
NAME = "hub"


@dataclass
class HubServers:
    """The database and the HTTP service of a hub."""

    folder: Path
    port: int = field(default_factory=free_port)
    database_port: int = field(default_factory=free_port)
    kills: int = 0
    restarts: int = 0
    wipes: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the database."""
        return f"postgresql://postgres@127.0.0.1:{self.database_port}/{NAME}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run both."""
        self.folder.mkdir()
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self.folder.parent.chmod(0o755)
        self._pg("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8")
        self._control("start")
        try:
            with psycopg.connect(self.url.replace(f"/{NAME}", "/postgres"), autocommit=True) as to:
                to.execute(f"CREATE DATABASE {NAME}")
            self.serve()
            yield
        finally:
            self.kill()
            self._control("stop", "-m", "immediate")

    def add(self, sensor: str) -> str:
        """Let a sensor report; return its token."""
        database = HubDatabase(self.url)
        try:
            add_sensor(database, sensor)
            return make_token(database, sensor)
        finally:
            database.close()

    def serve(self) -> None:
        """Start the service, and wait until it listens."""
        acoupi = str(Path(sys.executable).with_name("acoupi"))
        with (self.folder.parent / "hub.log").open("ab") as log:
            self._process = subprocess.Popen(
                [acoupi, "hub", "serve", "--port", str(self.port)],
                env={**os.environ, "ACOUPI_HUB_DATABASE": self.url},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End the service at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    def faults(self, seed: int, seconds: float, sensors: list[Sensor]) -> Callable[[float], None]:
        """Return what does each fault that is due after some seconds; all come once.

        The service is killed five times, the database restarted twice at once, and the brokers
        of all sensors are wiped twice.
        """
        chance = random.Random(f"hub {seed}")
        due = sorted(
            (chance.uniform(0.05, 0.95) * seconds, what)
            for what, times in (("kill", 5), ("restart", 2), ("wipe", 2))
            for _ in range(times)
        )
        comes_back: list[float] = []

        def look(passed: float) -> None:
            if comes_back and passed >= comes_back[0]:
                comes_back.clear()
                self.serve()
            while due and passed >= due[0][0]:
                what = due.pop(0)[1]
                if what == "kill":
                    self.kill()
                    self.kills += 1
                    comes_back[:] = [passed + DOWN_S]
                elif what == "restart":
                    self._control("restart", "-m", "immediate")
                    self.restarts += 1
                else:
                    for one in sensors:
                        shutil.rmtree(broker_folder(one.home / "run"), ignore_errors=True)
                    self.wipes += 1

        return look

    def _control(self, *words: str) -> None:
        options = f"-p {self.database_port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        options += " -c max_connections=300"
        self._pg("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, *words)

    def _pg(self, program: str, *words: str) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        if not found:
            raise SensorError("PostgreSQL is not installed: apt-get install postgresql")
        user = "postgres" if os.getuid() == 0 else None
        command = [str(found[-1]), *words]
        subprocess.run(
            command, check=True, user=user, cwd=self.folder, timeout=DEADLINE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def compare(hub: HubServers, sensors: list[Sensor], until: float) -> dict[str, dict[str, Any]]:
    """Return what the hub lacks, or has otherwise, of each sensor; of the time before `until`."""
    end = datetime.fromtimestamp(until, UTC)
    with HubReader(hub.url) as reader:
        return {one.name: _compared(reader, hub, one, end) for one in sensors}


def _compared(hub: HubReader, servers: HubServers, sensor: Sensor, end: datetime) -> dict[str, Any]:
    with reader_of(Settings(home=sensor.home)) as own:
        [deployment] = own.get_deployments()
        mine, theirs = ({one.id: one for one in _recordings(it, deployment, end)}
                        for it in (own, hub))  # fmt: skip
        heard = [_detections(it, mine) for it in (own, hub)]
        effort = [_effort(it, deployment, end) for it in (own, hub)]
        captures = [own.capture(id_) for id_ in mine]
        lost = sum(gap.frames for one in captures if one for gap in one.overruns)
    made = {one.id for one in sensor.created("hub") if one.time < end.timestamp()}
    came = _messages(servers, sensor.name)
    return {
        "recordings": len(mine),
        "recordings_missing": len(mine.keys() - theirs.keys()),
        "recordings_unknown": len(theirs.keys() - mine.keys()),
        "recordings_otherwise": sum(
            not _is_same(one, theirs[id_])
            for id_, one in mine.items()
            if id_ in theirs
        ),
        "detections": len(heard[0]),
        "detections_wrong": len(set(heard[0]) ^ set(heard[1])) + abs(len(heard[0]) - len(heard[1])),
        "messages": len(made),
        "messages_missing": len(made - set(came)),
        "messages_doubled": len(came) - len(set(came)),
        "effort_s": round(sum(effort[0].values()), 3),
        "effort_wrong_s": round(
            sum(abs(effort[0].get(one, 0) - effort[1].get(one, 0))
                for one in effort[0].keys() | effort[1].keys()), 3,
        ),
        "samples_lost": lost,
    }  # fmt: skip


def _is_same(mine: RecordingRow, theirs: RecordingRow) -> bool:
    if mine.path is None and theirs.state is RecordingState.KEPT:  # only the hub still has it
        mine = replace(mine, state=theirs.state)
    return (mine.started_on, mine.duration_s, mine.state) == (
        theirs.started_on, theirs.duration_s, theirs.state,
    )  # fmt: skip


def _recordings(reader: Any, deployment: Any, end: datetime) -> Iterator[Any]:
    return reader.recordings(Filters(deployments=frozenset([deployment.id]), until=end))


def _detections(reader: Any, recordings: Any) -> list[Any]:
    return [(one.id, one.score) for id_ in recordings for one in reader.detections_in(id_)]


def _effort(reader: Any, deployment: Any, end: datetime) -> dict[str, float]:
    which = find_deployment(reader, str(deployment.id))
    found, spans = read_effort(reader, which, None, end, grouped=True)
    return dict(measure(found, spans).as_json()["states_s"])


def _messages(hub: HubServers, sensor: str) -> list[str]:
    with psycopg.connect(hub.url) as connection:
        rows = connection.execute(
            "SELECT m.id FROM message m JOIN sensor s ON s.row = m.sensor_row WHERE s.id = %s",
            [sensor],
        )
        hexes = [bytes(row[0]).hex() for row in rows]
    return ["-".join((t[:8], t[8:12], t[12:16], t[16:20], t[20:])) for t in hexes]
