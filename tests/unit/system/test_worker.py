"""What a worker reports of itself, and when it ends itself."""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from acoupi.errors import ConfigurationError, StoreError
from acoupi.services import logs, worker
from acoupi.services.consumer import SensorConsumer
from acoupi.services.monitor import WorkerMonitor
from acoupi.stack.loading import load_program_class
from acoupi.stack.pulse import PulseFile, ServiceLock, read_pulse
from acoupi.stack.stack import stack_for
from acoupi.system import Settings, setup_program
from tests.clocks import Clock
from tests.services import DEADLINE
from tests.unit.system.conftest import WriteModule


@pytest.fixture
def monitor(tmp_path: Path, clock: Clock) -> Iterator[WorkerMonitor]:
    with ServiceLock(tmp_path, "default") as lock:
        yield WorkerMonitor(
            PulseFile(tmp_path, "default"),
            "redis://hub",
            time_limit=600,
            end=lambda reason: None,
            lock=lock,
        )


def test_tasks_are_counted_and_the_last_error_stands_until_its_task_succeeds(
    monitor: WorkerMonitor,
) -> None:
    for key, error in (("1", "disk full"), ("2", "no link"), ("3", None)):
        monitor.task_started(key, f"task {key}")
        monitor.task_ended(key, error)
        monitor.task_ended(key, error)

    pulse = monitor.pulse.pulse
    assert (pulse.done, pulse.failed, pulse.last_error) == (1, 2, "task 2: no link")
    monitor.task_started("4", "task 2")
    monitor.task_ended("4", None)
    assert pulse.last_error == "task 1: disk full"


def test_a_task_that_is_overdue_makes_it_stuck(monitor: WorkerMonitor, clock: Clock) -> None:
    monitor.ready()
    monitor.task_started("1", "hang")

    clock.advance(599)
    monitor.turn()
    assert monitor.why_stuck() is None
    clock.advance(2)
    monitor.turn()

    assert "hang has run for 601 s" in (monitor.why_stuck() or "")
    monitor.task_ended("1", None)
    assert monitor.why_stuck() is None


def test_a_long_recording_does_not_make_its_worker_stuck(settings: Settings) -> None:
    program = load_program_class("default")
    recording = {"duration": 900, "interval": 900}
    config = program.get_config_schema().model_validate({"recording": recording})
    stack = stack_for(program, config, settings)

    limits = {one.name: worker.overdue_after(one, 600) for one in stack.workers}

    assert limits["recording"] > 900 + 600
    assert limits["default"] == 600


def test_a_loop_that_does_not_turn_makes_it_stuck(monitor: WorkerMonitor, clock: Clock) -> None:
    monitor.ready()

    clock.advance(61)

    assert "loop has not turned" in (monitor.why_stuck() or "")


def test_a_process_that_was_frozen_is_not_stuck(monitor: WorkerMonitor, clock: Clock) -> None:
    monitor.ready()
    monitor.task_started("1", "work")

    clock.advance(700)
    monitor.excuse(699)

    assert monitor.why_stuck() is None
    clock.advance(61)
    assert "loop has not turned" in (monitor.why_stuck() or "")


def test_waiting_for_the_broker_is_not_being_stuck(monitor: WorkerMonitor, clock: Clock) -> None:
    monitor.ready()

    for _ in range(100):
        clock.advance(30)
        monitor.broker_lost(ConnectionRefusedError("refused"))
        assert monitor.why_stuck() is None

    assert monitor.pulse.pulse.state == "waiting for the broker"
    assert "redis://hub does not answer: refused" in (monitor.pulse.pulse.message or "")


def test_a_program_that_never_loads_makes_it_stuck(monitor: WorkerMonitor, clock: Clock) -> None:
    clock.advance(599)
    assert monitor.why_stuck() is None
    clock.advance(2)

    assert "has not started" in (monitor.why_stuck() or "")


