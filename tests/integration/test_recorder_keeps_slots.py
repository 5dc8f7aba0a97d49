"""The recorder keeps its slots when its broker is full, gone, or answers nonsense."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from acoupi import data
from acoupi.audio.formats import read_recording
from acoupi.services.own_redis import OwnRedis, RedisFailedError
from acoupi.stack.pulse import read_pulse
from acoupi.system import Settings, setup_program, start_deployment
from tests.services import DEADLINE, Redis, eventually

pytestmark = pytest.mark.integration

SLOTS = 3
"""How many each trouble lasts."""


class Sensor:
    """A recorder and a beat, as processes of a bundle with a redis."""

    def __init__(self, home: Path, redis: Redis) -> None:
        self.settings, self.redis = Settings(home=home), redis
        self.environ = {
            **os.environ,
            "ACOUPI_HOME": str(home),
            "ACOUPI_BROKER": redis.url,
            "ACOUPI_SIMULATED_AUDIO": "synthetic",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        modules = ("acoupi.system.celery.worker", "recording"), ("acoupi.system.celery.beat",)
        processes = [
            subprocess.Popen([sys.executable, "-m", *words, "--quiet"], env=self.environ)
            for words in modules
        ]
        try:
            yield
            assert [process.poll() for process in processes] == [None, None], "one has ended"
            processes[0].send_signal(signal.SIGTERM)
            processes[0].wait(DEADLINE)
        finally:
            for process in processes:
                process.kill()
                process.wait()

    def recordings(self) -> list[data.Recording]:
        """What is in the spool, oldest first, as the files themselves say it."""
        spool = self.settings.home / "data" / "spool"
        found = [read_recording(path) for path in spool.glob("*.wav")]
        return sorted(found, key=lambda one: one.created_on)

    def wait_for_slots(self, count: int = SLOTS) -> None:
        wanted = len(self.recordings()) + count
        eventually(lambda: len(self.recordings()) >= wanted, f"{count} slots", more=self.log)

    def log(self) -> str:
        return (self.settings.log_dir / "recording.log").read_text()[-3000:]

    def message(self, service: str) -> str:
        pulse = read_pulse(self.settings.run_dir, service)
        return (pulse and pulse.message) or ""

    def state(self) -> str:
        pulse = read_pulse(self.settings.run_dir, "recording")
        return pulse.state if pulse else ""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "redis", unix=True) as redis:
        yield redis


@contextlib.contextmanager
def filled(redis: Redis) -> Iterator[None]:
    """Keep it full to the last byte, as any worker could."""
    client = OwnRedis(redis.url)
    client("CONFIG", "SET", "maxmemory-policy", "noeviction")
    client("CONFIG", "SET", "maxmemory", 4_000_000)
    ended = threading.Event()

    def fill() -> None:
        size = 100_000
        while not ended.wait(0 if size > 10 else 0.005):
            try:
                client("LPUSH", "celery", "x" * size)
                size = min(100_000, size * 10)  # redis frees what it needed for a moment
            except RedisFailedError:
                size = max(10, size // 10)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(DEADLINE)
        client.close()


@contextlib.contextmanager
def impostor(path: Path, answer: Callable[[], bytes]) -> Iterator[None]:
    """Listen in place of redis, and answer everything with the same."""
    path.unlink(missing_ok=True)
    ended = threading.Event()

    def serve(channel: socket.socket) -> None:
        with channel, contextlib.suppress(OSError):
            while not ended.is_set() and channel.recv(65_536):
                channel.sendall(answer())

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                channel, _ = listener.accept()
                channel.settimeout(1)
                threading.Thread(target=serve, args=(channel,), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)


NONSENSE = {
    "nothing": b"",
    "numbers": b":1\r\n",
    "pong": b"+PONG\r\n",
    "rubbish": b"\xff\xfe\x00" * 100 + b"\r\n",
    "nested": b"*1\r\n" * 50 + b":1\r\n",
}


@pytest.mark.parametrize("interval", [1, 2], ids=["without a pause", "with pauses"])
def test_no_slot_is_missed_and_none_recorded_twice(
    home: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch, interval: int
) -> None:
    troubles = list(NONSENSE.values())[: 5 if interval == 1 else 2]
    sensor = Sensor(home, redis)
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic")
    setup_program(
        sensor.settings,
        "default",
        ["--microphone.device_name", "any", "--microphone.samplerate", "8000",
         "--recording.duration", "1", "--recording.interval", str(interval),
         "--recording.schedule_start", "00:00", "--recording.schedule_end", "00:00"],
        environ={},
    )  # fmt: skip
    start_deployment(sensor.settings, "Oak")

    with sensor.running():
        sensor.wait_for_slots(2)
        with filled(redis):
            eventually(
                lambda: "OOM" in sensor.message("beat"),
                "beat to be refused",
                more=lambda: sensor.message("beat"),
            )
            sensor.wait_for_slots()
        redis.kill()
        sensor.wait_for_slots()
        for answer in troubles:
            with impostor(redis.socket_path, lambda answer=answer: answer):  # type: ignore[misc]
                sensor.wait_for_slots()
        redis.socket_path.unlink()
        redis.start()
        eventually(lambda: sensor.state() == "ready", "orders to come again", more=sensor.log)
        sensor.wait_for_slots()

    recordings = sensor.recordings()
    starts = [one.created_on.timestamp() for one in recordings]
    if interval > 1:
        del starts[0]  # it begins when the microphone is open, within its slot
    assert len(recordings) >= 2 + SLOTS * (3 + len(troubles))
    assert {round(later - sooner, 2) for sooner, later in pairwise(starts)} == {interval}
    assert {one.duration for one in recordings} == {1.0}
