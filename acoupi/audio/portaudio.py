"""Microphones through PortAudio (the sounddevice library, imported when one is opened)."""

import atexit
import logging
import os
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from acoupi import data
from acoupi.audio.alsa import HARDWARE, capture_rates, find_holder
from acoupi.audio.sharing import SoundShare
from acoupi.audio.sources import SAMPLE_BYTES, WIDE_SAMPLE_BYTES, AudioSource, Sink
from acoupi.errors import (
    DeviceConfigurationError,
    DeviceError,
    DeviceUnavailableError,
    RecordingError,
)

__all__ = [
    "Identity",
    "InputDevice",
    "PortAudioSource",
    "choose_device",
    "list_devices",
    "offered_samplerates",
    "only_one",
]

logger = logging.getLogger(__name__)

LATENCY_SECONDS = 0.5
"""Latency requested from the device, seconds. Large, so that a pause of Python fits in it."""

_RATES = (
    8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000,
    128_000, 176_400, 192_000, 200_000, 250_000, 256_000, 300_000, 312_500, 352_800, 384_000,
    500_000, 768_000,
)  # fmt: skip

# PaErrorCode (portaudio.h)
_INVALID_CHANNELS = -9998
_INVALID_RATE = -9997
_INVALID_DEVICE = -9996
_BAD_COMBINATION = -9993
_DEVICE_UNAVAILABLE = -9985

_lock = threading.RLock()
_open: "set[PortAudioSource]" = set()
_share = SoundShare()
_said: set[str] = set()
"""What the log says already."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that PortAudio can record from."""

    index: int
    """Its index in PortAudio's list, which changes whenever something is plugged in."""
    full_name: str
    """Its name in PortAudio, for example ``UltraMic384K: USB Audio (hw:1,0)``."""
    channels: int
    """Most channels it offers."""
    samplerate: int
    """Its default sample rate, Hz."""
    is_default: bool = False
    """Whether it is PortAudio's default input."""

    @property
    def name(self) -> str:
        """The part of the name before the first colon."""
        return self.full_name.partition(":")[0].strip()

    @property
    def is_hardware(self) -> bool:
        """Whether it is a card itself rather than a sound server or a plugin."""
        return "(hw:" in self.full_name

    @property
    def card(self) -> int | None:
        """Current number of its card; None if it is a sound server or a plugin."""
        found = HARDWARE.search(self.full_name)
        return int(found[1]) if found else None

    @property
    def resampled_by(self) -> str | None:
        """What stands before the hardware and converts to any rate; None if nothing does."""
        if not self.is_hardware:
            return "a sound server or a plugin of ALSA"
        # As PortAudio reads it: any number but 0.
        is_plug = re.match(r"\s*[+-]?0*[1-9]", os.environ.get("PA_ALSA_PLUGHW", ""))
        return "ALSA's plug (PA_ALSA_PLUGHW is set)" if is_plug else None


Chooser = Callable[[list[InputDevice]], InputDevice]
Identity = Callable[[InputDevice], str | None]


class PortAudioSource(AudioSource):
    """A microphone.

    Parameters
    ----------
    name
        Its name in messages and, without `choose`, the name of the device.
    samplerate, channels
        Must be offered by the device: nothing is resampled here. A sound
        server may do so; then the log says that once.
    choose
        Picks the device from those present, each time it is opened; None
        means `choose_device` by name. Raises `DeviceUnavailableError`.
    environment
        Variables for the sound server while the device is opened.
    bits
        Of a sample. With more than 16, the driver's full 32-bit samples are
        taken, the highest bits in use.
    """

    settle_seconds = 2.0

    def __init__(
        self,
        name: str,
        samplerate: int,
        channels: int,
        *,
        choose: Chooser | None = None,
        environment: Mapping[str, str] | None = None,
        bits: int = 16,
    ) -> None:
        super().__init__(name, samplerate, channels)
        if bits > 16:
            self.sample_bytes = WIDE_SAMPLE_BYTES
        self._choose = choose or (lambda devices: choose_device(devices, name))
        self._environment = dict(environment or {})
        self._stream: Any = None

    @property
    def key(self) -> Hashable:
        """The name and the variables for the sound server."""
        return ("portaudio", self.name, *sorted(self._environment.items()))

    def start(self, sink: Sink) -> None:
        """Open the device and start to deliver (see `AudioSource.start`)."""
        sounddevice = _load()
        with _lock, _shared(self.name), _variables(self._environment):
            _refresh(sounddevice)
            device = self._choose(_devices(sounddevice))
            with _explained(sounddevice, self, device):
                stream = sounddevice.RawInputStream(
                    samplerate=self.samplerate,
                    channels=self.channels,
                    device=device.index,
                    dtype="int16" if self.sample_bytes == SAMPLE_BYTES else "int32",
                    # Samples as they are: no dither added, nothing rounded twice.
                    clip_off=True,
                    dither_off=True,
                    latency=LATENCY_SECONDS,
                    callback=_callback(sink, self.samplerate),
                    finished_callback=lambda: sink.fail(self._ended()),
                )
            self._stream = stream
            _open.add(self)
            try:
                _require_rate(device, self.samplerate, stream.samplerate)
                with _explained(sounddevice, self, device):
                    stream.start()
            except BaseException:
                self.stop()
                raise
        _note_resampling(device, self.samplerate)

    def stop(self) -> None:
        """Close the device, even if it has been unplugged."""
        with _lock:
            stream, self._stream = self._stream, None
            if stream is None:
                return
            _open.discard(self)
            with suppress(Exception):
                stream.abort(ignore_errors=True)
            with suppress(Exception):
                stream.close(ignore_errors=True)
            if not _open:
                _share.give_back()

    def _ended(self) -> DeviceError:
        return RecordingError(
            f'the microphone "{self.name}" stopped.',
            "plug it in again; check that its power supply is strong enough",
            why="the driver ended the stream.",
        )


