"""The scripts in ``bin/`` of a home whose services are containers."""

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.docker.bundles import QUICK, Bundle, environment
from tests.services import eventually

WORKERS = ("recording", "detection", "default")


@pytest.fixture
def sensor(fresh: Bundle) -> Bundle:
    """A bundle that is set up and does not run."""
    fresh.set_up(*QUICK)
    return fresh


def script(bundle: Bundle, name: str, *args: str) -> None:
    done = subprocess.run(
        [bundle.home / "bin" / f"acoupi-{name}.sh", *args], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=180, check=False, env=environment(), cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def running(bundle: Bundle) -> set[str]:
    return set(bundle.compose("ps", "--services", "--status", "running").stdout.split())


def test_workers_start_stop_and_restart_by_their_scripts(sensor: Bundle) -> None:
    script(sensor, "workers-start")
    sensor.eventually(lambda: all(map(sensor.is_ready, WORKERS)), "the workers ready")
    assert running(sensor) == {"redis", *WORKERS}

    before = sensor.state("default")["Pid"]
    script(sensor, "workers-restart", "default")
    sensor.eventually(lambda: sensor.is_ready("default"), "the worker ready again")
    assert sensor.state("default")["Pid"] != before

    script(sensor, "workers-stop", "detection")
    assert running(sensor) == {"redis", "recording", "default"}
    script(sensor, "workers-stop")
    assert running(sensor) == {"redis"}


def test_a_pid_file_names_the_process_in_its_container(sensor: Bundle) -> None:
    script(sensor, "workers-start", "default")
    sensor.eventually(lambda: sensor.is_ready("default"), "the worker ready")

    pid = (sensor.home / "run" / "default" / "default.pid").read_text().strip()

    words = sensor.run_in("default", "cat", f"/proc/{pid}/cmdline").stdout.split("\0")
    assert words[1:4] == ["-m", "acoupi.system.celery.worker", "default"]


@pytest.fixture
def beat(sensor: Bundle) -> "Iterator[subprocess.Popen[bytes]]":
    """The script of beat, which stays."""
    command = [sensor.home / "bin" / "acoupi-beat.sh"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment(),
    ) as process:  # fmt: skip
        yield process
        process.kill()


def test_beat_runs_as_long_as_its_script(sensor: Bundle, beat: "subprocess.Popen[bytes]") -> None:
    sensor.eventually(lambda: sensor.is_ready("beat"), "beat ready")
    assert beat.poll() is None
    assert running(sensor) == {"redis", "beat"}

    beat.send_signal(signal.SIGTERM)

    eventually(lambda: beat.poll() is not None, "the end of the script", 60)
    sensor.eventually(lambda: running(sensor) == {"redis"}, "the end of beat, and redis left")
