"""The board: Raspberry Pi, figures, time zone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from acoupi.devices import clock, metrics, rpi
from acoupi.devices.clock import get_system_timezone, set_system_timezone

# -- Raspberry Pi --------------------------------------------------------


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rpi, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(rpi, "DEVICE_TREE_SERIAL", tmp_path / "serial-number")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\n")
    return tmp_path


def test_a_pi_is_known_by_its_serial_number(board: Path) -> None:
    (board / "cpuinfo").write_text("Serial\t\t: 10000000abcdef01\n")

    assert rpi.is_rpi()
    assert rpi.get_rpi_serial_number() == "10000000abcdef01"


def test_a_new_kernel_says_it_in_the_device_tree(board: Path) -> None:
    (board / "serial-number").write_bytes(b"10000000abcdef02\0")
    (board / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")

    assert rpi.get_rpi_serial_number() == "10000000abcdef02"


@pytest.mark.parametrize("content", ["", "processor\t: 0\n", "Serial\t\t: 0000000000000000\n"])
def test_another_board_is_no_pi(board: Path, content: str) -> None:
    (board / "cpuinfo").write_text(content)

    assert not rpi.is_rpi()
    with pytest.raises(RuntimeError):
        rpi.get_rpi_serial_number()


def test_without_any_cpuinfo_it_is_no_pi(board: Path) -> None:
    (board / "cpuinfo").unlink()

    assert not rpi.is_rpi()


def test_the_board_has_a_name_in_the_network() -> None:
    assert rpi.get_rpi_host_name()


# -- metrics -------------------------------------------------------------


def test_the_disk_of_a_path_is_measured_before_the_path_exists(tmp_path: Path) -> None:
    free = metrics.get_remaining_storage(tmp_path / "not" / "yet")
    used = metrics.get_used_storage(tmp_path / "not" / "yet", name="used")

    assert free.value > 0
    assert used.value > 0
    assert (free.name, free.unit) == ("remaining_storage", "bytes")
    assert (used.name, used.unit) == ("used", "bytes")


def test_memory_is_measured_in_bytes() -> None:
    free, own = metrics.get_free_memory(), metrics.consumed_memory()

    assert 0 < free.value <= psutil.virtual_memory().total
    assert 0 < own.value < psutil.virtual_memory().total
    assert {free.unit, own.unit} == {"bytes"}
    assert [free.name, own.name] == ["free_memory", "consumed_memory"]


def measure_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as the process of which this one is a fork."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", os.getppid)
        metrics.get_cpu_usage()


def test_the_processor_is_not_idle_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_another_process(monkeypatch)

    first = metrics.get_cpu_usage()
    before = psutil.Process().cpu_times().user
    while psutil.Process().cpu_times().user - before < 0.1:
        sum(range(10_000))
    second = metrics.get_cpu_usage("cpu")

    assert first.value > 0
    assert second.value > 0
    assert (first.name, first.unit, second.name) == ("cpu_usage", "percent", "cpu")


def test_a_fork_measures_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_another_process(monkeypatch)

    metrics.get_cpu_usage()

    assert metrics._process is not None
    assert metrics._process.pid == os.getpid()


# -- time zone -----------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system of which nothing says the time zone."""
    monkeypatch.setattr(clock, "LOCALTIME", tmp_path / "localtime")
    monkeypatch.setattr(clock, "TIMEZONE", tmp_path / "timezone")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def install(system: Path, name: str, script: str) -> None:
    path = system / "bin" / name
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{script}\n")
    path.chmod(0o755)


def test_the_zone_is_where_localtime_points_to(system: Path) -> None:
    (system / "localtime").symlink_to("/usr/share/zoneinfo/Europe/London")
    (system / "timezone").write_text("Europe/Paris\n")

    assert get_system_timezone() == "Europe/London"


def test_else_it_is_in_a_file(system: Path) -> None:
    (system / "localtime").write_bytes(b"TZif2")
    (system / "timezone").write_text("Europe/Paris\n")

    assert get_system_timezone() == "Europe/Paris"


def test_else_timedatectl_knows(system: Path) -> None:
    install(system, "timedatectl", "print('America/Bogota')")

    assert get_system_timezone() == "America/Bogota"


@pytest.mark.parametrize("script", ["sys.exit(1)", "print('Nowhere/Town')", "print()"])
def test_an_unknown_zone_is_none(system: Path, script: str) -> None:
    install(system, "timedatectl", script)
    (system / "timezone").write_text("../../etc/passwd\n")

    assert get_system_timezone() is None


def test_without_timedatectl_it_is_none_and_cannot_be_set(system: Path) -> None:
    assert get_system_timezone() is None
    assert not set_system_timezone("Europe/London")


def test_timedatectl_that_hangs_is_given_up(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, timeout: float, **__: Any) -> None:
        raise subprocess.TimeoutExpired("timedatectl", timeout)

    install(system, "timedatectl", "")
    monkeypatch.setattr(subprocess, "run", hang)

    assert get_system_timezone() is None


@pytest.mark.parametrize(("uid", "program"), [(0, "timedatectl"), (1000, "sudo")])
def test_the_zone_is_set_with_sudo_unless_by_root(
    system: Path, monkeypatch: pytest.MonkeyPatch, uid: int, program: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    install(system, program, f"open({str(system / 'called')!r}, 'w').write(' '.join(sys.argv[1:]))")

    assert set_system_timezone("Europe/London")

    called = (system / "called").read_text()
    assert called.endswith("set-timezone Europe/London")


def test_a_refusal_is_false(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    install(system, "timedatectl", "sys.exit(1)")

    assert not set_system_timezone("Europe/London")
    assert not set_system_timezone("Nowhere/Town")
