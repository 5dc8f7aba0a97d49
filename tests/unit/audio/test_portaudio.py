"""What PortAudio answers, and what we make of it (a stand-in for its library)."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from acoupi.audio import alsa, portaudio
from acoupi.audio.portaudio import InputDevice, PortAudioSource, choose_device, list_devices
from acoupi.components.audio_recorder import PWRecorder
from acoupi.errors import DeviceConfigurationError, DeviceError, DeviceUnavailableError
from tests.clocks import Clock
from tests.services import DEADLINE


class PortAudioError(Exception):
    """As in sounddevice: words, code, and perhaps the host's own."""


class Library(ModuleType):
    """Stands in for the sounddevice module."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.names = [
            (b"bcm2835 Headphones: - (hw:0,0)", 0),
            (b"UltraMic384K: USB Audio (hw:1,0)", 1),
            (b"sysdefault", 128),
            (b"default", 128),
        ]
        self.gone: set[int] = set()
        self.actual_rate: float | None = None
        self._lib = SimpleNamespace(Pa_GetDeviceCount=lambda: len(self.names))
        self._ffi = SimpleNamespace(string=lambda text: text)
        self._ffi_string = self._ffi.string
        self.rates = {250_000, 384_000}
        self.starts = 0
        self.error: PortAudioError | None = None
        self.start_error: PortAudioError | None = None
        self.streams: list[Stream] = []
        self.variables: dict[str, str | None] = {}

    def _initialize(self) -> None:
        self.starts += 1

    def _terminate(self) -> None:
        pass

    def query_devices(self, device: int | None = None, kind: str | None = None) -> Any:
        if kind:
            return self.query_devices(len(self.names) - 1)
        if device is None:
            return [self.query_devices(index) for index in range(len(self.names))]
        if device in self.gone:
            raise PortAudioError(f"Error querying device {device}")
        name, channels = self.names[device]
        return {
            "index": device,
            "name": self._ffi_string(name).decode(),
            "max_input_channels": channels,
            "default_samplerate": 44100.0,
        }

    def check_input_settings(self, *, samplerate: int, **_: Any) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate", -9997)

    def RawInputStream(self, **settings: Any) -> "Stream":  # noqa: N802 - its name
        self.variables = {name: os.environ.get(name) for name in ("PULSE_SOURCE",)}
        if self.error is not None:
            raise self.error
        self.query_devices(settings["device"])
        stream = Stream(settings, self.start_error)
        stream.samplerate = self.actual_rate or settings["samplerate"]
        self.streams.append(stream)
        return stream


class Stream:
    def __init__(self, settings: dict[str, Any], error: Exception | None) -> None:
        self.settings = settings
        self.error = error
        self.is_closed = False
        self.samplerate = 0.0

    def start(self) -> None:
        if self.error:
            raise self.error

    def abort(self, ignore_errors: bool) -> None:
        self.settings["finished_callback"]()

    def close(self, ignore_errors: bool) -> None:
        self.is_closed = True


class Sink:
    def __init__(self) -> None:
        self.blocks: list[tuple[bytes, float, bool]] = []
        self.errors: list[Exception] = []

    def deliver(self, block: memoryview, time: float, *, overrun: bool = False) -> bool:
        self.blocks.append((bytes(block), time, overrun))
        return True

    def fail(self, error: Exception) -> None:
        self.errors.append(error)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    library = Library()
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    monkeypatch.setattr(portaudio, "_open", set())
    monkeypatch.setattr(portaudio, "_said", set())
    monkeypatch.setattr(alsa, "PROC", tmp_path)
    return library


def refused(library: Library, samplerate: int = 384_000, channels: int = 1) -> DeviceError:
    source = PortAudioSource("UltraMic384K", samplerate, channels)
    with pytest.raises(DeviceError) as caught:
        source.start(Sink())
    assert len(caught.value.lines()) == 3
    assert not portaudio._open
    return caught.value


def devices(*names: str) -> list[InputDevice]:
    return [InputDevice(i, name, 1, 48_000, name == "default") for i, name in enumerate(names)]


def test_devices_that_only_play_are_left_out(library: Library) -> None:
    found = list_devices()

    assert [device.name for device in found] == ["UltraMic384K", "sysdefault", "default"]
    assert found[0].index == 1
    assert [device.name for device in found if device.is_default] == ["default"]


def test_what_was_plugged_in_since_is_seen(library: Library) -> None:
    list_devices()
    library.names.append((b"New: USB Audio (hw:2,0)", 1))

    assert list_devices()[-1].name == "New"
    assert library.starts == 2


def test_the_list_is_not_read_anew_under_an_open_stream(library: Library) -> None:
    source = PortAudioSource("UltraMic384K", 384_000, 1)
    source.start(Sink())

    list_devices()

    assert library.starts == 1
    source.stop()


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (("Mic: USB (hw:1,0)", "default"), "Mic", 0),
        (("Mic: USB (hw:1,0)", "default"), "Mic: USB (hw:1,0)", 0),
        (("Mic: USB (hw:1,0)", "default"), "default", 0),
        (("Mic: USB (hw:1,0)", "Mic: USB #1 (hw:1,1)", "default"), "default", 0),
        (("Mic: USB (hw:1,0)", "Mic: USB #1 (hw:1,1)"), "Mic", 0),
        (("Mic: USB (hw:1,0)", "Mic: USB #1 (hw:1,1)"), "Mic: USB #1 (hw:1,1)", 1),
        (("pulse", "default"), "default", 1),
        (("pulse",), "default", 0),
        (("Mic: a (hw:1,0)", "Mic: b (hw:2,0)"), "Mic: b (hw:2,0)", 1),
    ],
)
def test_a_name_means_a_device(names: tuple[str, ...], wanted: str, expected: int) -> None:
    assert choose_device(devices(*names), wanted).index == expected


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("Mic: USB (hw:1,0)", "Mic: USB (hw:2,0)", "default"), "Mic"),
        (("Mic: USB (hw:1,0)", "Other: USB (hw:2,0)", "default"), "default"),
        (("Mic: USB (hw:1,0)", "Other: USB (hw:2,0)"), "default"),
    ],
)
def test_a_name_that_several_microphones_have_is_refused(
    names: tuple[str, ...], wanted: str
) -> None:
    there = devices(*names)

    with pytest.raises(DeviceUnavailableError) as caught:
        choose_device(there, wanted)

    usable = names[:2] if wanted == "Mic" else ("Mic", "Other")
    listed = ", ".join(f'"{name}"' for name in usable)
    assert caught.value.lines() == [
        f'Error: several microphones match "{wanted}".',
        f"  Why: these can be told apart by their names: {listed}.",
        f'  Try: acoupi config set microphone.device_name "{usable[0]}"',
    ]
    assert [choose_device(there, name).full_name for name in usable] == list(names[:2])


BAD = b"Mikrofon f\xfcr Flederm\xe4use: USB Audio (hw:2,0)"


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_name_that_is_not_utf8_harms_no_device(library: Library, place: int) -> None:
    library.names.insert(place, (BAD, 1))

    found = list_devices()
    (bad,) = (device for device in found if device.card == 2)
    for name in ("UltraMic384K", "sysdefault", bad.name, bad.full_name):
        source = PortAudioSource(name, 48_000, 1)
        source.start(Sink())
        source.stop()

    assert [device.full_name for device in found if device is not bad] == [
        "UltraMic384K: USB Audio (hw:1,0)",
        "sysdefault",
        "default",
    ]
    assert bad.name == "Mikrofon f\N{REPLACEMENT CHARACTER}r Flederm\N{REPLACEMENT CHARACTER}use"
    opened = [library.names[stream.settings["device"]][0] for stream in library.streams]
    assert opened == [b"UltraMic384K: USB Audio (hw:1,0)", b"sysdefault", BAD, BAD]


def test_a_device_that_portaudio_does_not_describe_harms_no_other(library: Library) -> None:
    library.gone = {2}

    assert [device.name for device in list_devices()] == ["UltraMic384K", "default"]


def resampling_notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "may be resampled" in text]


def test_sound_that_comes_through_a_server_is_said_once_to_be_resampled(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        source = PortAudioSource("sysdefault", 384_000, 1)
        source.start(Sink())
        source.stop()

    (said,) = resampling_notes(caplog)
    assert said.startswith('what "sysdefault" records at 384000 Hz may be resampled')


STREAM = """UltraMic at usb-0000:01:00.0-1.2, full speed : USB Audio

