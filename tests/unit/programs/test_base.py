"""AcoupiProgram: tasks, callbacks, queues and schedules."""

import datetime
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from celery import Celery
from celery.schedules import crontab
from pydantic import BaseModel

from acoupi import data
from acoupi.errors import DeviceUnavailableError, InvalidProgramError
from acoupi.programs import DEFAULT_WORKER_CONFIG, AcoupiProgram, AcoupiWorker, WorkerConfig

RECORDING = data.Recording(
    path=Path("/spool/a.wav"),
    duration=3,
    samplerate=48_000,
    deployment=data.Deployment(name="wood"),
)


class Config(BaseModel):
    name: str = "sensor"


class Program(AcoupiProgram[Config]):
    """A program whose setup is given by the test."""

    config_schema = Config
    worker_config = DEFAULT_WORKER_CONFIG
    steps: ClassVar[Callable[["Program"], None]] = staticmethod(lambda program: None)

    def setup(self, config: Config) -> None:
        type(self).steps(self)


def program_with(
    app: Celery,
    steps: Callable[[Program], None],
    worker_config: WorkerConfig | None = DEFAULT_WORKER_CONFIG,
) -> Program:
    attributes = {"steps": staticmethod(steps), "worker_config": worker_config}
    return type("Program", (Program,), attributes)(Config(), app)


def record() -> data.Recording:
    return RECORDING


def detect(recording: data.Recording) -> None: ...


def detection_task_of(name: str, log: list[Any]) -> Callable[[data.Recording], None]:
    def detection_task(recording: data.Recording) -> None:
        log.append((name, recording))

    return detection_task