def list_devices() -> list[InputDevice]:
    """Return the devices that can record, in PortAudio's order.

    The list is refreshed unless a stream is open in this process.

    Raises
    ------
    DeviceUnavailableError
        If PortAudio is not installed or does not start.
    """
    sounddevice = _load()
    with _lock:
        _refresh(sounddevice)
        return _devices(sounddevice)


def choose_device(
    devices: list[InputDevice], name: str, *, identity: Identity = lambda _: None
) -> InputDevice:
    """Return the device that a name means.

    Parameters
    ----------
    devices
        The devices to choose from.
    name
        A device's full name, or the part before its first colon. "default"
        means the only sound card that can record; where there is no card, the
        device of that name, else PortAudio's default. (With a card, a sound
        server in front of it would resample without saying so.)
    identity
        Returns the identity of a device if it has one: the best name to advise.

    Raises
    ------
    DeviceUnavailableError
        If there is none of that name, or several microphones have it; the
        message lists them.
    """
    found = _meant(devices, name)
    if found:
        return only_one(devices, found, name, identity)
    if not devices:
        raise DeviceUnavailableError(
            f'cannot find the microphone "{name}".',
            "plug it in; in a container, check that it has /dev/snd",
            why="nothing here can record sound.",
        )
    there = ", ".join(f'"{device.name}"' for device in devices)
    first = next((device for device in devices if device.is_hardware), devices[0])
    raise DeviceUnavailableError(
        f'cannot find the microphone "{name}".',
        f'acoupi config set microphone.device_name "{_advised(first, devices, identity)}"',
        why=f"these can record: {there}.",
    )


def only_one(
    devices: list[InputDevice], found: list[InputDevice], name: str, identity: Identity
) -> InputDevice:
    """Return the first of the devices that a name means, if all are of one card.

    Raises
    ------
    DeviceUnavailableError
        If they are not; the message lists names that tell them apart.
    """
    places = {_place(device): device for device in reversed(found)}
    if len(places) == 1:
        return found[0]
    apart = sorted(places.values(), key=lambda device: device.index)
    names = [(_advised(device, devices, identity), device.full_name) for device in apart]
    listed = ", ".join(
        f'"{one}" ({full})' if one not in full else f'"{one}"' for one, full in names
    )
    raise DeviceUnavailableError(
        f'several microphones match "{name}".',
        f'acoupi config set microphone.device_name "{names[0][0]}"',
        why=f"these can be told apart by their names: {listed}.",
    )


def _advised(device: InputDevice, devices: list[InputDevice], identity: Identity) -> str:
    """Return a name that means this device only; card numbers change, so they come last."""
    places = {_place(other) for other in devices if other.name == device.name}
    return identity(device) or (device.name if len(places) == 1 else device.full_name)


def _place(device: InputDevice) -> tuple[str, int]:
    return ("device", device.index) if device.card is None else ("card", device.card)


