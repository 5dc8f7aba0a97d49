"""A change of settings that makes a sensor record silence: how soon it is undone, what it costs.

Everything is real: a sensor with its processes (a home that sets itself up, the program demo), a
hub over HTTP, PostgreSQL. The change plays a file of zeros in place of the microphone. Nothing but
the time between two looks at the hub is shorter than usual.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from acoupi.fleet.judging import Fleet
from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_settings import Change, set_key, set_value
from acoupi.hub.fleet_trial import changes
from acoupi.hub.heartbeats import put_reported
from acoupi.hub.sensors import add_sensor, make_token
from acoupi.offers import make_key, public_key
from acoupi.provisioned import Provisioned, read_provisioned
from tests.postgres import running_postgres
from tests.services import free_port

TIMES = int(os.environ.get("ACOUPI_BENCH_TIMES", "10"))
MINUTES = float(os.environ.get("ACOUPI_BENCH_MINUTES", "1"))
"""That the change has to prove itself: n of the goal."""
PATIENCE = 180.0
RATE = 48_000
SENSOR = "oak-1"
ACOUPI = ["-c", "from acoupi.cli import main; main()"]
SERVICES = ("setup", "beat", "recording", "detection", "default")


def run(runs: int) -> dict[str, Any]:
    """Break the settings some times; return how often, and how soon, that was undone."""
    del runs
    with tempfile.TemporaryDirectory() as folder, running_postgres() as postgres:
        rig = Rig(Path(folder), postgres.new_database("broken"))
        with rig.running():
            rig.wait(rig.is_well, "the first recordings at the hub")
            before = rig.missing()
            rounds = [rig.broken(number) for number in range(TIMES)]
            rig.wait(rig.is_well, "sound after the last of them")
            missing = rig.missing() - before
    undone = [seconds for seconds in rounds if seconds is not None]
    goal = MINUTES * 60 + 60
    return {
        "undone": {
            "value": f"{len(undone)} of {TIMES}",
            "unit": "",
            "goal": f"{TIMES} of {TIMES}",
            "is_met": len(undone) == TIMES,
        },
        "slowest": {"value": max(undone, default=float("inf")), "unit": "s", "goal": goal},
        "missing_in_the_ledger_per_switch": {
            "value": round(missing / (2 * TIMES), 1),
            "unit": "s",
        },
    }


class Rig:
    """A sensor and its hub."""

    def __init__(self, folder: Path, database: str) -> None:
        self.home, self.url, self.port = folder / "home", database, free_port()
        self.database = HubDatabase(database)
        self.key = make_key()
        self.silence = folder / "silence.wav"
        with wave.open(str(self.silence), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(bytes(2 * RATE))
        set_key(self.database, public_key(self.key))
        add_sensor(self.database, SENSOR)
        token = make_token(self.database, SENSOR)
        hub = f"127.0.0.1:{self.port}"
        self.environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith("ACOUPI_")},
            "ACOUPI_HOME": str(self.home),
            "ACOUPI_PROGRAM": "demo",
            "ACOUPI_CONFIG__RECORDING__DURATION": "1",
            "ACOUPI_CONFIG__RECORDING__INTERVAL": "2",
            "ACOUPI_CONFIG__MESSAGING__HEARTBEAT_INTERVAL": "10",
            "ACOUPI_CONFIG__MICROPHONE__SAMPLERATE": str(RATE),
            "ACOUPI_SENSOR__HUB__URL": f"http://{hub}",
            "ACOUPI_SENSOR__HUB__TOKEN": token,
            "ACOUPI_SENSOR__HUB__INTERVAL_SECONDS": "5",
            "ACOUPI_CONFIG_URL": f"http://{SENSOR}:{token}@{hub}/v1/settings",
            "ACOUPI_CONFIG_KEY": public_key(self.key),
            "ACOUPI_CONFIG_EVERY": "5",
        }
        self.over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the hub and the services, each started again when it ends."""
        serve = [*ACOUPI, "hub", "serve", "--port", str(self.port)]
        commands = {
            "hub": (serve, {**os.environ, "ACOUPI_HUB_DATABASE": self.url}),
            **{
                name: (_module(name), {**self.environ, "ACOUPI_SERVICE": name}) for name in SERVICES
            },
        }
        threads = [
            threading.Thread(target=self._supervise, args=one, daemon=True)
            for one in commands.values()
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(60)
            self.database.close()

    def _supervise(self, words: list[str], environ: dict[str, str]) -> None:
        while not self.over.is_set():
            with subprocess.Popen(
                [sys.executable, *words],
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                while process.poll() is None:
                    if self.over.wait(0.1):
                        process.terminate()
                        with suppress(subprocess.TimeoutExpired):
                            process.wait(30)
                        process.kill()

    def broken(self, number: int) -> float | None:
        """Let the sensor record silence; return for how long it did, seconds."""
        self.wait(self.is_well, "a well sensor")
        change = Change(private=self.key, now=datetime.now(UTC), minutes=MINUTES)
        set_value(self.database, SENSOR, "microphone.simulated.path", str(self.silence), change)
        offered = self._number()
        try:
            self.wait(lambda: self._followed() == offered, "the broken settings")
            begun = time.monotonic()
            self.wait(lambda: self._followed() == offered + 1, "the settings of before")
        except TimeoutError as error:
            _say(f"round {number + 1}: {error}")
            return None
        seconds = time.monotonic() - begun
        with self.database.reading() as connection:
            last = next(changes(connection, 1))
        _say(f"round {number + 1}: undone after {seconds:.0f} s: {last.why}")
        return round(seconds, 1)

    def is_well(self) -> bool:
        """Return whether the hub has sound of what is in force, and heartbeats: all is well."""
        since = self._provisioned().provisioned_on
        if since is None:
            return False
        values = {"since": int(since.timestamp() * 1e6) + 5_000_000}
        with self.database.reading() as connection:
            (recordings,) = connection.one(
                "SELECT count(*) FROM recording r JOIN capture c ON c.recording_row = r.row"
                " WHERE r.created_on_us > :since AND c.is_silent = 0",
                values,
            )
            (beats,) = connection.one(
                "SELECT count(*) FROM message WHERE message_type = 'heartbeat'"
                " AND created_on_us > :since",
                values,
            )
        fleet = Fleet(datetime.now(UTC), judges_effort=False)
        put_reported(fleet, self.database)
        return bool(recordings and beats > 1) and fleet.rows()[0].state == "well"

    def missing(self) -> float:
        """Return the seconds in which it was to record and did not, by its ledger."""
        answer = subprocess.run(
            [sys.executable, *ACOUPI, "effort", "--json"],
            env={**self.environ, "ACOUPI_PROGRAM": ""},
            check=True,
            capture_output=True,
            timeout=60,
        )
        found = json.loads(answer.stdout)
        _say(f"the ledger: {found['states_s']}")
        return float(found["planned_s"] - found["recorded_s"])

    def wait(self, claim: Any, what: str) -> None:
        """Wait for something.

        Raises
        ------
        TimeoutError
            If it does not come.
        """
        end = time.monotonic() + MINUTES * 60 + PATIENCE
        while not claim():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} did not come; {self._provisioned()}")
            time.sleep(0.25)

    def _provisioned(self) -> Provisioned:
        return read_provisioned(self.home / "config") or Provisioned()

    def _followed(self) -> int | None:
        followed = self._provisioned().followed
        return None if followed is None else followed.in_force

    def _number(self) -> int:
        with self.database.reading() as connection:
            return int(connection.one("SELECT max(number) FROM fleet_document")[0])


def _module(name: str) -> list[str]:
    own = {"setup": ["acoupi.provisioning"], "beat": ["acoupi.system.celery.beat"]}
    return ["-m", *own.get(name, ["acoupi.system.celery.worker", name])]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
