"""Let things go wrong with a sensor, from a seed, and hold its books against the truth.

The sensor is a real one: its services as plain processes or as containers, a
simulated microphone that counts its samples, a model that now and then crashes,
hangs, raises or eats memory, and servers that remember what they got. Meanwhile
services are killed and frozen, its broker is wiped, servers go away or do not
answer, the microphone is pulled out, and, where its home can have a disk of its
own (root and a loop device), that is full, slow, read-only, or loses its power:
what was not synced by then is gone.

At the end all is mended, the sensor is given time to finish, and the deployment
is ended. Then its ledger is compared with the log of what was done, its files
with its rows, and its messages with what the servers got.

Exit code 0: all was in order; 1: not so, and the report says what.
"""

import argparse
import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from arrivals import TOPIC, Arrival, Tally, account, end_processes, serving
from books import Trouble, audit, judge, read_spans, work_done
from clocks import Clock, why_no_clock
from containers import ComposeSensor, build, why_no_engine
from disk import Disk, why_no_disk
from plan import Event, plan
from processes import PROGRAM, ProcessSensor
from rich.console import Console
from rig import Rig

CLOCKS = ("clock step", "boot without a clock")
FULL = {"kill": 500, "power cut": 100, "wipe broker": 50, **dict.fromkeys(CLOCKS, 20)}
FULL_SECONDS = 1200.0
"""Of all other faults, planned."""
LENGTH = 2.0
"""Of a recording, seconds."""
OPTIONS = {
    "TIMEZONE": "UTC",
    "MICROPHONE__SAMPLERATE": 8000,
    "MICROPHONE__DEVICE_NAME": "counter",
    "RECORDING__DURATION": LENGTH,
    "RECORDING__SCHEDULE_START": "00:00",
    "RECORDING__SCHEDULE_END": "00:00",
    "MESSAGING__MESSAGE_SEND_INTERVAL": 3,
    "MESSAGING__HEARTBEAT_INTERVAL": 20,
    "MESSAGING__HTTP__TIMEOUT": 5,
    "MESSAGING__KEEP_DAYS": 36500,  # a message of 1970 is to be found at the end, too
}
LIMITS = ("--celery.task_soft_time_limit", "4", "--celery.task_time_limit", "6")

Report = dict[str, Any]
Say = Callable[[str], None]

console = Console(stderr=True, highlight=False, markup=False)


def as_variables(options: argparse.Namespace, settings: Mapping[str, object]) -> dict[str, str]:
    """Return the settings of the sensor, as variables."""
    chosen = {"RECORDING__INTERVAL": options.interval, "RECORDING__FILE_FORMAT": options.format}
    found = {**OPTIONS, **chosen, **settings}
    return {f"ACOUPI_CONFIG__{key}": str(value) for key, value in found.items()}


@contextmanager
def own_home(folder: Path, say: Say) -> Iterator[tuple[Path, Disk | None]]:
    """Give the place of a home, on a disk of its own where there can be one."""
    if reason := why_no_disk():
        say(f"No disk of its own, so no fault of a disk and no power cut: {reason}")
        yield folder / "disk" / "home", None
        return
    disk = Disk(folder)
    disk.make()
    try:
        yield disk.path / "home", disk
    finally:
        disk.unmount()


def own_clock(folder: Path, say: Say) -> Clock | None:
    """Give a clock of its own, where there can be one."""
    if reason := why_no_clock():
        say(f"No clock of its own, so nothing is done to it: {reason}")
        return None
    return Clock(folder)


def run_processes(folder: Path, options: argparse.Namespace, say: Say) -> Report:
    """Let it happen to a sensor of plain processes; return the report."""
    with ExitStack() as stack:
        home, disk = stack.enter_context(own_home(folder, say))
        servers = stack.enter_context(serving(folder))
        name, microphone = f"seed-{options.seed}", folder / "microphone"
        settings = {
            "MICROPHONE_FILE": microphone,
            "MESSAGING__HTTP__BASE_URL": f"http://127.0.0.1:{servers.ports['http']}/{name}",
            "MESSAGING__MQTT__HOST": "127.0.0.1",
            "MESSAGING__MQTT__PORT": servers.ports["mqtt"],
            "MESSAGING__MQTT__TOPIC": f"{TOPIC}/{name}",
        }
        clock = own_clock(folder, say)
        more = {"PYTHONPATH": str(PROGRAM)} | (clock.variables if clock else {})
        sensor = ProcessSensor(name, home, as_variables(options, settings) | more)
        stack.callback(copy, options, home, folder)
        stack.callback(lambda: end_processes([home]))
        rig = Rig(sensor, disk, servers, microphone, say, clock=clock)
        return lived(rig, options, lambda: servers.arrivals)


