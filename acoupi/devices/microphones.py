"""Microphones: listing them, and finding the one that a name means.

Card numbers change at every boot and replug; the identity of a USB device
(vendor, product, serial) does not. It is read from ``/sys/class/sound``, which,
unlike ``/proc/asound``, is visible in containers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acoupi.audio.portaudio import InputDevice, choose_device, list_devices
from acoupi.errors import DeviceUnavailableError

__all__ = [
    "SYSFS",
    "Card",
    "Microphone",
    "choose_microphone",
    "find_microphone",
    "identity_of",
    "list_cards",
    "list_microphones",
]

SYSFS = Path("/sys/class/sound")

_CARD = re.compile(r"\(hw:(\d+),\d+\)")
_IDENTITY = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}(:.*)?")


@dataclass(frozen=True, slots=True)
class Card:
    """A sound card as the kernel knows it; needs neither PortAudio nor access to the device."""

    number: int
    """Changes from boot to boot."""
    id: str
    """Its short name in ALSA."""
    can_record: bool
    identity: str | None
    """``vendor:product:serial``, the last part empty if it has none; None if it is not USB."""


@dataclass(frozen=True, slots=True)
class Microphone:
    """A device that can record."""

    name: str
    """Name that a configuration may use."""
    identity: str | None
    """Stable identity, preferred in a configuration; None if it is not USB."""
    channels: int
    """Most channels it offers."""
    samplerate: int
    """Its default sample rate, Hz."""
    card: int | None
    """Current number of its card; None if it is a sound server or a plugin."""


def list_cards(sysfs: Path = SYSFS) -> list[Card]:
    """Return the sound cards, by number; empty if there are none."""
    cards = []
    for folder in sysfs.glob("card*"):
        if folder.name[4:].isdigit():
            number = int(folder.name[4:])
            cards.append(
                Card(
                    number=number,
                    id=_read(folder / "id") or folder.name,
                    can_record=any(sysfs.glob(f"pcmC{number}D*c")),
                    identity=_usb_identity(folder / "device"),
                )
            )
    return sorted(cards, key=lambda card: card.number)


def list_microphones(
    sysfs: Path = SYSFS, *, devices: Callable[[], list[InputDevice]] = list_devices
) -> list[Microphone]:
    """Return the devices that can record.

    No device is opened.

    Raises
    ------
    DeviceUnavailableError
        If PortAudio is not installed or does not start.
    """
    cards = {card.number: card for card in list_cards(sysfs)}
    return [_describe(device, cards) for device in devices()]


def find_microphone(
    name: str, sysfs: Path = SYSFS, *, devices: Callable[[], list[InputDevice]] = list_devices
) -> Microphone:
    """Return the microphone with a configured name (see `choose_microphone`)."""
    cards = {card.number: card for card in list_cards(sysfs)}
    return _describe(choose_microphone(devices(), name, sysfs), cards)


def choose_microphone(devices: list[InputDevice], name: str, sysfs: Path = SYSFS) -> InputDevice:
    """Return the device with a configured name.

    Parameters
    ----------
    devices
        The devices to choose from.
    name
        An identity (``vendor:product:serial``, or ``vendor:product`` where
        there is only one of the kind), or what `choose_device` takes.
    sysfs
        Folder in which the kernel describes its sound cards.

    Raises
    ------
    DeviceUnavailableError
        If there is none, or more than one; the message lists those present.
    """
    if not _IDENTITY.fullmatch(name):
        return choose_device(devices, name)
    cards = {card.number: card for card in list_cards(sysfs)}
    known = [(device, _identity_of(device, cards)) for device in devices]
    found = [device for device, identity in known if identity == name]
    found = found or [d for d, identity in known if (identity or "").startswith(f"{name}:")]
    if len({_card_of(device) for device in found}) == 1:
        return found[0]
    listed = ", ".join(f'"{d.name}" ({identity})' for d, identity in known if identity)
    raise DeviceUnavailableError(
        f'several microphones match "{name}".'
        if found
        else f'cannot find the microphone "{name}".',
        "choose one of them by its name: acoupi devices"
        if found
        else "plug it in; list the microphones: acoupi devices",
        why=f"these can record: {listed}." if listed else "no USB microphone is plugged in.",
    )


def identity_of(device: InputDevice, sysfs: Path = SYSFS) -> str | None:
    """Return the ``vendor:product:serial`` of a device; None if it is not USB."""
    return _identity_of(device, {card.number: card for card in list_cards(sysfs)})


def _describe(device: InputDevice, cards: dict[int, Card]) -> Microphone:
    return Microphone(
        name=device.name,
        identity=_identity_of(device, cards),
        channels=device.channels,
        samplerate=device.samplerate,
        card=_card_of(device),
    )


def _card_of(device: InputDevice) -> int | None:
    found = _CARD.search(device.full_name)
    return int(found[1]) if found else None


def _identity_of(device: InputDevice, cards: dict[int, Card]) -> str | None:
    card = cards.get(number) if (number := _card_of(device)) is not None else None
    return card.identity if card else None


def _usb_identity(device: Path) -> str | None:
    """Read the identity from the USB device that a card's interface belongs to."""
    try:
        interface = device.resolve(strict=True)
    except OSError:
        return None
    for folder in (interface, interface.parent):
        vendor, product = _read(folder / "idVendor"), _read(folder / "idProduct")
        if vendor and product:
            return f"{vendor.lower()}:{product.lower()}:{_read(folder / 'serial')}"
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
