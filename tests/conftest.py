"""Fixtures that every test has: a home of its own, and nothing outside it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.clocks import Clock, RunningClock
from tests.disks import Disk

# How long an example takes says how busy the machine is, and no more.
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("unhurried")

pytest_plugins = ["tests.postgres"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the files in tests/golden/cases"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give all tests of tests/docker to one worker: there is one engine, and bundles are shared.

    Not by the marker xdist_group: xdist 3.8 does not see it with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not everybody has it

    class OneForDocker(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "docker" if nodeid.startswith("tests/docker/") else nodeid

    return OneForDocker(config, log)


LOOPBACK = ("127.", "localhost", "::1")


OF_IMAGES = ("ACOUPI_BASE_IMAGE", "ACOUPI_BUILD_NETWORK")
"""How images can be had on this machine, which is not for tests to decide."""


def hide_variables(patch: pytest.MonkeyPatch, but: tuple[str, ...] = ()) -> None:
    for name in list(os.environ):
        if name.startswith("ACOUPI_") and name not in but:
            patch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _no_variables() -> Iterator[None]:
    """Hide the variables of whoever runs the tests from fixtures that several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        hide_variables(patch, but=OF_IMAGES)
        patch.delenv("COLUMNS", raising=False)  # the runner of several processes sets it
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ACOUPI_HOME; what nobody chose runs as processes."""
    hide_variables(monkeypatch)  # also what another test left
    home = tmp_path / "home"
    monkeypatch.setenv("ACOUPI_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ACOUPI_TARGET", "process")  # not by what answers on this machine
    return home


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time stands still, and the test moves it."""
    clock = Clock()
    clock.install(monkeypatch)
    return clock


@pytest.fixture
def running_clock(monkeypatch: pytest.MonkeyPatch) -> RunningClock:
    """Time passes, and the test may set the clock."""
    clock = RunningClock()
    clock.install(monkeypatch)
    return clock


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk of new recordings; it has enough room until the test says otherwise."""
    return Disk(monkeypatch)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse the network beyond this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
