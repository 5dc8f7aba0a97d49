"""Makes every attack on sensors of its own, and prints what was attempted, expected and got."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from acoupi.bundles.images import build_image, image_name, why_build
from tests.docker.attacks import outside
from tests.docker.attacks.sensors import Sensor, balena_sensor, committed_sensor, compose_sensor
from tests.docker.attacks.table import (
    FREE,
    INSIDE,
    OUTSIDE,
    Attempt,
    attack_from_inside,
    attack_from_outside,
    attackers,
)
from tests.docker.conftest import build_on


def rows_of(sensor: Sensor) -> Iterator[tuple[Attempt, str, list[str]]]:
    """Attack a sensor; yield each attempt, by whom it was made, and what was got."""
    got = attack_from_inside(sensor)
    for attempt in INSIDE:
        for service, user in attackers(sensor, attempt):
            who = f"{service} as root" if user == "0" else service
            yield attempt, who, got[attempt.name, service, user]
    for attempt in OUTSIDE:
        for service, _ in attackers(sensor, attempt):
            yield attempt, service or "owner", [attack_from_outside(sensor, attempt)]


Row = tuple[str, Attempt, str, list[str]]


def report(rows: Iterable[Row], console: Console) -> int:
    """Print what was attempted, expected and got; return how many were not refused."""
    table = Table("sensor", "attempted", "by", "expected", "got", box=None, pad_edge=False)
    bad = 0
    for kind, attempt, who, got in rows:
        is_refused = attempt.is_refused(got)
        bad += not is_refused
        words = (" or ".join(sorted(attempt.expected)), ", ".join(got) or "nothing")
        table.add_row(kind, attempt.what, who, *words, style=None if is_refused else "bold red")
    console.print(table)
    console.print(f"{table.row_count} attempts, {table.row_count - bad} refused, {bad} not")
    return bad


def attacked(kinds: Iterable[str], place: Path) -> Iterator[Row]:
    """Start sensors of these kinds one after the other, and attack each."""
    image = build_image() if why_build(image_name()) else image_name()
    servers = build_on(image, "servers")
    start: dict[str, Callable[[], AbstractContextManager[Sensor]]] = {
        "compose": lambda: compose_sensor(place, servers),
        "committed": lambda: committed_sensor(place, image, servers),
        "balena": lambda: balena_sensor(place, image, servers),
    }
    for kind in kinds:
        with start[kind]() as sensor:
            for row in rows_of(sensor):
                yield (kind, *row)


def main() -> int:
    """Attack; 1 if an attempt was not refused."""
    parser = argparse.ArgumentParser(prog="scripts/attacks", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(FREE)} (all)")
    parser.add_argument(
        "--full", action="store_true", help="set up 200 times during the swap race, instead of once"
    )
    options = parser.parse_args()
    if wrong := set(options.kinds) - set(FREE):
        parser.error(f"there is no {', '.join(sorted(wrong))}")
    if options.full:
        outside.SETUPS = outside.RUNS
    with tempfile.TemporaryDirectory(prefix="acoupi-attacks-") as folder:
        rows = attacked(options.kinds or FREE, Path(folder))
        return int(report(rows, Console(highlight=False, markup=False)) > 0)


if __name__ == "__main__":
    sys.exit(main())
