"""Real PortAudio, heard through a virtual microphone: a sample counter tells what is lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from acoupi.audio.formats import read_audio
from tests.services import DEADLINE, require, require_program

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "virtual-microphone"
TURN = 32_767
"""The counter goes from 1 to here and begins again; 0 is the silence of a player that starves."""


class Microphone(NamedTuple):
    """A running virtual microphone with a counter played into it."""

    folder: Path
    samplerate: int

    def run(self, code: str) -> Any:
        """Run code that prints JSON in a process of its own, with PortAudio hearing us."""
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
                "PULSE_RUNTIME_PATH": str(self.folder / "run"),
                "FOLDER": str(self.folder / "spool"),
                "RATE": str(self.samplerate),
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(params=[48_000, 192_000], scope="module")
def microphone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Microphone]:
    for program in ("pulseaudio", "pactl", "pacat"):
        require_program(program)
    plugins = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
    require("ALSA's pulse plugin is missing: apt-get install libasound2-plugins", bool(plugins))
    samplerate = request.param
    folder = tmp_path_factory.mktemp("microphone")
    counter = np.arange(60 * samplerate // TURN * TURN) % TURN + 1  # whole turns, again and again
    (folder / "counter.raw").write_bytes(counter.astype("<i2").tobytes())
    subprocess.run([SCRIPT, "start", folder, str(samplerate)], check=True, timeout=DEADLINE)
    player = None
    try:
        play = [SCRIPT, "play", folder, str(samplerate), folder / "counter.raw"]
        player = subprocess.Popen(
            ["bash", "-c", 'while "$@"; do :; done', "player", *play],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        yield Microphone(folder, samplerate)
    finally:
        if player is not None:
            os.killpg(player.pid, signal.SIGTERM)
            player.wait(DEADLINE)
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=DEADLINE)


PREPARE = """
import json, os, pathlib
from acoupi import data, errors
from acoupi.components.audio_recorder import PARecorder, PWRecorder
folder, rate = pathlib.Path(os.environ["FOLDER"]), int(os.environ["RATE"])
deployment = data.Deployment(name="test")
def failure(run):
    try:
        run()
    except errors.AcoupiError as error:
        return [type(error).__name__, *error.lines()]
"""


def counted(path: str) -> tuple[Any, int]:
    """Return the counter values in a recording, and how many breaks there are between them.

    A player that starves on a busy machine puts silence between values, and
    the recorder rightly hears it: that is no break.
    """
    samples, _ = read_audio(Path(path))
    values = np.rint(samples[:, 0] * 32768).astype(int)
    values = values[values != 0]
    return values, int(np.count_nonzero(np.diff(values) % TURN != 1))


def test_no_sample_is_lost_or_doubled(microphone: Microphone) -> None:
    recordings = microphone.run(
        PREPARE
        + """
recorder = PARecorder(3, rate, 1, "virtual_microphone", audio_dir=folder)
made = [recorder.record(deployment) for _ in range(2)]
recorder.close()
print(json.dumps([[str(r.path), r.duration, r.samplerate, r.created_on.timestamp()]
                  for r in made]))
"""
    )

    for path, duration, samplerate, _ in recordings:
        values, breaks = counted(path)
        assert (duration, samplerate) == (3, microphone.samplerate)
        assert len(read_audio(Path(path))[0]) == 3 * microphone.samplerate
        assert len(values) > microphone.samplerate  # It did hear the counter.
        assert breaks == 0
    # The device stayed open: the second began after the first, by what its time says.
    assert recordings[1][3] - recordings[0][3] >= 3


def test_recordings_on_slots_bear_the_times_of_their_slots(microphone: Microphone) -> None:
    answer = microphone.run(
        PREPARE
        + """
import random
recorder = PARecorder(0.4, rate, 1, "virtual_microphone", audio_dir=folder / "slots", interval=1)
made, chance = [], random.Random(1)
import threading
for _ in range(6):
    made.append(recorder.record(deployment))
    threading.Event().wait(chance.uniform(0, 2))  # The task is late.