def _meant(devices: list[InputDevice], name: str) -> list[InputDevice]:
    cards = [device for device in devices if device.is_hardware]
    if name == "default" and cards:
        return cards
    named = [device for device in devices if device.full_name == name]
    named = named or [device for device in devices if device.name == name]
    if named or name != "default":
        return named
    return [device for device in devices if device.is_default] or devices


def offered_samplerates(device: InputDevice, channels: int = 1) -> list[int]:
    """Return the usual sample rates that a device accepts, Hz, ascending.

    The device is opened briefly for each rate, so it must not be recording.

    Raises
    ------
    DeviceUnavailableError
        If PortAudio is not installed or does not start.
    """
    return _probe(_load(), device, channels)


def _probe(sounddevice: Any, device: InputDevice, channels: int) -> list[int]:
    offered = []
    with _lock, _quiet():
        for rate in _RATES:
            with suppress(sounddevice.PortAudioError, ValueError):
                sounddevice.check_input_settings(
                    device=device.index, channels=channels, dtype="int16", samplerate=rate
                )
                offered.append(rate)
    return offered


def _load() -> Any:
    try:
        import sounddevice  # noqa: PLC0415 - takes PortAudio with it
    except ImportError as error:
        raise DeviceUnavailableError(
            "cannot use a microphone: the sounddevice library is not installed.",
            "pip install sounddevice",
            why=f"{error}.",
        ) from error
    except Exception as error:
        # OSError if the library is missing, PortAudioError if it does not start.
        raise DeviceUnavailableError(
            "cannot use a microphone: PortAudio does not start.",
            "apt-get install libportaudio2",
            why=" ".join(str(error).split()),
        ) from error
    # Handlers run in reverse order, so this one runs before that of sounddevice, which
    # ends PortAudio; after that an open stream must not be touched.
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    # sounddevice cannot list or open a device if its name is not UTF-8, for example cut short.
    sounddevice._ffi_string = partial(_as_utf8, sounddevice._ffi.string)  # noqa: SLF001
    return sounddevice


def _as_utf8(read: Callable[[Any], bytes], text: Any) -> bytes:
    """Read a text of PortAudio, with U+FFFD for what is not UTF-8."""
    return read(text).decode(errors="replace").encode()


def _close_all() -> None:
    for source in list(_open):
        source.stop()


def _refresh(sounddevice: Any) -> None:
    """Have PortAudio look for devices again, which it does only when it starts."""
    if _open:
        return
    with suppress(sounddevice.PortAudioError):  # It was not running, after an earlier failure.
        sounddevice._terminate()  # noqa: SLF001 - the only way there is
    try:
        sounddevice._initialize()  # noqa: SLF001
    except sounddevice.PortAudioError as error:
        raise DeviceUnavailableError(
            "cannot use a microphone: PortAudio does not start.",
            "check that the sound system works: arecord -l",
            why=_reason(error),
        ) from error


def _devices(sounddevice: Any) -> list[InputDevice]:
    try:
        preferred = sounddevice.query_devices(kind="input")["index"]
    except (sounddevice.PortAudioError, ValueError):
        preferred = None
    count = sounddevice._lib.Pa_GetDeviceCount()  # noqa: SLF001 - a list of all fails with one
    found = (_device(sounddevice, index, index == preferred) for index in range(count))
    return [device for device in found if device is not None and device.channels > 0]


def _device(sounddevice: Any, index: int, is_default: bool) -> InputDevice | None:
    """Return one device; None if PortAudio cannot describe it, which the log says."""
    try:
        one = sounddevice.query_devices(index)
    except (sounddevice.PortAudioError, UnicodeError) as error:
        logger.warning("PortAudio does not describe device %d: %s", index, error)
        return None
    return InputDevice(
        index=index,
        full_name=one["name"],
        channels=one["max_input_channels"],
        samplerate=round(one["default_samplerate"]),
        is_default=is_default,
    )


def _require_rate(device: InputDevice, wanted: int, actual: float) -> None:
    """Refuse the rate that ALSA chose instead: PortAudio accepts a difference up to 1 %."""
    if abs(actual - wanted) >= 1:
        raise DeviceConfigurationError(
            f'cannot record from "{device.name}": the device does not offer {wanted} Hz.',
            f"acoupi config set microphone.samplerate {round(actual)}",
            why=f"it would record at {actual:g} Hz.",
        )


