"""`scripts/run`, or `acoupi try`, runs a whole sensor: everything real but the microphone."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.components.models import BandEnergyModel
from acoupi.programs.demo import ConfigSchema, Program
from acoupi.stack.pulse import is_locked
from tests.browsers import Browser
from tests.services import free_port

ROOT = Path(__file__).parents[2]
ACOUPI = Path(sys.executable).with_name("acoupi")
RUN = [ROOT / "scripts" / "run"] if (ROOT / ".venv" / "installed-dev").exists() else [ACOUPI, "try"]
"""Without the environment of scripts/test, what scripts/run calls: no test installs anything."""
SERVICES = ("recording", "detection", "default", "beat")

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@contextmanager
def demo(home: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the demo; if the test ends before it does, it is interrupted and waited for."""
    process = subprocess.Popen(
        [
            # Whoever runs the tests in the background has SIGINT ignored, here too.
            *("env", "--default-signal=INT", *map(str, RUN)),
            *("--home", str(home), "--target", "process", *options),
        ],
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    # A demo that hangs ends the test, not the other way round.
    guard = threading.Timer(300, process.kill)
    guard.start()
    assert process.stdout is not None
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait()
        guard.cancel()
        process.stdout.close()


def running(home: Path) -> list[str]:
    return [name for name in SERVICES if is_locked(home / "run", name)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A home for a demo; what still runs there when the test is over is stopped."""
    home = tmp_path / "demo"
    yield home
    if running(home):
        subprocess.run(
            [str(ACOUPI), "deployment", "stop"],
            env={**os.environ, "ACOUPI_HOME": str(home)},
            check=True,
        )


@pytest.mark.timeout(700)
def test_a_minute_of_the_demo_shows_the_whole_life_of_a_sensor_and_so_does_the_next(
    place: Path,
) -> None:
    for _ in range(2):
        with demo(place, "--seconds", "30") as process:
            output, _ = process.communicate()

        assert process.returncode == 0, output
        assert running(place) == []
        states = SqliteStore(place / "data" / "metadata.db").count_recordings()
        assert states[data.RecordingState.KEPT] >= 1, output
        assert states[data.RecordingState.DELETED] >= 1, output
        assert states[data.RecordingState.LOST] == 0, output
        lines = (place / "data" / "messages.jsonl").read_text().splitlines()
        contents = [json.loads(line)["content"] for line in lines]
        assert any(content.get("detections") for content in contents), output
        assert (place / "spectrogram.png").read_bytes().startswith(b"\x89PNG")
        assert "Detections" in output
        assert "spectrogram.png" in output
        assert "\x1b[" not in output


@pytest.mark.timeout(700)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(place: Path, number: int) -> None:
    with demo(place, "--seconds", "600") as process:
        seen = next((line for line in process.stdout if " s: " in line), None)
        process.send_signal(number)
        output, _ = process.communicate()

    assert seen is not None
    assert process.returncode == 130, output
    assert running(place) == []


@pytest.mark.timeout(700)
def test_the_page_of_the_demo_is_where_it_says(place: Path) -> None:
    port = free_port()
    with demo(place, "--seconds", "600", "--web", "--port", str(port)) as process:
        said = next((line for line in process.stdout if "The page" in line), "")
        assert f"http://127.0.0.1:{port}/" in said, said + process.stdout.read()
        page = Browser(port)
        token = said.split()[-1].rstrip(")")

        assert page.now()["status"]["deployment"]["name"] == "demo"
        assert page.post("/login", password=token) == 200
        assert page.csrf()

    assert running(place) == []
    with pytest.raises(OSError, match="refused"):
        page.get("/")


@pytest.mark.timeout(700)
def test_what_a_killed_demo_left_is_stopped_by_the_next(place: Path) -> None:
    with demo(place, "--seconds", "600") as process:
        next((line for line in process.stdout if " s: " in line), None)
        process.kill()
    assert running(place) != []

    with demo(place, "--seconds", "1") as process:
        output, _ = process.communicate()

    assert "earlier trial" in output
    assert running(place) == []


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "photographs"
    home.mkdir()
    (home / "otter.jpg").touch()

    with demo(home) as process:
        output, _ = process.communicate()

    assert process.returncode == 1
    assert [line.split(":")[0].strip() for line in output.splitlines()] == ["Error", "Why", "Try"]
    assert [path.name for path in home.iterdir()] == ["otter.jpg"]


def test_an_environment_that_holds_more_than_the_demo_needs_is_taken_in_silence(
    tmp_path: Path,
) -> None:
    script = tmp_path / "scripts" / "environment"
    script.parent.mkdir()
    script.write_text((ROOT / "scripts" / "environment").read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/false")  # whoever installs with it fails
    stamp = (tmp_path / "pyproject.toml").read_text() + script.read_text() + "dev\n"
    (tmp_path / ".venv" / "installed-dev").write_text(stamp)
    # Where SIGPIPE is ignored, a reader that ends early makes its writer complain, now and then.
    look = (
        "trap '' PIPE; set -euo pipefail; extras=place\n"
        "for _ in {1..30}; do . scripts/environment; done"
    )

    looked = subprocess.run(
        ["bash", "-c", look], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert (looked.returncode, looked.stdout, looked.stderr) == (0, "", "")


class TestProgram:
    def test_its_defaults_suit_a_machine_without_a_microphone(self, home: Path) -> None:
        config = ConfigSchema()

        assert config.microphone.simulated is not None
        assert config.messaging.file is not None
        assert config.messaging.file.path == home / "data" / "messages.jsonl"
        assert not home.exists()

    def test_one_changed_setting_leaves_the_other_defaults_of_the_demo(self) -> None:
        config = ConfigSchema.model_validate(
            {
                "messaging": {"http": {"base_url": "http://localhost:1"}},
                "recording": {"duration": 2},
                "microphone": {"samplerate": 192_000},
            }
        )

        assert (config.messaging.message_send_interval, config.recording.interval) == (10, 5)
        assert config.messaging.file is not None
        assert config.microphone.simulated is not None

    def test_building_it_touches_nothing(self, home: Path) -> None:
        program = Program(ConfigSchema(), Celery("test", set_as_current=False))

        assert isinstance(program.model, BandEnergyModel)
        assert len(program.messengers) == 1
        assert not home.exists()
