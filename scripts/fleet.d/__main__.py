"""Run a fleet of sensors on this machine, each behind a link that drops.

Every sensor is a real one: a home set up by variables, the demo program as
plain processes (recorder, detection, default, beat), a simulated microphone
with a sound of its own. It sends every message twice: to a real MQTT broker
(mosquitto) and to an HTTP server, both through a link of its own that refuses,
freezes, swallows answers or swallows everything for the given share of the
time, by a plan that the seed decides. Afterwards the links stay up until all
that was made before has arrived, at most for --drain seconds, and the sensors
are stopped as a person would.

With --hub the sensors report to a hub instead: a real PostgreSQL and `acoupi hub
serve`, which is killed five times while the links drop; the database is restarted
twice at once, and the brokers of all sensors are wiped twice. In the end what the
hub has is held against the stores of the sensors: every recording, detection,
message and second of effort, once.

Both ways deliver at least once. "repeats" is what arrived again under the same
id, because the answer to it was lost: header Idempotency-Key (HTTP), user
property message_id (MQTT 5). A server that drops ids it knows has each message
once; "doubled" is what it would still count twice.

Exit code 0: every message was delivered once and no service started again; with
--hub also: the hub has all of it, and no microphone lost a sample. 1: not so.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accounting import Arrival, Tally, account
from hub import HubServers, compare
from links import Link, plan_outages
from rich.console import Console
from rich.table import Table
from sensors import Sensor, SensorError, Usage, end_processes, measure, variables
from servers import http_server, mqtt_broker

TRANSPORTS = ("mqtt", "http")
AT_ONCE = 2
"""Commands of acoupi that run at the same time."""
READY_TIMEOUT = 120.0
WATCH_EVERY = 2.0
MEASURE_EVERY = 60.0
SAY_EVERY = 30.0

console = Console(stderr=True, highlight=False)


class Loop:
    """An asyncio loop in a thread, for the links."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Wait until it is done."""
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Callable[[], object]:
        """Let it run; return what stops it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).cancel

    def close(self, links: list[Link]) -> None:
        """Close the links and end."""

        async def close() -> None:
            await asyncio.gather(*(link.close() for link in links))

        self.do(close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


class Fleet:
    """Sensors, their links, and what their servers got."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.arrivals: list[Arrival] = []
        self.sensors: list[Sensor] = []
        self.links: list[Link] = []
        self.peak: dict[Path, Usage] = {}
        self.cpu: dict[Path, float] = {}
        """Share of one core while the links were bad, percent."""
        self._loop = Loop()

    @contextmanager
    def served(self) -> Iterator[None]:
        """Have servers and links, and nothing of the sensors left in the end."""
        with ExitStack() as stack:
            stack.callback(lambda: self._loop.close(self.links))
            servers = self._serve(stack)
            for number in range(1, self.options.sensors + 1):
                name = f"sensor-{number:02}"
                link = Link(servers)
                self.links.append(link)
                self._loop.do(link.up())
                settings = variables(number, name, link.ports, vars(self.options))
                settings |= self._more_settings(name, link)
                self.sensors.append(Sensor(name, self.folder / name, settings))
            stack.callback(lambda: end_processes(self._homes))
            yield

    def _serve(self, stack: ExitStack) -> dict[str, int]:
        """Start the servers; return the port of each."""
        return {
            "http": stack.enter_context(http_server(self.arrivals.append)),
            "mqtt": stack.enter_context(mqtt_broker(self.folder / "broker", self.arrivals.append)),
        }

    def _more_settings(self, name: str, link: Link) -> dict[str, str]:
        del name, link
        return {}

    @property
    def _homes(self) -> list[Path]:
        return [sensor.home for sensor in self.sensors]

    def start(self) -> None:
        """Set all up and wait until they work."""
        self._each(lambda sensor: (sensor.set_up(), sensor.start()))
        end = time.monotonic() + READY_TIMEOUT
        while not all(sensor.is_ready() for sensor in self.sensors):
            if time.monotonic() > end:
                raise SensorError("not every service was ready in time")
            time.sleep(0.2)

    def disturb(self, seconds: float) -> float:
        """Let the links drop for a while; return the time of day at its end."""
        stops = [
            self._loop.begin(link.follow(plan_outages(
                f"{self.options.seed} {sensor.name}", seconds, self.options.down
            )))
            for sensor, link in zip(self.sensors, self.links, strict=True)
        ]  # fmt: skip
        begun, before = time.monotonic(), self._measure()
        self._watch(lambda: time.monotonic() < begun + seconds, begun, self._faults(seconds))
        passed, after = time.monotonic() - begun, self._measure()
        for home in self._homes:
            self.cpu[home] = 100 * (after[home].cpu - before[home].cpu) / passed
        for stop in stops:
            stop()
        for link in self.links:
            self._loop.do(link.up())
        return time.time()

    def drain(self, ended: float, seconds: float) -> None:
        """Wait until what was made before a time has arrived, with the links up."""
        begun = time.monotonic()

        def is_waiting() -> bool:
            waiting = self._is_waiting(ended)
            return waiting and time.monotonic() < begun + seconds

        self._watch(is_waiting, begun)

    def _is_waiting(self, ended: float) -> bool:
        """Return whether something made before a time has not arrived."""
        return any(each.count_undelivered(ended, len(TRANSPORTS)) for each in self.sensors)

    def _faults(self, seconds: float) -> Callable[[float], None]:
        """Return what does further harm that is due after some seconds: none."""
        del seconds
        return lambda _: None

    def stop(self) -> None:
        """Stop all sensors in order."""
        self._each(Sensor.stop)

    def _each(self, work: Callable[[Sensor], object]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(work, self.sensors))

    def _watch(
        self,
        goes_on: Callable[[], bool],
        begun: float,
        harm: Callable[[float], None] = lambda _: None,
    ) -> None:
        measured = said = begun
        while goes_on():
            time.sleep(WATCH_EVERY)
            harm(time.monotonic() - begun)
            for sensor in self.sensors:
                sensor.watch()
            if time.monotonic() > measured + MEASURE_EVERY:
                measured = time.monotonic()
                self._measure()
            if time.monotonic() > said + SAY_EVERY:
                said = time.monotonic()
                self._say(said - begun)

    def _say(self, passed: float) -> None:
        down = sum(link.kind is not None for link in self.links)
        waiting = sum(one.count_undelivered(time.time(), len(TRANSPORTS)) for one in self.sensors)
        restarts = sum(sensor.restarts for sensor in self.sensors)
        console.print(
            f"{passed:4.0f} s: {len(self.arrivals)} arrivals, {waiting} not acknowledged yet, "
            f"{down} of {len(self.links)} links down, {restarts} restarts"
        )

    def _measure(self) -> dict[Path, Usage]:
        usage = measure(self._homes)
        for home in self._homes:
            usage.setdefault(home, Usage())
            peak = self.peak.setdefault(home, usage[home])
            self.peak[home] = max(peak, usage[home], key=lambda one: one.pss)
        return usage

    def report(self) -> dict[str, Any]:
        """Return all figures."""
        rows, total = {}, {name: Tally() for name in TRANSPORTS}
        arrivals = list(self.arrivals)
        for sensor, link in zip(self.sensors, self.links, strict=True):
            tallies = {}
            for name in TRANSPORTS:
                came = [
                    one for one in arrivals if (one.sensor, one.transport) == (sensor.name, name)
                ]
                tallies[name] = account(sensor.created(name), came, self.options.late)
                total[name] += tallies[name]
            peak = self.peak.get(sensor.home, Usage())
            rows[sensor.name] = {
                **{name: tally.figures() for name, tally in tallies.items()},
                "is_complete": all(tally.is_complete for tally in tallies.values()),
                "restarts": sensor.restarts,
                "failed_tasks": sensor.failed_tasks,
                "last_error": sensor.last_error,
                "link_down_s": round(link.seconds_down, 1),
                "processes": peak.processes,
                "pss_mb": round(peak.pss / 1e6, 1),
                "cpu_percent": round(self.cpu.get(sensor.home, 0.0), 2),
            }
        return {
            "options": {
                name: value for name, value in vars(self.options).items() if name != "home"
            },
            "sensors": rows,
            "all": {
                **{name: tally.figures() for name, tally in total.items()},
                "restarts": sum(row["restarts"] for row in rows.values()),
                "failed_tasks": sum(row["failed_tasks"] for row in rows.values()),
                "pss_mb": round(sum(row["pss_mb"] for row in rows.values()), 1),
                "cpu_percent": round(sum(row["cpu_percent"] for row in rows.values()), 1),
            },
            "is_well": all(row["is_complete"] and not row["restarts"] for row in rows.values()),
        }


