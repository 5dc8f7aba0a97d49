"""An image that crashes, given by a hub: how soon it is undone, and what it costs.

Everything is real: a sensor in containers, `acoupi fleet follow` beside them, a hub over HTTP,
PostgreSQL. Nothing but the time between two looks at the hub is shorter than usual.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from acoupi.bundles.images import build_image, image_name, why_build
from acoupi.bundles.variables import choose
from acoupi.system.update_records import UpdateRecord, all_records
from tests.docker.bundles import Bundle, bundle_at, environment
from tests.docker.offered import CRASHES, Offered, derived, no_image_left, offered
from tests.postgres import running_postgres

OWN = "acoupi/test-broken-image"
TIMES = int(os.environ.get("ACOUPI_BENCH_TIMES", "10"))
MINUTES = float(os.environ.get("ACOUPI_BENCH_MINUTES", "2"))
"""That the image has to prove itself: n of the goal; half of them at the sensor itself."""
PATIENCE = 300.0


def run(runs: int) -> dict[str, Any]:
    """Give a broken image some times; return how often, and how soon, that was undone."""
    del runs
    if why_build(image_name()):
        build_image()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgres() as postgres,
        bundle_at(Path(folder) / "home") as bundle,
        offered(bundle, postgres.new_database("image")) as sensor,
        no_image_left(bundle, OWN),
    ):
        crashes = derived(image_name(), f"{OWN}:crashes", CRASHES)
        choose(bundle.home, {"ACOUPI_IMAGE": derived(image_name(), f"{OWN}:first", "")})
        bundle.compose("up", "-d")
        with _following(bundle):
            _wait(sensor.is_well, "the first recordings at the hub")
            before = _not_running(bundle)
            rounds = [_broken(sensor, crashes, number) for number in range(TIMES)]
            _wait(sensor.is_well, "a well sensor after the last of them")
            missing = _not_running(bundle) - before
    undone = [seconds for seconds in rounds if seconds is not None]
    return {
        "undone": {
            "value": f"{len(undone)} of {TIMES}",
            "unit": "",
            "goal": f"{TIMES} of {TIMES}",
            "is_met": len(undone) == TIMES,
        },
        "slowest": {
            "value": max(undone, default=float("inf")),
            "unit": "s",
            "goal": MINUTES * 60 + 60,
        },
        "missing_in_the_ledger_per_round": {"value": round(missing / TIMES, 1), "unit": "s"},
    }


@contextmanager
def _following(bundle: Bundle) -> Iterator[None]:
    """Let the sensor follow the hub meanwhile, as a unit of systemd would."""
    command = [str(Path(sys.executable).with_name("acoupi")), "fleet", "follow", "--every", "5"]
    variables = {**environment(), "ACOUPI_HOME": str(bundle.home)}
    with subprocess.Popen(command, env=variables, stdout=sys.stderr, stderr=sys.stderr) as process:
        try:
            yield
        finally:
            process.terminate()


def _broken(sensor: Offered, image: str, number: int) -> float | None:
    """Give the image; return for how long the sensor was switching, seconds."""
    _wait(sensor.is_well, "a well sensor")
    known = len(_undone(sensor.bundle))
    sensor.give(image, MINUTES)
    try:
        _wait(lambda: sensor.last().state == "undone", "the hub undoes it")
        _wait(lambda: len(_undone(sensor.bundle)) > known, "the image of before")
    except TimeoutError as error:
        _say(f"round {number + 1}: {error}")
        return None
    record = _undone(sensor.bundle)[0]
    seconds = _ended_s(sensor.bundle, record) - record.began_on.timestamp()
    _say(f"round {number + 1}: undone after {seconds:.0f} s: {sensor.last().why}")
    return round(seconds, 1)


def _undone(bundle: Bundle) -> list[UpdateRecord]:
    return [one for one in all_records(bundle.settings) if one.stage == "undone"]


def _ended_s(bundle: Bundle, record: UpdateRecord) -> float:
    """Return when a record was last written: when the update was undone."""
    return (bundle.home / "updates" / record.folder / "update.json").stat().st_mtime


def _not_running(bundle: Bundle) -> float:
    """Return the seconds that were planned and not recorded, by the ledger."""
    answer = bundle.acoupi("effort", "--json")
    found = json.loads(answer.stdout)
    _say(f"the ledger: {found['states_s']}")
    return float(found["planned_s"] - found["recorded_s"])


def _wait(claim: Any, what: str) -> None:
    """Wait for something.

    Raises
    ------
    TimeoutError
        If it does not come.
    """
    end = time.monotonic() + MINUTES * 60 + PATIENCE
    while not claim():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come")
        threading.Event().wait(0.5)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