Playback:
  Interface 1
    Rates: 384000

Capture:
  Interface 2
    Altset 1
    Rates: 44100, 48000
  Interface 2
    Altset 2
    Rates: 8000 - 16000 (continuous)
"""


def test_the_rates_of_usb_microphones_are_those_of_capture(tmp_path: Path) -> None:
    stream = tmp_path / "asound" / "card1" / "stream0"
    stream.parent.mkdir(parents=True)
    stream.write_text(STREAM)

    assert alsa.capture_rates(tmp_path) == [(8_000, 16_000), (44_100, 44_100), (48_000, 48_000)]
    assert alsa.capture_rates(tmp_path / "container") == []


@pytest.mark.parametrize(
    ("samplerate", "words"),
    [
        (48_000, "may be resampled"),
        (12_000, "may be resampled"),
        (384_000, "is probably resampled"),
    ],
)
def test_a_rate_that_no_microphone_here_offers_is_said_to_be_resampled(
    library: Library,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    samplerate: int,
    words: str,
) -> None:
    stream = tmp_path / "asound" / "card1" / "stream0"
    stream.parent.mkdir(parents=True)
    stream.write_text(STREAM)
    source = PortAudioSource("sysdefault", samplerate, 1)

    source.start(Sink())
    source.stop()

    (said,) = caplog.messages
    assert f"{samplerate} Hz {words}" in said
    assert "(the USB microphones here offer 8000 to 16000, 44100, 48000 Hz)" in said


def test_a_recorder_of_the_sound_server_refuses_a_name_that_two_have(library: Library) -> None:
    library.names += [(b"Mic: USB Audio (hw:3,0)", 1), (b"Mic: USB Audio (hw:4,0)", 1)]

    with pytest.raises(DeviceUnavailableError, match="several microphones match"):
        PWRecorder(1, 48_000, 1, "Mic").device_source().start(Sink())
    source = PWRecorder(1, 48_000, 1, "Mic: USB Audio (hw:4,0)").device_source()
    source.start(Sink())
    source.stop()

    assert library.streams[-1].settings["device"] == 5


def test_sound_of_the_hardware_is_not_said_to_be_resampled(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    source = PortAudioSource("UltraMic384K", 384_000, 1)
    source.start(Sink())
    source.stop()

    assert resampling_notes(caplog) == []


@pytest.mark.parametrize(("value", "is_plug"), [("1", True), ("0", False), ("", False)])
def test_portaudio_may_be_told_to_resample_the_hardware(
    monkeypatch: pytest.MonkeyPatch, value: str, is_plug: bool
) -> None:
    monkeypatch.setenv("PA_ALSA_PLUGHW", value)

    (device,) = devices("Mic: USB (hw:1,0)")

    assert (device.resampled_by is not None) == is_plug


def test_a_rate_that_is_only_near_is_refused(library: Library) -> None:
    """ALSA opens at the nearest rate; PortAudio takes what differs by less than a hundredth."""
    library.actual_rate = 382_000.0

    error = refused(library)

    assert isinstance(error, DeviceConfigurationError)
    assert error.help == "acoupi config set microphone.samplerate 382000"
    assert library.streams[0].is_closed


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(DeviceUnavailableError) as caught:
        choose_device(devices("Mic: USB (hw:1,0)", "pulse"), "UltraMic")

    assert 'these can record: "Mic", "pulse".' in str(caught.value.why)
    assert caught.value.help == 'acoupi config set microphone.device_name "Mic"'


def test_no_device_at_all_is_said_so() -> None:
    with pytest.raises(DeviceUnavailableError) as caught:
        choose_device([], "default")

    assert "nothing here can record" in str(caught.value.why)


def test_a_stream_is_opened_raw_with_a_large_buffer(library: Library) -> None:
    source = PortAudioSource("UltraMic384K", 384_000, 1)

    source.start(Sink())

    settings = library.streams[0].settings
    assert settings["device"] == 1
    assert settings["dtype"] == "int16"
    assert settings["samplerate"] == 384_000
    assert settings["latency"] >= 0.2
    source.stop()
    assert library.streams[0].is_closed
    source.stop()


@pytest.mark.parametrize("age", [0.15, 0.0, -3.0, float("nan")])
def test_a_block_is_dated_by_its_arrival_whatever_the_driver_says(
    library: Library, clock: Clock, age: float
) -> None:
    sink = Sink()
    source = PortAudioSource("UltraMic384K", 1000, 1)
    source.start(sink)

    library.streams[0].settings["callback"](
        bytes(200),
        100,
        SimpleNamespace(currentTime=50.0, inputBufferAdcTime=50.0 - age),
        SimpleNamespace(input_overflow=True),
    )

    assert sink.blocks == [(bytes(200), pytest.approx(clock.seconds - 0.1), True)]
    source.stop()


def test_more_than_16_bits_are_taken_whole_and_as_they_are(library: Library) -> None:
    source = PortAudioSource("UltraMic384K", 384_000, 1, bits=24)

    source.start(Sink())

    settings = library.streams[0].settings
    assert source.sample_bytes == 4
    assert settings["dtype"] == "int32"
    assert settings["dither_off"]
    source.stop()


def test_who_holds_the_microphone_is_named(library: Library, tmp_path: Path) -> None:
    status = tmp_path / "asound/card1/pcm0c/sub0/status"
    status.parent.mkdir(parents=True)
    status.write_text("state: RUNNING\nowner_pid   : 4321\ntrigger_time: 1.0\n")
    (tmp_path / "4321").mkdir()
    (tmp_path / "4321/status").write_text("Name:\tpython\nTgid:\t4300\n")
    (tmp_path / "4300").mkdir()
    (tmp_path / "4300/cmdline").write_bytes(b"python\0-m\0acoupi.system.celery.worker\0recording\0")
    library.error = PortAudioError("Unanticipated host error", -9999)

    error = refused(library, 384_000)

    assert "process 4300" in str(error.why)
    assert "acoupi.system.celery.worker recording" in str(error.why)
    assert error.help == "stop it: kill 4300"


def test_a_sensor_that_holds_the_card_is_named_by_its_home(tmp_path: Path) -> None:
    """A real process of another home; only the kernel's table of sound cards is made up."""
    home = tmp_path / "other sensor"
    with subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env={**os.environ, "ACOUPI_HOME": str(home)},
    ) as other:
        status = tmp_path / "asound" / "card1" / "pcm0c" / "sub0" / "status"
        status.parent.mkdir(parents=True)
        status.write_text(f"owner_pid   : {other.pid}\n")
        (tmp_path / str(other.pid)).symlink_to(f"/proc/{other.pid}")

        holder = alsa.find_holder("UltraMic: USB Audio (hw:1,0)", tmp_path)
        other.communicate(b"\n", timeout=DEADLINE)

    assert holder is not None
    assert str(holder).startswith(f"process {other.pid} (")
    assert str(holder).endswith(f" of the sensor in {home}")
    assert holder.remedy == f"ACOUPI_HOME='{home}' acoupi stop"


