"""Which microphone is meant, wherever it is plugged in."""

import shutil
from pathlib import Path

import pytest

from acoupi.audio.portaudio import InputDevice
from acoupi.devices.microphones import (
    MicrophoneChoice,
    choose_microphone,
    doubt_about_channels,
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
    port: str | None = None,
) -> None:
    """Plug a card in, as the kernel shows it; the port is named by the card's number if by none."""
    place = sysfs.parent.parent / "devices" / (port or f"port{number}")
    card = place / f"{number}:1.0" / "sound" / f"card{number}"
    card.mkdir(parents=True)
    (card / "id").write_text(f"{name}\n")
    (card / "device").symlink_to(card.parent.parent)
    (sysfs / f"card{number}").symlink_to(card)
    (sysfs / f"pcmC{number}D0{'c' if records else 'p'}").mkdir()
    if usb:
        for file, value in zip(("idVendor", "idProduct", "serial"), usb, strict=True):
            if value:
                (place / file).write_text(f"{value}\n")


def unplug(sysfs: Path, number: int) -> None:
    card = sysfs / f"card{number}"
    shutil.rmtree(card.resolve().parent.parent.parent)
    card.unlink()
    (sysfs / f"pcmC{number}D0c").rmdir()


def add_stream(proc: Path, number: int, name: str, channels: int) -> None:
    """Let the kernel tell what a USB card records."""
    folder = proc / "asound" / f"card{number}"
    folder.mkdir(parents=True)
    (folder / "stream0").write_text(
        f"{name} at usb-1.2, full speed : USB Audio\n\nPlayback:\n    Channels: 8\n\n"
        f"Capture:\n  Interface 2\n    Altset 1\n    Format: S16_LE\n    Channels: {channels}\n"
    )
    with (proc / "asound" / "cards").open("a") as cards:
        cards.write(
            f" {number} [Card{number}          ]: USB-Audio - {name}\n"
            f"                      Maker {name} at usb-1.2, full speed\n"
        )


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
    assert [card.identity for card in cards] == [None, "0d8c:0014:@port2", "16d0:06f3:0001"]


def test_without_a_sound_system_there_are_no_cards(tmp_path: Path) -> None:
    assert list_cards(tmp_path / "none") == []


@pytest.mark.parametrize(
    "name", ["default", "Ultra Mic", "Ultra Mic: USB Audio (hw:5,0)", "Card5", "16d0:06f3:0001"]
)
def test_a_microphone_with_fewer_channels_than_are_set_is_named(
    sysfs: Path, tmp_path: Path, name: str
) -> None:
    add_card(sysfs, 5, "Card5", usb=("16d0", "06f3", "0001"))
    add_stream(tmp_path, 5, "Ultra Mic", 1)

    said = [doubt_about_channels(name, wanted, sysfs, tmp_path) for wanted in (1, 2)]

    assert said == [None, f'the microphone "{name}" has 1 channel, and 2 are set']


def test_of_a_microphone_that_is_not_there_or_not_clear_nothing_is_said(
    sysfs: Path, tmp_path: Path
) -> None:
    add_card(sysfs, 5, "Card5", usb=("16d0", "06f3", "0001"))
    add_card(sysfs, 6, "Card6", usb=("16d0", "06f3", "0002"))
    add_card(sysfs, 7, "I2S")
    add_stream(tmp_path, 5, "Ultra Mic", 1)
    add_stream(tmp_path, 6, "Ultra Mic", 2)

    for name in ("default", "Ultra Mic", "16d0:06f3", "16d0:06f3:0003", "I2S", "pulse"):
        assert doubt_about_channels(name, 9, sysfs, tmp_path) is None
    assert doubt_about_channels("16d0:06f3:0002", 2, sysfs, tmp_path) is None
    assert doubt_about_channels("16d0:06f3:0002", 3, sysfs, tmp_path) is not None


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


def test_what_means_two_of_a_kind_is_refused(sysfs: Path) -> None:
    add_card(sysfs, 3, "One", usb=("16d0", "06f3", "0002"))
    add_card(sysfs, 5, "Two", usb=("16d0", "06f3", "0001"))

    with pytest.raises(DeviceUnavailableError, match="several microphones match") as caught:
        choose_microphone([device(3, "One"), device(5, "Two")], "16d0:06f3", sysfs)

    assert str(caught.value.why).endswith(
        ' "16d0:06f3:0002" (One: USB Audio (hw:3,0)), "16d0:06f3:0001" (Two: USB Audio (hw:5,0)).'
    )
    assert caught.value.help == 'acoupi config set microphone.device_name "16d0:06f3:0002"'


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