recorder.close()
print(json.dumps([[r.created_on.timestamp(), r.capture.first_frame, r.capture.gap_before_frames,
                   len(r.capture.overruns)] for r in made]))
"""
    )

    # The first slot began before the microphone was open.
    times = [time for time, *_ in answer[1:]]
    assert [time - round(time) for time in times] == [pytest.approx(0, abs=1e-3)] * 5
    assert [round(b - a) for a, b in pairwise(times)] == [1] * 4
    frames = np.diff([first for _, first, *_ in answer[1:]]) / microphone.samplerate
    # By the rate of the device, and what the line was bent meanwhile.
    assert frames.tolist() == [pytest.approx(1, abs=5e-3)] * 4
    assert [(gap, lost) for _, _, gap, lost in answer[1:]] == [(0, 0)] * 5


def test_the_check_passes_and_other_settings_are_refused(microphone: Microphone) -> None:
    answers = microphone.run(
        PREPARE
        + """
def recorder(rate=rate, channels=1, name="virtual_microphone"):
    return PARecorder(0.2, rate, channels, name, audio_dir=folder / "check")
print(json.dumps({
    "check": failure(recorder().check),
    "rate": failure(lambda: recorder(rate=3_000_000).record(deployment)),
    "channels": failure(lambda: recorder(channels=1000).record(deployment)),
    "missing": failure(lambda: recorder(name="UltraMic").record(deployment)),
    "left": [path.name for path in (folder / "check").iterdir()],
}))
"""
    )

    assert answers["check"] is None
    assert answers["rate"][0] == "DeviceConfigurationError"
    assert "it offers" in answers["rate"][2]
    assert answers["channels"][0] == "DeviceConfigurationError"
    assert "offers 1 to" in answers["channels"][2]
    assert answers["missing"][0] == "DeviceUnavailableError"
    assert '"virtual_microphone"' in answers["missing"][2]
    assert answers["left"] == []


def test_two_recorders_of_one_process_hear_the_same_microphone(microphone: Microphone) -> None:
    paths = microphone.run(
        PREPARE
        + """
from concurrent.futures import ThreadPoolExecutor
recorders = [PARecorder(1, rate, 1, "virtual_microphone", audio_dir=folder) for _ in range(2)]
with ThreadPoolExecutor() as pool:
    made = list(pool.map(lambda r: r.record(deployment), recorders))
print(json.dumps([str(r.path) for r in made]))
"""
    )

    for path in paths:
        values, breaks = counted(path)
        assert len(values) > 0
        assert breaks == 0


def test_a_source_of_the_sound_server_is_found_by_its_name(microphone: Microphone) -> None:
    answer = microphone.run(
        PREPARE
        + """
recorder = PWRecorder(1, rate, 1, "default", audio_dir=folder)
print(json.dumps(str(recorder.record(deployment).path)))
"""
    )

    values, breaks = counted(answer)
    assert len(values) > 0
    assert breaks == 0


def test_a_sound_server_that_dies_ends_the_recording_and_keeps_its_beginning(
    tmp_path: Path, microphone: Microphone
) -> None:
    folder = tmp_path / "mortal"
    subprocess.run([SCRIPT, "start", folder, "48000"], check=True, timeout=DEADLINE)
    mortal = Microphone(folder, 48_000)

    try:
        answer = mortal.run(
            PREPARE
            + f"""
import subprocess, threading, time
recorder = PARecorder(30, rate, 1, "virtual_microphone", audio_dir=folder)
def stop():
    while not any(part.stat().st_size > 100_000 for part in folder.glob(".*.part")):
        time.sleep(0.05)
    subprocess.run([{str(SCRIPT)!r}, "stop", {str(folder)!r}])
threading.Thread(target=stop, daemon=True).start()
print(json.dumps([failure(lambda: recorder.record(deployment)),
                  failure(lambda: recorder.record(deployment)),
                  [path.name for path in folder.iterdir()]]))