def test_a_device_that_is_no_card_or_is_free_has_no_holder(tmp_path: Path) -> None:
    assert alsa.find_holder("pulse", tmp_path) is None
    assert alsa.find_holder("UltraMic: USB Audio (hw:1,0)", tmp_path) is None


def test_a_rate_the_device_does_not_offer(library: Library) -> None:
    library.error = PortAudioError("Error opening RawInputStream: Invalid sample rate", -9997)

    error = refused(library, 500_000)

    assert isinstance(error, DeviceConfigurationError)
    assert error.lines() == [
        'Error: cannot record from "UltraMic384K": the device does not offer 500000 Hz.',
        '  Why: the driver answered "Invalid sample rate"; it offers 250000 and 384000.',
        "  Try: acoupi config set microphone.samplerate 384000",
    ]


def test_a_device_without_any_usual_rate(library: Library) -> None:
    library.error = PortAudioError("Invalid sample rate", -9997)
    library.rates = set()

    assert "no common rate" in str(refused(library).why)


def test_more_channels_than_the_device_offers(library: Library) -> None:
    library.error = PortAudioError("Invalid number of channels", -9998)

    error = refused(library, channels=2)

    assert isinstance(error, DeviceConfigurationError)
    assert "2 channels" in error.message
    assert "offers 1 to 1" in str(error.why)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PortAudioError("Device unavailable", -9985), "another program uses it"),
        (
            PortAudioError("Unanticipated host error", -9999, (0, -16, "Device or resource busy")),
            "Device or resource busy",
        ),
        (PortAudioError("Invalid device", -9996), "Invalid device"),
        (PortAudioError("Something else"), "Something else"),
    ],
)
def test_a_device_that_cannot_be_opened(
    library: Library, error: PortAudioError, words: str
) -> None:
    library.error = error

    caught = refused(library)

    assert isinstance(caught, DeviceUnavailableError)
    assert words in str(caught.why)


def test_a_device_that_does_not_start_is_closed_again(library: Library) -> None:
    library.start_error = PortAudioError("Device unavailable", -9985)

    refused(library)

    assert library.streams[0].is_closed


def test_a_stream_that_ends_by_itself_is_reported(library: Library) -> None:
    sink = Sink()
    source = PortAudioSource("UltraMic384K", 384_000, 1)
    source.start(sink)

    library.streams[0].settings["finished_callback"]()

    assert "stopped" in str(sink.errors[0])
    source.stop()


def test_the_sound_server_is_told_the_source_while_it_opens(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULSE_SOURCE", raising=False)
    source = PortAudioSource(
        "node",
        48_000,
        1,
        choose=lambda found: found[-1],
        environment={"PULSE_SOURCE": "node"},
    )

    source.start(Sink())

    assert library.variables == {"PULSE_SOURCE": "node"}
    assert "PULSE_SOURCE" not in os.environ
    source.stop()


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    with pytest.raises(DeviceUnavailableError) as caught:
        list_devices()

    assert len(caught.value.lines()) == 3
