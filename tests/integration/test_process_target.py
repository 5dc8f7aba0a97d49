"""A sensor as plain processes: it starts, works, survives and stops, on either broker."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from acoupi.errors import AcoupiError, DeploymentError, HealthCheckError, TargetError
from acoupi.system import (
    Settings,
    get_current_deployment,
    get_status,
    purge_queues,
    restart_workers,
    setup_program,
    start_program,
    start_workers,
    stop_program,
    stop_workers,
)
from acoupi.system.deployments import read_deployment
from tests.sensors import SERVICES, Sensor, kill, sensor_at, wait_for
from tests.services import Redis

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home with a name that breaks careless scripts."""
    return tmp_path / 'it\'s a "home" $HOME'


@pytest.fixture(params=["embedded", "redis"])
def _broker(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The embedded broker, or a redis of its own as compose has it."""
    if request.param == "embedded":
        yield
        return
    with Redis(tmp_path / "redis") as redis:
        monkeypatch.setenv("ACOUPI_BROKER", redis.url)
        yield


@pytest.fixture
def sensor(place: Path, _broker: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    """A sensor that is set up and not running, on either broker."""
    with sensor_at(place, monkeypatch) as sensor:
        sensor.set_up()
        yield sensor


@pytest.fixture
def embedded(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    """A sensor that is set up and not running, on the embedded broker."""
    with sensor_at(place, monkeypatch) as sensor:
        sensor.set_up()
        yield sensor


def test_a_deployment_starts_works_and_stops_cleanly(sensor: Sensor) -> None:
    start_program(sensor.settings, "heath", 51.5, -0.1)

    wait_for(lambda: len(sensor.events("detected")) >= 3, "three detections", sensor)
    running = get_status(sensor.settings)
    stop_program(sensor.settings)

    assert running.celery.state == "ok"
    assert running.deployment is not None
    assert running.deployment.name == "heath"
    assert running.program.status == "ok"
    assert running.services.acoupi == running.services.beat == "active"
    assert [event["deployment"] for event in sensor.events("started")] == ["heath"]
    assert [event["deployment"] for event in sensor.events("ended")] == ["heath"]
    assert sensor.processes() == []
    assert get_status(sensor.settings).celery.state == "unavailable"
    assert get_status(sensor.settings).deployment is None
    recorders = {event["pid"] for event in sensor.events("recorded")}
    assert len(recorders) == 1
    assert recorders.isdisjoint(event["pid"] for event in sensor.events("detected"))


def test_detection_starts_at_once_after_a_recording(sensor: Sensor) -> None:
    sensor.target.up()

    wait_for(lambda: len(sensor.events("detected")) >= 10, "ten detections", sensor)
    wait_for(lambda: len(sensor.events("recorded")) >= 11, "eleven recordings", sensor)

    following = [event["on"] for event in sensor.events("recorded")][1:11]
    detected = [event["on"] for event in sensor.events("detected")][:10]
    prompt = sum(at < next_one for at, next_one in zip(detected, following, strict=True))
    # A worker that only looked once a second would be behind with every other recording.
    assert prompt >= 7


def test_a_killed_worker_is_started_again(sensor: Sensor) -> None:
    sensor.target.up()
    killed = sensor.pulse("detection").pid

    kill(killed)

    wait_for(
        lambda: sensor.pulse("detection").pid != killed and sensor.is_ready("detection"),
        "a new detection worker",
        sensor,
    )
    seen = len(sensor.events("detected"))
    wait_for(lambda: len(sensor.events("detected")) > seen, "another detection", sensor)
    assert sensor.pulse("detection").restarts == 1


def test_a_worker_that_is_killed_takes_its_children_with_it(sensor: Sensor) -> None:
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    child = sensor.events("detected")[-1]["pid"]
    worker = sensor.pulse("detection").pid

    kill(worker)

    wait_for(lambda: not psutil.pid_exists(child) or is_zombie(child), "the child's end", sensor)
    assert child != worker


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_what_a_killed_worker_had_in_hand_is_done_again(sensor: Sensor) -> None:
    start_workers(sensor.settings)
    sensor.send("hold")
    wait_for(lambda: len(sensor.events("holds")) == 1, "the task in hand", sensor)

    kill(sensor.pulse("default").pid)
    wait_for(lambda: len(sensor.events("holds")) == 2, "the task again", sensor)
    sensor.let_go()

    wait_for(lambda: len(sensor.events("let go")) == 1, "its end", sensor)
    stop_workers(sensor.settings)
    assert len(sensor.events("holds")) == 2


def test_a_task_that_kills_its_worker_is_put_aside_after_three_times(sensor: Sensor) -> None:
    start_workers(sensor.settings)
    sensor.send("poison")
    wait_for(lambda: len(sensor.events("swallows poison")) == 3, "three deaths", sensor)

    wait_for(
        lambda: sensor.pulse("default").restarts == 3 and sensor.is_ready("default"),
        "a worker that lives",
        sensor,
    )
    sensor.let_go()
    sensor.send("hold")

    wait_for(lambda: bool(sensor.events("let go")), "the next task", sensor)
    assert len(sensor.events("swallows poison")) == 3


def test_a_failing_task_makes_the_program_unhealthy(sensor: Sensor) -> None:
    start_workers(sensor.settings)

    sensor.send("failing_task")

    wait_for(lambda: sensor.pulse("default").failed == 1, "the failure", sensor)
    state = get_status(sensor.settings).program
    assert state.status == "unhealthy"
    assert "failing_task: ValueError: the same as always" in (state.message or "")


def test_stopping_finishes_what_is_being_done(sensor: Sensor) -> None:
    start_workers(sensor.settings)
    sensor.send("hold")
    wait_for(lambda: bool(sensor.events("holds")), "the task in hand", sensor)
    script = sensor.settings.stop_script_path

    with subprocess.Popen(["bash", script]) as stopping:
        wait_for(lambda: sensor.pulse("default").state == "stopping", "the order to stop", sensor)
        sensor.let_go()
        code = stopping.wait(timeout=90)

    assert code == 0
    assert len(sensor.events("let go")) == 1
    assert sensor.processes() == []


def test_stopping_finishes_what_the_child_in_place_of_one_that_died_is_doing(
    embedded: Sensor,
) -> None:
    start_workers(embedded.settings)
    embedded.send("hold_in_detection", queue="detection")
    wait_for(lambda: bool(embedded.events("holds")), "the task in hand", embedded)
    kill(embedded.events("holds")[0]["pid"])
    wait_for(lambda: embedded.pulse("detection").failed == 1, "the loss to be noticed", embedded)
    embedded.send("hold_in_detection", queue="detection")
    wait_for(lambda: len(embedded.events("holds")) == 2, "the task in the new child", embedded)
    worker = psutil.Process(embedded.pulse("detection").pid)
    threads = worker.num_threads()
    script = embedded.settings.stop_script_path

    with subprocess.Popen(["bash", script]) as stopping:
        wait_for(
            lambda: embedded.pulse("detection").state == "stopping", "the order to stop", embedded
        )
        # Those that give tasks to the children, and that start children, have ended.
        wait_for(lambda: worker.num_threads() <= threads - 2, "the pool to be closed", embedded)
        embedded.let_go()
        code = stopping.wait(timeout=20)

    assert code == 0
    assert len(embedded.events("let go")) == 1
    assert embedded.processes() == []


def test_purging_empties_the_queues(sensor: Sensor) -> None:
    sensor.send("hold")
    sensor.send("hold")
    sensor.send("recording_task", queue="recording")

    purged = purge_queues(sensor.settings)

    assert purged == {"celery": 2, "detection": 0, "recording": 1}
    assert get_status(sensor.settings).celery.waiting == {
        "celery": 0,
        "detection": 0,
        "recording": 0,
    }


def test_old_periodic_messages_are_not_made_up_for(sensor: Sensor) -> None:
    sensor.settings.run_dir.mkdir(parents=True, exist_ok=True)
    start_workers(sensor.settings)
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("recorded")), "a recording", sensor)
    stop_workers(sensor.settings)
    before = len(sensor.events("recorded"))
    sent = sensor.pulse("beat").done
    wait_for(lambda: sensor.pulse("beat").done >= sent + 8, "eight slots without a worker", sensor)

    start_workers(sensor.settings)

    wait_for(lambda: len(sensor.events("recorded")) > before + 2, "three recordings", sensor)
    new = [event["on"] for event in sensor.events("recorded")[before:]]
    assert len([on for on in new if on < new[0] + 0.4]) <= 2


# What does not depend on the broker.


@pytest.mark.parametrize("stale", ["1", "own", "dead", "rubbish"])
def test_a_stale_pid_file_never_stops_a_start(embedded: Sensor, stale: str) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        number = {"own": str(bystander.pid), "dead": "4194303"}.get(stale, stale)
        embedded.settings.run_dir.mkdir(parents=True, exist_ok=True)
        for service in SERVICES:
            (embedded.settings.run_dir / f"{service}.pid").write_text(f"{number}\n")
            (embedded.settings.run_dir / f"{service}.supervisor.pid").write_text(f"{number}\n")
            (embedded.settings.run_dir / f"{service}.lock").touch()
            (embedded.settings.run_dir / f"{service}.supervisor.lock").touch()

        stop_workers(embedded.settings)
        embedded.target.up()
        states = {one.name: one.state for one in embedded.target.status()}
        embedded.target.down()

        assert states == dict.fromkeys(("recording", "detection", "default", "beat"), "ready")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert embedded.processes() == []


def test_starting_twice_changes_nothing(embedded: Sensor) -> None:
    start_workers(embedded.settings)
    before = {name: embedded.pulse(name).pid for name in ("recording", "detection", "default")}

    start_workers(embedded.settings)

    assert {name: embedded.pulse(name).pid for name in before} == before


def test_restarting_gives_new_processes(embedded: Sensor) -> None:
    start_workers(embedded.settings)
    before = embedded.pulse("default").pid

    restart_workers(embedded.settings)

    assert embedded.is_ready("default")
    assert embedded.pulse("default").pid != before


def test_a_worker_that_new_settings_do_not_have_ends_at_the_restart(embedded: Sensor) -> None:
    setup_program(embedded.settings, "demo", [])
    start_workers(embedded.settings)
    model = embedded.pulse("detection").pid

    hub = ("--sensor.hub.url", "http://127.0.0.1:9", "--sensor.hub.audio", "all")
    environ = {"ACOUPI_SENSOR__HUB__TOKEN": "token"}
    analysis = ("--sensor.analysis.where", "hub")
    setup_program(embedded.settings, "demo", [*hub, *analysis], environ=environ)
    restart_workers(embedded.settings)

    assert not psutil.pid_exists(model)
    assert embedded.is_ready("recording")


def test_a_worker_whose_supervisor_was_killed_is_still_stopped(embedded: Sensor) -> None:
    start_workers(embedded.settings)
    supervisor = int((embedded.settings.run_dir / "default.supervisor.pid").read_text())
    kill(supervisor)

    stop_workers(embedded.settings)

    assert embedded.processes() == []


def test_a_moved_home_still_works(embedded: Sensor, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "new home"
    moved.parent.mkdir()
    shutil.move(embedded.home, moved)
    start = moved / "bin" / embedded.settings.start_script_path.name
    stop = moved / "bin" / embedded.settings.stop_script_path.name

    started = subprocess.run(["bash", start], check=False, capture_output=True, text=True)
    locks = sorted(path.name for path in (moved / "run").glob("*.pid"))
    stopped = subprocess.run(["bash", stop], check=False, capture_output=True, text=True)

    assert (started.returncode, started.stderr) == (0, "")
    assert "recording.pid" in locks
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert not embedded.home.exists()


def test_in_the_foreground_one_that_cannot_be_kept_up_ends_the_others(embedded: Sensor) -> None:
    broken = embedded.settings.program_config_file
    broken.write_text('{"diary": 3}')

    result = subprocess.run(
        ["bash", embedded.settings.start_script_path, "--foreground"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 2
    assert "Error: " in result.stderr
    assert embedded.processes() == []


def test_a_start_that_fails_says_why_in_three_lines(embedded: Sensor) -> None:
    embedded.settings.program_config_file.write_text('{"diary": 3}')

    with pytest.raises(AcoupiError) as caught:
        start_workers(embedded.settings)

    assert "program.json" in "\n".join(caught.value.lines())
    assert caught.value.exit_code == 2
    assert len(caught.value.lines()) == 3
    assert embedded.processes() == []


def test_a_failing_start_of_the_program_is_undone(embedded: Sensor) -> None:
    embedded.set_up("--fail_on_start", "true")

    with pytest.raises(HealthCheckError, match="under water"):
        start_program(embedded.settings, "heath")

    assert read_deployment(embedded.settings) is None
    assert embedded.processes() == []


def test_what_had_not_been_done_is_not_complained_of(embedded: Sensor) -> None:
    embedded.set_up("--fail_on_start", "true", "--fail_on_end", "true")

    with pytest.raises(HealthCheckError) as caught:
        start_program(embedded.settings, "heath")

    assert caught.value.lines() == ["Error: the microphone is under water."]


def test_undoing_that_fails_too_is_reported_beside_the_first_error(
    embedded: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.set_up("--fail_on_end", "true")
    monkeypatch.setenv("ACOUPI_PYTHON", "/nowhere/python")

    with pytest.raises(TargetError, match="cannot start") as caught:
        start_program(embedded.settings, "heath")

    assert "undoing it failed too" in (caught.value.why or "")
    assert "no strength left" in (caught.value.why or "")
    assert read_deployment(embedded.settings) is None


def test_folders_that_were_moved_elsewhere_are_known_to_the_services(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sensor_at(place, monkeypatch) as sensor:
        sensor.settings = Settings(
            home=place, run_dir=tmp_path / "my run", log_dir=tmp_path / "log"
        )
        sensor.set_up()

        start_workers(sensor.settings)
        ready = [sensor.is_ready(name) for name in ("recording", "detection", "default")]
        stop_workers(sensor.settings)

        assert ready == [True, True, True]
        assert (tmp_path / "log" / "default.log").exists()
        assert [each.name for each in (place / "run").iterdir()] == ["door"]
        assert sensor.processes() == []


def test_services_that_do_not_start_undo_the_deployment(
    embedded: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_PYTHON", "/nowhere/python")

    with pytest.raises(TargetError, match="cannot start") as caught:
        start_program(embedded.settings, "heath")

    assert "/nowhere/python" in (caught.value.why or "")
    assert read_deployment(embedded.settings) is None
    assert len(embedded.events("ended")) == 1
    assert embedded.processes() == []


def test_a_failing_end_still_ends_the_deployment_and_is_reported(embedded: Sensor) -> None:
    embedded.set_up("--fail_on_end", "true")
    start_program(embedded.settings, "heath")

    with pytest.raises(DeploymentError) as caught:
        stop_program(embedded.settings)

    assert "no strength left" in (caught.value.why or "")
    assert embedded.processes() == []
    with pytest.raises(DeploymentError, match="there is no deployment"):
        get_current_deployment(embedded.settings)


def test_a_broker_that_is_down_is_waited_for_and_reported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = Redis(tmp_path / "redis")
    with sensor_at(place, monkeypatch) as sensor:
        sensor.set_up(broker=redis.url)
        sensor.target.up()
        waiting = get_status(sensor.settings)

        with redis:
            wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
            sensor.target.down()

    assert {worker.state for worker in waiting.celery.workers} == {"waiting for the broker"}
    assert "does not answer" in (waiting.celery.workers[0].message or "")
    assert waiting.celery.state == "notok"
    assert waiting.celery.waiting is None
