"""What each service imports: memory is short on a board, and every service pays for itself."""

import subprocess
import sys

import pytest

from acoupi.system import Settings, setup_program

BUILD = """
import sys
from acoupi.services import worker
from acoupi.services.broker import load_celery_settings
from acoupi.services.construction import build_program
from acoupi.stack.settings import Settings
from acoupi.stack.stack import stack_of_program
settings = Settings()
app, program = build_program(settings, worker={name!r})
stack_of_program(program, settings, load_celery_settings(settings), "demo").service({name!r})
connection = app.connection_for_read()
connection.default_channel
print(*sys.modules)
"""
BEAT = """
import sys, threading
from acoupi.services import beat
from acoupi.stack.settings import Settings
class Once(threading.Event):
    def wait(self, timeout=None):
        self.set()
beat.run(Settings(), Once())
print(*sys.modules)
"""
FOR_THE_COMMAND_LINE = {
    "acoupi.alarms.rules",  # they are off unless somebody turns them on
    "acoupi.cli",
    "acoupi.components.stores.reader",
    "acoupi.system.lifecycle",
    "acoupi.system.planning",
    "acoupi.bundles.rendering",
    "acoupi.targets",
    "asyncio",
    "docker",
    "jinja2",
    "psutil",
    "pydantic_settings",
    "redis",
    "rich",
    "ruamel",
    "tomllib",
    "typer",
    "yaml",
}
MODEL = {"numpy", "acoupi.components.models.band_energy"}
SERVERS = {"requests", "paho"}
SOUND = {"sounddevice", "soundfile", "cffi", "mutagen"}


def imported(code: str) -> set[str]:
    """The modules that are there after some code has run in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


BEAT_NEVER = {"celery", "pydantic", "acoupi.data", "acoupi.programs", "acoupi.components"}
BEAT_NEVER |= {*FOR_THE_COMMAND_LINE, *MODEL, *SERVERS, *SOUND}


@pytest.mark.parametrize("program", ["default", "acoupi.programs.demo"])
def test_beat_imports_neither_celery_nor_models_of_data(settings: Settings, program: str) -> None:
    setup_program(settings, program, [])

    assert imported(BEAT) & (BEAT_NEVER | {"kombu", "ssl"}) == set()


def test_beat_imports_nothing_more_for_the_redis_of_a_bundle(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_program(settings, "default", [])
    monkeypatch.setenv("ACOUPI_BROKER", "redis+socket:///nowhere/redis.sock")

    assert imported(BEAT) & (BEAT_NEVER | {"kombu", "ssl"}) == set()


def test_beat_imports_kombu_but_no_celery_for_an_external_broker(settings: Settings) -> None:
    setup_program(settings, "default", [], broker="amqp://localhost:1")

    # kombu imports yaml and cffi where they are installed.
    modules = imported(BEAT)
    assert "kombu" in modules
    assert modules & (BEAT_NEVER - {"yaml", "cffi"}) == set()


@pytest.mark.parametrize("worker", ["recording", "detection", "default"])
def test_a_worker_that_has_done_nothing_yet_has_no_model_and_no_server(
    settings: Settings, worker: str
) -> None:
    setup_program(settings, "acoupi.programs.demo", [])

    heavy = FOR_THE_COMMAND_LINE | MODEL | SERVERS | SOUND
    assert imported(BUILD.format(name=worker)) & heavy == set()


def test_what_is_kept_out_of_celery_can_be_imported_later() -> None:
    code = "import sys; from acoupi.services import memory; before = set(sys.modules)\n"
    code += "import yaml, psutil; print(*before & {'yaml', 'psutil', 'cffi'}, yaml.__name__)"

    assert imported(code) == {"yaml"}


def test_the_stand_in_for_asyncio_is_gone_after_the_redis_library_was_imported() -> None:
    code = """
import sys
from acoupi.services import own_redis
stand_in = own_redis._ClassesOnly
left = [name for name, one in [*sys.modules.items()] if isinstance(one, stand_in)
        or not name.startswith("redis") and isinstance(getattr(one, "asyncio", None), stand_in)]
print(*[name for name in left if name != "acoupi.services.own_redis"])
import asyncio
asyncio.run(asyncio.sleep(0))
"""
    assert imported(code) == set()


def test_a_child_that_looks_for_garbage_copies_nothing_of_what_was_settled() -> None:
    code = """
import gc, os, sys
from acoupi.services import memory
there = [[number] for number in range(300_000)]
settle = memory.settle_memory if sys.argv[1] == "settled" else gc.collect
settle()
if os.fork() == 0:
    gc.collect()
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("Private_Dirty:")), flush=True)
    os._exit(0)
os.wait()
"""
    copied = {}
    for how in ("settled", "as it was"):
        done = subprocess.run(
            [sys.executable, "-c", code, how], capture_output=True, text=True, check=True
        )
        copied[how] = int(done.stdout)

    assert copied["settled"] < copied["as it was"] / 3