def _note_resampling(device: InputDevice, samplerate: int) -> None:
    """Say once in the log of this process that samples may not be those of the microphone."""
    if device.resampled_by is None:
        return
    offered = capture_rates()
    is_offered = not offered or any(low <= samplerate <= high for low, high in offered)
    listed = ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in offered)
    text = (
        f'what "{device.name}" records at {samplerate} Hz'
        f" {'may be' if is_offered else 'is probably'} resampled: the sound comes through"
        f" {device.resampled_by}, which accepts any rate, whatever the microphone offers"
        + (f" (the USB microphones here offer {listed} Hz)" if offered else "")
        + '. To record from the microphone itself, choose another of "acoupi devices"'
    )
    if text not in _said:
        _said.add(text)
        logger.warning("%s", text)


def _callback(sink: Sink, samplerate: int) -> Callable[[Any, int, Any, Any], None]:
    """Make the callback that PortAudio's thread runs for every block: as little as possible."""

    def callback(block: Any, frames: int, _: Any, status: Any) -> None:
        # The driver gives a time as well (time.inputBufferAdcTime), but through a sound server
        # it jumps by a tenth of a second. No block arrives before its end: see SampleClock.
        first = data.monotonic() - frames / samplerate
        sink.deliver(memoryview(block).cast("B"), first, overrun=bool(status.input_overflow))

    return callback


@contextmanager
def _explained(sounddevice: Any, source: PortAudioSource, device: InputDevice) -> Iterator[None]:
    """Turn PortAudio's refusal to open a device into an error that explains it."""
    try:
        with _quiet():
            yield
    except sounddevice.PortAudioError as error:
        raise _refusal(sounddevice, source, device, error) from error


def _refusal(
    sounddevice: Any, source: PortAudioSource, device: InputDevice, error: Exception
) -> DeviceError:
    code = error.args[1] if len(error.args) > 1 else None
    if code == _INVALID_CHANNELS or source.channels > device.channels:
        return DeviceConfigurationError(
            f'cannot record from "{device.name}":'
            f" the device does not offer {source.channels} channels.",
            f"acoupi config set microphone.audio_channels {max(1, device.channels)}",
            why=f'the driver answered "{_reason(error)}"; it offers 1 to {device.channels}.',
        )
    if code in (_INVALID_RATE, _BAD_COMBINATION):
        return _rate_refused(sounddevice, source, device, error)
    if code == _INVALID_DEVICE:
        return DeviceUnavailableError(
            f'cannot find the microphone "{device.name}".',
            "plug it in again",
            why=f'the driver answered "{_reason(error)}".',
        )
    holder = find_holder(device.full_name)
    if holder or code == _DEVICE_UNAVAILABLE or "busy" in _reason(error).lower():
        return DeviceUnavailableError(
            f'cannot open the microphone "{device.name}".',
            holder.remedy if holder else "stop the other program: fuser -v /dev/snd/*",
            why=(
                f"{holder} is using it"
                if holder
                else "another program uses it, or it was unplugged"
            )
            + f'; the driver answered "{_reason(error)}".',
        )
    return DeviceUnavailableError(
        f'cannot open the microphone "{device.name}".',
        "plug it in again; check what the system reports: arecord -l",
        why=f'the driver answered "{_reason(error)}".',
    )


def _rate_refused(
    sounddevice: Any, source: PortAudioSource, device: InputDevice, error: Exception
) -> DeviceConfigurationError:
    offered = _probe(sounddevice, device, source.channels)
    nearest = min(offered, key=lambda rate: abs(rate - source.samplerate), default=None)
    listed = " and ".join(
        filter(None, (", ".join(map(str, offered[:-1])), *map(str, offered[-1:])))
    )
    return DeviceConfigurationError(
        f'cannot record from "{device.name}": the device does not offer {source.samplerate} Hz.',
        f"acoupi config set microphone.samplerate {nearest}" if nearest else "acoupi devices",
        why=f'the driver answered "{_reason(error)}"; it offers {listed or "no common rate"}.',
    )


def _reason(error: Exception) -> str:
    """Return the driver's own message."""
    words = str(error.args[0]) if error.args else str(error)
    details = error.args[2] if len(error.args) > 2 else None
    if isinstance(details, tuple) and len(details) == 3 and details[2]:
        words += f": {details[2]}"
    return " ".join(words.removeprefix("Error opening RawInputStream: ").split())


@contextmanager
def _shared(microphone: str) -> Iterator[None]:
    """Reserve the sound devices among containers while a stream is open."""
    _share.take(microphone)
    try:
        yield
    finally:
        if not _open:
            _share.give_back()


@contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while a device is opened."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ALSA and PortAudio print while probing devices out of the log."""
    try:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        yield
        return
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
