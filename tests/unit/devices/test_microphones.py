"""Which microphone is meant, wherever it is plugged in."""

from pathlib import Path

import pytest

from acoupi.audio.portaudio import InputDevice
from acoupi.devices.microphones import (
    choose_microphone,
    find_microphone,
    list_cards,
    list_microphones,
)
from acoupi.errors import DeviceUnavailableError


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A kernel with a card that only plays."""
    sysfs = tmp_path / "sys" / "class" / "sound"
    sysfs.mkdir(parents=True)
    add_card(sysfs, 0, "Headphones", records=False)
    return sysfs


def add_card(
    sysfs: Path,
    number: int,
    name: str,
    *,
    usb: tuple[str, str, str] | None = None,
    records: bool = True,
) -> None:
    """Plug a card in, as the kernel shows it."""
    port = sysfs.parent.parent / "devices" / f"port{number}"
    card = port / f"{number}:1.0" / "sound" / f"card{number}"
    card.mkdir(parents=True)
    (card / "id").write_text(f"{name}\n")
    (card / "device").symlink_to(card.parent.parent)
    (sysfs / f"card{number}").symlink_to(card)
    (sysfs / f"pcmC{number}D0{'c' if records else 'p'}").mkdir()
    if usb:
        for file, value in zip(("idVendor", "idProduct", "serial"), usb, strict=True):
            if value:
                (port / file).write_text(f"{value}\n")


def device(card: int, name: str = "Mic") -> InputDevice:
    return InputDevice(card, f"{name}: USB Audio (hw:{card},0)", 1, 48_000)


SERVER = InputDevice(9, "pulse", 32, 44_100)


def test_cards_are_listed_with_what_usb_says_of_them(sysfs: Path) -> None:
    add_card(sysfs, 11, "UltraMic", usb=("16D0", "06f3", "0001"))
    add_card(sysfs, 2, "NoSerial", usb=("0d8c", "0014", ""))

    cards = list_cards(sysfs)

    assert [card.number for card in cards] == [0, 2, 11]
    assert [card.id for card in cards] == ["Headphones", "NoSerial", "UltraMic"]
    assert [card.can_record for card in cards] == [False, True, True]
    assert [card.identity for card in cards] == [None, "0d8c:0014:", "16d0:06f3:0001"]


def test_without_a_sound_system_there_are_no_cards(tmp_path: Path) -> None:
    assert list_cards(tmp_path / "none") == []


def test_an_identity_means_the_same_microphone_under_another_number(sysfs: Path) -> None:
    add_card(sysfs, 3, "Other", usb=("16d0", "06f3", "0002"))
    add_card(sysfs, 5, "UltraMic", usb=("16d0", "06f3", "0001"))
    there = [device(3), device(5), SERVER]

    assert choose_microphone(there, "16d0:06f3:0001", sysfs).index == 5
    assert choose_microphone(there, "16d0:06f3:0002", sysfs).index == 3


def test_the_kind_is_enough_where_there_is_only_one(sysfs: Path) -> None:
    add_card(sysfs, 3, "Other", usb=("0d8c", "0014", ""))
    add_card(sysfs, 5, "UltraMic", usb=("16d0", "06f3", "0001"))
    there = [device(3), device(5)]

    assert choose_microphone(there, "16d0:06f3", sysfs).index == 5
    assert choose_microphone(there, "0d8c:0014:", sysfs).index == 3


def test_two_of_a_kind_cannot_be_told_apart(sysfs: Path) -> None:
    add_card(sysfs, 3, "One", usb=("16d0", "06f3", "0002"))
    add_card(sysfs, 5, "Two", usb=("16d0", "06f3", "0001"))

    with pytest.raises(DeviceUnavailableError, match="several microphones match") as caught:
        choose_microphone([device(3, "One"), device(5, "Two")], "16d0:06f3", sysfs)

    assert '"One" (16d0:06f3:0002), "Two" (16d0:06f3:0001)' in str(caught.value.why)


def test_an_identity_that_is_not_there_is_answered_with_those_that_are(sysfs: Path) -> None:
    add_card(sysfs, 3, "One", usb=("16d0", "06f3", "0002"))

    with pytest.raises(DeviceUnavailableError, match="cannot find") as caught:
        choose_microphone([device(3, "One")], "ffff:0000:1", sysfs)
    with pytest.raises(DeviceUnavailableError) as none:
        choose_microphone([SERVER], "ffff:0000:1", sysfs)

    assert '"One" (16d0:06f3:0002)' in str(caught.value.why)
    assert "no USB microphone" in str(none.value.why)


def test_a_name_still_works(sysfs: Path) -> None:
    assert choose_microphone([device(3), SERVER], "pulse", sysfs) is SERVER
    assert choose_microphone([device(3), SERVER], "default", sysfs).index == 3


def test_microphones_are_listed_with_name_and_identity(sysfs: Path) -> None:
    def devices() -> list[InputDevice]:
        return [device(5, "UltraMic"), SERVER]

    add_card(sysfs, 5, "UltraMic", usb=("16d0", "06f3", "0001"))

    found = list_microphones(sysfs, devices=devices)

    assert [(m.name, m.identity, m.card) for m in found] == [
        ("UltraMic", "16d0:06f3:0001", 5),
        ("pulse", None, None),
    ]
    assert find_microphone("16d0:06f3:0001", sysfs, devices=devices) == found[0]