class HubFleet(Fleet):
    """Sensors that report to a hub."""

    hub: HubServers
    ended: float

    def _serve(self, stack: ExitStack) -> dict[str, int]:
        self.hub = HubServers(self.folder / "hub")
        stack.enter_context(self.hub.running())
        return {"hub": self.hub.port}

    def _more_settings(self, name: str, link: Link) -> dict[str, str]:
        return {
            "ACOUPI_SENSOR__HUB__URL": f"http://127.0.0.1:{link.ports['hub']}",
            "ACOUPI_SENSOR__HUB__TOKEN": self.hub.add(name),
            "ACOUPI_SENSOR__HUB__INTERVAL_SECONDS": str(max(5, self.options.send_interval)),
        }

    def _faults(self, seconds: float) -> Callable[[float], None]:
        return self.hub.faults(self.options.seed, seconds, self.sensors)

    def _is_waiting(self, ended: float) -> bool:
        self.ended = ended
        unsent = any(each.count_undelivered(ended, 1) for each in self.sensors)
        return unsent or any(each.is_unreported(ended) for each in self.sensors)

    def _say(self, passed: float) -> None:
        down = sum(link.kind is not None for link in self.links)
        unreported = sum(one.count_unreported() for one in self.sensors)
        restarts = sum(sensor.restarts for sensor in self.sensors)
        console.print(
            f"{passed:4.0f} s: {unreported} changes not acknowledged yet, "
            f"{down} of {len(self.links)} links down, {restarts} restarts; the hub was killed "
            f"{self.hub.kills}, its database restarted {self.hub.restarts} times, brokers wiped "
            f"{self.hub.wipes} times"
        )

    def report(self) -> dict[str, Any]:
        """Return all figures."""
        rows = compare(self.hub, self.sensors, self.ended)
        for sensor, link in zip(self.sensors, self.links, strict=True):
            peak = self.peak.get(sensor.home, Usage())
            rows[sensor.name] |= {
                "restarts": sensor.restarts,
                "failed_tasks": sensor.failed_tasks,
                "last_error": sensor.last_error,
                "link_down_s": round(link.seconds_down, 1),
                "pss_mb": round(peak.pss / 1e6, 1),
                "cpu_percent": round(self.cpu.get(sensor.home, 0.0), 2),
            }
        total = {
            key: round(sum(row[key] for row in rows.values()), 3)
            for key, value in next(iter(rows.values())).items()
            if key != "last_error"
        }
        harm = {"kills": self.hub.kills, "restarts": self.hub.restarts, "wipes": self.hub.wipes}
        return {
            "options": dict(vars(self.options).items()),
            "hub": harm,
            "sensors": rows,
            "all": total,
            "is_well": bool(total["recordings"] and total["messages"])
            and not any(total[key] for key in total if key.endswith(WRONG) or key in FAULTS),
        }


