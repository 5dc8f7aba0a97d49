"""The redis that makes its own users: a real one, asked as each of them."""

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from acoupi.services.aside import Aside
from acoupi.services.broker import make_app
from acoupi.services.redis_transport import reclaim
from acoupi.stack.broker_users import HOST_USER, broker_rules, broker_user
from acoupi.stack.loading import load_program_class
from acoupi.stack.stack import stack_for
from acoupi.system import Settings
from tests.services import DEADLINE, eventually, require_program

NAMES = ("recording", "default", "beat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "keys" / name).mkdir(parents=True)
    (tmp_path / "own").mkdir()
    return tmp_path


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    require_program("redis-server")
    program = load_program_class("default")
    rules = broker_rules(stack_for(program, None, Settings(home=folder / "home")))
    own = [f"--keys={folder / 'keys'}", f"--own={folder / 'own'}"]
    server = ["redis-server", "--port", "0", "--unixsocket", str(folder / "redis.sock")]
    process = subprocess.Popen(
        [sys.executable, "-m", "acoupi.system.broker_start", *own, "--", *server, "--save", ""],
        env={**os.environ, "ACOUPI_BROKER_RULES": json.dumps(rules)},
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually((folder / "redis.sock").exists, "the socket")
        yield
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE)


def client(folder: Path, name: str) -> "redis.Redis[str]":
    place = folder / ("own" if name == HOST_USER else f"keys/{name}") / "password"
    user = name if name == HOST_USER else broker_user(name)
    return redis.Redis(
        unix_socket_path=str(folder / "redis.sock"),
        username=user,
        password=place.read_text().strip(),
        decode_responses=True,
    )


def test_each_client_gets_a_password_of_its_own_that_stays(folder: Path) -> None:
    with running(folder):
        for name in (*NAMES, HOST_USER):
            assert client(folder, name).ping()
        first = {path: path.read_text() for path in folder.glob("keys/*/password")}
    (folder / "redis.sock").unlink(missing_ok=True)
    with running(folder):
        assert {path: path.read_text() for path in folder.glob("keys/*/password")} == first
        assert client(folder, "recording").ping()

    assert len(set(first.values())) == len(NAMES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in first} == {0o600}


def test_a_client_has_its_rights_and_no_others(folder: Path) -> None:
    with running(folder):
        assert client(folder, "beat").lpush("recording", "x") == 1
        assert client(folder, "recording").lpush("celery", "x") == 1
        assert client(folder, "default").rpop("celery") == "x"
        for refused in (
            lambda: client(folder, "default").lpush("recording", "x"),
            lambda: client(folder, "recording").rpop("celery"),
            lambda: client(folder, "recording").rpush("celery", "x"),
            lambda: client(folder, "beat").rpop("recording"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(unix_socket_path=str(folder / "redis.sock")).ping()


def test_a_worker_receives_acknowledges_and_takes_back_with_its_rights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_BROKER", f"redis+socket://{folder / 'redis.sock'}")
    monkeypatch.setenv("ACOUPI_BROKER_USER", broker_user("default"))
    monkeypatch.setenv("ACOUPI_BROKER_PASSWORD_FILE", str(folder / "keys" / "default" / "password"))
    taken: list[Any] = []
    with running(folder):
        app = make_app(Settings(home=folder / "home"), worker="default")
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            for name in ("a", "b"):
                app.send_task(name, queue="celery", connection=connection)
            channel.basic_consume("celery", False, taken.append, "tag")
            channel.basic_qos(0, 2, False)
            for _ in range(2):
                connection.drain_events(timeout=DEADLINE)
            taken[0].ack()

            assert reclaim(channel.client, "default", ["celery"], Aside(None)) == (1, 0)
            assert channel.queue_declare("celery", passive=True).message_count == 1


def test_a_volume_that_is_missing_is_named(folder: Path) -> None:
    (folder / "keys" / "beat").rmdir()
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "acoupi.system.broker_start", f"--keys={folder / 'keys'}"),
            *(f"--own={folder / 'own'}", "--", "redis-server"),
        ],
        env={**os.environ, "ACOUPI_BROKER_RULES": '{"beat": "~*"}'},
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 2
    assert "keys/beat" in answer.stderr
