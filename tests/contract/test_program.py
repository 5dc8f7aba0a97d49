"""What every program of ours is: safe to build anywhere, and what its processes agree on."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from acoupi.programs import AcoupiProgram

PROGRAMS = {
    "default": "acoupi.programs.default:Program",
    "connected": "acoupi.programs.connected:Program",
    "test": "acoupi.programs.test:TestProgram",
    "demo": "acoupi.programs.demo",
}


def load(place: str) -> type[AcoupiProgram[Any]]:
    module_name, _, class_name = place.partition(":")
    module = importlib.import_module(module_name)
    if class_name:
        return getattr(module, class_name)
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, AcoupiProgram)
        and value.__module__ == module_name
    ]
    return found


@pytest.fixture(params=PROGRAMS)
def kind(request: pytest.FixtureRequest) -> type[AcoupiProgram[Any]]:
    return load(PROGRAMS[request.param])


def build(kind: type[AcoupiProgram[Any]], name: str = "one") -> AcoupiProgram[Any]:
    app = Celery(name, set_as_current=False, broker="memory://")
    return kind(kind.get_config_schema()(), app)


def test_it_can_be_configured_without_an_answer(kind: type[AcoupiProgram[Any]]) -> None:
    schema = kind.get_config_schema()

    config = schema()

    assert schema.model_validate_json(config.model_dump_json()) == config
    assert json.loads(json.dumps(schema.model_json_schema()))


def test_building_it_touches_nothing(kind: type[AcoupiProgram[Any]], tmp_path: Path) -> None:
    build(kind)

    assert list(tmp_path.iterdir()) == []


def test_its_tasks_have_the_same_names_in_every_process(kind: type[AcoupiProgram[Any]]) -> None:
    first, second = build(kind, "one"), build(kind, "two")

    assert list(first.tasks) == list(second.tasks)
    assert first.tasks.keys() <= first.app.tasks.keys()


def test_its_periodic_messages_name_a_task_a_queue_and_an_end(
    kind: type[AcoupiProgram[Any]],
) -> None:
    program = build(kind)

    entries = program.app.conf.beat_schedule
    assert entries
    for entry in entries.values():
        assert entry["task"] in program.tasks
        assert entry["options"]["queue"] in kind.get_queue_names()
        assert entry["options"]["expires"] == entry["schedule"].run_every.total_seconds()


def test_every_queue_has_a_worker(kind: type[AcoupiProgram[Any]]) -> None:
    program = build(kind)

    assert set(program.queues) <= set(kind.get_queue_names())


def test_results_are_ignored_and_messages_are_json(kind: type[AcoupiProgram[Any]]) -> None:
    program = build(kind)

    assert {(task.ignore_result, task.serializer) for task in program.tasks.values()} == {
        (True, "json")
    }


def test_only_one_worker_records_one_at_a_time(kind: type[AcoupiProgram[Any]]) -> None:
    workers = kind.get_worker_config().workers
    recorders = [w for w in workers if "recording" in w.queues or not w.queues]

    assert len(recorders) == 1
    assert recorders[0].concurrency == 1