def run_compose(folder: Path, options: argparse.Namespace, say: Say) -> Report:
    """Let it happen to a sensor of containers; return the report."""
    if reason := why_no_engine():
        raise SystemExit(f"Error: no containers: {reason}")
    settings = as_variables(options, {"MESSAGING__HTTP__BASE_URL": "http://receiver:8080/"})
    with ExitStack() as stack:
        home, disk = stack.enter_context(own_home(folder, say))
        clock = own_clock(folder, say) if disk else None  # which shows it to the containers
        more = {"PYTHONPATH": str(PROGRAM), "ACOUPI_IMAGE": build(folder, clock)}
        more |= clock.variables if clock else {}
        sensor = ComposeSensor(f"seed-{options.seed}", home, settings | more)
        stack.callback(copy, options, home, folder)
        stack.callback(sensor.end)
        rig = Rig(sensor, disk, None, None, say, clock=clock)
        return lived(rig, options, sensor.arrivals)


def copy(options: argparse.Namespace, home: Path, folder: Path) -> None:
    """Leave the home behind, if that is wanted."""
    if options.keep:
        subprocess.run(["cp", "-a", home, folder], check=False)


def lived(rig: Rig, options: argparse.Namespace, arrivals: Callable[[], list[Arrival]]) -> Report:
    """Set a sensor up, let it happen, and return what became of it."""
    sensor = rig.sensor
    sensor.set_up(*LIMITS)
    rig.show_clock()
    sensor.start()
    report = happened(rig, planned(options, rig))
    rig.say(f"quiet after {report['quiet_after_s']} s")
    sensor.finish()
    return report | verdict(rig, arrivals())


def planned(options: argparse.Namespace, rig: Rig) -> list[Event]:
    """Return what is to happen."""
    sensor, missing = rig.sensor, set()
    if rig.disk is None:
        missing.add("power cut")
    if rig.clock is None:
        missing |= set(CLOCKS)
    weights = sensor.weights | ({} if rig.disk is None else sensor.disk_weights)
    seconds = options.seconds
    counts = {
        "power cut": options.power_cuts,
        "wipe broker": options.wipes,
        **dict.fromkeys(CLOCKS, options.clocks),
    }
    if options.full:
        seconds, counts = FULL_SECONDS, FULL
        weights = {kind: weight for kind, weight in weights.items() if kind not in FULL}
    counts = {kind: count for kind, count in counts.items() if kind not in missing}
    return plan(
        options.seed, weights, seconds=seconds, counts=counts, mean_gap=options.gap,
        services=sensor.services,
    )  # fmt: skip


def happened(rig: Rig, events: list[Event]) -> Report:
    """Let it happen; return what was done, and how long it took to be well again."""
    begun = time.time()
    rig.run(events)
    rig.wait_until_ready()
    quiet = rig.wait_until_quiet()
    rig.log.append(Trouble("start", "", begun - 600, begun))
    rig.log.append(Trouble("stop", "", time.time(), time.time() + 600))
    done: dict[str, int] = {}
    for event in events:
        done[event.kind] = done.get(event.kind, 0) + 1
    return {
        "events": done,
        "seconds": round(time.time() - begun),
        "load": round(median(rig.loads), 1) if rig.loads else None,
        "quiet_after_s": round(quiet, 1),
    }