def test_what_a_task_returns_goes_to_its_callbacks(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(
        app, lambda p: p.add_task(record, callbacks=[detection_task_of("a", seen)])
    )

    program.tasks["record"].delay()

    assert seen == [("a", RECORDING)]
    assert isinstance(seen[0][1], data.Recording)


def test_a_task_that_returns_none_calls_nobody_back(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(
        app, lambda p: p.add_task(lambda: None, callbacks=[seen.append], name="nothing")
    )

    program.tasks["nothing"].delay()

    assert seen == []


def test_an_empty_result_is_still_a_result(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(
        app, lambda p: p.add_task(lambda: 0, callbacks=[seen.append], name="zero")
    )

    program.tasks["zero"].delay()

    assert seen == [0]


def test_a_task_that_is_behind_catches_up_at_once(app: Celery) -> None:
    log: list[Any] = []
    waiting = [True, True, False]

    def recording_task() -> data.Recording:
        return RECORDING

    recording_task.is_behind = lambda: waiting.pop(0)  # type: ignore[attr-defined]
    program = program_with(
        app,
        lambda program: program.add_task(
            recording_task, callbacks=[detection_task_of("detect", log)]
        ),
    )

    program.tasks["recording_task"].run()

    assert len(log) == 3


def test_two_callbacks_of_one_name_are_two_tasks(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(
        app,
        lambda p: p.add_task(
            record, callbacks=[detection_task_of("a", seen), detection_task_of("b", seen)]
        ),
    )

    program.tasks["record"].delay()

    assert list(program.tasks) == ["record", "detection_task", "detection_task_2"]
    assert [name for name, _ in seen] == ["a", "b"]


def test_one_callback_of_two_tasks_is_one_task(app: Celery) -> None:
    seen: list[Any] = []
    callback = detection_task_of("a", seen)

    def setup(program: Program) -> None:
        program.add_task(record, callbacks=[callback, callback])
        program.add_task(lambda: RECORDING, callbacks=[callback], name="again")

    program = program_with(app, setup)
    program.tasks["record"].delay()
    program.tasks["again"].delay()

    assert list(program.tasks) == ["record", "detection_task", "again"]
    assert len(seen) == 2


def test_a_method_is_the_same_callback_each_time(app: Celery) -> None:
    class Listener:
        def hear(self, recording: data.Recording) -> None: ...

    listener = Listener()

    def setup(program: Program) -> None:
        program.add_task(record, callbacks=[listener.hear])
        program.add_task(lambda: RECORDING, callbacks=[listener.hear], name="again")

    program = program_with(app, setup)

    assert list(program.tasks) == ["record", "hear", "again"]


def test_names_are_the_same_in_every_process() -> None:
    def setup(program: Program) -> None:
        program.add_task(record, callbacks=[detection_task_of(n, []) for n in "abc"])
        program.add_task(detection_task_of("d", []), schedule=5)  # type: ignore[arg-type]

    first = program_with(Celery("one", set_as_current=False), setup)
    second = program_with(Celery("two", set_as_current=False), setup)

    assert list(first.tasks) == list(second.tasks)
    assert first.app.conf.beat_schedule == second.app.conf.beat_schedule


def test_partials_and_callables_have_names(app: Celery) -> None:
    class Heartbeat:
        def __call__(self) -> None: ...

    def setup(program: Program) -> None:
        program.add_task(partial(record))
        program.add_task(Heartbeat())

    program = program_with(app, setup)

    assert list(program.tasks) == ["record", "Heartbeat"]


def test_a_name_that_was_asked_for_must_be_free(app: Celery) -> None:
    def setup(program: Program) -> None:
        program.add_task(record, name="work")
        program.add_task(lambda: None, name="work")

    with pytest.raises(ValueError, match="already a task named 'work'"):
        program_with(app, setup)


@pytest.mark.parametrize("which", ["queue", "callback_queue"])
def test_a_queue_that_no_worker_listens_to_is_refused(app: Celery, which: str) -> None:
    def setup(program: Program) -> None:
        program.add_task(record, callbacks=[detect], **{which: "detecton"})

    with pytest.raises(ValueError, match="'detecton'; there are 'recording', 'celery'"):
        program_with(app, setup)


@pytest.mark.parametrize(
    "worker_config",
    [
        None,
        WorkerConfig(
            workers=[AcoupiWorker(name="a", queues=["recording"]), AcoupiWorker(name="b")]
        ),
    ],
)
def test_a_worker_without_queues_listens_to_all(
    app: Celery, worker_config: WorkerConfig | None
) -> None:
    program = program_with(
        app,
        lambda p: p.add_task(record, callbacks=[detect], queue="celery", callback_queue="own"),
        worker_config,
    )

    assert "own" in program.queues
    assert "celery" in type(program).get_queue_names()


def test_a_program_that_says_nothing_has_one_worker_for_everything() -> None:
    class Silent(AcoupiProgram[Config]):
        config_schema = Config

    (worker,) = Silent.get_worker_config().workers

    assert (worker.name, worker.queues, worker.concurrency) == ("acoupi", [], 1)


def test_queue_names_are_those_of_the_workers_once_each() -> None:
    class Many(AcoupiProgram[Config]):
        config_schema = Config
        worker_config = WorkerConfig(
            workers=[
                AcoupiWorker(name="a", queues=["x", "y"]),
                AcoupiWorker(name="b", queues=["y", "z"]),
            ]
        )

    assert Many.get_queue_names() == ["x", "y", "z"]


def test_a_periodic_message_expires_at_the_next_slot_and_knows_its_queue(app: Celery) -> None:
    def setup(program: Program) -> None:
        program.add_task(record, schedule=10, queue="recording")
        program.add_task(detect, schedule=datetime.timedelta(minutes=2))  # type: ignore[arg-type]
        program.add_task(lambda: None, schedule=crontab(minute="*/5"), name="cron")
        program.add_task(lambda: None, name="never")

    program_with(app, setup)

    entries = app.conf.beat_schedule
    assert {name: entry["options"] for name, entry in entries.items()} == {
        "record": {"expires": 10.0, "queue": "recording"},
        "detect": {"expires": 120.0},
        "cron": {},
    }
    assert {entry["task"] for entry in entries.values()} == {"record", "detect", "cron"}


def test_a_function_registered_twice_keeps_both_schedules(app: Celery) -> None:
    def setup(program: Program) -> None:
        program.add_task(record, schedule=10)
        program.add_task(record, schedule=crontab(hour=4, minute=0))

    program = program_with(app, setup)

    assert list(program.tasks) == ["record"]
    assert [e["task"] for e in app.conf.beat_schedule.values()] == ["record", "record"]


def test_schedules_of_one_app_are_not_those_of_another() -> None:
    apps = [Celery(name, set_as_current=False) for name in ("one", "two")]

    program_with(apps[0], lambda p: p.add_task(record, schedule=10))

    assert apps[1].conf.beat_schedule == {}
    assert "record" not in apps[1].tasks


@pytest.mark.parametrize(
    ("queue", "asked", "acks_late"),
    [("recording", None, False), ("celery", None, True), (None, None, True), (None, False, False)],
)
def test_only_a_recording_is_not_made_up_for_after_a_crash(
    app: Celery, queue: str | None, asked: bool | None, acks_late: bool
) -> None:
    program = program_with(app, lambda p: p.add_task(record, queue=queue, acks_late=asked))

    assert program.tasks["record"].acks_late is acks_late


def test_results_are_not_kept(app: Celery) -> None:
    program = program_with(app, lambda p: p.add_task(record, callbacks=[detect]))

    assert all(task.ignore_result for task in program.tasks.values())


def test_a_message_is_json_in_the_queue_of_the_callback(queued: Celery, tmp_path: Path) -> None:
    program = program_with(
        queued,
        lambda p: p.add_task(record, callbacks=[detect], callback_queue="recording"),
    )

    program.tasks["record"]()

    (message,) = [json.loads(f.read_text()) for f in (tmp_path / "broker").glob("*.msg")]
    assert message["content-type"] == "application/json"
    assert message["headers"]["task"] == "detect"
    assert message["properties"]["delivery_info"]["routing_key"] == "recording"


def test_waiting_messages_are_counted(queued: Celery) -> None:
    program = program_with(
        queued,
        lambda p: p.add_task(record, callbacks=[detect], callback_queue="recording"),
    )
    before = program.count_waiting("recording")

    program.tasks["record"]()
    program.tasks["record"]()

    assert (before, program.count_waiting("recording")) == (0, 2)
    assert program.count_waiting("celery") == 0


def test_a_task_can_be_moved_to_another_queue(queued: Celery) -> None:
    program = program_with(queued, lambda p: p.add_task(record))

    program.add_task_to_queue("record", "recording")
    program.tasks["record"].delay()

    assert program.count_waiting("recording") == 1
    assert queued.conf.task_routes == {"record": {"queue": "recording"}}
    with pytest.raises(ValueError, match="'nowhere'"):
        program.add_task_to_queue("record", "nowhere")


def test_who_sends_a_task_may_choose_the_queue(queued: Celery) -> None:
    program = program_with(queued, lambda p: p.add_task(record, queue="recording"))

    program.tasks["record"].apply_async(queue="celery")

    assert program.count_waiting("celery") == 1


def test_a_failing_task_is_named_in_the_log_and_counts_as_failed(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    def listen() -> None:
        raise DeviceUnavailableError("no microphone.", "plug one in", why="none is there.")

    app.conf.task_eager_propagates = False
    program = program_with(app, lambda p: p.add_task(listen))

    with caplog.at_level(logging.ERROR):
        result = program.tasks["listen"].delay()

    assert result.state == "FAILURE"
    assert 'task "listen" failed: no microphone. none is there. plug one in' in caplog.text


def test_one_callback_that_cannot_be_sent_does_not_keep_the_others_from_it(app: Celery) -> None:
    seen: list[Any] = []

    def bad(recording: data.Recording) -> None:
        raise ValueError("bad")

    program = program_with(
        app, lambda p: p.add_task(record, callbacks=[bad, detection_task_of("a", seen)])
    )

    with pytest.raises(ValueError, match="bad"):
        program.tasks["record"].delay()
    assert [name for name, _ in seen] == ["a"]


def test_the_bare_function_can_be_run_without_callbacks(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(app, lambda p: p.add_task(record, callbacks=[seen.append]))

    result = program.tasks["record"].function()

    assert (result, seen) == (RECORDING, [])


def test_a_task_can_be_given_objects(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(
        app, lambda p: p.add_task(record, callbacks=[detection_task_of("a", seen)])
    )
    task = program.tasks["detection_task"]

    task(RECORDING)
    task.delay(RECORDING)
    task.delay(recording=RECORDING)
    task.s(RECORDING).apply_async()

    assert seen == [("a", RECORDING)] * 4


def test_a_program_without_a_configuration_schema_is_refused_by_name() -> None:
    class Bare(AcoupiProgram[Config]):
        pass

    with pytest.raises(InvalidProgramError, match="Bare"):
        Bare.get_config_schema()


def test_hooks_have_defaults(app: Celery) -> None:
    program = program_with(app, lambda p: None)
    deployment = data.Deployment(name="wood")

    program.on_start(deployment)
    program.check(program.config)
    program.on_end(deployment)

    assert (program.config, program.app) == (Config(), app)
    assert type(program).get_config_schema() is Config


@dataclass
class Own:
    number: int


def make_own() -> list[Own]:
    return [Own(7)]


def test_what_the_return_annotation_names_is_known_to_callbacks_without_one(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(app, lambda p: p.add_task(make_own, callbacks=[seen.append]))

    program.tasks["make_own"].delay()

    assert seen == [[Own(7)]]


def test_a_class_that_a_callback_cannot_know_is_named_where_it_is_sent(app: Celery) -> None:
    seen: list[Any] = []
    program = program_with(
        app, lambda p: p.add_task(lambda: Own(7), callbacks=[seen.append], name="unsaid")
    )

    with pytest.raises(TypeError, match=r'"unsaid" cannot send .*"append".*value: Own'):
        program.tasks["unsaid"].send_to_callbacks(Own(7))

    assert seen == []