WRONG = ("_missing", "_unknown", "_otherwise", "_wrong", "_wrong_s", "_doubled")
FAULTS = ("restarts", "samples_lost")


def print_hub_report(report: dict[str, Any]) -> None:
    """Print what became of what the sensors reported."""
    for name, value in (*report["hub"].items(), *report["all"].items()):
        print(f"{name.replace('_', ' '):24} {value:g}")
    errors = {row["last_error"] for row in report["sensors"].values() if row["last_error"]}
    for error in sorted(errors):
        print(f"a task failed: {error}")
    verdict = "the hub has all of it once, no service started again, no sample was lost"
    print(verdict if report["is_well"] else f"NOT WELL: it is not so that {verdict}")


COUNTS = (
    "created", "delivered", "late", "lost", "given_up", "waiting", "doubled", "repeats",
    "delay_p50_s", "delay_p95_s", "delay_max_s",
)  # fmt: skip


def print_report(report: dict[str, Any]) -> None:
    """Print a row for each sensor and transport, and one for all."""
    table = Table(box=None, pad_edge=False)
    for column in ("sensor", "over", *COUNTS, "restarts", "link down (s)", "PSS (MB)", "CPU (%)"):
        words = column.replace("delay_", "").replace("_s", " (s)").replace("_", " ")
        table.add_column(words, justify="left" if column in ("sensor", "over") else "right")
    for name, row in [*report["sensors"].items(), ("all", report["all"])]:
        for index, transport in enumerate(TRANSPORTS):
            own = [row["restarts"], row.get("link_down_s", ""), row["pss_mb"], row["cpu_percent"]]
            table.add_row(
                name if index == 0 else "",
                transport,
                *(str(row[transport][count]) for count in COUNTS),
                *(str(value) if index == 0 else "" for value in own),
            )
    Console(highlight=False, width=200).print(table)
    errors = {row["last_error"] for row in report["sensors"].values() if row["last_error"]}
    for error in sorted(errors):
        print(f"a task failed: {error}")
    verdict = "every message was delivered once, no service started again"
    print(verdict if report["is_well"] else f"NOT WELL: it is not so that {verdict}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/fleet-simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    number = parser.add_argument
    number("--sensors", type=_between(1, 100, int), default=3, help="how many (3)")
    number("--minutes", type=_between(0.1, 1440), default=1.0, help="with bad links (1)")
    number("--down", type=_between(0, 0.9), default=0.3, help="share of that without a link (0.3)")
    number("--seed", type=_between(0, 10**9, int), default=1, help="of outages and sounds (1)")
    number("--drain", type=_between(0, 7200), default=900.0,
           help="longest wait afterwards, with good links, s (900)")  # fmt: skip
    number("--late", type=_between(0, 86400), default=60.0, help="a message is late after, s (60)")
    number("--duration", type=_between(1, 60), default=3.0, help="of a recording, s (3)")
    number("--interval", type=_between(1, 600), default=15.0, help="between recordings, s (15)")
    number("--send-interval", type=_between(1, 600), default=10.0,
           help="between attempts to send, s (10)")  # fmt: skip
    number("--samplerate", type=_between(8_000, 500_000, int), default=48_000,
           help="of the microphones, Hz (48000)")  # fmt: skip
    number("--hub", action="store_true", help="let them report to a hub")
    number("--json", action="store_true", help="print the figures as JSON")
    number("--keep", action="store_true", help="leave the homes behind, and say where")
    return parser.parse_args()


def _between(least: float, most: float, kind: Callable[[str], float] = float) -> Any:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f'"{text}" is not a number from {least} to {most}')
        return value

    return read


@contextmanager
def own_folder(keep: bool) -> Iterator[Path]:
    """Give a folder for the homes; remove it in the end."""
    folder = Path(tempfile.mkdtemp(prefix="acoupi-fleet-"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"The homes are in {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run the fleet and print what became of it; 0 if all is well."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with own_folder(options.keep) as folder:
        fleet = (HubFleet if options.hub else Fleet)(folder, options)
        with fleet.served():
            console.print(f"Setting up and starting {options.sensors} sensors ...")
            fleet.start()
            console.print(f"Links drop for {options.minutes:g} min ...")
            ended = fleet.disturb(60 * options.minutes)
            console.print("Links stay up; waiting for what is still to come ...")
            fleet.drain(ended, options.drain)
            console.print("Stopping the sensors ...")
            fleet.stop()
            report = fleet.report()
    report["load"] = [round(load, 2) for load in os.getloadavg()]
    if options.json:
        print(json.dumps(report, indent=2))
    elif options.hub:
        print_hub_report(report)
    else:
        print_report(report)
    return 0 if report["is_well"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SensorError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
