"""Real PortAudio in the recorder's container; the microphone is a sound server of the test.

What is played are real calls of bats, from the annotated recordings beside the project.
"""

import contextlib
import subprocess
import threading
import wave
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from acoupi.home import home_mark
from tests.docker.bundles import WITH_SERVERS, Bundle, bundle_at
from tests.integration.test_detector_on_real_calls import recordings
from tests.services import require_program

SCRIPT = Path(__file__).parents[2] / "scripts" / "virtual-microphone"
NAME = "virtual_microphone"
RATE = 384_000
INSIDE = "/run/microphone"
LISTENING = (
    "--microphone.simulated", "null", "--microphone.device_name", NAME,
    "--microphone.samplerate", str(RATE), "--recording.duration", "1",
    "--recording.interval", "1", "--management_interval", "2",
    "--messaging.message_send_interval", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def microphone(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a virtual microphone that hears bats all the time."""
    for program in ("pulseaudio", "pactl", "pacat"):
        require_program(program)
    folder = tmp_path_factory.mktemp("microphone")
    calls = [calls_of(path) for path in recordings()]
    subprocess.run([SCRIPT, "start", folder, str(RATE)], check=True, timeout=30)
    try:
        text = (folder / "asound.conf").read_text().replace(str(folder), INSIDE)
        (folder / "inside.conf").write_text(text)
        with playing(folder, [one for one in calls if one]):
            yield folder
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=30)


def calls_of(path: Path) -> bytes:
    """The samples of a recording; none if it is of another rate."""
    with wave.open(str(path)) as file:
        return file.readframes(file.getnframes()) if file.getframerate() == RATE else b""


@contextlib.contextmanager
def playing(folder: Path, sounds: list[bytes]) -> Iterator[None]:
    """Play sounds one after the other, without end."""
    command = [SCRIPT, "play", folder, str(RATE), "/dev/stdin"]
    player = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def feed() -> None:
        assert player.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended
            for sound in cycle(sounds):
                player.stdin.write(sound)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        player.kill()
        player.wait(10)
        feeder.join(10)
        with contextlib.suppress(OSError):
            player.stdin and player.stdin.close()  # type: ignore[func-returns-value]


def hearing(microphone: Path, image: str) -> Mapping[str, Any]:
    """What is different for the recorder alone: where ALSA finds the microphone."""
    return {
        "recording": {
            "image": image,
            "environment": {"ALSA_CONFIG_PATH": f"{INSIDE}/asound.conf"},
            "volumes": [
                f"{microphone}/native:{INSIDE}/native",
                f"{microphone}/inside.conf:{INSIDE}/asound.conf:ro",
            ],
        }
    }


@pytest.fixture(scope="module")
def listening(
    microphone: Path,
    microphone_image: str,
    servers_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bundle]:
    """A bundle that hears it."""
    with bundle_at(tmp_path_factory.mktemp("listening") / "home") as bundle:
        bundle.set_up(*LISTENING, *WITH_SERVERS)
        bundle.add_servers(servers_image, hearing(microphone, microphone_image))
        bundle.compose("up", "-d")
        bundle.eventually(bundle.are_ready, "every service ready")
        yield bundle


def test_bats_are_recorded_analysed_elsewhere_and_reported(listening: Bundle) -> None:
    def outputs_with_bats() -> list[Any]:
        outputs = listening.store.get_model_outputs() if listening.analysed() else []
        return [one for one in outputs if one.detections]

    listening.eventually(outputs_with_bats, "a detection")
    found = outputs_with_bats()[0]
    listening.eventually(
        lambda: any(
            str(found.recording.id) in one["content"] for one in listening.received("http")
        ),
        "a message about it",
    )

    boxes = [one.location.coordinates for one in found.detections if one.location]
    assert found.recording.samplerate == RATE
    assert found.recording.duration == pytest.approx(1, abs=0.01)
    assert max(high for _, _, _, high in boxes) > 20_000
    assert listening.python_in("recording", "import os; print(os.environ['ALSA_CONFIG_PATH'])")
    assert listening.run_in("detection", "ls", INSIDE).returncode != 0


def test_the_recorder_that_hears_is_as_locked_down_as_any(listening: Bundle) -> None:
    inspected = listening.inspect("recording")
    host = inspected["HostConfig"]

    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not inspected["Config"]["User"].startswith("0")
    assert "ACOUPI_SIMULATED_AUDIO=" in inspected["Config"]["Env"]


def test_recordings_follow_each_other_without_a_sample_lost(listening: Bundle) -> None:
    def of_one_stream() -> list[Any]:
        """Those since it was opened last: another test may have stopped the recorder."""
        last = listening.store.get_last_recording() if listening.analysed() else None
        history = listening.store.get_effort(last.deployment) if last else None
        if last is None or last.capture is None or history is None:
            return []
        return [one for one in history.captured if one.stream_id == last.capture.stream_id]

    listening.eventually(lambda: len(of_one_stream()) >= 3, "three recordings of one stream")
    several = of_one_stream()
    ends = [one.first_frame + one.frames for one in several]
    assert [one.first_frame for one in several[1:]] == ends[:-1]
    assert all(not one.overruns for one in several)


def test_a_second_sensor_is_told_who_has_the_microphone_and_takes_over(
    listening: Bundle, microphone: Path, microphone_image: str, tmp_path: Path
) -> None:
    with bundle_at(tmp_path / "second") as second:
        second.set_up(*LISTENING)
        second.override(hearing(microphone, microphone_image))
        second.compose("up", "-d")
        second.eventually(second.are_ready, "every service ready")

        second.eventually(
            lambda: home_mark(listening.home) in last_error(second),
            "the second recorder says who has the microphone",
        )
        assert second.analysed() == 0
        listening.goes_on("the first goes on")
        assert not last_error(listening)

        listening.compose("stop", "recording")
        try:
            second.goes_on("the second has taken over")
            second.eventually(lambda: not last_error(second), "it is well")
        finally:
            second.end()
            listening.compose("start", "recording")


def last_error(bundle: Bundle) -> str:
    pulse = bundle.pulse("recording")
    return (pulse.last_error if pulse else None) or ""
