"""Which device this is."""

import json
import uuid
from pathlib import Path

import pytest

from acoupi import devices
from acoupi.devices import ensure_device_id, get_device_id, get_device_info, rpi
from acoupi.errors import ConfigurationError
from acoupi.home import using_home


@pytest.fixture(autouse=True)
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board that is no Raspberry Pi, with an operating system of its own."""
    board = tmp_path / "board"
    board.mkdir()
    (board / "cpuinfo").write_text("processor\t: 0\n")
    (board / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    monkeypatch.setattr(rpi, "CPUINFO", board / "cpuinfo")
    monkeypatch.setattr(rpi, "DEVICE_TREE_SERIAL", board / "serial-number")
    monkeypatch.setattr(devices, "MACHINE_ID_FILES", (board / "machine-id",))
    return board


def write_id(home: Path, content: str) -> Path:
    path = home / "config" / "device.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_home_decides(home: Path, board: Path) -> None:
    (board / "cpuinfo").write_text("Serial\t\t: 10000000abcdef01\n")
    write_id(home, '{"id": "kept"}')

    assert get_device_id() == "kept"


def test_then_the_serial_number_of_a_pi(board: Path) -> None:
    (board / "cpuinfo").write_text("Hardware\t: BCM2835\nSerial\t\t: 10000000abcdef01\nModel : x\n")

    assert get_device_id() == "10000000abcdef01"


def test_then_an_id_made_from_the_machines_which_it_does_not_show() -> None:
    device_id = get_device_id()

    assert len(device_id) == 16
    assert device_id == get_device_id()
    assert device_id not in "0123456789abcdef0123456789abcdef"


def test_another_machine_has_another_id(board: Path) -> None:
    one = get_device_id()
    (board / "machine-id").write_text("f" * 32)

    assert get_device_id() != one


@pytest.mark.parametrize("content", ["", "uninitialized\n"])
def test_then_the_network_card(board: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (board / "machine-id").write_text(content)
    monkeypatch.setattr(uuid, "getnode", lambda: 0x0011_2233_4455)

    assert get_device_id() == str(0x0011_2233_4455)


def test_a_card_that_python_made_up_does_not_count(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (board / "machine-id").unlink()
    numbers = iter([1 << 40 | 1, 1 << 40 | 2])
    monkeypatch.setattr(uuid, "getnode", lambda: next(numbers))

    assert get_device_id() == get_device_id()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"id": 3}', '{"id": ""}'])
def test_a_damaged_file_gives_no_id_that_another_board_has(home: Path, content: str) -> None:
    write_id(home, content)

    with pytest.raises(ConfigurationError, match=r"device\.json"):
        get_device_id()
    assert get_device_info().id == ""


def test_the_id_is_kept_once_it_is_written(home: Path, board: Path) -> None:
    path = home / "config" / "device.json"

    first = ensure_device_id(path)
    (board / "machine-id").write_text("f" * 32)

    assert json.loads(path.read_text()) == {"id": first}
    assert ensure_device_id(path) == first
    assert get_device_id() == first
    assert [file.name for file in path.parent.iterdir()] == ["device.json"]


def test_a_damaged_file_is_not_replaced_silently(home: Path) -> None:
    path = write_id(home, "{")

    with pytest.raises(ConfigurationError) as caught:
        ensure_device_id(path)

    assert len(caught.value.lines()) == 3
    assert path.read_text() == "{"


def test_a_home_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="cannot write"):
        ensure_device_id(tmp_path / "file" / "device.json")


def test_the_info_is_of_the_home_that_is_asked_about(home: Path, tmp_path: Path) -> None:
    write_id(home, '{"id": "one"}')
    write_id(tmp_path / "other", '{"id": "two"}')

    assert get_device_info().id == "one"
    with using_home(tmp_path / "other"):
        assert get_device_info().id == "two"
    assert get_device_info() is get_device_info()


def test_the_info_is_read_again_once_the_id_is_written(home: Path, board: Path) -> None:
    get_device_info()
    (board / "machine-id").write_text("f" * 32)

    written = ensure_device_id(home / "config" / "device.json")

    assert get_device_info().id == written


def test_the_info_never_raises(home: Path) -> None:
    write_id(home, "[" * 100_000)  # nested too deeply to be read

    assert get_device_info().id == ""


def test_a_card_that_docker_made_up_names_no_device(
    home: Path, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (board / "machine-id").unlink()
    monkeypatch.setattr(uuid, "getnode", lambda: 0x0242_AC11_0002)  # in a container of every board
    path = home / "config" / "device.json"

    first = ensure_device_id(path)
    path.unlink()

    assert ensure_device_id(path) != first
    assert str(0x0242_AC11_0002) not in (first, get_device_id())