def verdict(rig: Rig, arrivals: list[Arrival]) -> Report:
    """Return what became of everything."""
    home = rig.sensor.home
    judged = judge(read_spans(home), rig.log, LENGTH)
    excused = [(one.start, one.end) for one in rig.log if one.kind == "microphone"]
    books = audit(home, excused)
    tallies = {
        name: account(
            rig.sensor.created(name),
            [one for one in arrivals if one.transport == name],
        )
        for name in rig.sensor.transports
    }
    seconds = {name: round(value, 3) for name, value in vars(judged).items() if name != "examples"}
    report = {
        "ledger_s": seconds,
        "recordings": books.recordings,
        "outputs": books.outputs,
        "messages": {name: counts(tally) for name, tally in tallies.items()},
        "recovered_s": recoveries(rig.log),
        "work_done_s": works_done(rig),
        "log": [shown(one) for one in rig.log],
        "wrong": {
            **books.faults,
            **({"power cuts took": rig.broken} if rig.broken else {}),
            **({"unexplained or false": judged.examples} if judged.examples else {}),
            **{f"messages over {name}": [str(counts(tally))]
               for name, tally in tallies.items() if not tally.is_complete},
        },
    }  # fmt: skip
    return report | {"is_well": not report["wrong"]}


def shown(trouble: Trouble) -> str:
    """Return a line of the rig's own log."""
    start, end = (
        datetime.datetime.fromtimestamp(each, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
        for each in (trouble.start, trouble.end)
    )
    missed = ", nobody was there" if trouble.missed else ""
    return f"{start} to {end} {trouble.kind} {trouble.what}{missed}".rstrip()


def counts(tally: Tally) -> dict[str, int]:
    """Return the figures of one transport that are of interest here."""
    return {name: value for name, value in vars(tally).items() if name not in ("delays", "late")}


def recoveries(log: list[Trouble]) -> dict[str, Any]:
    """Return the median and longest time until all worked again, by what had happened."""
    found: dict[str, list[float]] = {}
    for one in log:
        if one.recovered is not None and not one.is_interrupted:
            found.setdefault(one.kind, []).append(one.recovered)
    return {
        kind: {"median": round(median(times), 1), "max": round(max(times), 1), "of": len(times)}
        for kind, times in found.items()
    }


def works_done(rig: Rig) -> dict[str, Any]:
    """Return how long after a broker was wiped all work of before was done.

    By the clock of the sensor: nothing where that was wrong in between.
    """
    if any(one.kind in CLOCKS for one in rig.log):
        return {}
    times = [work_done(rig.sensor.home, one.start) for one in rig.log if one.kind == "wipe broker"]
    if not times:
        return {}
    return {"median": round(median(times), 1), "max": round(max(times), 1), "of": len(times)}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", nargs="?", choices=RUNS, default="process", help="(process)")
    parser.add_argument("--seed", type=int, help="of what happens (one is drawn and printed)")
    parser.add_argument("--seconds", type=float, default=120, help="of faults, planned (120)")
    parser.add_argument("--power-cuts", type=int, default=0, help="so many more (0)")
    parser.add_argument("--wipes", type=int, default=0, help="so many more of the broker (0)")
    parser.add_argument("--clocks", type=int, default=0,
                        help="so many more steps of it, and boots without it (0)")  # fmt: skip
    parser.add_argument("--gap", type=float, default=3, help="mean between faults, seconds (3)")
    parser.add_argument("--interval", type=float, default=LENGTH,
                        help="between the starts of recordings of 2 s (2: no gap)")  # fmt: skip
    parser.add_argument("--format", choices=("wav", "flac"), default="wav", help="(wav)")
    parser.add_argument("--full", action="store_true",
                        help="500 kills, 100 power cuts, 50 broker wipes, ...: hours")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the home behind, and say where")
    options = parser.parse_args()
    options.seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    return options


RUNS: dict[str, Callable[[Path, argparse.Namespace, Say], Report]] = {
    "process": run_processes,
    "compose": run_compose,
}


def main() -> int:
    """Let it happen, and print the report; 0 if all is in order."""
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console.print(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="acoupi-faults-"))
    try:
        report = RUNS[options.target](folder, options, console.print)
    finally:
        if options.keep:
            console.print(f"Left behind: {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    report = {"target": options.target, "seed": options.seed, **report}
    print(json.dumps(report, indent=None if options.json else 2))
    return 0 if report["is_well"] else 1


if __name__ == "__main__":
    os.environ.pop("ACOUPI_HOME", None)
    sys.exit(main())