@pytest.mark.parametrize("serial", ["", "0001"])
@pytest.mark.parametrize("name", ["Mic", "default", "0869:0389", "0869:0389:{serial}"])
def test_two_that_only_the_port_tells_apart_are_refused_with_names_that_work(
    sysfs: Path, serial: str, name: str
) -> None:
    add_card(sysfs, 3, "Mic", usb=("0869", "0389", serial))
    add_card(sysfs, 5, "Mic_1", usb=("0869", "0389", serial))
    there = [device(3), device(5), SERVER]
    usable = [f"0869:0389:{serial}@port3", f"0869:0389:{serial}@port5"]

    with pytest.raises(DeviceUnavailableError, match="several microphones match") as caught:
        choose_microphone(there, name.format(serial=serial), sysfs)

    assert [one in str(caught.value.why) for one in usable] == [True, True]
    assert usable[0] in str(caught.value.help)
    assert [choose_microphone(there, one, sysfs).index for one in usable] == [3, 5]
    assert [one.identity for one in list_cards(sysfs) if one.can_record] == usable


@pytest.mark.parametrize("serial", ["", "0001"])
def test_one_that_is_named_by_its_port_is_not_another_in_another_port(
    sysfs: Path, serial: str
) -> None:
    add_card(sysfs, 5, "Mic", usb=("0869", "0389", serial))

    with pytest.raises(DeviceUnavailableError, match="cannot find") as caught:
        choose_microphone([device(5)], f"0869:0389:{serial}@port3", sysfs)

    assert f'"Mic" (0869:0389:{serial or "@port5"})' in str(caught.value.why)


@pytest.mark.parametrize(
    ("serial", "stored"),
    [("", "0869:0389:"), ("", "0869:0389"), ("0001", "0869:0389:0001"), ("a@b", "0869:0389:a@b")],
)
def test_an_identity_stored_by_an_older_acoupi_still_fits_the_only_one(
    sysfs: Path, serial: str, stored: str
) -> None:
    add_card(sysfs, 5, "Mic", usb=("0869", "0389", serial))
    add_card(sysfs, 6, "Other", usb=("0869", "0390", serial))

    assert choose_microphone([device(6), device(5)], stored, sysfs).index == 5


def lost(choice: MicrophoneChoice, there: list[InputDevice], name: str = "Mic") -> str:
    with pytest.raises(DeviceUnavailableError) as caught:
        choice.choose(there, name)
    assert len(caught.value.lines()) == 3
    return caught.value.message


@pytest.mark.parametrize("serial", ["", "0001"])
def test_the_other_one_does_not_take_over_when_the_microphone_is_unplugged(
    sysfs: Path, serial: str
) -> None:
    add_card(sysfs, 3, "Mic", usb=("0869", "0389", serial))
    add_card(sysfs, 5, "Mic_1", usb=("0869", "0389", serial))
    choice, name = MicrophoneChoice(sysfs), f"0869:0389:{serial}@port3"
    assert choice.choose([device(3), device(5)], name).index == 3

    unplug(sysfs, 3)
    assert "cannot find" in lost(choice, [device(5)], name)

    add_card(sysfs, 7, "Mic", usb=("0869", "0389", serial), port="port3")
    assert choice.choose([device(5), device(7)], name).index == 7


@pytest.mark.parametrize("name", ["Mic", "default"])
def test_one_that_came_late_does_not_take_over_and_one_that_is_plugged_in_after_does(
    sysfs: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    add_card(sysfs, 3, "Mic", usb=("0869", "0389", ""))
    choice = MicrophoneChoice(sysfs)
    assert choice.choose([device(3), SERVER], name).index == 3

    add_card(sysfs, 5, "Mic", usb=("0869", "0389", ""))  # while it records
    unplug(sysfs, 3)
    assert "0869:0389:@port3" in lost(choice, [device(5), SERVER], name)
    unplug(sysfs, 5)
    lost(choice, [SERVER], name)

    add_card(sysfs, 6, "Mic", usb=("0869", "0389", ""), port="port4")
    assert choice.choose([device(6), SERVER], name).index == 6
    assert "replaces the microphone" in caplog.text


def test_a_sound_server_does_not_take_over_from_the_microphone(sysfs: Path) -> None:
    add_card(sysfs, 3, "Mic", usb=("0869", "0389", "0001"))
    choice = MicrophoneChoice(sysfs)
    choice.choose([device(3), SERVER], "default")

    unplug(sysfs, 3)

    assert "no longer connected" in lost(choice, [SERVER], "default")


def test_one_with_a_serial_number_is_known_in_any_port(sysfs: Path) -> None:
    add_card(sysfs, 3, "Mic", usb=("0869", "0389", "0001"))
    choice = MicrophoneChoice(sysfs)
    choice.choose([device(3)], "Mic")

    unplug(sysfs, 3)
    add_card(sysfs, 4, "Mic", usb=("0869", "0389", "0001"))

    assert choice.choose([device(4)], "Mic").index == 4