"""
        )
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True, timeout=DEADLINE)

    first, second, files = answer
    assert first[0] == "RecordingError"
    assert "are kept in" in first[2]
    assert second[0] == "DeviceUnavailableError"
    (name,) = files
    assert not name.startswith(".")
    assert 1 <= len(read_audio(folder / "spool" / name)[0]) / 48_000 < 30


@pytest.fixture
def suspended(microphone: Microphone) -> Iterator[Microphone]:
    """A microphone that opens, and then delivers nothing."""

    def suspend(is_suspended: str) -> None:
        subprocess.run(
            ["pactl", "suspend-sink", "virtual", is_suspended],
            env={**os.environ, "PULSE_SERVER": f"unix:{microphone.folder}/native"},
            check=True,
            timeout=30,
        )

    suspend("1")
    yield microphone
    suspend("0")


def test_a_device_that_opens_and_delivers_nothing_is_missing_and_not_silent(
    suspended: Microphone,
) -> None:
    answer = suspended.run(
        PREPARE
        + """
from acoupi.effort import ledger
from acoupi.tasks import generate_recording_task
from acoupi.testing import InMemoryStore
store = InMemoryStore()
recorder = PARecorder(3, rate, 1, "virtual_microphone", audio_dir=folder / "deaf", interval=3)
task = generate_recording_task(recorder, store)
failed = failure(task)
history = store.get_effort(store.get_current_deployment())
recorder.close()
print(json.dumps([failed, [(n.state.value, n.detail) for n in history.notes],
                  len(history.captured)]))
"""
    )

    failed, notes, recordings = answer
    assert failed[0] == "DeviceUnavailableError"
    assert "delivers nothing" in failed[1]
    assert ("device_missing", failed[1].removeprefix("Error: ")) in map(tuple, notes)
    assert recordings == 0


BAD_NAME = b"""
pcm."Mikrofon f\xfcr Flederm\xe4use" {
    type pulse
    server "unix:%s/native"
    device "virtual.monitor"
    hint { show on description "Bats" }
}
"""


def test_a_name_that_is_not_utf8_harms_nothing(microphone: Microphone) -> None:
    configuration = microphone.folder / "asound.conf"
    before = configuration.read_bytes()
    configuration.write_bytes(before + BAD_NAME % str(microphone.folder).encode())
    try:
        answer = microphone.run(
            PREPARE
            + """
from acoupi.audio.portaudio import list_devices
names = [one.name for one in list_devices()]
(bad,) = (one for one in names if one.startswith("Mikrofon"))
recorders = [PARecorder(0.2, rate, 1, name, audio_dir=folder / "bad")
             for name in ("virtual_microphone", bad)]
print(json.dumps([bad, [failure(recorder.check) for recorder in recorders]]))
"""
        )
    finally:
        configuration.write_bytes(before)

    assert answer == [
        "Mikrofon f\N{REPLACEMENT CHARACTER}r Flederm\N{REPLACEMENT CHARACTER}use",
        [None, None],
    ]


def test_a_server_that_resamples_is_said_to_by_devices_and_check_and_recording(
    microphone: Microphone,
) -> None:
    listed, said = microphone.run(
        PREPARE
        + """
import logging
from acoupi.cli.prompts import microphones
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("acoupi").addHandler(handler)
listed = {one["name"]: one["resampled_by"] for one in microphones(with_rates=False)}
def recorder(rate):
    return PARecorder(0.2, rate, 1, "virtual_microphone", audio_dir=folder / "resampled")
recorder(384_000).check()
recorder(384_000).check()
recorder(rate).record(deployment)
print(json.dumps([listed, said]))
"""
    )

    assert listed["virtual_microphone"] == "a sound server or a plugin of ALSA"
    assert ["at 384000 Hz" in one and "resampled" in one for one in said] == [True, False]
    assert f"at {microphone.samplerate} Hz" in said[1]


def test_the_script_refuses_to_start_twice(microphone: Microphone) -> None:
    again = subprocess.run(
        [SCRIPT, "start", microphone.folder, "48000"], capture_output=True, text=True, check=False
    )

    assert again.returncode == 1
    assert "runs in" in again.stderr
