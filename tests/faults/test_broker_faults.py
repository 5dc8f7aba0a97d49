"""The broker only carries wake-ups: it may be wiped, killed or gone, and the sensor goes on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from acoupi.services.folder import broker_folder
from acoupi.system import get_status
from tests.sensors import Sensor, kill, sensor_at, wait_for
from tests.services import Redis

pytestmark = pytest.mark.integration


@pytest.fixture(params=["of the target", "elsewhere"])
def redis(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Redis]:
    with Redis(tmp_path / "redis") as redis:
        if request.param == "of the target":
            monkeypatch.setenv("ACOUPI_BROKER", redis.url)
        yield redis


@pytest.fixture
def sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        yield sensor


def detects_again(sensor: Sensor) -> None:
    seen = len(sensor.events("detected"))
    wait_for(lambda: len(sensor.events("detected")) >= seen + 2, "two more detections", sensor)


def test_a_wiped_broker_folder_comes_back(sensor: Sensor) -> None:
    sensor.set_up()
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    pids = {name: sensor.pulse(name).pid for name in ("recording", "detection", "default", "beat")}

    shutil.rmtree(broker_folder(sensor.settings.run_dir))

    detects_again(sensor)
    wait_for(lambda: get_status(sensor.settings).celery.state == "ok", "all well", sensor)
    assert {name: sensor.pulse(name).pid for name in pids} == pids


def test_a_wiped_run_folder_does_not_stop_the_work(sensor: Sensor) -> None:
    sensor.set_up()
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)

    shutil.rmtree(sensor.settings.run_dir)

    detects_again(sensor)
    wait_for(
        lambda: all(
            (sensor.settings.run_dir / f"{one}.json").exists() for one in ("default", "beat")
        ),
        "new pulses",
        sensor,
    )


def test_a_redis_that_is_killed_and_started_again_is_found_again(
    sensor: Sensor, redis: Redis
) -> None:
    sensor.set_up(broker=redis.url)
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    pids = {name: sensor.pulse(name).pid for name in ("recording", "detection", "default", "beat")}

    redis.kill()
    wait_for(
        lambda: (
            {one.state for one in get_status(sensor.settings).celery.workers}
            == {"waiting for the broker"}
        ),
        "workers that say that they wait",
        sensor,
    )
    wait_for(
        lambda: sensor.pulse("beat").state == "waiting for the broker", "a beat that waits", sensor
    )
    redis.start()

    detects_again(sensor)
    wait_for(lambda: get_status(sensor.settings).celery.state == "ok", "all well", sensor)
    assert {name: sensor.pulse(name).pid for name in pids} == pids


def test_a_task_in_hand_survives_a_redis_that_loses_everything(
    sensor: Sensor, redis: Redis
) -> None:
    sensor.set_up(broker=redis.url)
    sensor.target.up()
    sensor.send("hold")
    wait_for(lambda: bool(sensor.events("holds")), "the task in hand", sensor)

    redis.kill()
    redis.start()
    sensor.let_go()

    wait_for(lambda: bool(sensor.events("let go")), "its end", sensor)
    detects_again(sensor)
    assert len(sensor.events("holds")) == 1


def test_stopping_works_while_redis_is_down(sensor: Sensor, redis: Redis) -> None:
    sensor.set_up(broker=redis.url)
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    redis.kill()

    sensor.target.down()

    assert sensor.processes() == []


def test_every_service_killed_at_once_comes_back(sensor: Sensor) -> None:
    sensor.set_up()
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    pids = {name: sensor.pulse(name).pid for name in ("recording", "detection", "default", "beat")}

    for pid in pids.values():
        kill(pid)

    wait_for(
        lambda: all(
            sensor.is_ready(name) and sensor.pulse(name).pid != pids[name] for name in pids
        ),
        "all services again",
        sensor,
    )
    detects_again(sensor)


def test_after_a_power_cut_everything_starts_again(sensor: Sensor) -> None:
    sensor.set_up()
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    sensor.end()
    assert {one.state for one in sensor.target.status()} == {"stopped"}

    sensor.target.up()

    detects_again(sensor)


def test_a_hung_task_in_a_pool_of_threads_ends_its_worker(sensor: Sensor) -> None:
    sensor.set_up("--celery.task_soft_time_limit", "1", "--celery.task_time_limit", "2")
    sensor.target.up()
    hung = sensor.pulse("default").pid

    sensor.send("hold")

    wait_for(lambda: not is_alive(hung), "the end of the hung worker", sensor)
    wait_for(lambda: sensor.is_ready("default"), "a new worker", sensor)
    assert "task hold has run for" in sensor.log("default")
    assert sensor.pulse("default").pid != hung


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