def test_a_clock_step_makes_nothing_stuck(monitor: WorkerMonitor, clock: Clock) -> None:
    monitor.ready()
    monitor.task_started("1", "work")

    clock.step(40 * 365 * 86_400.0)

    assert monitor.why_stuck() is None


def test_another_process_under_its_name_makes_it_stuck(
    monitor: WorkerMonitor, tmp_path: Path
) -> None:
    monitor.ready()
    monitor.lock.path.unlink()

    with ServiceLock(tmp_path, "default"):
        assert "another process" in (monitor.why_stuck() or "")


def test_losing_the_broker_is_logged_once(
    monitor: WorkerMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        monitor.broker_lost(ConnectionRefusedError("refused"))

    assert caplog.text.count("Cannot continue") == 1


def test_the_last_pulse_says_that_it_stopped(monitor: WorkerMonitor, tmp_path: Path) -> None:
    monitor.start()
    monitor.ready()

    monitor.stop()

    pulse = read_pulse(tmp_path, "default")
    assert pulse is not None
    assert pulse.state == "stopped"


# Acknowledging.


class Message:
    """A message whose acknowledgement kombu logs as failed, or not."""

    def __init__(self, channel: object, *, fails: bool) -> None:
        self.channel = channel
        self.acknowledged = False
        self._fails = fails

    def ack_log_error(self) -> None:
        self.acknowledged = not self._fails


@pytest.mark.parametrize("fails", [True, False])
def test_a_worker_reconnects_when_a_message_cannot_be_acknowledged(fails: bool) -> None:
    # Kombu's redis counts it as in hand: a worker that may have one would never ask for another.
    channel = object()
    consumer = SensorConsumer.__new__(SensorConsumer)
    consumer._is_lost, consumer.hub, consumer.connection = False, None, None
    consumer.task_consumer = SimpleNamespace(channel=channel)

    consumer.call_soon_ack(Message(channel, fails=fails).ack_log_error)

    with pytest.raises(ConnectionResetError) if fails else contextlib.nullcontext():
        consumer._check_link()
    consumer.call_soon_ack(Message("of a link that was lost", fails=True).ack_log_error)
    consumer._check_link()


# Starting.


@pytest.fixture
def _quiet_logging() -> Iterator[None]:
    """Logging as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_quiet_logging")
def test_an_unknown_worker_is_said_to_be(
    settings: Settings, program_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_program(settings, program_name)

    code = worker.main(["detektion", "--quiet"])

    assert code == 2
    assert capsys.readouterr().err.startswith('Error: there is no service "detektion".\n  Why: ')


@pytest.mark.usefixtures("_quiet_logging")
def test_a_home_without_a_sensor_is_said_to_be(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(["default", "--quiet"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


FAILS = """
import os
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram, DEFAULT_WORKER_CONFIG

class Config(BaseModel):
    site: str = "heath"

class Program(AcoupiProgram[Config]):
    config_schema = Config
    worker_config = DEFAULT_WORKER_CONFIG

    def setup(self, config):
        def recording_task(): return None
        self.add_task(recording_task, schedule=10, queue="recording")
        if "ACOUPI_SERVICE" in os.environ:
            raise RuntimeError("no such GPU")
"""


@pytest.mark.usefixtures("_quiet_logging")
def test_what_a_program_raises_when_it_is_built_is_in_the_log(
    settings: Settings, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_SERVICE", raising=False)
    setup_program(settings, write_module("failing_program", FAILS))

    with pytest.raises(RuntimeError):
        worker.main(["default", "--quiet"])

    log = (settings.log_dir / "default.log").read_text()
    assert "RuntimeError: no such GPU" in log
    assert "Traceback" in log


@pytest.mark.parametrize("name", ["../default", "a b", "beat"])
def test_a_name_that_names_no_worker_touches_nothing(
    settings: Settings, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main([name]) == 2
    assert not settings.home.exists()


# Logging.


@pytest.mark.usefixtures("_quiet_logging")
def test_a_log_is_rotated_and_five_old_ones_are_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOG_SIZE", 2_000)
    logs.configure_logging(settings, "default", quiet=True)

    for number in range(500):
        logging.getLogger("acoupi.test").info("line %d of a long log", number)

    files = sorted(path.name for path in settings.log_dir.iterdir())
    assert files == ["default.log", *(f"default.log.{n}" for n in range(1, 6))]
    assert all(path.stat().st_size <= 2_000 for path in settings.log_dir.iterdir())
    assert "line 499" in (settings.log_dir / "default.log").read_text()


@pytest.mark.usefixtures("_quiet_logging")
def test_in_a_folder_where_no_file_can_be_made_a_log_and_one_old_one_hold_as_much(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(logs, "LOG_SIZE", 2_000)
    settings.log_dir.mkdir(parents=True)
    files = [settings.log_dir / f"default.log{end}" for end in ("", ".1")]
    for file in files:
        file.touch()
    before = [file.stat().st_ino for file in files]
    logs.configure_logging(settings, "default", quiet=True)

    for number in range(500):
        logging.getLogger("acoupi.test").info("line %d of a long log", number)

    assert sorted(settings.log_dir.iterdir()) == files
    assert [file.stat().st_ino for file in files] == before
    assert all(file.stat().st_size <= 6_000 for file in files)
    lines = [line for file in reversed(files) for line in file.read_text().splitlines()]
    said = [int(line.split("line ")[1].split()[0]) for line in lines]
    assert said == list(range(said[0], 500))
    assert files[1].stat().st_size > 5_000


@pytest.mark.usefixtures("_quiet_logging")
def test_times_in_a_log_are_utc(settings: Settings) -> None:
    logs.configure_logging(settings, "default", quiet=True)

    logging.getLogger("acoupi.test").info("hello")

    line = (settings.log_dir / "default.log").read_text()
    assert line[10] == "T"
    assert line[23] == "Z"


@pytest.mark.usefixtures("_quiet_logging")
def test_a_log_that_cannot_be_written_does_not_stop_a_service(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.home.mkdir()
    settings.log_dir.write_text("a file")

    logs.configure_logging(settings, "default", quiet=True)
    logging.getLogger("acoupi.test").info("hello")

    assert "hello" in capsys.readouterr().err


def test_an_unknown_log_level_is_refused(settings: Settings) -> None:
    loud = Settings(home=settings.home, log_level="LOUD")

    with pytest.raises(ConfigurationError, match='"LOUD"'):
        logs.configure_logging(loud, "default")


@pytest.mark.usefixtures("_quiet_logging")
def test_a_child_writes_into_the_new_log_after_a_rotation(settings: Settings) -> None:
    logs.configure_logging(settings, "default", quiet=True)
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, logs.RotatingFileHandler)
    child = os.fork()
    if child == 0:
        os.close(0)
        (settings.log_dir / "default.log").rename(settings.log_dir / "default.log.1")
        logging.getLogger("acoupi.test").info("from the child")
        os._exit(0)

    os.waitpid(child, 0)

    assert "from the child" in (settings.log_dir / "default.log").read_text()


def test_a_task_is_told_that_time_passes_by_how_late_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "CALL_EVERY", 0.01)
    told: list[float] = []
    enough, stopped = threading.Event(), threading.Event()

    def record() -> None:
        """Do nothing."""

    def while_waiting(late: float) -> None:
        told.append(late)
        if len(told) == 2:
            enough.set()
            stopped.set()
        raise StoreError("the disk is full.")  # which does not end it

    record.while_waiting = while_waiting  # type: ignore[attr-defined]
    tasks = {"record": SimpleNamespace(function=record), "send": SimpleNamespace(function=print)}

    worker._call_while_waiting(SimpleNamespace(tasks=tasks), stopped)  # type: ignore[arg-type]

    assert enough.wait(DEADLINE)
    assert all(late >= 0 for late in told)
