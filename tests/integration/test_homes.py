"""Homes that earlier versions left in the field are taken over, and nothing in them is lost.

tests/homes/README.md says what is in them. With containers: tests/docker/test_homes.py.
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.homes.archive import Home, find_homes
from tests.homes.contents import (
    Before,
    Contents,
    acoupi,
    check_effort,
    check_nothing_lost,
    check_unchanged,
    effort_until_cut,
    environment,
    ids_of,
    is_taken_over,
    told,
)
from tests.integration.test_provisioning import EVERY, Fleet
from tests.sensors import SERVICES, Sensor, wait_for
from tests.servers import HTTPSink

HOMES = find_homes()

pytestmark = pytest.mark.integration


def of(*targets: str) -> pytest.MarkDecorator:
    """Run a test with each home of some targets."""
    homes = [one for one in HOMES if one.made["target"] in targets]
    return pytest.mark.parametrize("old", homes, ids=str)


@contextmanager
def taken_over(old: Home, place: Path) -> Iterator[tuple[Sensor, HTTPSink]]:
    """Unpack a home, with a server that takes its messages; end all its processes afterwards."""
    with HTTPSink(token=old.common["token"]) as server:
        sensor = Sensor(old.unpack(place, server.url), place.parent / "none")
        try:
            yield sensor, server
        finally:
            sensor.end()


def holds(new: Any, old: Any) -> bool:
    """Whether settings are as before, but for some that there were not."""
    if isinstance(old, dict):
        return all(name in new and holds(new[name], one) for name, one in old.items())
    return bool(new == old)


# --- setup ---


@of("process", "systemd", "compose")
def test_setup_over_it_keeps_the_answers_and_all_that_was_recorded(
    old: Home, tmp_path: Path
) -> None:
    place = old.unpack(tmp_path / "old")
    config = place / "config"
    settings = json.loads((config / "program.json").read_text())
    kept = [config / name for name in ("name", "secrets.env", "device.json", "sensor.json")]
    kept = [path for path in kept if path.exists()]  # there was none of the sensor's at first
    before = [path.read_bytes() for path in kept]

    done = acoupi(place, "setup", "--no-prompt")

    assert done.returncode == 0, done.stderr
    assert "edited" not in done.stderr
    assert holds(json.loads((config / "program.json").read_text()), settings)
    assert [path.read_bytes() for path in kept] == before
    assert json.loads((place / ".generated.json").read_text())["target"] == old.made["target"]
    if "recordings" in old.made:
        check_unchanged(old, place)


@of("process", "systemd", "compose")
def test_an_edited_file_is_still_known_as_one(old: Home, tmp_path: Path) -> None:
    place = old.unpack(tmp_path / "old")
    with (place / "app.py").open("a") as file:
        file.write("# mine\n")

    done = acoupi(place, "setup", "--no-prompt")

    assert done.returncode == 2
    assert "app.py" in done.stderr
    assert "# mine" in (place / "app.py").read_text()


@of("process", "compose")
def test_it_is_told_what_it_did_before_anything_runs(old: Home, tmp_path: Path) -> None:
    place = old.unpack(tmp_path / "old")
    before = old.made["messages"].values()

    (http,) = [
        one
        for one in told(place, "messages", "list")["messengers"]
        if one["messenger"].startswith("http:")
    ]
    effort = effort_until_cut(old, place)

    for state in ("pending", "acknowledged", "dead"):
        assert http[state] == len([one for one in before if one["http"] == state])
    assert effort["recorded"] == pytest.approx(old.made["recorded_s"])
    check_unchanged(old, place)


# --- starts ---


RECOVERY = 240.0
"""Longest wait for a recording that was cut off: a pass every minute looks for what has rested."""


PROCESSES = [one for one in HOMES if one.made["target"] == "process"]
STARTS = [
    *((one, how) for one in PROCESSES for how in ("scripts", "setup")),
    (PROCESSES[0], "commands"),  # of one: each start takes long
]


@pytest.mark.parametrize(("old", "how"), STARTS, ids=str)
def test_what_waited_is_done_and_nothing_is_lost_when_it_starts(
    old: Home, how: str, tmp_path: Path
) -> None:
    with taken_over(old, tmp_path / "old") as (sensor, server):
        place, scripts = sensor.home, sensor.home / "bin"
        effort = effort_until_cut(old, place)
        if how == "setup":
            assert acoupi(place, "setup", "--no-prompt").returncode == 0

        if how == "scripts":
            run(place, scripts / "acoupi-workers-start.sh", *SERVICES)
        else:
            done = acoupi(place, "workers", "start")
            assert done.returncode == 0, done.stderr
            run(place, scripts / "acoupi-workers-start.sh", "beat")
        wait_for(lambda: is_taken_over(old, place, lambda: ids_of(server.posts)), "all", sensor)
        if how == "scripts":  # of three; it takes long
            whole = Before(old.made).parts
            wait_for(
                lambda: whole <= {one.recording.id for one in Contents(place).outputs},
                "what it was cut off in",
                sensor,
                RECOVERY,
            )
        status = told(place, "deployment", "status")
        if how == "scripts":
            run(place, scripts / "acoupi-workers-stop.sh", *SERVICES)
        else:
            assert acoupi(place, "workers", "stop").returncode == 0
            run(place, scripts / "acoupi-workers-stop.sh", *SERVICES)

        assert sensor.processes() == []
        assert status["celery"]["state"] == "ok"
        assert UUID(status["deployment"]["id"]) == UUID(old.made["deployment"])
        assert status["deployment"]["ended_on"] is None
        check_nothing_lost(old, place, ids_of(server.posts))
        check_effort(old, place, effort)


def run(place: Path, *command: Any) -> None:
    """Run a script of a home, as a person or a unit of systemd would."""
    done = subprocess.run(
        ["bash", *command], env=environment(place), timeout=150, check=False,
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@of("systemd")
def test_what_its_units_start_runs_and_ends(old: Home, tmp_path: Path) -> None:
    with taken_over(old, tmp_path / "old") as (sensor, _):
        units = sorted((sensor.home / "systemd").glob("*.service"))
        commands = [re.findall(r"(?m)^ExecStart=(.*)$", unit.read_text()) for unit in units]
        started = [
            subprocess.Popen(shlex.split(command), stderr=subprocess.DEVNULL)
            for (command,) in commands
        ]

        wait_for(lambda: all(map(sensor.is_ready, SERVICES)), "every service ready", sensor)
        for process in started:
            process.terminate()
        codes = [process.wait(timeout=90) for process in started]

        assert {"acoupi.service", "acoupi-beat.service"} <= {unit.name for unit in units}
        assert set(codes) == {0}
        assert sensor.processes() == []


@of("process", "systemd", "compose")
def test_its_app_is_still_one_of_celery(old: Home, tmp_path: Path) -> None:
    place = old.unpack(tmp_path / "old")
    ask = "import app; print(*app.app.tasks)"

    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=place, env=environment(place), check=False,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert {"recording_task", "detection_task", "heartbeat_task"} <= set(done.stdout.split())


@of("balena")
def test_the_volumes_of_a_fleet_go_on_as_the_same_device(
    old: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_TARGET")  # a variable that there is not, for a fleet
    with taken_over(old, tmp_path / "old") as (sensor, server):
        place = sensor.home
        effort = effort_until_cut(old, place)
        here = {"ACOUPI_PROGRAM": "demo", "ACOUPI_HOME": str(place)}
        there = {"ACOUPI_CONFIG__MESSAGING__HTTP__BASE_URL": server.url}
        fleet = Fleet(sensor, {**old.made["variables"], **there, **here})
        try:
            fleet.start(*EVERY)
            wait_for(lambda: is_taken_over(old, place, lambda: ids_of(server.posts)), "all", sensor)
            provisioned = json.loads((place / "config" / "provisioned.json").read_text())
        finally:
            fleet.end()

        assert provisioned["fault"] is None
        assert [one["ended_on"] for one in provisioned["deployments"]] == [None]
        check_nothing_lost(old, place, ids_of(server.posts))
        check_effort(old, place, effort)
