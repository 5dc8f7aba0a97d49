"""What the worker that looks sees of the other services: their pulses, wherever these are."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from acoupi.services.broker import load_celery_settings
from acoupi.services.construction import load_program
from acoupi.services.duties import kept_tasks
from acoupi.services.pulses import SILENT, count_restarts, last_pulses, not_working
from acoupi.stack.pulse import Pulse, PulseFile
from acoupi.stack.settings import Settings
from acoupi.stack.stack import stack_of_program
from acoupi.system import setup_program
from tests.clocks import Clock

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)


def pulse(name: str, age: float = 0, **changes: object) -> Pulse:
    on = NOW - timedelta(seconds=age)
    values = {"name": name, "pid": 1, "started_on": on, "pulse_on": on, "state": "ready"}
    return Pulse(**(values | changes))  # type: ignore[arg-type]


def test_the_pulse_that_counts_is_the_last_one(tmp_path: Path, clock: Clock) -> None:
    in_a_container, here = tmp_path / "beat", tmp_path
    for place, state in ((in_a_container, "stopped"), (here, "ready")):
        file = PulseFile(place, "beat")
        file.pulse.state = state  # type: ignore[assignment]
        file.write()
        clock.advance(60)

    found = last_pulses([tmp_path], ["beat", "recording"])

    assert set(found) == {"beat"}
    assert found["beat"].state == "ready"


def test_a_pulse_that_is_none_is_no_pulse(tmp_path: Path) -> None:
    PulseFile(tmp_path / "elsewhere", "beat").write()
    (tmp_path / "beat.json").symlink_to(tmp_path / "elsewhere" / "beat.json")
    (tmp_path / "recording.json").write_text('{"state": "ready"}')

    assert last_pulses([tmp_path], ["beat", "recording"]) == {}


@pytest.mark.parametrize(
    "lie",
    [
        {"name": "recording"},
        {"restarts": "often"},
        {"restarts": True},
        {"done": 10**400},
        {"failed": -1},
        {"started_on": None},
        {"pulse_on": "2024-06-20T12:00:00"},
        {"message": ["x"]},
    ],
)
def test_a_pulse_that_makes_no_sense_is_not_believed(tmp_path: Path, lie: dict[str, Any]) -> None:
    path = tmp_path / "beat.json"
    good = json.loads(pulse("beat").to_json())
    path.write_text(json.dumps(good))
    assert set(last_pulses([tmp_path], ["beat"])) == {"beat"}

    path.write_text(json.dumps(good | lie))

    assert last_pulses([tmp_path], ["beat"]) == {}


def test_a_service_can_claim_restarts_without_end_to_no_effect() -> None:
    before = count_restarts({}, [pulse("beat", 60)], NOW, None)

    after = count_restarts(before, [pulse("beat", restarts=2**52)], NOW, None)

    assert len(after["beat"]["times"]) == 1000


def test_what_a_service_says_of_itself_is_short_and_harmless() -> None:
    of = pulse("beat", state="stopped", message="\x1b]0;title\x07" + "x" * 5000)

    (why,) = not_working({"beat": of}, NOW).values()

    assert why.startswith(r"stopped: \x1b]0;title\x07xxx")
    assert len(why) < 250


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (pulse("beat"), None),
        (pulse("beat", SILENT), None),
        (pulse("beat", state="degraded"), None),
        (pulse("beat", SILENT + 1), "no sign of life since 2024-06-20 11:59:39 UTC"),
        (pulse("beat", state="stopped"), "stopped"),
        (pulse("beat", state="stopped", message="no broker"), "stopped: no broker"),
        (pulse("beat", state="waiting for the broker"), "waiting for the broker"),
    ],
)
def test_a_service_works_or_it_is_said_why_not(of: Pulse, why: str | None) -> None:
    assert not_working({"beat": of}, NOW).get("beat") == why


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], set()),
        (["--sensor.alarms.enabled", "true"], {"alarms_task", "send_messages_task"}),
        (
            ["--sensor.metrics.textfile", "data/x.prom"],
            {"metrics_task", "send_messages_task"},
        ),
    ],
)
def test_the_worker_that_looks_does_so_without_beat(
    home: Path, options: list[str], kept: set[str]
) -> None:
    settings = Settings(home=home)
    setup_program(settings, "connected", ["--messaging.file.path", "data/x.jsonl", *options])
    program = load_program(settings)
    stack = stack_of_program(program, settings, load_celery_settings(settings), "connected")

    found = {
        one.name: {task.name for task in kept_tasks(program, one, stack)} for one in stack.workers
    }

    assert found["default"] == kept
    assert found["recording"] == {"recording_task"}
