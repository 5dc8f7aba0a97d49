"""Microphones: listing them, and finding one by its name.

Card numbers change at every boot and replug; the identity of a USB device
(vendor, product, serial) does not. Where that is not enough, because two are
alike or have no serial number, the port tells them apart. All this is read from
``/sys/class/sound``, which, unlike ``/proc/asound``, is visible in containers.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acoupi.audio.alsa import capture_channels, card_names
from acoupi.audio.portaudio import InputDevice, choose_device, list_devices, only_one
from acoupi.errors import DeviceUnavailableError

__all__ = [
    "SYSFS",
    "Card",
    "Microphone",
    "MicrophoneChoice",
    "choose_microphone",
    "doubt_about_channels",
    "list_cards",
    "list_microphones",
]

SYSFS = Path("/sys/class/sound")

logger = logging.getLogger(__name__)

_IDENTITY = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}(:.*|@.*)?")


@dataclass(frozen=True, slots=True)
class Card:
    """A sound card as the kernel knows it; needs neither PortAudio nor access to the device."""

    number: int
    """Changes from boot to boot."""
    id: str
    """Its short name in ALSA."""
    can_record: bool
    identity: str | None
    """``vendor:product:serial``, with ``@port`` if needed to distinguish it: if it has no serial
    number, or another card has the same. None if it is not USB."""
    names: tuple[str, ...] = ()
    """All its names, the most exact first: its identity with and without the port, and the same
    without the serial number."""


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
    resampled_by: str | None = None
    """What may resample its sound; None if it is the hardware itself."""


class MicrophoneChoice:
    """The microphone of a recorder: once found, always the same one.

    A microphone that was already connected when that one was lost does not replace it, even if
    its name matches; one that is plugged in later does.

    Parameters
    ----------
    sysfs
        Folder in which the kernel describes its sound cards.
    """

    def __init__(self, sysfs: Path = SYSFS) -> None:
        self._sysfs = sysfs
        self._found: tuple[str, ...] = ()
        self._others: set[str] | None = None

    def choose(self, devices: list[InputDevice], name: str) -> InputDevice:
        """Return the device.

        Parameters
        ----------
        devices
            The devices to choose from.
        name
            As configured (see `choose_microphone`).

        Raises
        ------
        DeviceUnavailableError
            As `choose_microphone`; also if only another one is connected.
        """
        for found in self._found:
            with suppress(DeviceUnavailableError):
                return self._accept(choose_microphone(devices, found, self._sysfs))
        if not self._found:
            return self._accept(choose_microphone(devices, name, self._sysfs))
        cards = _cards_by_number(self._sysfs)
        present = {_label(device, cards) for device in devices}
        self._others = present if self._others is None else self._others & present
        device = choose_microphone(devices, name, self._sysfs)
        other = _label(device, cards)
        if other in self._others:
            raise DeviceUnavailableError(
                f'the microphone "{self._found[0]}" is no longer connected.',
                "plug it in again at the same port; or record from the other one:"
                f' acoupi config set microphone.device_name "{other}"',
                why=f'"{other}" was connected when it was lost, so it is another microphone.',
            )
        logger.warning('"%s" replaces the microphone "%s"', other, self._found[0])
        return self._accept(device)

    def _accept(self, device: InputDevice) -> InputDevice:
        card = _card_of(device, _cards_by_number(self._sysfs))
        self._found = tuple(dict.fromkeys((*card.names[:1], *filter(None, [card.identity]))))
        self._others = None
        return device


def list_cards(sysfs: Path = SYSFS) -> list[Card]:
    """Return the sound cards, by number; empty if there are none."""
    found = [
        (_describe_card(folder, int(folder.name[4:]), sysfs), _usb_description(folder / "device"))
        for folder in sysfs.glob("card*")
        if folder.name[4:].isdecimal()
    ]
    alike = Counter(usb.key for _, usb in found if usb)
    cards = [replace(card, **usb.naming(alike[usb.key])) if usb else card for card, usb in found]
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
    cards = _cards_by_number(sysfs)
    return [_describe(device, cards) for device in devices()]


def doubt_about_channels(
    name: str, wanted: int, sysfs: Path | None = None, proc: Path | None = None
) -> str | None:
    """Return a warning if a microphone has fewer channels than should be recorded.

    The kernel knows this without opening the microphone, even while it is recording.

    Parameters
    ----------
    name
        As configured (see `choose_microphone`).
    wanted
        Channels to record.
    sysfs, proc
        Where the kernel describes its sound cards; None: `SYSFS` and ``/proc``.

    Returns
    -------
    str or None
        None also if it is not connected, is not USB, or the name is ambiguous.
    """
    plain, named = name.partition(": ")[0], card_names(proc)
    able = [card for card in list_cards(sysfs or SYSFS) if card.can_record]
    meant = [
        card
        for card in able
        if name == "default" or plain in (*card.names, card.id, named.get(card.number))
    ]
    has = capture_channels(meant[0].number, proc) if len(meant) == 1 else None
    if has is None or wanted <= has:
        return None
    return f'the microphone "{name}" has {has} channel{"s" * (has != 1)}, and {wanted} are set'


def choose_microphone(devices: list[InputDevice], name: str, sysfs: Path = SYSFS) -> InputDevice:
    """Return the device with a configured name.

    Parameters
    ----------
    devices
        The devices to choose from.
    name
        An identity (``vendor:product:serial@port``, ``vendor:product:serial``
        or ``vendor:product``; each is enough where it fits only one), or what
        `choose_device` takes.
    sysfs
        Folder in which the kernel describes its sound cards.

    Raises
    ------
    DeviceUnavailableError
        If there is none, or more than one; the message lists those present.
    """
    cards = _cards_by_number(sysfs)

    def identity_of(device: InputDevice) -> str | None:
        return _identity_of(device, cards)

    if not _IDENTITY.fullmatch(name):
        return choose_device(devices, name, identity=identity_of)
    if found := _of_identity(devices, name, cards):
        return only_one(devices, found, name, identity_of)
    listed = ", ".join(
        f'"{device.name}" ({identity})' for device in devices if (identity := identity_of(device))
    )
    raise DeviceUnavailableError(
        f'cannot find the microphone "{name}".',
        "plug it in; list the microphones: acoupi devices",
        why=f"these can record: {listed}." if listed else "no USB microphone is plugged in.",
    )


def _of_identity(
    devices: list[InputDevice], name: str, cards: dict[int, Card]
) -> list[InputDevice]:
    """Return the devices that match an identity in the most exact sense."""
    known = [(device, _card_of(device, cards)) for device in devices]
    named = [(device, card.names.index(name)) for device, card in known if name in card.names]
    best = min((rank for _, rank in named), default=0)
    return [device for device, rank in named if rank == best]


def _cards_by_number(sysfs: Path) -> dict[int, Card]:
    return {card.number: card for card in list_cards(sysfs)}


def _describe(device: InputDevice, cards: dict[int, Card]) -> Microphone:
    return Microphone(
        name=device.name,
        identity=_identity_of(device, cards),
        channels=device.channels,
        samplerate=device.samplerate,
        card=device.card,
        resampled_by=device.resampled_by,
    )


_NO_CARD = Card(number=-1, id="", can_record=False, identity=None)


def _card_of(device: InputDevice, cards: dict[int, Card]) -> Card:
    return _NO_CARD if device.card is None else cards.get(device.card, _NO_CARD)


def _identity_of(device: InputDevice, cards: dict[int, Card]) -> str | None:
    return _card_of(device, cards).identity


def _label(device: InputDevice, cards: dict[int, Card]) -> str:
    """Return the properties of a device that stay the same while it is plugged in."""
    return _identity_of(device, cards) or device.full_name


def _describe_card(folder: Path, number: int, sysfs: Path) -> Card:
    return Card(
        number=number,
        id=_read(folder / "id") or folder.name,
        can_record=any(sysfs.glob(f"pcmC{number}D*c")),
        identity=None,
    )


@dataclass(frozen=True, slots=True)
class _Usb:
    """The kernel's data on a USB device."""

    kind: str
    """``vendor:product``."""
    serial: str
    port: str
    """Bus and path of ports to it, for example ``1-1.2``."""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.serial}"

    def naming(self, alike: int) -> dict[str, Any]:
        """Return the identity and the names of its card, if so many have this key."""
        full = f"{self.key}@{self.port}"
        return {
            "identity": self.key if self.serial and alike == 1 else full,
            "names": (full, self.key, f"{self.kind}@{self.port}", self.kind),
        }


def _usb_description(device: Path) -> _Usb | None:
    """Read the USB device that a card's interface belongs to; None if it is not USB."""
    try:
        interface = device.resolve(strict=True)
    except OSError:
        return None
    for folder in (interface, interface.parent):
        vendor, product = _read(folder / "idVendor"), _read(folder / "idProduct")
        if vendor and product:
            kind = f"{vendor.lower()}:{product.lower()}"
            return _Usb(kind, _read(folder / "serial"), folder.name)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
